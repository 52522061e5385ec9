//! What an operator can ask for.

use serde::{Deserialize, Serialize};

use crate::bundle::Manifest;
use crate::ids::{BundleId, KeyId, SlotName};
use crate::preset::Applied;
use crate::weight::Weight;

/// An operator's act on one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Verb {
    /// Creates the service, or replaces its settings.
    Apply {
        /// The new settings, whole.
        settings: Box<Applied>,
    },
    /// Adds a bundle, for good.
    AddBundle {
        /// Its release tag.
        id: BundleId,
        /// Its parts.
        manifest: Manifest,
    },
    /// Puts a bundle into an idle slot.
    Stage {
        /// The slot.
        slot: SlotName,
        /// The bundle.
        bundle: BundleId,
    },
    /// Gives a slot a share of the new sessions; 0 drains it.
    Ramp {
        /// The slot.
        slot: SlotName,
        /// The share.
        weight: Weight,
        /// Whether to do so over a refusal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        force: Option<Force>,
    },
    /// Takes a candidate's share away.
    Abort {
        /// The slot.
        slot: SlotName,
        /// What becomes of its sessions.
        pins: Pins,
    },
    /// Sends all new sessions to a slot.
    Switch {
        /// The slot.
        slot: SlotName,
        /// Whether to do so over a refusal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        force: Option<Force>,
    },
    /// Steps back: out of a ramp, or to the slot that was live before.
    Rollback {
        /// The slot to step back to; absent, the one before by the log.
        to: Option<SlotName>,
        /// What becomes of the sessions of the slot that is left.
        pins: Pins,
        /// Whether to do so over a refusal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        force: Option<Force>,
    },
    /// Makes the last sessions of a draining slot leave it.
    Migrate {
        /// The slot.
        slot: SlotName,
    },
    /// Sets when the last sessions of a draining slot leave.
    SetDeadline {
        /// The slot.
        slot: SlotName,
        /// In so many seconds; none: not before they end.
        within_seconds: Option<u32>,
    },
    /// Makes a new key, which signs as soon as every member can verify it.
    RotateKeys,
    /// Takes the step that is due with the keys: no operator's verb, the sidecar gives it to itself.
    TurnKeys,
    /// Ends the asking where one slot alone holds sessions: no operator's verb, the sidecar gives it to itself.
    Settle,
    /// Takes a key away: what it signed is refused from then on.
    RetireKey {
        /// The key.
        key: KeyId,
        /// Whether to do so over a refusal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        force: Option<Force>,
    },
    /// Frees a slot.
    Recycle {
        /// The slot.
        slot: SlotName,
        /// Whether to do so over a refusal.
        force: Option<Force>,
    },
}

impl Verb {
    /// The word that overrides a refusal, where the verb takes one and it was given.
    pub fn force(&self) -> Option<&Force> {
        match self {
            Self::Ramp { force, .. }
            | Self::Switch { force, .. }
            | Self::Rollback { force, .. }
            | Self::RetireKey { force, .. }
            | Self::Recycle { force, .. } => force.as_ref(),
            Self::Apply { .. }
            | Self::AddBundle { .. }
            | Self::Stage { .. }
            | Self::Abort { .. }
            | Self::Migrate { .. }
            | Self::SetDeadline { .. }
            | Self::RotateKeys
            | Self::TurnKeys
            | Self::Settle => None,
        }
    }

    /// The word for people and programs; the tag of its serialised form.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Apply { .. } => "apply",
            Self::AddBundle { .. } => "add_bundle",
            Self::Stage { .. } => "stage",
            Self::Ramp { .. } => "ramp",
            Self::Abort { .. } => "abort",
            Self::Switch { .. } => "switch",
            Self::Rollback { .. } => "rollback",
            Self::Migrate { .. } => "migrate",
            Self::SetDeadline { .. } => "set_deadline",
            Self::RotateKeys => "rotate_keys",
            Self::TurnKeys => "turn_keys",
            Self::Settle => "settle",
            Self::RetireKey { .. } => "retire_key",
            Self::Recycle { .. } => "recycle",
        }
    }
}

/// What becomes of the sessions of a slot that takes no new ones any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Pins {
    /// They stay until they end.
    Keep,
    /// They leave at their next request.
    Break,
}

/// An operator's word that a refusal shall not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Force {
    /// Why; kept in the log.
    pub reason: String,
}
