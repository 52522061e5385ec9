//! What the headers of a request show, and what becomes of them.

use colorfast_core::cookie::{self, Scheme};
use colorfast_core::decide::{Chosen, Reason};
use colorfast_core::ids::HeaderName;
use colorfast_core::names::{HEADER_CLIENT_SENT, PROPERTY_BUNDLE, PROPERTY_SLOT};
use colorfast_core::plan::{Plan, SlotPlan};
use colorfast_core::settings::{SessionSource, Sessionless};

use crate::host::{self, HeaderMap, Map};

/// Most pins of one request that are looked at: the first ones.
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
    /// What stands under the names of our stamps, or in the copy that early mutation made of them.
    stamped: Option<Stamped>,
    carried: Carried,
}

/// Values under the names of our stamps: a client's, or our own after an internal redirect.
#[derive(Debug, Default)]
struct Stamped {
    /// Slot, bundle and decision in one, as early mutation copies them.
    copy: Vec<u8>,
    /// The decision, where nothing has stripped it.
    decision: Vec<u8>,
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
            stamped: None,
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
                _ if name == HEADER_CLIENT_SENT.as_bytes() => seen.stamped().copy = value.to_vec(),
                _ if is(&names.decision) => seen.stamped().decision = value.to_vec(),
                _ if is(&names.slot) || is(&names.bundle) => drop(seen.stamped()),
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
        if settings.sessionless == Sessionless::Client {
            seen.client = Some(client(user_agent));
        }
        seen
    }

    fn stamped(&mut self) -> &mut Stamped {
        self.stamped.get_or_insert_default()
    }

    fn read_cookies(&mut self, lines: &[&[u8]], plan: &Plan) {
        let name = plan.cookie.as_bytes();
        if plan.uses_cookie() {
            let found = lines.iter().flat_map(|line| cookie::find(line, name));
            self.pins.extend(found.take(PINS_MAX).map(<[u8]>::to_vec));
        }
        if lines.iter().any(|line| cookie::find(line, name).next().is_some()) {
            let rest = lines.iter().map(|line| cookie::without(line, name).unwrap_or_else(|| line.to_vec()));
            self.carried.cookies = Some(rest.filter(|line| !line.is_empty()).collect());
        }
    }

    /// Whether the request came with values under the names of our stamps.
    pub fn is_stamped(&self) -> bool {
        self.stamped.is_some()
    }

    /// What the first pass of this request came to, where this is the pass after an internal redirect: the filter
    /// state, which no client can set, is then there. Asked for only where something stands under our names.
    pub fn kept(&self, plan: &Plan) -> Option<Chosen> {
        let stamped = self.stamped.as_ref()?;
        let (kept_slot, kept_bundle) = (host::property(&[PROPERTY_SLOT])?, host::property(&[PROPERTY_BUNDLE])?);
        let holds = |slot: &SlotPlan| slot.name.as_str().as_bytes() == kept_slot && bundle(slot) == kept_bundle;
        let (slot, _) = plan.slots().find(|(_, slot)| holds(slot))?;
        let copied =
            stamped.copy.strip_prefix(kept_slot.as_slice()).and_then(|rest| rest.strip_prefix(kept_bundle.as_slice()));
        let decision = copied.unwrap_or(&stamped.decision);
        let reason = Reason::ALL.into_iter().find(|reason| reason.as_str().as_bytes() == decision)?;
        Some(Chosen { slot, reason })
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
        let _ = host::set_property(PROPERTY_SLOT, slot.name.as_str().as_bytes());
        let _ = host::set_property(PROPERTY_BUNDLE, bundle(slot));
        let _ = host::set_header(Map::Request, names.decision.as_str(), reason.as_str().as_bytes());
        let _ = host::set_header(Map::Request, names.bundle.as_str(), bundle(slot));
        // Last, since every change of a header drops the cached route, and routes match on this one.
        let _ = host::set_header(Map::Request, names.slot.as_str(), slot.name.as_str().as_bytes());
    }

    /// Takes off the request everything that only a stamp may carry.
    pub fn clear(&self, plan: &Plan) {
        self.strip(plan);
        let names = &plan.settings.headers;
        let stamps = [&names.slot, &names.bundle, &names.decision];
        if self.stamped.is_some() {
            for name in stamps {
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
        if self.stamped.is_some() {
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
