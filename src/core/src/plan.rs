//! The plan: a snapshot compiled once, so that a request parses nothing.

use std::collections::BTreeMap;

use crate::decide::Reason;
use crate::decided::Decided;
use crate::error::FieldError;
use crate::ids::{AssignmentId, BundleId, Epoch, KeyId, ServiceName, Sid, SlotName, SnapshotVersion};
use crate::keys::{Ring, Secret, ServiceKeys, SidHasher};
use crate::release::Phase;
use crate::rendezvous::{self, Key, Place};
use crate::scan::{AnswerPointers, BodyPointers};
use crate::seen::Roles;
use crate::settings::{HeaderCarrier, ServiceSettings};
use crate::snapshot::{BundleRef, SlotSnapshot, Snapshot};
use crate::token::{pin, preview, run};
use crate::weight::Weight;

/// Index of a slot within its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotIndex(pub u8);

/// A set of slots of one plan, which has 8 at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotSet(u8);

impl SlotSet {
    /// This set and `slot`.
    pub fn with(self, slot: SlotIndex) -> Self {
        Self(self.0 | Self::bit(slot))
    }

    /// Whether `slot` is in the set.
    pub fn contains(self, slot: SlotIndex) -> bool {
        self.0 & Self::bit(slot) != 0
    }

    fn bit(SlotIndex(slot): SlotIndex) -> u8 {
        1u8.checked_shl(slot.into()).unwrap_or(0)
    }
}

/// What one service's requests are decided and stamped by. Immutable; a newer snapshot makes a newer plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whose plan this is.
    pub service: ServiceName,
    /// The snapshot it was compiled from.
    pub version: SnapshotVersion,
    /// The settings of that snapshot.
    pub settings: ServiceSettings,
    /// While it is there, the fleet is asked after sessions; a new number has it told what was learnt before.
    pub flush: Option<u64>,
    pub(crate) roles: Roles,
    /// The sources of session ids that stand in bodies.
    pub pointers: BodyPointers,
    /// The sources of ids that stand in the bodies of answers.
    pub(crate) answer_pointers: AnswerPointers,
    /// Name of the pin cookie. Taken off requests also where pins do not travel in it any more.
    pub cookie: String,
    slots: Vec<SlotPlan>,
    /// The slots that take new sessions, and their places, side by side.
    takers: Vec<SlotIndex>,
    places: Vec<Place>,
    honoured: Vec<(AssignmentId, SlotIndex)>,
    newest_assignment: Option<AssignmentId>,
    secrets: Option<Secrets>,
}

/// One slot of a plan: what a request to it is stamped with.
#[derive(Debug, Clone)]
pub struct SlotPlan {
    /// The slot.
    pub name: SlotName,
    /// Its phase.
    pub phase: Phase,
    /// Its share of new sessions.
    pub weight: Weight,
    /// The bundle in it; none while idle.
    pub bundle: Option<BundleRef>,
    /// What a new pin names; none where none can be minted.
    pub assignment: Option<AssignmentId>,
    /// Request headers that carry versions of the bundle's parts.
    pub headers: BTreeMap<crate::ids::HeaderName, String>,
    /// The text of [`Decided`] for each reason; none while idle.
    decided: Option<[String; Reason::ALL.len()]>,
}

/// The keys of a plan, their schedules done.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// Session ids to sids.
    pub sid: SidHasher,
    /// Pins.
    pub pins: pin::Signer,
    /// Preview tokens.
    pub previews: preview::Signer,
    /// Run tokens, where the application has keys for them.
    pub runs: Option<run::Signer>,
}

impl Plan {
    /// Compiles `snapshot`. Without `keys` the plan decides by hash, leaves pins alone and mints none.
    ///
    /// # Errors
    /// Names the field of the snapshot, or of the keys, that breaks a rule.
    pub fn compile(snapshot: &Snapshot, keys: Option<&ServiceKeys>) -> Result<Self, FieldError> {
        snapshot.validate()?;
        let index = |position: usize| SlotIndex(u8::try_from(position).unwrap_or(u8::MAX));
        let slots = || snapshot.slots.iter().enumerate();
        let takers: Vec<_> = slots().filter(|(_, slot)| slot.weight.takes_sessions()).collect();
        let honoured = slots().filter(|(_, slot)| slot.phase.honours_pins());
        Ok(Self {
            service: snapshot.service.clone(),
            version: snapshot.version(),
            roles: Roles::new(&snapshot.settings),
            pointers: BodyPointers::new(&snapshot.settings),
            answer_pointers: AnswerPointers::new(&snapshot.settings),
            cookie: snapshot.settings.cookie_name(&snapshot.service),
            settings: snapshot.settings.clone(),
            places: takers.iter().map(|(_, slot)| Place::new(&snapshot.service, &slot.name, slot.weight)).collect(),
            takers: takers.into_iter().map(|(position, _)| index(position)).collect(),
            honoured: honoured.filter_map(|(position, slot)| Some((slot.assignment?, index(position)))).collect(),
            newest_assignment: snapshot.newest_assignment,
            flush: snapshot.flush,
            slots: snapshot.slots.iter().map(|slot| SlotPlan::compile(slot, snapshot)).collect(),
            secrets: Secrets::compile(snapshot, keys)?,
        })
    }

    /// The slot of an index that this plan gave.
    pub fn slot(&self, index: SlotIndex) -> Option<&SlotPlan> {
        self.slots.get(usize::from(index.0))
    }

    /// Every slot, in the order of the settings.
    pub fn slots(&self) -> impl Iterator<Item = (SlotIndex, &SlotPlan)> {
        (0u8..).map(SlotIndex).zip(&self.slots)
    }

    /// Whether this is a start without a sidecar: the snapshot of the configuration.
    pub fn is_bootstrap(&self) -> bool {
        self.version.epoch == Epoch::BOOTSTRAP
    }

    /// Whether keys are known, so that pins can be read and minted.
    pub fn is_keyed(&self) -> bool {
        self.secrets.is_some()
    }

    /// Whether a session that a proxy does not know may be held elsewhere: the fleet is asked then. While one slot alone
    /// holds sessions there is nowhere else.
    pub fn asks_the_fleet(&self) -> bool {
        self.flush.is_some() && self.settings.memory.ask_wait_ms.0 > 0
    }

    /// Whether the fleet is asked after an id that this proxy does not know. Where a client is answered that its bundle is
    /// gone it always is: a session that was broken is known by what the fleet remembers.
    pub fn asks_after_ids(&self) -> bool {
        self.asks_the_fleet() || (self.settings.on_bundle_gone.answers_ids() && self.settings.memory.ask_wait_ms.0 > 0)
    }

    /// The keyed hash of a session id, by which memory knows it.
    pub fn sid(&self, id: &[u8]) -> Option<Sid> {
        self.secrets.as_ref().map(|secrets| secrets.sid.sid(id))
    }

    /// Whether every answer is heard: for session ids, or for the end of its session.
    pub fn hears_answers(&self) -> bool {
        let settings = &self.settings;
        !settings.learn_from.is_empty()
            || settings.session_end_header.is_some()
            || settings.runs.status_header.is_some()
    }

    /// The token of a pin that a decision asked for.
    pub fn mint(&self, claims: &pin::Claims) -> Option<String> {
        self.secrets.as_ref().map(|secrets| secrets.pins.mint(claims))
    }

    /// A preview token of this service.
    pub fn mint_preview(&self, claims: &preview::Claims) -> Option<String> {
        self.secrets.as_ref().map(|secrets| secrets.previews.mint(claims))
    }

    /// The token of a run that a decision asked for.
    pub fn mint_run(&self, claims: &run::Claims) -> Option<String> {
        self.secrets.as_ref()?.runs.as_ref().map(|runs| runs.mint(claims))
    }

    /// The slot of this name, where it runs something.
    pub fn running(&self, name: &SlotName) -> Option<SlotIndex> {
        self.slots().find(|(_, slot)| slot.name == *name && slot.phase != Phase::Idle).map(|(index, _)| index)
    }

    /// Whether pins travel in the cookie.
    pub fn uses_cookie(&self) -> bool {
        self.settings.uses_cookie()
    }

    /// Whether pins travel in the header.
    pub fn uses_header(&self) -> bool {
        self.settings.pin.header == HeaderCarrier::Always
    }

    /// The newest assignment that this plan's snapshot knew of.
    pub fn newest_assignment(&self) -> Option<AssignmentId> {
        self.newest_assignment
    }

    pub(crate) fn secrets(&self) -> Option<&Secrets> {
        self.secrets.as_ref()
    }

    /// The slot that a new session goes to, among those that take any and are not `down`.
    pub(crate) fn place(&self, key: Key, down: SlotSet) -> Option<SlotIndex> {
        if down == SlotSet::default() {
            return rendezvous::place(&self.places, key).and_then(|place| self.takers.get(place).copied());
        }
        let up = || self.takers.iter().zip(&self.places).filter(|(slot, _)| !down.contains(**slot));
        let places: Vec<_> = up().map(|(_, place)| *place).collect();
        rendezvous::place(&places, key).and_then(|place| up().nth(place).map(|(slot, _)| *slot))
    }

    /// Whether some slot that takes new sessions is not `down`.
    pub(crate) fn has_taker_beyond(&self, down: SlotSet) -> bool {
        down != SlotSet::default() && self.takers.iter().any(|slot| !down.contains(*slot))
    }

    /// The slots that take new sessions, each with what it scores for a key.
    pub(crate) fn scores(&self, key: Key) -> impl Iterator<Item = (&SlotPlan, f64)> {
        let scores = self.places.iter().map(move |place| place.score(key));
        self.takers.iter().filter_map(|slot| self.slot(*slot)).zip(scores)
    }

    /// How many slots take new sessions.
    pub(crate) fn takers(&self) -> usize {
        self.takers.len()
    }

    /// The slot in which a run goes on that began on `bundle`.
    pub(crate) fn continues(&self, bundle: &BundleId) -> Option<SlotIndex> {
        let takes = |phase| matches!(phase, Phase::Candidate | Phase::Live | Phase::Draining);
        let runs = |slot: &SlotPlan| takes(slot.phase) && slot.bundle.as_ref().is_some_and(|runs| runs.id == *bundle);
        self.slots().find(|(_, slot)| runs(slot)).map(|(index, _)| index)
    }

    /// Whether a slot that ran `bundle` was condemned.
    pub(crate) fn has_condemned(&self, bundle: &BundleId) -> bool {
        let ran = |slot: &SlotPlan| slot.bundle.as_ref().is_some_and(|ran| ran.id == *bundle);
        self.slots().any(|(_, slot)| slot.phase == Phase::Condemned && ran(slot))
    }

    /// The slot that keeps the sessions of `assignment`.
    pub fn honours(&self, assignment: AssignmentId) -> Option<SlotIndex> {
        self.honoured.iter().find(|(honoured, _)| *honoured == assignment).map(|(_, slot)| *slot)
    }

    /// Whether the log has given `assignment` after this plan's snapshot was made.
    pub(crate) fn is_newer(&self, assignment: AssignmentId) -> bool {
        Some(assignment) > self.newest_assignment
    }
}

impl SlotPlan {
    /// What is kept of a decision for this slot: [`Decided`] as text, none while the slot is idle.
    pub fn decided(&self, reason: Reason) -> Option<&str> {
        self.decided.as_ref()?.get(reason as usize).map(String::as_str)
    }

    fn compile(slot: &SlotSnapshot, snapshot: &Snapshot) -> Self {
        let decided = |bundle: &BundleRef, reason| Decided {
            service: snapshot.service.clone(),
            slot: slot.name.clone(),
            reason,
            version: snapshot.version(),
            bundle: bundle.id.clone(),
        };
        let texts = |bundle| Reason::ALL.map(|reason| decided(bundle, reason).to_string());
        Self {
            decided: slot.bundle.as_ref().map(texts),
            name: slot.name.clone(),
            phase: slot.phase,
            weight: slot.weight,
            bundle: slot.bundle.clone(),
            assignment: slot.assignment,
            headers: slot.headers.clone(),
        }
    }
}

impl Secrets {
    fn compile(snapshot: &Snapshot, keys: Option<&ServiceKeys>) -> Result<Option<Self>, FieldError> {
        let (Some(ring), Some(keys)) = (&snapshot.ring, keys) else { return Ok(None) };
        let verifying = of_ring(ring, &keys.ring, "keys.ring")?;
        let service = &snapshot.service;
        let pins = pin::Signer::new(service, ring.signing, verifying.iter().copied());
        let previews = preview::Signer::new(service, ring.signing, verifying);
        let signs = |field: &str, id| FieldError::new(field, format!("lacks the signing key {id}"));
        let runs = match snapshot.run_ring.as_ref().filter(|_| !keys.runs.is_empty()) {
            None => None,
            Some(ring) => {
                let signer = run::Signer::of_application(ring.signing, of_ring(ring, &keys.runs, "keys.runs")?);
                Some(signer.ok_or_else(|| signs("run_ring.verifying", ring.signing))?)
            }
        };
        let (Some(pins), Some(previews)) = (pins, previews) else {
            return Err(signs("ring.verifying", ring.signing));
        };
        Ok(Some(Self { sid: SidHasher::new(&keys.sid), pins, previews, runs }))
    }
}

/// The keys that a ring names.
fn of_ring<'k>(
    ring: &Ring,
    keys: &'k BTreeMap<KeyId, Secret<32>>,
    field: &str,
) -> Result<Vec<(KeyId, &'k Secret<32>)>, FieldError> {
    let key = |id: &KeyId| keys.get(id).map(|key| (*id, key));
    let lacks = |id| FieldError::new(field, format!("lacks key {id}, which the snapshot's ring names"));
    ring.verifying.iter().map(|id| key(id).ok_or_else(|| lacks(id))).collect()
}
