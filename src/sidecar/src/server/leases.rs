//! Leases of runs: who works in a slot though nobody asks for anything.
//!
//! A lease is taken and renewed by the run itself, ends with its time, with the run's own word, or with max-age. It
//! belongs to a slot for as long as that slot runs the bundle on which the run began. A crash may forget the last second:
//! the next renewal takes it anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use colorfast_core::error::FieldError;
use colorfast_core::ids::{BundleId, ServiceName, SlotName};
use colorfast_core::release::{Phase, ServiceState, SlotState};
use colorfast_core::time::UnixMillis;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::api::runs::{HoldRun, RunLease, RunName, TTL_MAX_SECONDS};
use crate::store::Ephemera;

/// How long a lease holds unless it is said.
const TTL_SECONDS: u32 = 60;
/// How long a run that is over age is known, so that it cannot begin anew under its name by asking once more.
const KNOWN_MILLIS: u64 = 24 * 3600 * 1000;
/// Most runs of one service that are known.
const RUNS_MAX: usize = 10_000;

/// The leases of every service.
#[derive(Debug, Clone)]
pub struct Leases {
    ephemera: Arc<dyn Ephemera>,
}

/// A lease as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    run: RunName,
    bundle: BundleId,
    slot: SlotName,
    began: UnixMillis,
    expires: UnixMillis,
}

/// Why a run gets no lease. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRefusal {
    /// A value breaks a rule.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// No slot runs its bundle.
    #[error("no slot runs {0} any more: end the run, or begin it anew on another bundle")]
    BundleGone(BundleId),
    /// It has lasted too long.
    #[error("the run is over its max-age of {0} s: end it")]
    OverAge(u32),
    /// There is no such lease.
    #[error("no run {0} holds a lease")]
    Unknown(RunName),
    /// Too many.
    #[error("the service has {RUNS_MAX} runs already: end some, or wait until they lapse")]
    Full,
}

impl Leases {
    /// Leases that are kept in `ephemera`.
    pub fn new(ephemera: Arc<dyn Ephemera>) -> Self {
        Self { ephemera }
    }

    /// A run takes a lease, or renews it.
    pub fn hold(
        &self,
        service: &ServiceName,
        state: &ServiceState,
        run: &RunName,
        asked: &HoldRun,
        now: UnixMillis,
    ) -> Result<RunLease, LeaseRefusal> {
        let ttl = asked.ttl_seconds.unwrap_or(TTL_SECONDS);
        if !(1..=TTL_MAX_SECONDS).contains(&ttl) {
            let rule = format!("is {ttl}, 1 to {TTL_MAX_SECONDS} (a day) is allowed");
            return Err(FieldError::new("ttl_seconds", rule).into());
        }
        let key = key(service, run);
        let known = self.ephemera.get(&key).and_then(|bytes| read(&key, &bytes));
        if known.is_none() && self.ephemera.scan(&prefix(service)).len() >= RUNS_MAX {
            return Err(LeaseRefusal::Full);
        }
        let (began, slot) = match known {
            Some(known) if known.bundle != asked.bundle => {
                let rule = format!("is {}, but the run began on {}", asked.bundle, known.bundle);
                return Err(FieldError::new("bundle", rule).into());
            }
            Some(known) => (known.began.min(now), Some(known.slot)),
            None => (now, None),
        };
        let max_age = state.settings.pin.max_age_seconds;
        let ends = began.plus_millis(u64::from(max_age) * 1000);
        if ends <= now {
            return Err(LeaseRefusal::OverAge(max_age));
        }
        let (slot, phase) =
            place(state, &asked.bundle, slot.as_ref()).ok_or_else(|| LeaseRefusal::BundleGone(asked.bundle.clone()))?;
        let expires = now.plus_millis(u64::from(ttl) * 1000).min(ends);
        let kept = Kept { run: run.clone(), bundle: asked.bundle.clone(), slot: slot.clone(), began, expires };
        match serde_json::to_vec(&kept) {
            Ok(bytes) => self.ephemera.put(&key, bytes, Some(ends.plus_millis(KNOWN_MILLIS))),
            Err(error) => warn!(%service, %run, %error, "cannot keep a lease"),
        }
        Ok(shown(kept, phase, ends))
    }

    /// A run has ended.
    pub fn end(&self, service: &ServiceName, run: &RunName) -> Result<(), LeaseRefusal> {
        let key = key(service, run);
        self.ephemera.get(&key).ok_or_else(|| LeaseRefusal::Unknown(run.clone()))?;
        self.ephemera.remove(&key);
        Ok(())
    }

    /// Every lease that holds now.
    pub fn list(&self, service: &ServiceName, state: &ServiceState, now: UnixMillis) -> Vec<RunLease> {
        let max_age = u64::from(state.settings.pin.max_age_seconds) * 1000;
        let held = self.held(service, now).into_iter();
        let held = held.filter_map(|kept| {
            let (_, phase) = place(state, &kept.bundle, Some(&kept.slot))?;
            let ends = kept.began.plus_millis(max_age);
            Some(shown(kept, phase, ends))
        });
        held.collect()
    }

    fn held(&self, service: &ServiceName, now: UnixMillis) -> Vec<Kept> {
        let kept = self.ephemera.scan(&prefix(service)).into_iter();
        let kept = kept.filter_map(|(key, bytes)| read(&key, &bytes));
        kept.filter(|kept| kept.expires > now).collect()
    }

    /// What holds the slots of a service now.
    pub fn of(&self, service: &ServiceName, now: UnixMillis) -> Holds {
        let mut holds = Holds::default();
        for kept in self.held(service, now) {
            let (runs, until) = holds.0.entry((kept.slot, kept.bundle)).or_default();
            *runs += 1;
            *until = (*until).max(Some(kept.expires));
        }
        holds
    }
}

/// What holds the slots of one service, by slot and bundle.
#[derive(Debug, Default)]
pub struct Holds(BTreeMap<(SlotName, BundleId), (u64, Option<UnixMillis>)>);

impl Holds {
    /// How many runs hold a slot that is in this state, and until when.
    pub fn of(&self, slot: &SlotName, state: &SlotState) -> (u64, Option<UnixMillis>) {
        let held = state.bundle.clone().and_then(|bundle| self.0.get(&(slot.clone(), bundle)));
        held.copied().unwrap_or_default()
    }
}

/// The slot that a run of `bundle` holds: the one that it held, while that runs the bundle; else the one that takes most
/// of the sessions. A run does not begin in a slot that is condemned.
fn place<'a>(state: &'a ServiceState, bundle: &BundleId, held: Option<&SlotName>) -> Option<(&'a SlotName, Phase)> {
    let running = || state.slots.iter().filter(|(_, slot)| slot.bundle.as_ref() == Some(bundle));
    let rank = |phase: &Phase| match phase {
        Phase::Live => 4,
        Phase::Candidate => 3,
        Phase::Draining => 2,
        Phase::Staged => 1,
        Phase::Idle | Phase::Condemned => 0,
    };
    let kept = running().find(|(name, _)| Some(*name) == held);
    let taken = || running().filter(|(_, slot)| rank(&slot.phase) > 0).max_by_key(|(_, slot)| rank(&slot.phase));
    kept.or_else(taken).map(|(name, slot)| (name, slot.phase))
}

fn shown(kept: Kept, phase: Phase, ends: UnixMillis) -> RunLease {
    let Kept { run, bundle, slot, began, expires } = kept;
    RunLease { run, bundle, slot, phase, began, expires, ends }
}

fn read(key: &str, bytes: &[u8]) -> Option<Kept> {
    serde_json::from_slice(bytes).map_err(|error| warn!(key, %error, "passed over a lease that cannot be read")).ok()
}

/// Names have no slashes, so no two runs share a place.
fn prefix(service: &ServiceName) -> String {
    format!("lease/{service}/")
}

fn key(service: &ServiceName, run: &RunName) -> String {
    format!("{}{run}", prefix(service))
}

#[cfg(test)]
mod tests;
