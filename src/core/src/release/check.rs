//! Which verb is allowed when, and what it then does.

use crate::bundle::Bundle;
use crate::error::FieldError;
use crate::ids::{AssignmentId, BundleId, KeyId, ServiceName, SlotName};
use crate::preset::Applied;
use crate::release::asking;
use crate::release::event::{Event, Left};
use crate::release::holding::{Held, Holding, Reach};
use crate::release::phase::Phase;
use crate::release::refusal::Refusal;
use crate::release::ring;
use crate::release::serving::Serving;
use crate::release::state::{ServiceState, SlotState, State};
use crate::release::verb::{Force, Pins, Verb};
use crate::settings::{AGE_MAX_SECONDS, ServiceSettings};
use crate::time::UnixMillis;
use crate::weight::Weight;

/// What a check must know beside the state.
#[derive(Debug, Clone)]
pub struct Circumstances<'a> {
    /// When the verb is given.
    pub now: UnixMillis,
    /// Asked where weight would go to a new assignment.
    pub acknowledgements: &'a dyn Acknowledgements,
    /// Asked where sessions would go to a slot.
    pub serving: &'a dyn Serving,
    /// Asked where a slot would be freed.
    pub holding: &'a dyn Holding,
}

/// What the members of a service, or of all of them, have acknowledged.
pub trait Acknowledgements: std::fmt::Debug {
    /// The names of the members that have not acknowledged `version`; none where every member has.
    fn lacking(&self, version: u64) -> Vec<String>;
}

/// No member, nobody to wait for.
impl Acknowledgements for () {
    fn lacking(&self, _: u64) -> Vec<String> {
        Vec::new()
    }
}

impl State {
    /// What `verb` on `service` does now, as an event to append; `None` where it would change nothing.
    ///
    /// # Errors
    /// Says why it is refused.
    pub fn check(&self, service: &ServiceName, verb: &Verb, at: &Circumstances<'_>) -> Result<Option<Event>, Refusal> {
        let Some(state) = self.services.get(service) else {
            return match verb {
                Verb::Apply { settings } => create(service, settings).map(Some),
                _ => Err(Refusal::NoService(service.clone())),
            };
        };
        has_reason(verb.force())?;
        let check = Check { state, next_assignment: self.next_assignment, at };
        match verb {
            Verb::Apply { settings } => check.apply(service, settings),
            Verb::AddBundle { id, manifest } => {
                manifest
                    .validate()
                    .map_err(|error| FieldError::new(format!("manifest.{}", error.field), error.rule))?;
                check.add_bundle(Bundle::new(id.clone(), manifest.clone()))
            }
            Verb::Stage { slot, bundle } => check.stage(slot, bundle).map(Some),
            Verb::Ramp { slot, weight, .. } if !weight.takes_sessions() => {
                check.abort("ramp 0", slot, Pins::Keep).map(Some)
            }
            Verb::Ramp { slot, weight, force } => check.ramp(slot, *weight, force.as_ref()),
            Verb::Abort { slot, pins } => check.abort("abort", slot, *pins).map(Some),
            Verb::Switch { slot, force } => check.switch(slot, force.as_ref()).map(Some),
            Verb::Rollback { to, pins, force } => check.rollback(to.as_ref(), *pins, force.as_ref()).map(Some),
            Verb::Migrate { slot } => check.migrate(slot).map(Some),
            Verb::SetDeadline { slot, within_seconds } => check.set_deadline(slot, *within_seconds),
            Verb::RotateKeys => ring::rotate(state).map(Some),
            Verb::TurnKeys => Ok(ring::turn(state, at)),
            Verb::Settle => Ok(asking::settled(state, at).then_some(Event::Settled)),
            Verb::RetireKey { key, force } => ring::retire(state, *key, force.as_ref(), at).map(Some),
            Verb::Recycle { slot, force } => check.recycle(slot, force.as_ref()).map(Some),
        }
    }
}

impl ServiceState {
    /// What is to be done now though no operator asks for it: the sidecar gives this verb to itself.
    pub fn due(&self, at: &Circumstances<'_>) -> Option<Verb> {
        let over = |slot: &&SlotState| slot.drain_until.is_some_and(|until| until <= at.now);
        let overdue = self.slots.iter().find(|(_, slot)| over(slot));
        let leaves = overdue.map(|(slot, _)| Verb::Migrate { slot: slot.clone() });
        let settles = || asking::settled(self, at).then_some(Verb::Settle);
        leaves.or_else(|| ring::due(self, at)).or_else(settles)
    }
}

fn create(service: &ServiceName, Applied { settings, preset }: &Applied) -> Result<Event, Refusal> {
    validate(service, settings)?;
    let (settings, preset) = (Box::new(settings.clone()), preset.clone());
    Ok(Event::ServiceCreated { settings, preset, signing_key: KeyId(1) })
}

fn validate(service: &ServiceName, settings: &ServiceSettings) -> Result<(), FieldError> {
    settings.validate(service).map_err(|error| FieldError::new(format!("settings.{}", error.field), error.rule))
}

/// A word of force says why.
pub(super) fn has_reason(force: Option<&Force>) -> Result<(), Refusal> {
    match force {
        Some(force) if force.reason.trim().is_empty() => {
            Err(FieldError::new("force.reason", "is empty: say why, it is kept in the log").into())
        }
        _ => Ok(()),
    }
}

struct Check<'a> {
    state: &'a ServiceState,
    next_assignment: u64,
    at: &'a Circumstances<'a>,
}

impl Check<'_> {
    fn slot(&self, name: &SlotName) -> Result<&SlotState, Refusal> {
        let known = || self.state.settings.slots.clone();
        self.state.slots.get(name).ok_or_else(|| Refusal::NoSlot { slot: name.clone(), known: known() })
    }

    fn slot_in(
        &self,
        name: &SlotName,
        verb: &'static str,
        phases: &[Phase],
        wanted: &'static str,
    ) -> Result<&SlotState, Refusal> {
        let slot = self.slot(name)?;
        if phases.contains(&slot.phase) {
            return Ok(slot);
        }
        Err(Refusal::WrongPhase { slot: name.clone(), phase: slot.phase, verb, wanted })
    }

    /// Weight goes to no assignment that a proxy might not know.
    fn introduced(&self, name: &SlotName, slot: &SlotState) -> Result<(), Refusal> {
        let members = self.at.acknowledgements.lacking(slot.introduced);
        if members.is_empty() {
            return Ok(());
        }
        Err(Refusal::NotIntroduced { slot: name.clone(), version: slot.introduced, members })
    }

    /// Sessions go to no slot that is known not to serve them, unless somebody says why all the same.
    fn can_serve(&self, name: &SlotName, slot: &SlotState, force: Option<&Force>) -> Result<(), Refusal> {
        let Some(assignment) = slot.assignment.filter(|_| force.is_none()) else { return Ok(()) };
        self.at.serving.of(name, assignment).check(name, slot.bundle.as_ref())
    }

    fn quarantine_until(&self) -> UnixMillis {
        self.at.now.plus_millis(u64::from(self.state.settings.quarantine_seconds.0) * 1000)
    }

    /// `slots` leave; each that breaks gets an assignment of its own.
    fn leave(&self, slots: Vec<SlotName>, pins: Pins) -> Vec<Left> {
        let numbers = self.next_assignment..;
        let left = |(slot, number)| Left { slot, broken_by: (pins == Pins::Break).then_some(AssignmentId(number)) };
        slots.into_iter().zip(numbers).map(left).collect()
    }

    fn apply(&self, service: &ServiceName, applied: &Applied) -> Result<Option<Event>, Refusal> {
        let Applied { settings, preset } = applied;
        validate(service, settings)?;
        let dropped =
            |(name, slot): &(&SlotName, &SlotState)| slot.phase != Phase::Idle && !settings.slots.contains(name);
        if let Some((name, slot)) = self.state.slots.iter().find(dropped) {
            return Err(Refusal::SlotInUse { slot: name.clone(), phase: slot.phase });
        }
        let changes = (settings, preset) != (&self.state.settings, &self.state.preset);
        let event = || Event::SettingsApplied { settings: Box::new(settings.clone()), preset: preset.clone() };
        Ok(changes.then(event))
    }

    fn add_bundle(&self, bundle: Bundle) -> Result<Option<Event>, Refusal> {
        match self.state.bundles.get(&bundle.id) {
            None => Ok(Some(Event::BundleAdded { bundle })),
            Some(known) if known.digest == bundle.digest => Ok(None),
            Some(known) => Err(Refusal::BundleExists { id: bundle.id, digest: known.digest.to_string() }),
        }
    }

    fn stage(&self, slot: &SlotName, bundle: &BundleId) -> Result<Event, Refusal> {
        self.slot_in(slot, "stage", &[Phase::Idle], "a slot that is idle: `colorfast recycle` frees one")?;
        if !self.state.bundles.contains_key(bundle) {
            return Err(Refusal::NoBundle(bundle.clone()));
        }
        let assignment = AssignmentId(self.next_assignment);
        Ok(Event::Staged { slot: slot.clone(), bundle: bundle.clone(), assignment })
    }

    fn ramp(&self, name: &SlotName, weight: Weight, force: Option<&Force>) -> Result<Option<Event>, Refusal> {
        let wanted = "a slot that is staged or a candidate";
        let slot = self.slot_in(name, "ramp", &[Phase::Staged, Phase::Candidate], wanted)?;
        if self.state.live().is_none() {
            return Err(Refusal::NothingLive(name.clone()));
        }
        let others = self.state.candidates().filter(|(other, _)| *other != name);
        let sum = others.fold(u32::from(weight), |sum, (_, other)| sum + u32::from(other.weight));
        if sum > u32::from(Weight::ALL) {
            return Err(Refusal::OverAll { sum });
        }
        self.introduced(name, slot)?;
        // Less is a step back, which nothing must hold up.
        if weight > slot.weight {
            self.can_serve(name, slot, force)?;
        }
        let changes = slot.phase != Phase::Candidate || slot.weight != weight;
        Ok(changes.then(|| Event::Ramped { slot: name.clone(), weight, force: force.cloned() }))
    }

    fn abort(&self, verb: &'static str, slot: &SlotName, pins: Pins) -> Result<Event, Refusal> {
        self.slot_in(slot, verb, &[Phase::Candidate], "a candidate")?;
        let left = self.leave(vec![slot.clone()], pins).pop();
        Ok(Event::Aborted { slot: left.unwrap_or(Left { slot: slot.clone(), broken_by: None }) })
    }

    fn switch(&self, name: &SlotName, force: Option<&Force>) -> Result<Event, Refusal> {
        if self.slot(name)?.phase == Phase::Live {
            return Err(Refusal::AlreadyLive(name.clone()));
        }
        let wanted = "a slot that is staged, a candidate or draining";
        let slot = self.slot_in(name, "switch", &[Phase::Staged, Phase::Candidate, Phase::Draining], wanted)?;
        self.introduced(name, slot)?;
        self.can_serve(name, slot, force)?;
        let was_live = self.state.live().map(|(live, _)| live.clone());
        let others = self.state.candidates().map(|(other, _)| other.clone()).filter(|other| other != name);
        Ok(Event::Switched {
            slot: name.clone(),
            quarantine_until: was_live.as_ref().map(|_| self.quarantine_until()),
            draining: was_live.into_iter().chain(others).collect(),
            force: force.cloned(),
        })
    }

    fn rollback(&self, to: Option<&SlotName>, pins: Pins, force: Option<&Force>) -> Result<Event, Refusal> {
        let candidates: Vec<_> = self.state.candidates().map(|(name, _)| name.clone()).collect();
        let (live, _) = self.state.live().ok_or(Refusal::NothingToRollBack)?;
        let in_ramp = !candidates.is_empty();
        let target = match to {
            Some(to) => self.named_target(to)?,
            None if in_ramp => live,
            None => self.way_back(live)?,
        };
        if target == live && !in_ramp {
            return Err(Refusal::AlreadyLive(live.clone()));
        }
        // A step back waits for nobody, since its target has had sessions before. One that has not is a step forward.
        let slot = self.slot(target)?;
        if slot.phase == Phase::Staged {
            self.introduced(target, slot)?;
        }
        // What is live serves already, well or badly: a rollback out of a ramp is never held up.
        if slot.phase != Phase::Live {
            self.can_serve(target, slot, force)?;
        }
        let left = candidates.into_iter().chain(std::iter::once(live.clone())).filter(|slot| slot != target).collect();
        Ok(Event::RolledBack {
            left: self.leave(left, pins),
            live: target.clone(),
            quarantine_until: (pins == Pins::Keep).then(|| self.quarantine_until()),
            force: force.cloned(),
        })
    }

    fn named_target<'a>(&self, to: &'a SlotName) -> Result<&'a SlotName, Refusal> {
        let phases = [Phase::Staged, Phase::Candidate, Phase::Draining, Phase::Live];
        self.slot_in(to, "rollback --to", &phases, "a slot that is staged, a candidate, draining or live")?;
        Ok(to)
    }

    fn way_back(&self, live: &SlotName) -> Result<&SlotName, Refusal> {
        let former = self.state.history.last().ok_or_else(|| Refusal::NoWayBack { live: live.clone() })?;
        let gone = |gone| Refusal::WayBackGone { slot: former.slot.clone(), gone };
        let slot = self.state.slots.get(&former.slot).ok_or_else(|| gone("the settings name it no more"))?;
        match slot.phase {
            Phase::Idle => Err(gone("it was recycled")),
            Phase::Condemned => Err(gone("it is condemned")),
            _ if slot.assignment != Some(former.assignment) => Err(gone("it was staged anew since then")),
            _ => Ok(&former.slot),
        }
    }

    fn migrate(&self, slot: &SlotName) -> Result<Event, Refusal> {
        self.slot_in(slot, "migrate", &[Phase::Draining], "a slot that is draining")?;
        let left = self.leave(vec![slot.clone()], Pins::Break).pop();
        Ok(Event::Migrated { slot: left.unwrap_or(Left { slot: slot.clone(), broken_by: None }) })
    }

    fn set_deadline(&self, name: &SlotName, within: Option<u32>) -> Result<Option<Event>, Refusal> {
        let slot = self.slot_in(name, "deadline", &[Phase::Draining], "a slot that is draining")?;
        if within.is_some_and(|seconds| !(1..=AGE_MAX_SECONDS).contains(&seconds)) {
            let rule = format!("is not within 1 to {AGE_MAX_SECONDS} (ten years): `migrate` makes sessions leave now");
            return Err(FieldError::new("within_seconds", rule).into());
        }
        let until = within.map(|seconds| self.at.now.plus_millis(u64::from(seconds) * 1000));
        Ok((until != slot.drain_until).then(|| Event::DeadlineSet { slot: name.clone(), until }))
    }

    fn recycle(&self, name: &SlotName, force: Option<&Force>) -> Result<Event, Refusal> {
        let wanted = "a slot that is draining, condemned or staged";
        let slot = self.slot_in(name, "recycle", &[Phase::Draining, Phase::Condemned, Phase::Staged], wanted)?;
        if force.is_some() {
            return Ok(Event::Recycled { slot: name.clone(), force: force.cloned() });
        }
        let drains = slot.phase == Phase::Draining;
        if let Some(until) = slot.quarantine_until.filter(|until| drains && *until > self.at.now) {
            return Err(Refusal::Quarantine { slot: name.clone(), until });
        }
        let Held { sessions, issued, in_flight, sessions_until, unheard, reach, runs, runs_until } =
            self.at.holding.of(name, slot);
        // What was staged alone has never had a session.
        if reach == Reach::Offline && slot.phase != Phase::Staged {
            return Err(Refusal::Unknown(name.clone()));
        }
        if runs > 0 {
            return Err(Refusal::RunsHold { slot: name.clone(), runs, until: runs_until });
        }
        // Whose pins are broken holds no session any more.
        let (sessions, issued) = if drains { (sessions, issued) } else { (0, 0) };
        if sessions + issued + in_flight > 0 {
            let until = sessions_until.filter(|_| sessions + issued > 0);
            return Err(Refusal::SlotHeld { slot: name.clone(), sessions, issued, in_flight, until });
        }
        if slot.phase != Phase::Staged && !unheard.is_empty() {
            return Err(Refusal::NotAccounted { slot: name.clone(), members: unheard });
        }
        Ok(Event::Recycled { slot: name.clone(), force: None })
    }
}
