//! Settings of the memory of sessions.

use serde::{Deserialize, Serialize};

use crate::error::FieldError;
use crate::json::{newtype, record};
use crate::memory::Buckets;

/// Fewest and most sessions that a proxy can be given room for.
const SESSIONS: (u32, u32) = (1_024, 1 << 20);

/// How sessions are remembered whose clients echo nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct MemorySettings {
    /// How many sessions a proxy has room for. A proxy forgets those that it remembers where this is changed.
    pub sessions: SessionRoom,
}

/// A number of sessions, 131,072 unless set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct SessionRoom(#[cfg_attr(feature = "schema", schemars(range(min = SESSIONS.0, max = SESSIONS.1)))] pub u32);

impl Default for SessionRoom {
    fn default() -> Self {
        Self(131_072)
    }
}

record!(MemorySettings, Refused, [sessions]);

newtype!(SessionRoom, u32);

impl MemorySettings {
    pub(super) fn validate(&self) -> Result<(), FieldError> {
        let (fewest, most) = SESSIONS;
        if (fewest..=most).contains(&self.sessions.0) {
            return Ok(());
        }
        Err(FieldError::new("memory.sessions", format!("is {}, {fewest} to {most} are allowed", self.sessions.0)))
    }

    /// The table of a proxy.
    pub fn buckets(&self) -> Buckets {
        Buckets::for_sessions(self.sessions.0)
    }
}
