//! Rule `run`: a run goes on where its bundle is. Without a key of runs their tokens are somebody else's to judge.

use super::rule::{Context, Ruled, Verdict};
use super::{Chosen, Observer, Reason, Refusal, RunAction, gone, tokens};
use crate::ids::{RunId, Sid};
use crate::memory::{Certainty, Remembered, Visits};
use crate::plan::{Plan, SlotIndex};
use crate::rendezvous;
use crate::settings::RunMint;
use crate::time::UnixSeconds;
use crate::token::{TokenKind, run};

/// The rule.
pub fn rule<O: Observer>(context: &mut Context<'_, O>) -> Verdict {
    let (plan, at) = (context.plan, context.at);
    let runs = context.runs();
    let Some(slot) = runs.slot else {
        if runs.is_broken {
            context.gone = gone::by_name(context);
        }
        return Verdict::Passes;
    };
    let session = runs.session(plan, slot, at);
    if context.down.contains(slot) {
        context.refusals.count(TokenKind::Run, Refusal::SlotDown);
        return Verdict::Passes;
    }
    Verdict::Decides(Ruled { session, ..Ruled::by_token(slot, Reason::Run) })
}

/// What the run tokens of a request come to.
#[derive(Debug, Default)]
pub struct Runs {
    /// Where the run goes on.
    slot: Option<SlotIndex>,
    /// The run.
    pub id: Option<RunId>,
    /// When it began.
    began: UnixSeconds,
    /// The place of the token that is good.
    good: Option<usize>,
    /// Whether its bundle is gone: the slot that ran it was condemned. A bundle that no slot has may be another service's.
    is_broken: bool,
    count: usize,
}

impl Runs {
    /// Judges the tokens, up to the first that is good.
    pub fn judge<O: Observer>(context: &mut Context<'_, O>) -> Self {
        let mut runs = Self::default();
        let signer = context.secrets.and_then(|secrets| secrets.runs.as_ref());
        let (Some(signer), Some(tokens)) = (signer, context.view.runs) else { return runs };
        for (place, token) in tokens.iter().enumerate() {
            runs.count += 1;
            if runs.good.is_some() {
                continue;
            }
            let (claims, judged) = tokens::run(context.plan, signer, token, context.at);
            context.watch.run(claims, judged);
            match judged {
                Ok(slot) => {
                    (runs.slot, runs.good) = (slot, Some(place));
                    if let Some(claims) = claims {
                        (runs.id, runs.began) = (Some(claims.run), claims.began);
                        runs.is_broken = slot.is_none() && context.plan.has_condemned(&claims.bundle);
                    }
                }
                Err(refusal) => context.refusals.count(TokenKind::Run, refusal),
            }
        }
        runs
    }

    /// The run as a session of the slot in which it goes on.
    fn session(&self, plan: &Plan, slot: SlotIndex, now: UnixSeconds) -> Option<Remembered> {
        let (RunId(run), assignment) = (self.id?, plan.slot(slot)?.assignment?);
        let (certainty, visits) = (Certainty::Fact, Visits::Returned);
        Some(Remembered { assignment, sid: Sid(run), began: self.began, seen: now, certainty, visits })
    }

    /// What becomes of the tokens, where the request goes to `chosen` and may begin a run.
    pub fn action(&self, plan: &Plan, chosen: Option<Chosen>, now: UnixSeconds, draw: u64) -> RunAction {
        let clean =
            if self.count > usize::from(self.good.is_some()) { RunAction::Only(self.good) } else { RunAction::Keep };
        let mints = plan.settings.runs.mint == RunMint::Always
            && self.good.is_none()
            && plan.secrets().is_some_and(|secrets| secrets.runs.is_some());
        let Some(chosen) = chosen.filter(|chosen| mints && chosen.reason != Reason::Preview) else { return clean };
        let Some(bundle) = plan.slot(chosen.slot).and_then(|slot| slot.bundle.as_ref()) else { return clean };
        // Apart from the draws that chose the slot and the sid.
        let run = RunId(rendezvous::mix(draw ^ 0xd1b5_4a32_d192_ed03));
        RunAction::Issue(run::Claims { run, began: now, bundle: bundle.id.clone() })
    }
}
