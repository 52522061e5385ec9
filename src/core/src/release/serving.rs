//! What is known of whether a slot can serve, and what a check makes of it.

use std::fmt;

use crate::ids::{AssignmentId, BundleId, SlotName};
use crate::release::refusal::Refusal;

/// What members and probes have seen of the upstream of a slot.
pub trait Serving: fmt::Debug {
    /// What is known of `slot` under `assignment`, and of no other bundle that ran there.
    fn of(&self, slot: &SlotName, assignment: AssignmentId) -> Observed;
}

/// Nothing has been seen: nothing is held against a slot.
impl Serving for () {
    fn of(&self, _: &SlotName, _: AssignmentId) -> Observed {
        Observed::default()
    }
}

/// What was seen of one assignment of a slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Answers of the last minute that its agent gave.
    pub answered: u64,
    /// Answers of the last minute that Envoy gave itself, since the upstream could not be had.
    pub unavailable: u64,
    /// The agent said lately that it runs another bundle.
    pub mismatch: Option<Mismatch>,
    /// What came of a probe just now, where one is configured.
    pub probe: Option<ProbeOutcome>,
}

/// An agent that says it runs another bundle than the one that is staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// What it said last.
    pub found: String,
    /// On how many of the answers that were looked at.
    pub times: u64,
}

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The slot has answered as it should.
    Served,
    /// It has answered, and says that it runs this.
    Mismatched(String),
    /// It has not: why.
    Failed(String),
}

impl Observed {
    /// Whether a slot with `bundle` may be given sessions.
    ///
    /// A probe that was answered outweighs what came before it, but for mismatches: of several processes behind a slot
    /// it has asked one.
    pub(super) fn check(&self, slot: &SlotName, bundle: Option<&BundleId>) -> Result<(), Refusal> {
        let bundle = bundle.map_or_else(String::new, ToString::to_string);
        let mismatch = match &self.probe {
            Some(ProbeOutcome::Mismatched(found)) => Some(Mismatch { found: found.clone(), times: 1 }),
            _ => self.mismatch.clone(),
        };
        if let Some(Mismatch { found, times }) = mismatch {
            return Err(Refusal::AttestationMismatch { slot: slot.clone(), bundle, found, times });
        }
        let cannot = |cause| Err(Refusal::CannotServe { slot: slot.clone(), cause });
        let all = self.answered.saturating_add(self.unavailable);
        match &self.probe {
            Some(ProbeOutcome::Failed(cause)) => cannot(format!("a probe failed: {cause}")),
            Some(_) => Ok(()),
            None if self.unavailable > 0 && self.unavailable >= all - all / 10 => {
                let unavailable = self.unavailable;
                cannot(format!("its upstream was unavailable for {unavailable} of {all} requests in the last minute"))
            }
            None => Ok(()),
        }
    }
}
