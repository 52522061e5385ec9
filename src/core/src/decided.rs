//! What was decided for a request, as one line of text: filter state, where it outlasts an internal redirect and no
//! client can set it, and access logs, where `why` reads it.

use std::fmt;
use std::str::FromStr;

use crate::decide::Reason;
use crate::error::ParseError;
use crate::ids::{BundleId, ServiceName, SlotName, SnapshotVersion};

/// A decision with all that it was made of: `<service>/<slot>/<reason>/<epoch>.<version>/<bundle>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Whose decision it is.
    pub service: ServiceName,
    /// The slot.
    pub slot: SlotName,
    /// The rule.
    pub reason: Reason,
    /// The snapshot that it was decided by.
    pub version: SnapshotVersion,
    /// The bundle that the slot ran.
    pub bundle: BundleId,
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}/{}", self.service, self.slot, self.reason, self.version, self.bundle)
    }
}

impl FromStr for Decided {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::new(text, "a decision: <service>/<slot>/<reason>/<epoch>.<version>/<bundle>");
        let mut parts = text.split('/');
        let mut part = || parts.next().ok_or_else(wrong);
        let decided = Self {
            service: part()?.parse().map_err(|_| wrong())?,
            slot: part()?.parse().map_err(|_| wrong())?,
            reason: Reason::parse(part()?).ok_or_else(wrong)?,
            version: part()?.parse().map_err(|_| wrong())?,
            bundle: part()?.parse().map_err(|_| wrong())?,
        };
        parts.next().is_none().then_some(decided).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stamped: what was decided reads back, and nothing else is taken for it.
    #[test]
    fn reads_what_it_wrote() {
        let text = "chat/blue/hash/1767225600000.42/2026-11-21@a+b_c";
        assert_eq!(text.parse::<Decided>().unwrap().to_string(), text);
        let wrong = ["", "chat/blue/hash", "chat/blue/luck/1.2/v1", "chat/blue/hash/1/v1", "chat/blue/hash/1.2/"];
        for wrong in wrong.into_iter().chain(["Chat/blue/hash/1.2/v1", "chat/blue/hash/1.2/v1/x", "-"]) {
            assert!(wrong.parse::<Decided>().is_err(), "{wrong}");
        }
    }
}
