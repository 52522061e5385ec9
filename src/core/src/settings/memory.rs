//! Settings of the memory of sessions.

use serde::{Deserialize, Serialize};

use crate::error::FieldError;
use crate::json::{newtype, record};
use crate::memory::Buckets;

/// Fewest and most sessions that a proxy can be given room for.
const SESSIONS: (u32, u32) = (1_024, 1 << 20);
/// Longest wait for the fleet's word, and for it to have ours.
const WAIT_MAX_MS: u32 = 5_000;

/// How sessions are remembered whose clients echo nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct MemorySettings {
    /// How many sessions a proxy has room for. A proxy forgets those that it remembers where this is changed.
    pub sessions: SessionRoom,
    /// How long a request waits, at most, for the fleet's word on a session that its proxy does not know. 0 asks never.
    pub ask_wait_ms: AskWaitMs,
    /// How long the part of an answer that hands out a new id waits, at most, until the fleet has it, while several slots
    /// hold sessions. 0 tells at once and waits never.
    pub tell_wait_ms: TellWaitMs,
}

/// A number of sessions, 131,072 unless set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct SessionRoom(#[cfg_attr(feature = "schema", schemars(range(min = SESSIONS.0, max = SESSIONS.1)))] pub u32);

/// Milliseconds that a request waits for the fleet's word, 20 unless set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct AskWaitMs(#[cfg_attr(feature = "schema", schemars(range(max = WAIT_MAX_MS)))] pub u32);

/// Milliseconds that an answer waits until the fleet has the id that it hands out, 20 unless set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct TellWaitMs(#[cfg_attr(feature = "schema", schemars(range(max = WAIT_MAX_MS)))] pub u32);

impl Default for AskWaitMs {
    fn default() -> Self {
        Self(20)
    }
}

impl Default for TellWaitMs {
    fn default() -> Self {
        Self(20)
    }
}

impl Default for SessionRoom {
    fn default() -> Self {
        Self(131_072)
    }
}

record!(MemorySettings, Refused, [sessions, ask_wait_ms, tell_wait_ms]);

newtype!(AskWaitMs, u32);

newtype!(TellWaitMs, u32);

newtype!(SessionRoom, u32);

impl MemorySettings {
    pub(super) fn validate(&self) -> Result<(), FieldError> {
        let (fewest, most) = SESSIONS;
        if !(fewest..=most).contains(&self.sessions.0) {
            let rule = format!("is {}, {fewest} to {most} are allowed", self.sessions.0);
            return Err(FieldError::new("memory.sessions", rule));
        }
        for (field, wait) in [("memory.ask_wait_ms", self.ask_wait_ms.0), ("memory.tell_wait_ms", self.tell_wait_ms.0)]
        {
            if wait > WAIT_MAX_MS {
                return Err(FieldError::new(field, format!("is over {WAIT_MAX_MS}")));
            }
        }
        Ok(())
    }

    /// The table of a proxy.
    pub fn buckets(&self) -> Buckets {
        Buckets::for_sessions(self.sessions.0)
    }
}
