//! What happened. Events are facts: a fold never asks whether they were allowed.

use serde::{Deserialize, Serialize};

use crate::bundle::Bundle;
use crate::ids::{AssignmentId, BundleId, Epoch, KeyId, PresetName, SlotName};
use crate::release::ring::KeyStep;
use crate::release::verb::Force;
use crate::settings::ServiceSettings;
use crate::time::UnixMillis;
use crate::weight::Weight;

/// One change, with every number that the fold needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A log begins: by its first entry, or by one that makes it go on from the copy of another.
    Genesis {
        /// The log's epoch, and by its seconds the least of its assignment numbers.
        epoch: Epoch,
        /// Where a log that was restored goes on from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        restored: Option<Restored>,
    },
    /// A service exists.
    ServiceCreated {
        /// Its first settings.
        #[serde(deserialize_with = "crate::settings::former::read")]
        settings: Box<ServiceSettings>,
        /// The preset that they came from: they hold all that it said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        preset: Option<PresetName>,
        /// Its first key.
        signing_key: KeyId,
    },
    /// A service has other settings.
    SettingsApplied {
        /// The settings, whole.
        #[serde(deserialize_with = "crate::settings::former::read")]
        settings: Box<ServiceSettings>,
        /// The preset that they came from: they hold all that it said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        preset: Option<PresetName>,
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
        /// The word that overrode a refusal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        force: Option<Force>,
    },
    /// Before a slot gets sessions of others, or is freed, proxies ask the fleet after those that they do not know, and
    /// tell it all that they have learnt until then.
    Prepared {
        /// The slot.
        slot: SlotName,
    },
    /// One slot alone holds sessions: proxies ask no more.
    Settled,
    /// A slot is live and takes every new session.
    Switched {
        /// The slot.
        slot: SlotName,
        /// The slots that drain from now on.
        draining: Vec<SlotName>,
        /// Until when the slot that was live before stays a rollback target.
        quarantine_until: Option<UnixMillis>,
        /// The word that overrode a refusal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        force: Option<Force>,
    },
    /// Slots lost their share, or live itself: a step back.
    RolledBack {
        /// The slots that were left.
        left: Vec<Left>,
        /// The slot that is live now.
        live: SlotName,
        /// Until when the left slots that drain stay rollback targets.
        quarantine_until: Option<UnixMillis>,
        /// The word that overrode a refusal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        force: Option<Force>,
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
    /// A draining slot has another deadline.
    DeadlineSet {
        /// The slot.
        slot: SlotName,
        /// When its last sessions leave; none where they stay until they end.
        until: Option<UnixMillis>,
    },
    /// A key of the service came a step further.
    KeyMoved {
        /// The key.
        key: KeyId,
        /// What became of it.
        step: KeyStep,
        /// The word that overrode a refusal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        force: Option<Force>,
    },
    /// A key of run tokens came a step further. It is of every service.
    RunKeyMoved {
        /// The key.
        key: KeyId,
        /// What became of it.
        step: KeyStep,
        /// The word that overrode a refusal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        force: Option<Force>,
    },
    /// A slot runs nothing.
    Recycled {
        /// The slot.
        slot: SlotName,
        /// The word that overrode a refusal.
        force: Option<Force>,
    },
}

/// The copy that a log goes on from, and what may have happened after it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Restored {
    /// The epoch of the copy.
    pub from: Epoch,
    /// The last entry of the copy.
    pub entry: u64,
    /// The log that was lost gave no number above this one. None up to it is given again: what pins name that the copy
    /// does not know is broken.
    pub given: AssignmentId,
}

/// A slot that takes no new session from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
            Self::Prepared { .. } => "prepared",
            Self::Settled => "settled",
            Self::Switched { .. } => "switched",
            Self::RolledBack { .. } => "rolled_back",
            Self::Aborted { .. } => "aborted",
            Self::Migrated { .. } => "migrated",
            Self::DeadlineSet { .. } => "deadline_set",
            Self::KeyMoved { .. } => "key_moved",
            Self::RunKeyMoved { .. } => "run_key_moved",
            Self::Recycled { .. } => "recycled",
        }
    }
}
