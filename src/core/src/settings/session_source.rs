//! Where a request names its session.

use serde::{Deserialize, Serialize};

use crate::baggage;
use crate::error::FieldError;
use crate::ids::{CookieName, HeaderName, ParameterName, PathTemplate};
use crate::json::{Error, FromTree, Tree, word};

/// Most sources of one service.
const SOURCES_MAX: usize = 8;

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
}

impl FromTree for SessionSource {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        let (kind, name) = tree.entry()?;
        let source = match word(kind, &["header", "cookie", "query", "path", "baggage"])? {
            0 => HeaderName::from_tree(name).map(Self::Header),
            1 => CookieName::from_tree(name).map(Self::Cookie),
            2 => ParameterName::from_tree(name).map(Self::Query),
            3 => PathTemplate::from_tree(name).map(Self::Path),
            _ => ParameterName::from_tree(name).map(Self::Baggage),
        };
        source.map_err(|error| error.in_field(kind))
    }
}

/// Checks the sources of a service whose pins travel in the cookie `pin_cookie`.
pub(super) fn validate(sources: &[SessionSource], pin_cookie: &str) -> Result<(), FieldError> {
    if sources.len() > SOURCES_MAX {
        let rule = format!("has {} entries, at most {SOURCES_MAX} are allowed", sources.len());
        return Err(FieldError::new("session_sources", rule));
    }
    for (index, source) in sources.iter().enumerate() {
        let (kind, rule) = match source {
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
