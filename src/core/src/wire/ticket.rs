//! The ticket of a member: proves that a poll or a report is of the process that it names.
//!
//! The sidecar gives it out with a snapshot, beside the resource, until it has been shown once. From then on whoever speaks
//! for the member must show it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::json::newtype;

/// A ticket, opaque to proxies; never shown in debug output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Ticket(String);

newtype!(Ticket, String);

impl Ticket {
    /// The ticket of this text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}
