//! Where a request names its session.

use serde::{Deserialize, Serialize};

use crate::baggage;
use crate::error::FieldError;
use crate::ids::{CookieName, HeaderName, JsonPointer, ParameterName, PathTemplate};
use crate::json::{Error, FromTree, Tree, record, word};

/// Most sources of one service.
const SOURCES_MAX: usize = 32;

/// One place of a request where its session id may stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SessionSource {
    /// A request header.
    Header(HeaderName),
    /// A cookie of the agent's own.
    Cookie(CookieName),
    /// A parameter of the query.
    Query(ParameterName),
    /// A segment of the path.
    Path(PathTemplate),
    /// A member of W3C baggage.
    Baggage(ParameterName),
    /// A string or number in a JSON body, by its JSON pointer.
    Body(JsonPointer),
}

impl FromTree for SessionSource {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        let (kind, name) = tree.entry()?;
        let source = match word(kind, &["header", "cookie", "query", "path", "baggage", "body"])? {
            0 => HeaderName::from_tree(name).map(Self::Header),
            1 => CookieName::from_tree(name).map(Self::Cookie),
            2 => ParameterName::from_tree(name).map(Self::Query),
            3 => PathTemplate::from_tree(name).map(Self::Path),
            4 => ParameterName::from_tree(name).map(Self::Baggage),
            _ => JsonPointer::from_tree(name).map(Self::Body),
        };
        source.map_err(|error| error.in_field(kind))
    }
}

/// One place of an answer where the agent may hand out a session id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AnswerSource {
    /// A response header.
    Header(HeaderName),
    /// A cookie that the answer sets.
    Cookie(CookieName),
    /// A string or number in a JSON body, by its JSON pointer.
    Body(JsonPointer),
    /// A string or number in the JSON data of a server-sent event, by its JSON pointer: the first event that has it.
    Event(JsonPointer),
}

impl FromTree for AnswerSource {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        let (kind, name) = tree.entry()?;
        let source = match word(kind, &["header", "cookie", "body", "event"])? {
            0 => HeaderName::from_tree(name).map(Self::Header),
            1 => CookieName::from_tree(name).map(Self::Cookie),
            2 => JsonPointer::from_tree(name).map(Self::Body),
            _ => JsonPointer::from_tree(name).map(Self::Event),
        };
        source.map_err(|error| error.in_field(kind))
    }
}

/// How bodies are read for session ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct BodySettings {
    /// How much of a body is searched, from its beginning.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = PREFIX_MAX_BYTES)))]
    pub prefix_bytes: u32,
    /// How long a request waits for its body.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = WAIT_MAX_MS)))]
    pub wait_ms: u32,
    /// How much one worker of a proxy holds of the bodies of all requests that wait.
    #[cfg_attr(feature = "schema", schemars(range(min = HELD_MIN_BYTES, max = HELD_MAX_BYTES)))]
    pub held_bytes: u32,
}

record!(BodySettings, Refused, [prefix_bytes, wait_ms, held_bytes]);

/// One mebibyte.
const MIB: u32 = 1 << 20;
/// Most that is searched of a body.
const PREFIX_MAX_BYTES: u32 = 16 * MIB;
/// Least that a worker may hold.
const HELD_MIN_BYTES: u32 = MIB;
/// Most that a worker may hold.
const HELD_MAX_BYTES: u32 = 1024 * MIB;
/// Longest wait for a body.
const WAIT_MAX_MS: u32 = 30_000;

impl Default for BodySettings {
    fn default() -> Self {
        Self { prefix_bytes: MIB, wait_ms: 5_000, held_bytes: 64 * MIB }
    }
}

impl BodySettings {
    pub(super) fn validate(&self) -> Result<(), FieldError> {
        let bounds = [
            ("body.prefix_bytes", self.prefix_bytes, 1, PREFIX_MAX_BYTES),
            ("body.wait_ms", self.wait_ms, 1, WAIT_MAX_MS),
            ("body.held_bytes", self.held_bytes, HELD_MIN_BYTES, HELD_MAX_BYTES),
        ];
        for (field, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err(FieldError::new(field, format!("{value} is not within {least} to {most}")));
            }
        }
        Ok(())
    }
}

/// Checks that a list of sources is not too long.
fn bounded(field: &'static str, count: usize) -> Result<(), FieldError> {
    if count <= SOURCES_MAX {
        return Ok(());
    }
    Err(FieldError::new(field, format!("has {count} entries, at most {SOURCES_MAX} are allowed")))
}

/// Checks where answers hand out ids.
pub(super) fn validate_answers(sources: &[AnswerSource]) -> Result<(), FieldError> {
    bounded("learn_from", sources.len())?;
    let cookies = |source: &AnswerSource| matches!(source, AnswerSource::Header(name) if name.as_str() == "set-cookie");
    let Some(index) = sources.iter().position(cookies) else { return Ok(()) };
    let rule = "set-cookie holds more than an id: name the cookie, as in cookie: JSESSIONID";
    Err(FieldError::new(format!("learn_from[{index}].header"), rule))
}

/// Checks the sources of a service whose pins travel in the cookie `pin_cookie`.
pub(super) fn validate(sources: &[SessionSource], pin_cookie: &str) -> Result<(), FieldError> {
    bounded("session_sources", sources.len())?;
    for (index, source) in sources.iter().enumerate() {
        let (kind, rule) = match source {
            SessionSource::Header(name) if name.as_str() == "cookie" => (
                "header",
                "cookie holds every cookie of the client: name one of them, as in cookie: JSESSIONID".to_owned(),
            ),
            SessionSource::Cookie(cookie) if cookie.as_str() == pin_cookie => {
                ("cookie", format!("{pin_cookie} is the cookie of the pin, which names no session"))
            }
            SessionSource::Baggage(key) if key.as_str() == baggage::MEMBER => {
                ("baggage", format!("{key} is the member of run tokens, which name no session"))
            }
            _ => continue,
        };
        return Err(FieldError::new(format!("session_sources[{index}].{kind}"), rule));
    }
    Ok(())
}
