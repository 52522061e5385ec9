//! A session is found by any of its names: ids that an agent hands out in it, and ids that its requests show beside the one
//! that decided.

use super::memory::{Judged, judge};
use crate::memory::{Certainty, Remembered};
use crate::plan::Plan;
use crate::time::UnixSeconds;

/// What is to be written down under an id that the agent hands out in the session `of`: a fact. None where that stands
/// there already, or the agent has handed out the same id in another session that goes on.
pub fn alias(plan: &Plan, of: &Remembered, known: Option<&Remembered>, now: UnixSeconds) -> Option<Remembered> {
    let new = Remembered { seen: now, certainty: Certainty::Fact, ..*of };
    match known {
        Some(known) if known.agrees_with(of) && known.certainty == Certainty::Fact => {
            known.is_stale(&plan.settings.pin, now).then_some(new)
        }
        Some(known) if known.certainty == Certainty::Fact && holds(plan, known, now) && !known.agrees_with(of) => None,
        _ => Some(new),
    }
}

/// What is to be written down under an id that a request of the session `of` shows by a later source. The newest session
/// that shows it has it: such an id may name more than one conversation. An older session takes it back once a second at
/// most, and none does where an agent has handed it out.
pub fn further(plan: &Plan, of: &Remembered, known: Option<&Remembered>, now: UnixSeconds) -> Option<Remembered> {
    let new = Remembered { seen: now, certainty: Certainty::Shown, ..*of };
    match known {
        Some(known) if known.agrees_with(of) => {
            let certainty = known.certainty.max(Certainty::Shown);
            known.is_stale(&plan.settings.pin, now).then_some(Remembered { certainty, ..new })
        }
        Some(known) if known.certainty == Certainty::Fact && holds(plan, known, now) => None,
        Some(known) if known.seen >= now && known.began > of.began && holds(plan, known, now) => None,
        _ => Some(new),
    }
}

fn holds(plan: &Plan, session: &Remembered, now: UnixSeconds) -> bool {
    matches!(judge(plan, session, now), Judged::Holds(_))
}
