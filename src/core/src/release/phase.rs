//! Phases of a slot.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::json::words;

/// What a slot is doing.
///
/// ```text
///   idle ──stage──▶ staged ──ramp──▶ candidate ──switch──▶ live
///                     └───────────────switch─────────────▶ live
///   candidate ──ramp 0, abort──▶ draining      candidate ──rollback, abort --break-pins──▶ condemned
///   live ──switch away, rollback --keep-pins──▶ draining        live ──rollback──▶ condemned
///   draining ──switch, rollback to it──▶ live      draining ──migrate──▶ condemned
///   staged, draining, condemned ──recycle──▶ idle
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Runs nothing.
    Idle,
    /// Runs a bundle that takes no session yet.
    Staged,
    /// Takes a share of the new sessions, is not live.
    Candidate,
    /// Takes the new sessions that no candidate takes.
    Live,
    /// Keeps the sessions it has, takes no new one.
    Draining,
    /// Its pins are broken: sessions leave it at their next request.
    Condemned,
}

words! {
    Phase, "idle" => Idle, "staged" => Staged, "candidate" => Candidate, "live" => Live, "draining" => Draining,
    "condemned" => Condemned
}

impl Phase {
    /// Whether pins of the slot's assignment decide.
    pub fn honours_pins(self) -> bool {
        matches!(self, Self::Candidate | Self::Live | Self::Draining)
    }

    /// Whether the slot may have weight.
    pub fn may_take_sessions(self) -> bool {
        matches!(self, Self::Candidate | Self::Live)
    }

    /// The word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Staged => "staged",
            Self::Candidate => "candidate",
            Self::Live => "live",
            Self::Draining => "draining",
            Self::Condemned => "condemned",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
