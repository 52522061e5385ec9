//! Points in time as numbers: core never reads a clock, its callers say what time it is.

use serde::{Deserialize, Serialize};

use crate::json::newtype;

/// How far the clocks of proxies may be apart: a token from so far in the future is still a token, and a proxy that is
/// behind honours one for so much longer.
pub(crate) const SKEW_SECONDS: u64 = 60;

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

newtype!(UnixMillis, u64);

impl UnixMillis {
    /// The whole seconds of this moment.
    pub fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1000)
    }

    /// This moment and `millis` more, at most the end of time.
    pub fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this moment, 0 where `earlier` is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whether this moment is one of the `millis` that begin at `earlier`. One before them is not: the clock was set
    /// back, and what time bounds must end all the same.
    pub fn is_within(self, millis: u64, earlier: Self) -> bool {
        self >= earlier && self.since(earlier) < millis
    }
}

/// Seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// Seconds from `earlier` to this moment, 0 where `earlier` is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment and `seconds` more, at most the end of time.
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}
