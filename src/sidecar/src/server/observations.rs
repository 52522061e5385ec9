//! What reports have told of slots: sums for each assignment, and the last minute.

use std::collections::VecDeque;
use std::sync::Arc;

use colorfast_core::ids::{AssignmentId, ServiceName, SlotName};
use colorfast_core::release::{Mismatch, Observed, ProbeOutcome, Serving as Asked};
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::reports::SlotReport;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::clock;
use super::directory::Directory;
use super::probe::Probed;
use crate::api::{Mismatched, Recent, Serving};
use crate::store::Ephemera;

/// What "now" means of a slot.
const RECENT_MS: u64 = 60_000;
/// The last minute is kept in parts of this length, of which the oldest falls out whole.
const PART_MS: u64 = 5_000;
/// How long an agent that said it runs another bundle keeps a slot from being given sessions.
const MISMATCH_MS: u64 = 10 * 60_000;
/// How long the sums of an assignment are kept after its last report.
const KEPT_MS: u64 = 24 * 3_600_000;

/// What is known of the slots of every service.
#[derive(Debug)]
pub struct Observations {
    directory: Arc<Directory>,
    ephemera: Arc<dyn Ephemera>,
}

/// The sums of one assignment.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Sums {
    answered: u64,
    unavailable: u64,
    matched: u64,
    mismatched: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<LastMismatch>,
    /// The parts of the last minute, oldest first.
    recent: VecDeque<Part>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct LastMismatch {
    found: String,
    at: UnixMillis,
}

#[derive(Debug, Serialize, Deserialize)]
struct Part {
    began: UnixMillis,
    answered: u64,
    unavailable: u64,
}

impl Observations {
    /// Of the services in `directory`.
    pub fn new(directory: Arc<Directory>, ephemera: Arc<dyn Ephemera>) -> Self {
        Self { directory, ephemera }
    }

    /// Adds what a report tells. What it tells of an assignment that is in no slot now is dropped, so that no more is
    /// kept than there are slots.
    pub fn add(&self, report: &SlotReport, now: UnixMillis) {
        if self.present(&report.service, &report.slot) != Some(report.assignment) {
            return;
        }
        let key = key(&report.service, &report.slot, report.assignment);
        self.ephemera.merge_aside(&key, Some(now.plus_millis(KEPT_MS)), |known| {
            let known = known.and_then(|bytes| serde_json::from_slice::<Sums>(bytes).ok());
            let mut sums = known.unwrap_or_default();
            sums.add(report, now);
            serde_json::to_vec(&sums).map_err(|error| warn!(%error, "cannot keep what was seen of a slot")).ok()
        });
    }

    /// What runs in a slot now.
    fn present(&self, service: &ServiceName, slot: &SlotName) -> Option<AssignmentId> {
        self.directory.watch(service)?.borrow().state.slots.get(slot)?.assignment
    }

    fn sums(&self, service: &ServiceName, slot: &SlotName, assignment: AssignmentId) -> Sums {
        let kept = self.ephemera.get(&key(service, slot, assignment));
        kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// What a check of a verb must know of a slot.
    pub fn observed(
        &self,
        service: &ServiceName,
        slot: &SlotName,
        assignment: AssignmentId,
        now: UnixMillis,
    ) -> Observed {
        let sums = self.sums(service, slot, assignment);
        let (answered, unavailable) = sums.recently(now);
        let mismatch = sums.last.filter(|last| now.since(last.at) < MISMATCH_MS);
        Observed {
            answered,
            unavailable,
            mismatch: mismatch.map(|last| Mismatch { found: last.found, times: sums.mismatched }),
            probe: None,
        }
    }

    /// What the control API shows of a slot.
    pub fn shown(&self, service: &ServiceName, slot: &SlotName, assignment: AssignmentId, now: UnixMillis) -> Serving {
        let sums = self.sums(service, slot, assignment);
        let (answered, unavailable) = sums.recently(now);
        Serving {
            answered: sums.answered,
            unavailable: sums.unavailable,
            matched: sums.matched,
            mismatched: sums.mismatched,
            last_mismatch: sums.last.map(|LastMismatch { found, at }| Mismatched { found, at }),
            last_minute: Recent { answered, unavailable },
        }
    }
}

impl Sums {
    fn add(&mut self, report: &SlotReport, now: UnixMillis) {
        let (answered, unavailable) = (u64::from(report.answered), u64::from(report.unavailable));
        self.answered = self.answered.saturating_add(answered);
        self.unavailable = self.unavailable.saturating_add(unavailable);
        self.matched = self.matched.saturating_add(report.matched.into());
        self.mismatched = self.mismatched.saturating_add(report.mismatched.into());
        if report.mismatched > 0 {
            self.last = Some(LastMismatch { found: report.found.clone().unwrap_or_default(), at: now });
        }
        // A part of the future was begun before the clock was set back.
        self.recent.retain(|part| now.is_within(RECENT_MS, part.began));
        match self.recent.back_mut().filter(|part| now.is_within(PART_MS, part.began)) {
            Some(part) => {
                part.answered = part.answered.saturating_add(answered);
                part.unavailable = part.unavailable.saturating_add(unavailable);
            }
            None => self.recent.push_back(Part { began: now, answered, unavailable }),
        }
    }

    /// Answers of the last minute, the agent's and Envoy's.
    fn recently(&self, now: UnixMillis) -> (u64, u64) {
        let recent = self.recent.iter().filter(|part| now.is_within(RECENT_MS, part.began));
        recent.fold((0, 0), |(answered, unavailable), part| {
            (answered.saturating_add(part.answered), unavailable.saturating_add(part.unavailable))
        })
    }
}

/// What is known of the slots of one service, asked by a check of a verb.
#[derive(Debug)]
pub struct Seen<'a> {
    /// What reports have told.
    pub observations: &'a Observations,
    /// The service.
    pub service: &'a ServiceName,
    /// What a probe came to, where one was made.
    pub probed: Option<&'a Probed>,
}

impl Asked for Seen<'_> {
    fn of(&self, slot: &SlotName, assignment: AssignmentId) -> Observed {
        let probed = self.probed.filter(|probed| probed.slot == *slot);
        let probe = probed.map(|probed| match probed.assignment == assignment {
            true => probed.outcome.clone(),
            false => ProbeOutcome::Failed("it was staged anew meanwhile, try again".to_owned()),
        });
        Observed { probe, ..self.observations.observed(self.service, slot, assignment, clock::now()) }
    }
}

/// Names have no slashes, so no two assignments share a place.
fn key(service: &ServiceName, slot: &SlotName, assignment: AssignmentId) -> String {
    format!("serving/{service}/{slot}/{assignment}")
}

#[cfg(test)]
mod tests;
