//! The snapshot: the versioned document of one service that proxies decide by.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::FieldError;
use crate::ids::{AssignmentId, BundleId, Digest, Epoch, HeaderName, ServiceName, SlotName, SnapshotVersion};
use crate::json::{Error, Fields, FromTree, Tree, Unknown, record};
use crate::keys::{Ring, ServiceKeys};
use crate::release::Phase;
use crate::settings::ServiceSettings;
use crate::weight::Weight;

/// The format that this release writes and reads.
pub const FORMAT: u32 = 1;

/// All that a proxy needs to decide for one service, without any key.
///
/// Unknown fields are left alone here (releases of a fleet differ for a while); a change that an older reader must
/// not overlook raises [`FORMAT`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// [`FORMAT`] of the writer.
    #[cfg_attr(feature = "schema", schemars(extend("const" = FORMAT)))]
    pub format: u32,
    /// Whose snapshot this is.
    pub service: ServiceName,
    /// The log it comes from, 0 for bootstrap.
    #[serde(default)]
    pub epoch: Epoch,
    /// The service's last event in that log.
    #[serde(default)]
    pub version: u64,
    /// The service's settings.
    #[serde(default)]
    pub settings: ServiceSettings,
    /// Ids of the keys in use; a bootstrap snapshot may go without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<Ring>,
    /// Ids of the keys of run tokens; without it there are none to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_ring: Option<Ring>,
    /// The newest assignment that the log has given to this service. Pins above it are not broken, only newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_assignment: Option<AssignmentId>,
    /// While it is there, proxies ask the fleet after sessions that they do not know. Each new number has them tell all
    /// that they have learnt before it, and say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flush: Option<u64>,
    /// What an offline log that made it had come to: tells it from that of another copy of the log, at the same version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<u64>,
    /// One entry for each slot of the settings, in their order.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 8)))]
    pub slots: Vec<SlotSnapshot>,
}

record!(
    Snapshot,
    PassedOver,
    (service),
    [format, slots],
    [epoch, version, settings, ring, run_ring, newest_assignment, flush, lineage],
    |fields| Self::empty(fields.required("service")?)
);

/// One slot of a [`Snapshot`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlotSnapshot {
    /// The slot.
    pub name: SlotName,
    /// Its phase.
    pub phase: Phase,
    /// Its share of new sessions.
    #[serde(default)]
    pub weight: Weight,
    /// What its pins name; none while idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<AssignmentId>,
    /// What it runs; none while idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleRef>,
    /// Request headers beside the stamps, from the bundle's parts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::headers"))]
    pub headers: BTreeMap<HeaderName, String>,
}

record!(SlotSnapshot, PassedOver, (name), [phase], [weight, assignment, bundle, headers], |fields| {
    Self::idle(fields.required("name")?)
});

/// Which bundle: the id for people and logs, the digest for audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BundleRef {
    /// The release tag.
    pub id: BundleId,
    /// Digest of its manifest; a bootstrap snapshot may go without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

record!(BundleRef, PassedOver, (id), [], [digest], |fields| Self { id: fields.required("id")?, digest: None });

/// A resource of discovery: the document and, apart from it, the keys. Only `state` is hashed, shown or rendered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Resource {
    /// What to decide by.
    pub state: Snapshot,
    /// What to sign and verify with; absent where keys come by environment.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "discreetly")]
    pub keys: Option<ServiceKeys>,
}

impl FromTree for Resource {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        let fields = Fields::of(tree, &["state", "keys"], Unknown::PassedOver)?;
        let mut keys = None;
        // Nothing of keys is repeated, whatever is wrong with them.
        let refused = |_| Error::new(format_args!("is not of the form of this release")).in_field("keys");
        fields.may("keys", &mut keys).map_err(refused)?;
        Ok(Self { state: fields.required("state")?, keys })
    }
}

/// Reads keys without repeating any of them in an error, as the parser itself would of a value of the wrong type.
fn discreetly<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ServiceKeys>, D::Error> {
    let keys = Option::<ServiceKeys>::deserialize(deserializer);
    keys.map_err(|_| D::Error::custom("keys: not of the form of this release"))
}

impl Snapshot {
    /// The version by which proxies tell newer from older.
    pub fn version(&self) -> SnapshotVersion {
        SnapshotVersion { epoch: self.epoch, version: self.version }
    }

    /// A snapshot of no slot that is live: what a proxy has before it has anything.
    pub fn empty(service: ServiceName) -> Self {
        let settings = ServiceSettings::default();
        let slots = settings.slots.iter().cloned().map(SlotSnapshot::idle).collect();
        Self {
            format: FORMAT,
            service,
            epoch: Epoch::BOOTSTRAP,
            version: 0,
            settings,
            ring: None,
            run_ring: None,
            newest_assignment: None,
            flush: None,
            lineage: None,
            slots,
        }
    }

    /// Checks every rule that one slot, or all together, must keep.
    ///
    /// # Errors
    /// Names the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), FieldError> {
        if self.format != FORMAT {
            let found = self.format;
            return Err(FieldError::new("format", format!("is {found}, this release reads {FORMAT}")));
        }
        self.settings
            .validate(&self.service)
            .map_err(|error| FieldError::new(format!("settings.{}", error.field), error.rule))?;
        match &self.ring {
            Some(ring) if !ring.verifying.contains(&ring.signing) => {
                return Err(FieldError::new("ring.verifying", format!("lacks the signing key {}", ring.signing)));
            }
            None if self.epoch != Epoch::BOOTSTRAP => {
                return Err(FieldError::new("ring", "is missing: without it every pin would be overlooked"));
            }
            _ => {}
        }
        if let Some(ring) = self.run_ring.as_ref().filter(|ring| !ring.verifying.contains(&ring.signing)) {
            return Err(FieldError::new("run_ring.verifying", format!("lacks the signing key {}", ring.signing)));
        }
        let named: Vec<_> = self.slots.iter().map(|slot| &slot.name).collect();
        if !named.iter().copied().eq(&self.settings.slots) {
            return Err(FieldError::new("slots", "must be exactly those of settings.slots, in their order"));
        }
        for (index, slot) in self.slots.iter().enumerate() {
            let rules = slot.validate(self.epoch, self.newest_assignment);
            rules.map_err(|error| FieldError::new(format!("slots[{index}].{}", error.field), error.rule))?;
            let part = |name: &HeaderName| self.settings.part_headers.values().any(|part| part == name);
            if let Some(name) = slot.headers.keys().find(|name| !part(name)) {
                let rule = "is not one of settings.part_headers, so a client could send it to the other slots";
                return Err(FieldError::new(format!("slots[{index}].headers.{name}"), rule));
            }
            let earlier = self
                .slots
                .iter()
                .take(index)
                .find(|other| slot.assignment.is_some() && other.assignment == slot.assignment);
            if let Some(other) = earlier {
                let rule = format!("is also that of {}, but an assignment is given once", other.name);
                return Err(FieldError::new(format!("slots[{index}].assignment"), rule));
            }
        }
        self.validate_weights()
    }

    fn validate_weights(&self) -> Result<(), FieldError> {
        let live = self.slots.iter().filter(|slot| slot.phase == Phase::Live).count();
        let sum: u32 = self.slots.iter().map(|slot| u32::from(slot.weight)).sum();
        match live {
            0 if sum == 0 => Ok(()),
            0 => Err(FieldError::new("slots", "give weight though none is live")),
            1 if sum == u32::from(Weight::ALL) => Ok(()),
            1 => Err(FieldError::new("slots", format!("have weights that sum to {sum}, not to 10000"))),
            _ => Err(FieldError::new("slots", format!("have {live} live ones, one at most is allowed"))),
        }
    }
}

impl SlotSnapshot {
    /// A slot that runs nothing.
    pub fn idle(name: SlotName) -> Self {
        Self {
            name,
            phase: Phase::Idle,
            weight: Weight::NONE,
            assignment: None,
            bundle: None,
            headers: BTreeMap::new(),
        }
    }

    fn validate(&self, epoch: Epoch, newest: Option<AssignmentId>) -> Result<(), FieldError> {
        let phase = self.phase;
        if self.weight.takes_sessions() && !phase.may_take_sessions() {
            return Err(FieldError::new(
                "weight",
                format!("is {}, but a slot that is {phase} takes no new session", self.weight),
            ));
        }
        if self.bundle.is_none() && phase != Phase::Idle {
            return Err(FieldError::new("bundle", format!("is missing, but a slot that is {phase} runs one")));
        }
        // A hand-written bootstrap snapshot may go without assignments: it then honours and mints no pin.
        if self.assignment.is_none() && phase != Phase::Idle && epoch != Epoch::BOOTSTRAP {
            return Err(FieldError::new("assignment", format!("is missing, but a slot that is {phase} has one")));
        }
        if self.assignment > newest {
            return Err(FieldError::new("assignment", "is above newest_assignment"));
        }
        for (name, value) in &self.headers {
            if !value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
                return Err(FieldError::new(format!("headers.{name}"), "is not printable ASCII"));
            }
        }
        Ok(())
    }
}
