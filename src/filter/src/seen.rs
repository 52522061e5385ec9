//! What the headers of a request show, and what becomes of them.

use colorfast_core::cookie::{self, Scheme};
use colorfast_core::decide::{Chosen, Reason};
use colorfast_core::ids::HeaderName;
use colorfast_core::names::{HEADER_CLIENT_SENT, PROPERTY_BUNDLE, PROPERTY_DECIDED};
use colorfast_core::plan::{Plan, SlotPlan};
use colorfast_core::settings::{SessionSource, Sessionless};

use crate::host::{self, HeaderMap, Map};
use crate::service::Current;

/// Most pins of one carrier, header or cookie, that are looked at: the first ones.
const PINS_MAX: usize = 4;

/// One request's headers, read once.
#[derive(Debug)]
pub struct Seen {
    /// The session id, from the first source that has one.
    pub session_id: Option<Vec<u8>>,
    /// The pins, those of the header first.
    pub pins: Vec<Vec<u8>>,
    /// Trusted address and user agent, where the settings place by them.
    pub client: Option<Vec<u8>>,
    /// How the client reached the proxy.
    pub scheme: Scheme,
    /// Whether something stands under the names of our stamps, or in the copy that early mutation makes of them: by a
    /// client, or by ourselves before an internal redirect.
    stamped: Presence,
    carried: Carried,
}

/// What carries tokens, and goes no further than here.
#[derive(Debug, Default)]
struct Carried {
    pin: Presence,
    preview: Presence,
    /// The cookie lines without pin cookies, where there was one.
    cookies: Option<Vec<Vec<u8>>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Presence {
    #[default]
    Absent,
    Present,
}

impl Seen {
    /// Reads `headers` by the settings of `plan`.
    pub fn read(headers: &HeaderMap, plan: &Plan) -> Self {
        let settings = &plan.settings;
        let names = &settings.headers;
        let mut seen = Self {
            session_id: session_id(headers, &settings.session_sources),
            pins: Vec::new(),
            client: None,
            scheme: Scheme::Http,
            stamped: Presence::Absent,
            carried: Carried::default(),
        };
        let mut user_agent = &b""[..];
        let mut cookies = Vec::new();
        for (name, value) in headers.iter() {
            let is = |header: &HeaderName| header.as_str().as_bytes() == name;
            match name {
                b":scheme" if value == b"https" => seen.scheme = Scheme::Https,
                b"user-agent" => user_agent = value,
                b"cookie" => cookies.push(value),
                _ if name == HEADER_CLIENT_SENT.as_bytes() => seen.stamped = Presence::Present,
                _ if names.stamps().into_iter().any(is) => seen.stamped = Presence::Present,
                _ if is(&names.preview) => seen.carried.preview = Presence::Present,
                _ if is(&names.pin) => {
                    seen.carried.pin = Presence::Present;
                    if plan.uses_header() && seen.pins.len() < PINS_MAX {
                        seen.pins.push(value.to_vec());
                    }
                }
                _ => {}
            }
        }
        seen.read_cookies(&cookies, plan);
        if settings.sessionless == Sessionless::Client && seen.session_id.is_none() {
            seen.client = Some(client(user_agent));
        }
        seen
    }

    fn read_cookies(&mut self, lines: &[&[u8]], plan: &Plan) {
        let name = plan.cookie.as_bytes();
        if plan.uses_cookie() {
            let found = lines.iter().flat_map(|line| cookie::find(line, name));
            self.pins.extend(found.take(PINS_MAX).map(<[u8]>::to_vec));
        }
        let without: Vec<_> = lines.iter().map(|line| cookie::without(line, name)).collect();
        if without.iter().any(Option::is_some) {
            let rest = lines.iter().zip(without).map(|(line, rest)| rest.unwrap_or_else(|| line.to_vec()));
            self.carried.cookies = Some(rest.filter(|line| !line.is_empty()).collect());
        }
    }

    /// Whether the request came with values under the names of our stamps.
    pub fn is_stamped(&self) -> bool {
        self.stamped == Presence::Present
    }

    /// What an earlier pass of this request came to, where there was one. Asked for only where something stands under
    /// our names.
    pub fn earlier_pass(&self, plan: &Plan) -> EarlierPass {
        let decided = if self.is_stamped() { Decided::read() } else { None };
        let Some(decided) = decided else { return EarlierPass::None };
        let bundle_then = host::property(&[PROPERTY_BUNDLE]).unwrap_or_default();
        let same = |slot: &SlotPlan| slot.name.as_str() == decided.slot && bundle(slot) == bundle_then;
        let slot = plan.slots().find(|(_, slot)| plan.service.as_str() == decided.service && same(slot));
        match slot {
            Some((slot, _)) => EarlierPass::Kept(Chosen { slot, reason: decided.reason }),
            None => EarlierPass::Elsewhere,
        }
    }

    /// Puts the stamps of `slot` on the request and takes off it what must not reach the agent.
    pub fn stamp(&self, plan: &Plan, slot: &SlotPlan, reason: Reason) {
        let names = &plan.settings.headers;
        self.strip(plan);
        for (name, value) in &slot.headers {
            let _ = host::set_header(Map::Request, name.as_str(), value.as_bytes());
        }
        for name in plan.settings.part_headers.values().filter(|name| !slot.headers.contains_key(name)) {
            let _ = host::remove_header(Map::Request, name.as_str());
        }
        let _ = host::set_property(PROPERTY_DECIDED, Decided::write(plan, slot, reason).as_bytes());
        let _ = host::set_property(PROPERTY_BUNDLE, bundle(slot));
        let _ = host::set_header(Map::Request, names.decision.as_str(), reason.as_str().as_bytes());
        let _ = host::set_header(Map::Request, names.bundle.as_str(), bundle(slot));
        // Last, since every change of a header drops the cached route, and routes match on this one.
        let _ = host::set_header(Map::Request, names.slot.as_str(), slot.name.as_str().as_bytes());
    }

    /// Takes off the request everything that only a stamp may carry.
    pub fn clear(&self, plan: &Plan) {
        self.strip(plan);
        if self.is_stamped() {
            for name in plan.settings.headers.stamps() {
                let _ = host::remove_header(Map::Request, name.as_str());
            }
        }
        for name in plan.settings.part_headers.values() {
            let _ = host::remove_header(Map::Request, name.as_str());
        }
    }

    /// Tokens and copies end here.
    fn strip(&self, plan: &Plan) {
        let names = &plan.settings.headers;
        if self.is_stamped() {
            let _ = host::remove_header(Map::Request, HEADER_CLIENT_SENT);
        }
        if self.carried.pin == Presence::Present {
            let _ = host::remove_header(Map::Request, names.pin.as_str());
        }
        if self.carried.preview == Presence::Present {
            let _ = host::remove_header(Map::Request, names.preview.as_str());
        }
        if let Some(cookies) = &self.carried.cookies {
            let _ = host::remove_header(Map::Request, "cookie");
            for line in cookies {
                let _ = host::add_header(Map::Request, "cookie", line);
            }
        }
    }
}

/// What came before this pass of the request: an internal redirect runs the filter again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlierPass {
    /// Nothing: the client's request.
    None,
    /// This decision, which stands.
    Kept(Chosen),
    /// A decision of another service, or one that the plan knows no more: the stamps are ours, and of no use here.
    Elsewhere,
}

/// The filter state that outlasts an internal redirect, and that no client can set.
struct Decided {
    service: String,
    slot: String,
    reason: Reason,
}

impl Decided {
    fn write(plan: &Plan, slot: &SlotPlan, reason: Reason) -> String {
        format!("{}/{}/{reason}", plan.service, slot.name)
    }

    fn read() -> Option<Self> {
        let text = String::from_utf8(host::property(&[PROPERTY_DECIDED])?).ok()?;
        let mut parts = text.split('/').map(str::to_owned);
        let (service, slot) = (parts.next()?, parts.next()?);
        Some(Self { service, slot, reason: Reason::parse(&parts.next()?)? })
    }
}

/// Takes our stamps off a request that an internal redirect has brought out of the services' reach.
pub fn clear_redirected(plans: impl Iterator<Item = std::rc::Rc<Current>>) {
    let Some(decided) = Decided::read() else { return };
    for current in plans.filter(|current| current.plan.service.as_str() == decided.service) {
        let settings = &current.plan.settings;
        for name in settings.headers.stamps().into_iter().chain(settings.part_headers.values()) {
            let _ = host::remove_header(Map::Request, name.as_str());
        }
    }
}

/// Takes off the trailers of a request what must not reach the agent: early mutation does not see them.
pub fn strip_trailers(plan: &Plan) {
    let Ok(trailers) = host::headers(Map::RequestTrailers) else { return };
    let settings = &plan.settings;
    let ours = settings.headers.all().into_iter().map(|(_, name)| name).chain(settings.part_headers.values());
    let ours: Vec<&str> = ours.map(HeaderName::as_str).chain([HEADER_CLIENT_SENT]).collect();
    for name in ours.into_iter().filter(|name| trailers.iter().any(|(found, _)| found == name.as_bytes())) {
        let _ = host::remove_header(Map::RequestTrailers, name);
    }
}

fn bundle(slot: &SlotPlan) -> &[u8] {
    slot.bundle.as_ref().map(|bundle| bundle.id.as_str().as_bytes()).unwrap_or_default()
}

/// The id of the first source that has one.
fn session_id(headers: &HeaderMap, sources: &[SessionSource]) -> Option<Vec<u8>> {
    sources.iter().find_map(|source| id_from(source, headers)).map(<[u8]>::to_vec)
}

fn id_from<'a>(source: &'a SessionSource, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    let named = |name: &'a [u8]| headers.iter().filter(move |(found, _)| *found == name).map(|(_, value)| value);
    match source {
        SessionSource::Header(header) => named(header.as_str().as_bytes()).find(|id| !id.is_empty()),
        SessionSource::Cookie(cookie) => {
            let name = cookie.as_str().as_bytes();
            named(b"cookie").flat_map(|line| cookie::find(line, name)).find(|id| !id.is_empty())
        }
    }
}

/// The address that Envoy trusts, without its port, and the user agent.
fn client(user_agent: &[u8]) -> Vec<u8> {
    let mut client = host::property(&["source", "address"]).unwrap_or_default();
    if let Some(colon) = client.iter().rposition(|b| *b == b':') {
        client.truncate(colon);
    }
    client.push(0);
    client.extend_from_slice(user_agent);
    client
}
