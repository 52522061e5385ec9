//! What a request shows of itself: its headers, read in one pass by the settings of a plan. Nothing is copied but what
//! must be decoded.
//!
//! The filter decides by it, and `why` explains by it: one reader, so that both see the same.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::baggage;
use crate::cookie::{self, Scheme};
use crate::decide::View;
use crate::envelope;
use crate::ids::{HeaderName, KeyId};
use crate::names::HEADER_CLIENT_SENT;
use crate::path;
use crate::percent::{self, Plus};
use crate::plan::Plan;
use crate::scan::Media;
use crate::settings::{ServiceSettings, SessionSource};
use crate::token::{Claims, Invalid, Signer, pin, preview, run};

/// Most tokens of one carrier that are looked at: the first ones. A cookie jar may hold dead pins before the one that is
/// honoured.
const TOKENS_MAX: usize = 16;
/// Most further names of a session that one request shows.
const FURTHER_MAX: usize = 3;

/// What the headers of one request show.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// The session id, from the first source that has one; where its source encodes, as it was before.
    pub session_id: Option<Cow<'a, [u8]>>,
    /// The ids of later sources: further names of the session that the request comes to.
    further: [Option<(Source, Cow<'a, [u8]>)>; FURTHER_MAX],
    /// The pins, of the carriers that the settings name.
    pub pins: Pins<'a>,
    /// The user agent, empty where there is none.
    pub user_agent: &'a [u8],
    /// How the client reached the proxy.
    pub scheme: Scheme,
    /// Whether something stands under the names of our stamps, or in the copy that early mutation makes of them: by a
    /// client, or by ourselves before an internal redirect.
    pub stamps: Presence,
    /// Whether there is a pin header, whatever carries pins.
    pub pin_header: Presence,
    /// Whether there is a pin cookie, likewise.
    pub pin_cookie: Presence,
    /// The preview token, the first where there are several.
    pub preview: Option<Token<'a, preview::Claims>>,
    /// The run tokens in the baggage.
    pub runs: Few<'a, run::Claims>,
    /// The agent's session id, where it came in an envelope; it may be empty.
    pub enveloped: Option<&'a [u8]>,
    /// Whether the request is to delete something.
    pub deletes: Presence,
    /// Whether the request may begin a session.
    pub beginning: Beginning,
    /// What the body has to say of the session id.
    pub body: BodyRole,
    source: Source,
}

/// What a request's body has to say of its session id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyRole {
    /// Nothing: no source looks there, or one before those that do has an id.
    None,
    /// A source looks there, and the body is JSON.
    Json,
    /// A source looks there, but the body is compressed.
    Encoded,
    /// A source looks there, but the body is no JSON.
    Other,
}

/// Whether a `content-encoding` of this value makes a body unreadable. `identity` and nothing are no encoding (RFC 9110,
/// section 8.4; names are compared without regard to case).
pub fn is_encoded(encoding: &[u8]) -> bool {
    let encoding = encoding.trim_ascii();
    !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity")
}

/// Whether a request may begin a session: one that only asks about another request begins none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Beginning {
    /// It may.
    #[default]
    Session,
    /// A CORS preflight.
    Preflight,
    /// A HEAD.
    Head,
}

impl Beginning {
    /// The word for metrics, of what begins nothing.
    pub fn of_nothing(self) -> Option<&'static str> {
        match self {
            Self::Session => None,
            Self::Preflight => Some("preflight"),
            Self::Head => Some("head"),
        }
    }
}

/// Whether a request has something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Presence {
    /// It has not.
    #[default]
    Absent,
    /// It has.
    Present,
}

impl Presence {
    /// Whether it has.
    pub fn is_present(self) -> bool {
        self == Self::Present
    }
}

/// What carries a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// The pin header.
    Header,
    /// The pin cookie.
    Cookie,
    /// The envelope.
    Envelope,
}

/// A token as a request carries it. It is verified at most once, by the keys of one plan, when a rule first looks at it.
#[derive(Debug, Clone)]
pub struct Token<'a, C> {
    bytes: &'a [u8],
    verified: OnceCell<Verified<C>>,
}

/// What a token says and which key signed it, or why it is none.
pub type Verified<C> = Result<(C, KeyId), Invalid>;

impl<'a, C: Claims> Token<'a, C> {
    /// One that nobody has looked at.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, verified: OnceCell::new() }
    }

    /// The token itself.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What it says, where `signer` verifies it.
    pub fn verify(&self, signer: &Signer<C>) -> &Verified<C> {
        self.verified.get_or_init(|| signer.read(self.bytes))
    }
}

/// The first few tokens of many.
#[derive(Debug, Clone)]
pub struct Few<'a, C>(Vec<Token<'a, C>>);

impl<C> Default for Few<'_, C> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'a, C: Claims> Few<'a, C> {
    /// Notes one more, where there is room.
    pub fn add(&mut self, token: &'a [u8]) {
        if self.0.len() < TOKENS_MAX {
            self.0.push(Token::new(token));
        }
    }

    /// Every token in order.
    pub fn iter(&self) -> impl Iterator<Item = &Token<'a, C>> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn verified(self) -> Vec<OnceCell<Verified<C>>> {
        self.0.into_iter().map(|token| token.verified).collect()
    }

    fn recall(&mut self, verified: Vec<OnceCell<Verified<C>>>) {
        self.0.iter_mut().zip(verified).for_each(|(token, verified)| token.verified = verified);
    }
}

/// The pins of a request in the order in which they are tried: those of the header, then those of the cookie, then that of
/// the envelope.
#[derive(Debug, Clone, Default)]
pub struct Pins<'a> {
    header: Few<'a, pin::Claims>,
    cookie: Few<'a, pin::Claims>,
    envelope: Envelope,
}

/// What the header of envelopes holds beside the agent's id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Envelope {
    /// No pin.
    #[default]
    None,
    /// A pin that verifies.
    Holds(pin::Claims, KeyId),
    /// What would be a pin but for its signature: an id of the agent's own, or a forgery.
    Unverified(Invalid),
}

impl<'a> Pins<'a> {
    /// Notes one more pin of the header; of a great many the first few are kept.
    pub fn add_header(&mut self, token: &'a [u8]) {
        self.header.add(token);
    }

    /// Notes one more pin of the cookie, likewise.
    pub fn add_cookie(&mut self, token: &'a [u8]) {
        self.cookie.add(token);
    }

    /// Every pin that is to be verified, with its carrier.
    pub fn iter(&self) -> impl Iterator<Item = (Carrier, &Token<'a, pin::Claims>)> {
        let header = self.header.iter().map(|token| (Carrier::Header, token));
        header.chain(self.cookie.iter().map(|token| (Carrier::Cookie, token)))
    }

    /// What the envelope holds.
    pub fn envelope(&self) -> Envelope {
        self.envelope
    }
}

/// What was verified of the tokens of a request: good for as long as its plan is.
#[derive(Debug, Default)]
pub struct Evidence {
    header: Vec<OnceCell<Verified<pin::Claims>>>,
    cookie: Vec<OnceCell<Verified<pin::Claims>>>,
    runs: Vec<OnceCell<Verified<run::Claims>>>,
    preview: Option<OnceCell<Verified<preview::Claims>>>,
}

impl<'a> Seen<'a> {
    /// Reads `headers` by `plan`: names in lower case, as HTTP/2 and Envoy have them.
    pub fn read(headers: impl Iterator<Item = (&'a [u8], &'a [u8])>, plan: &Plan) -> Self {
        let mut seen = Self::nothing();
        let mut body = BodyRole::Other;
        let (mut is_options, mut has_origin, mut asks_method) = (false, false, false);
        for (name, value) in headers {
            match name {
                b":method" if value == b"DELETE" => seen.deletes = Presence::Present,
                b":method" if value == b"HEAD" => seen.beginning = Beginning::Head,
                b":method" if value == b"OPTIONS" => is_options = true,
                b"origin" => has_origin = true,
                b"access-control-request-method" => asks_method = true,
                b":scheme" if value == b"https" => seen.scheme = Scheme::Https,
                b"user-agent" => seen.user_agent = value,
                b"cookie" => seen.read_pin_cookies(value, plan),
                b"content-type" if body == BodyRole::Other && Media::of(value) == Media::Json => body = BodyRole::Json,
                b"content-encoding" if is_encoded(value) => body = BodyRole::Encoded,
                b"baggage" => baggage::find(value).for_each(|token| seen.runs.add(token)),
                _ => {}
            }
            let mut value = value;
            for role in plan.roles.of(name) {
                match role {
                    Role::Envelope => value = seen.open(value, plan),
                    Role::Stamp => seen.stamps = Presence::Present,
                    Role::Preview if seen.preview.is_none() => seen.preview = Some(Token::new(value)),
                    Role::Preview => {}
                    Role::Pin => {
                        seen.pin_header = Presence::Present;
                        if plan.uses_header() {
                            seen.pins.add_header(value);
                        }
                    }
                    Role::Session(of) if *of != seen.source => {
                        if let Some(id) = of.read(plan, value) {
                            seen.name(*of, id);
                        }
                    }
                    Role::Session(_) => {}
                }
            }
        }
        if is_options && has_origin && asks_method {
            seen.beginning = Beginning::Preflight;
        }
        if plan.pointers.first().is_some_and(|first| first < seen.source.0) {
            seen.body = body;
        }
        seen
    }

    /// What a request without headers shows.
    fn nothing() -> Self {
        Self {
            session_id: None,
            further: Default::default(),
            pins: Pins::default(),
            user_agent: b"",
            scheme: Scheme::Http,
            stamps: Presence::Absent,
            pin_header: Presence::Absent,
            pin_cookie: Presence::Absent,
            preview: None,
            runs: Few::default(),
            enveloped: None,
            deletes: Presence::Absent,
            beginning: Beginning::Session,
            body: BodyRole::None,
            source: Source::NONE,
        }
    }

    /// What a decision goes by of it. `client` is what stands for the client, where the settings place by that.
    pub fn view<'v>(&'v self, client: Option<&'v [u8]>) -> View<'v> {
        View {
            session_id: self.session_id.as_deref(),
            pins: Some(&self.pins),
            preview: self.preview.as_ref(),
            runs: Some(&self.runs),
            client,
            beginning: self.beginning,
            ..View::default()
        }
    }

    /// The ids of later sources than the one that has named the session, each once.
    pub fn further(&self) -> impl Iterator<Item = &[u8]> {
        let ids = self.further.iter().flatten().map(|(_, id)| id.as_ref());
        ids.filter(|id| self.session_id.as_deref() != Some(*id))
    }

    /// The body names the session, by a source that comes before the one that has named it so far.
    pub fn name_by_body(&mut self, source: usize, id: Vec<u8>) {
        self.name(Source(source), id.into());
    }

    /// An id of an earlier source is the session's, whichever header came first; those of later ones are further names.
    fn name(&mut self, source: Source, id: Cow<'a, [u8]>) {
        let (source, id) = match self.session_id.take() {
            Some(before) if self.source.0 < source.0 => {
                self.session_id = Some(before);
                (source, id)
            }
            before => {
                let later = std::mem::replace(&mut self.source, source);
                self.session_id = Some(id);
                let Some(before) = before else { return };
                (later, before)
            }
        };
        let known = self.further.iter().flatten().any(|(known, _)| *known == source);
        if let Some(free) = self.further.iter_mut().find(|place| place.is_none()).filter(|_| !known) {
            *free = Some((source, id));
        }
    }

    /// What was verified of its tokens.
    pub fn into_evidence(self) -> Evidence {
        Evidence {
            header: self.pins.header.verified(),
            cookie: self.pins.cookie.verified(),
            runs: self.runs.verified(),
            preview: self.preview.map(|token| token.verified),
        }
    }

    /// Takes in what was verified before of the tokens of the same request, by the same plan.
    pub fn recall(&mut self, evidence: Evidence) {
        self.pins.header.recall(evidence.header);
        self.pins.cookie.recall(evidence.cookie);
        self.runs.recall(evidence.runs);
        if let (Some(token), Some(verified)) = (&mut self.preview, evidence.preview) {
            token.verified = verified;
        }
    }

    /// Whether a source by its place in the settings comes before the one that has named the session.
    pub(crate) fn is_before(&self, source: usize) -> bool {
        source < self.source.0
    }

    /// The value of a header, without the pin where it is an envelope. An envelope is what verifies: anything else is the
    /// agent's own id.
    fn open(&mut self, value: &'a [u8], plan: &Plan) -> &'a [u8] {
        let (Some((id, pin)), Some(secrets)) = (envelope::open(value), plan.secrets()) else { return value };
        let found = match secrets.pins.read(pin) {
            Ok((claims, key)) => Envelope::Holds(claims, key),
            Err(Invalid::Malformed) => return value,
            Err(invalid) => Envelope::Unverified(invalid),
        };
        if !matches!(self.pins.envelope, Envelope::Holds(..)) {
            self.pins.envelope = found;
        }
        if let Envelope::Unverified(_) = found {
            return value;
        }
        self.enveloped = self.enveloped.or(Some(id));
        id
    }

    fn read_pin_cookies(&mut self, line: &'a [u8], plan: &Plan) {
        for token in cookie::find(line, plan.cookie.as_bytes()) {
            self.pin_cookie = Presence::Present;
            if plan.uses_cookie() {
                self.pins.add_cookie(cookie::unquoted(token));
            }
        }
    }
}

/// What a client is placed by where the settings say so: the address that the proxy trusts, without its port, and the
/// user agent.
pub fn client(mut address: Vec<u8>, user_agent: &[u8]) -> Vec<u8> {
    if let Some(colon) = address.iter().rposition(|b| *b == b':') {
        address.truncate(colon);
    }
    address.push(0);
    address.extend_from_slice(user_agent);
    address
}

/// A source of session ids, by its place in the settings: the lower, the stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Source(usize);

impl Source {
    /// Weaker than any.
    const NONE: Self = Self(usize::MAX);
    /// The header of envelopes, behind all that the settings list.
    const ENVELOPE: Self = Self(usize::MAX - 1);

    /// The first id of this source in the value of the header that carries it.
    fn read<'a>(self, plan: &Plan, value: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let Some(source) = plan.settings.session_sources.get(self.0) else {
            return (!value.is_empty()).then_some(Cow::Borrowed(value));
        };
        let id = match source {
            SessionSource::Header(_) => Cow::Borrowed(value),
            SessionSource::Cookie(name) => {
                let mut ids = cookie::find(value, name.as_str().as_bytes());
                Cow::Borrowed(ids.find(|id| !id.is_empty())?)
            }
            SessionSource::Query(name) => {
                path::parameters(value, name).map(|id| percent::decode(id, Plus::Space)).find(|id| !id.is_empty())?
            }
            SessionSource::Path(template) => path::session(value, template)?,
            SessionSource::Baggage(key) => {
                let mut ids = baggage::find_key(value, key.as_str().as_bytes());
                percent::decode(ids.find(|id| !id.is_empty())?, Plus::Itself)
            }
            SessionSource::Body(_) => return None,
        };
        (!id.is_empty()).then_some(id)
    }
}

/// What a header is to a service.
#[derive(Debug, Clone, Copy)]
enum Role {
    Stamp,
    Preview,
    Pin,
    /// Comes before the sources of the same header: they see the id alone.
    Envelope,
    Session(Source),
}

/// The headers that a service reads, compiled with its plan.
#[derive(Debug, Clone)]
pub(crate) struct Roles(Vec<(Box<[u8]>, Role)>);

impl Roles {
    pub(crate) fn new(settings: &ServiceSettings) -> Self {
        let names = &settings.headers;
        let own = |name: &HeaderName, role| (name.as_str().as_bytes().into(), role);
        let stamps = names.stamps().map(|name| own(name, Role::Stamp));
        let copy = (HEADER_CLIENT_SENT.as_bytes().into(), Role::Stamp);
        let sources = settings.session_sources.iter().enumerate().filter_map(|(index, source)| {
            let carrier = match source {
                SessionSource::Header(name) => name.as_str(),
                SessionSource::Cookie(_) => "cookie",
                SessionSource::Query(_) | SessionSource::Path(_) => ":path",
                SessionSource::Baggage(_) => baggage::HEADER,
                SessionSource::Body(_) => return None,
            };
            Some((carrier.as_bytes().into(), Role::Session(Source(index))))
        });
        let envelope = |role| settings.pin.envelope_header.iter().map(move |name| own(name, role));
        let (opens, names_last) = (envelope(Role::Envelope), envelope(Role::Session(Source::ENVELOPE)));
        let tokens = [own(&names.pin, Role::Pin), own(&names.preview, Role::Preview)];
        Self(stamps.into_iter().chain([copy]).chain(tokens).chain(opens).chain(sources).chain(names_last).collect())
    }

    /// What a header of this name is; a session id may also stand where something else does.
    fn of(&self, name: &[u8]) -> impl Iterator<Item = &Role> {
        self.0.iter().filter(move |(known, _)| **known == *name).map(|(_, role)| role)
    }
}

#[cfg(test)]
mod tests;
