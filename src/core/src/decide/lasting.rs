//! A session whose stream lasts is in use, though no request of it comes.

use super::memory::{Judged, judge};
use crate::memory::{Remembered, Visits};
use crate::plan::{Plan, SlotIndex};
use crate::time::UnixSeconds;

/// What an open stream comes to for the session that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUse {
    /// The session holds the slot, and this is to be written down under its name.
    Writes(SlotIndex, Remembered),
    /// It holds the slot. That stands there already, or another session has the name.
    Holds(SlotIndex),
    /// It holds nothing any more: it has ended, its assignment is broken, or it went on elsewhere.
    Over,
}

/// What comes of an open stream of `session`, under whose name `known` is remembered.
pub fn in_use(plan: &Plan, session: &Remembered, known: Option<&Remembered>, now: UnixSeconds) -> InUse {
    let seen = Remembered { seen: now, visits: Visits::Returned, ..*session };
    let Judged::Holds(slot) = judge(plan, &seen, now) else { return InUse::Over };
    match known {
        Some(known) if known.sid != session.sid => InUse::Holds(slot),
        Some(known) if !known.agrees_with(session) => InUse::Over,
        Some(known) if known.visits == Visits::Returned && known.seen >= now => InUse::Holds(slot),
        Some(known) => {
            let certainty = known.certainty.max(session.certainty);
            InUse::Writes(slot, Remembered { certainty, seen: known.seen.max(now), ..seen })
        }
        None => InUse::Writes(slot, seen),
    }
}
