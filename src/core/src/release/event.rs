//! What happened. Events are facts: a fold never asks whether they were allowed.

use serde::{Deserialize, Serialize};

use crate::bundle::Bundle;
use crate::ids::{AssignmentId, BundleId, Epoch, KeyId, SlotName};
use crate::release::verb::Force;
use crate::settings::ServiceSettings;
use crate::time::UnixMillis;
use crate::weight::Weight;

/// One change, with every number that the fold needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The log begins; always and only its first entry.
    Genesis {
        /// The log's epoch, and by its seconds the first assignment number.
        epoch: Epoch,
    },
    /// A service exists.
    ServiceCreated {
        /// Its first settings.
        settings: ServiceSettings,
        /// Its first key.
        signing_key: KeyId,
    },
    /// A service has other settings.
    SettingsApplied {
        /// The settings, whole.
        settings: ServiceSettings,
    },
    /// A bundle can be staged.
    BundleAdded {
        /// The bundle.
        bundle: Bundle,
    },
    /// A slot runs a bundle.
    Staged {
        /// The slot.
        slot: SlotName,
        /// The bundle.
        bundle: BundleId,
        /// The assignment that this stage made.
        assignment: AssignmentId,
    },
    /// A slot is a candidate with this share.
    Ramped {
        /// The slot.
        slot: SlotName,
        /// Its share; live has the rest.
        weight: Weight,
    },
    /// A slot is live and takes every new session.
    Switched {
        /// The slot.
        slot: SlotName,
        /// The slots that drain from now on.
        draining: Vec<SlotName>,
        /// Until when the slot that was live before stays a rollback target.
        quarantine_until: Option<UnixMillis>,
    },
    /// Slots lost their share, or live itself: a step back.
    RolledBack {
        /// The slots that were left.
        left: Vec<Left>,
        /// The slot that is live now.
        live: SlotName,
        /// Until when the left slots that drain stay rollback targets.
        quarantine_until: Option<UnixMillis>,
    },
    /// A candidate lost its share.
    Aborted {
        /// The slot.
        slot: Left,
    },
    /// A draining slot's sessions leave.
    Migrated {
        /// The slot.
        slot: Left,
    },
    /// A slot runs nothing.
    Recycled {
        /// The slot.
        slot: SlotName,
        /// The word that overrode a refusal.
        force: Option<Force>,
    },
}

/// A slot that takes no new session from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The slot.
    pub slot: SlotName,
    /// The assignment that broke its pins; none where they hold on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken_by: Option<AssignmentId>,
}

impl Event {
    /// The word for people and programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Genesis { .. } => "genesis",
            Self::ServiceCreated { .. } => "service_created",
            Self::SettingsApplied { .. } => "settings_applied",
            Self::BundleAdded { .. } => "bundle_added",
            Self::Staged { .. } => "staged",
            Self::Ramped { .. } => "ramped",
            Self::Switched { .. } => "switched",
            Self::RolledBack { .. } => "rolled_back",
            Self::Aborted { .. } => "aborted",
            Self::Migrated { .. } => "migrated",
            Self::Recycled { .. } => "recycled",
        }
    }
}
