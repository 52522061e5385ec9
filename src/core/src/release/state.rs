//! The state that events make.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bundle::Bundle;
use crate::ids::{AssignmentId, BundleId, Epoch, HeaderName, KeyId, PresetName, ServiceName, SlotName};
use crate::preset::Applied;
use crate::release::application::ApplicationState;
use crate::release::entry::Entry;
use crate::release::event::{Event, Left};
use crate::release::phase::Phase;
use crate::release::ring::RingState;
use crate::settings::ServiceSettings;
use crate::snapshot::{BundleRef, FORMAT, SlotSnapshot, Snapshot};
use crate::time::UnixMillis;
use crate::weight::Weight;

/// How many former live slots are remembered for rollback.
const HISTORY_MAX: usize = 32;

/// All services of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The log.
    pub epoch: Epoch,
    /// The last entry folded in; 0 before the first.
    pub head: u64,
    /// The number that the next stage or break gets.
    pub next_assignment: u64,
    /// What all services share.
    pub application: ApplicationState,
    /// The services.
    pub services: BTreeMap<ServiceName, ServiceState>,
}

/// The release state of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceState {
    /// The service's last event in the log: what optimistic concurrency compares.
    pub version: u64,
    /// Its last event that was an act on it, neither a preparation nor a key of all services that moved: whoever has seen
    /// this one has seen all that there is to see.
    pub acted: u64,
    /// While proxies ask the fleet: by which number they were told to, and when.
    pub asking: Option<Asking>,
    /// Its settings.
    pub settings: ServiceSettings,
    /// The preset that they came from.
    pub preset: Option<PresetName>,
    /// The ids of its keys.
    pub ring: RingState,
    /// Every bundle added, by id. Shared between states, since only their adding changes it and they never go.
    pub bundles: Arc<BTreeMap<BundleId, Bundle>>,
    /// Its slots; the settings give their order.
    pub slots: BTreeMap<SlotName, SlotState>,
    /// What was live before, the latest last; the last is what a rollback steps back to.
    pub history: Vec<Live>,
    /// The newest assignment of this service.
    pub newest_assignment: Option<AssignmentId>,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotState {
    /// What it is doing.
    pub phase: Phase,
    /// Its share of new sessions.
    pub weight: Weight,
    /// What it runs; none while idle.
    pub bundle: Option<BundleId>,
    /// What its pins name; none while idle.
    pub assignment: Option<AssignmentId>,
    /// The version that introduced the assignment: no weight before every member has acknowledged it.
    pub introduced: u64,
    /// Until when it stays a rollback target.
    pub quarantine_until: Option<UnixMillis>,
    /// When its last sessions are made to leave, while it drains.
    pub drain_until: Option<UnixMillis>,
    /// When it came into its phase.
    pub since: UnixMillis,
}

/// Since when proxies ask the fleet after sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asking {
    /// The entry that had them flush last.
    pub flush: u64,
    /// When that was.
    pub since: UnixMillis,
}

/// A slot that was live, and what it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// The slot.
    pub slot: SlotName,
    /// Its assignment at that time: a slot staged anew since then is another thing.
    pub assignment: AssignmentId,
}

/// An event that cannot follow the state: the log was not written by these rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq} ({event}) cannot follow what is before it: {cause}")]
pub struct FoldError {
    /// Where.
    pub seq: u64,
    /// What.
    pub event: &'static str,
    /// Why.
    pub cause: &'static str,
}

impl State {
    /// Folds one entry in.
    ///
    /// # Errors
    /// Where the entry cannot follow; the state is then unchanged.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), FoldError> {
        let refuse = |cause| FoldError { seq: entry.seq, event: entry.event.name(), cause };
        if entry.seq != self.head + 1 {
            return Err(refuse("its number does not follow"));
        }
        match (&entry.service, &entry.event) {
            (None, Event::Genesis { epoch, restored: None }) if entry.seq == 1 => {
                self.epoch = *epoch;
                self.next_assignment = epoch.0.seconds().0;
                self.application = ApplicationState::begun(entry.at, entry.seq);
            }
            (None, Event::Genesis { epoch, restored: Some(restored) }) if entry.seq > 1 => {
                self.go_on(entry.seq, *epoch, restored).map_err(refuse)?;
            }
            (None, Event::RunKeyMoved { key, step, .. }) if entry.seq > 1 => {
                self.move_run_key(*key, *step, entry.at, entry.seq).map_err(refuse)?;
            }
            (Some(service), Event::ServiceCreated { settings, preset, signing_key }) => {
                if self.services.contains_key(service) {
                    return Err(refuse("the service exists"));
                }
                let applied = Applied { preset: preset.clone(), settings: ServiceSettings::clone(settings) };
                let created = ServiceState::new(entry.seq, applied, *signing_key, entry.at);
                self.services.insert(service.clone(), created);
            }
            (Some(service), Event::BundleAdded { bundle }) => {
                let state = self.services.get_mut(service).ok_or_else(|| refuse(NO_SERVICE))?;
                // In place, since it cannot fail: a copy of all bundles for each of them would make the fold quadratic.
                Arc::make_mut(&mut state.bundles).insert(bundle.id.clone(), bundle.clone());
                (state.version, state.acted) = (entry.seq, entry.seq);
            }
            (Some(service), event) => {
                let state = self.services.get_mut(service).ok_or_else(|| refuse(NO_SERVICE))?;
                let mut next = state.clone();
                next.apply(entry.seq, entry.at, event).map_err(refuse)?;
                if let Some(AssignmentId(newest)) = next.newest_assignment {
                    self.next_assignment = self.next_assignment.max(newest.saturating_add(1));
                }
                *state = next;
            }
            _ => return Err(refuse("it has no place here")),
        }
        self.head = entry.seq;
        Ok(())
    }

    /// The snapshot of one service.
    pub fn snapshot(&self, service: &ServiceName) -> Option<Snapshot> {
        let state = self.services.get(service)?;
        Some(Snapshot {
            format: FORMAT,
            service: service.clone(),
            epoch: self.epoch,
            version: state.version,
            settings: state.settings.clone(),
            ring: state.ring.shown(),
            run_ring: self.application.runs.shown(),
            lineage: None,
            newest_assignment: state.newest_assignment,
            flush: state.asking.map(|asking| asking.flush),
            slots: state.settings.slots.iter().filter_map(|name| state.slot_snapshot(name)).collect(),
        })
    }
}

impl ServiceState {
    fn new(version: u64, Applied { preset, settings }: Applied, signing: KeyId, at: UnixMillis) -> Self {
        let mut state = Self {
            version,
            acted: version,
            asking: None,
            settings,
            preset,
            ring: RingState::new(signing, at, version),
            bundles: Arc::default(),
            slots: BTreeMap::new(),
            history: Vec::new(),
            newest_assignment: None,
        };
        state.follow_settings(at);
        state
    }

    /// The slot that is live.
    pub fn live(&self) -> Option<(&SlotName, &SlotState)> {
        self.slots.iter().find(|(_, slot)| slot.phase == Phase::Live)
    }

    /// The slots that are candidates.
    pub fn candidates(&self) -> impl Iterator<Item = (&SlotName, &SlotState)> {
        self.slots.iter().filter(|(_, slot)| slot.phase == Phase::Candidate)
    }

    /// Slots follow the settings: new ones are idle, and only idle ones can have gone.
    fn follow_settings(&mut self, at: UnixMillis) {
        let wanted = &self.settings.slots;
        self.slots.retain(|name, _| wanted.contains(name));
        for name in wanted {
            self.slots.entry(name.clone()).or_insert_with(|| SlotState::idle(at));
        }
    }

    fn apply(&mut self, seq: u64, at: UnixMillis, event: &Event) -> Result<(), &'static str> {
        match event {
            Event::Genesis { .. }
            | Event::ServiceCreated { .. }
            | Event::BundleAdded { .. }
            | Event::RunKeyMoved { .. } => return Err("it has no place here"),
            Event::SettingsApplied { settings, preset } => {
                (self.settings, self.preset) = (ServiceSettings::clone(settings), preset.clone());
                self.follow_settings(at);
            }
            Event::Staged { slot, bundle, assignment } => {
                if !self.bundles.contains_key(bundle) {
                    return Err("there is no such bundle");
                }
                self.assign(slot, *assignment, seq)?;
                let slot = self.enter(slot, Phase::Staged, at)?;
                slot.bundle = Some(bundle.clone());
                slot.quarantine_until = None;
            }
            Event::Prepared { slot } => {
                self.slots.get(slot).ok_or(NO_SLOT)?;
            }
            Event::Settled => {}
            Event::Ramped { slot, weight, .. } => {
                self.enter(slot, Phase::Candidate, at)?.weight = *weight;
            }
            Event::Switched { slot, draining, quarantine_until, .. } => {
                if let Some(before) = self.live().and_then(|(name, state)| Live::of(name, state)) {
                    self.history.push(before);
                    let excess = self.history.len().saturating_sub(HISTORY_MAX);
                    self.history.drain(..excess);
                }
                for name in draining {
                    let was_live = self.slots.get(name).is_some_and(|slot| slot.phase == Phase::Live);
                    let slot = self.enter(name, Phase::Draining, at)?;
                    if was_live {
                        slot.quarantine_until = *quarantine_until;
                    }
                }
                self.enter(slot, Phase::Live, at)?.quarantine_until = None;
            }
            Event::RolledBack { left, live, quarantine_until, .. } => {
                for left in left {
                    self.leave(left, seq, at)?;
                    if left.broken_by.is_none()
                        && let Some(slot) = self.slots.get_mut(&left.slot)
                    {
                        slot.quarantine_until = *quarantine_until;
                    }
                }
                // What was live after the target is no way back any more; out of a ramp, live has not moved.
                let target = self.slots.get(live).filter(|slot| slot.phase != Phase::Live);
                let target = target.and_then(|slot| Live::of(live, slot));
                if let Some(at) = self.history.iter().rposition(|former| Some(former) == target.as_ref()) {
                    self.history.truncate(at);
                }
                self.enter(live, Phase::Live, at)?.quarantine_until = None;
            }
            Event::DeadlineSet { slot, until } => {
                self.slots.get_mut(slot).ok_or(NO_SLOT)?.drain_until = *until;
            }
            Event::KeyMoved { key, step, .. } => self.ring.step(*key, *step, at, seq)?,
            Event::Aborted { slot } | Event::Migrated { slot } => self.leave(slot, seq, at)?,
            Event::Recycled { slot, .. } => {
                *self.slots.get_mut(slot).ok_or(NO_SLOT)? = SlotState::idle(at);
            }
        }
        self.version = seq;
        self.ask(event, seq, at);
        self.share_out();
        Ok(())
    }

    /// Proxies ask the fleet from the first preparation on, or at least from where a second slot holds sessions, until one
    /// alone does.
    fn ask(&mut self, event: &Event, flush: u64, since: UnixMillis) {
        let asking = Asking { flush, since };
        match event {
            Event::Prepared { .. } => self.asking = Some(asking),
            Event::Settled => self.asking = None,
            event => {
                self.acted = flush;
                let holders = self.slots.values().filter(|slot| slot.phase.honours_pins()).count();
                if holders < 2 {
                    self.asking = None;
                } else if matches!(event, Event::Ramped { .. } | Event::Switched { .. } | Event::RolledBack { .. }) {
                    self.asking.get_or_insert(asking);
                }
            }
        }
    }

    /// The preparation that no act has followed yet. What moves no weight, as a key of run tokens, is none.
    pub fn prepared(&self) -> Option<Asking> {
        self.asking.filter(|asking| asking.flush > self.acted)
    }

    /// Live has what the candidates leave it.
    fn share_out(&mut self) {
        let taken =
            self.candidates().fold(Weight::NONE, |sum, (_, slot)| sum.checked_add(slot.weight).unwrap_or(Weight::ALL));
        for slot in self.slots.values_mut() {
            match slot.phase {
                Phase::Live => slot.weight = taken.rest(),
                Phase::Candidate => {}
                _ => slot.weight = Weight::NONE,
            }
        }
    }

    fn enter(&mut self, slot: &SlotName, phase: Phase, at: UnixMillis) -> Result<&mut SlotState, &'static str> {
        let limit = u64::from(self.settings.drain_deadline_seconds.0) * 1000;
        let slot = self.slots.get_mut(slot).ok_or(NO_SLOT)?;
        if slot.phase != phase {
            slot.phase = phase;
            slot.since = at;
            slot.drain_until = (phase == Phase::Draining && limit > 0).then(|| at.plus_millis(limit));
        }
        Ok(slot)
    }

    fn leave(&mut self, left: &Left, seq: u64, at: UnixMillis) -> Result<(), &'static str> {
        match left.broken_by {
            None => drop(self.enter(&left.slot, Phase::Draining, at)?),
            Some(assignment) => {
                self.assign(&left.slot, assignment, seq)?;
                self.enter(&left.slot, Phase::Condemned, at)?;
            }
        }
        Ok(())
    }

    fn assign(&mut self, slot: &SlotName, assignment: AssignmentId, seq: u64) -> Result<(), &'static str> {
        if Some(assignment) <= self.newest_assignment {
            return Err("assignments must count up");
        }
        let slot = self.slots.get_mut(slot).ok_or(NO_SLOT)?;
        slot.assignment = Some(assignment);
        slot.introduced = seq;
        self.newest_assignment = Some(assignment);
        Ok(())
    }

    fn slot_snapshot(&self, name: &SlotName) -> Option<SlotSnapshot> {
        let slot = self.slots.get(name)?;
        let bundle = slot.bundle.as_ref().and_then(|id| self.bundles.get(id));
        Some(SlotSnapshot {
            name: name.clone(),
            phase: slot.phase,
            weight: slot.weight,
            assignment: slot.assignment,
            bundle: bundle.map(|bundle| BundleRef { id: bundle.id.clone(), digest: Some(bundle.digest.clone()) }),
            headers: bundle.map(|bundle| self.part_headers(bundle)).unwrap_or_default(),
        })
    }

    fn part_headers(&self, bundle: &Bundle) -> BTreeMap<HeaderName, String> {
        let parts = self.settings.part_headers.iter();
        parts.map(|(part, header)| (header.clone(), bundle.manifest.part(*part).to_owned())).collect()
    }
}

const NO_SERVICE: &str = "there is no such service";
const NO_SLOT: &str = "there is no such slot";

impl SlotState {
    fn idle(since: UnixMillis) -> Self {
        Self {
            phase: Phase::Idle,
            weight: Weight::NONE,
            bundle: None,
            assignment: None,
            introduced: 0,
            quarantine_until: None,
            drain_until: None,
            since,
        }
    }
}

impl Live {
    fn of(name: &SlotName, slot: &SlotState) -> Option<Self> {
        Some(Self { slot: name.clone(), assignment: slot.assignment? })
    }
}
