//! A log that goes on from a copy.
//!
//! What happened after the copy was made is lost: the *lost future*. Its pins are still out there, and proxies still
//! decide by its snapshots. So the copy goes on under an epoch of its own, which every proxy takes for newer, and gives
//! no number that the lost future may have given: pins of such numbers are broken at once, not waited for as news.

use crate::ids::{AssignmentId, Epoch};
use crate::release::event::{Event, Restored};
use crate::release::state::State;
use crate::time::UnixMillis;

/// What is still known of the lost future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostFuture {
    /// Its epoch.
    pub epoch: Epoch,
    /// The number that its next stage or break would have got.
    pub next_assignment: u64,
}

impl State {
    /// The event by which a copy with this state goes on: its last entry was written `copied`, and it is restored `at`.
    pub fn restore(&self, copied: UnixMillis, at: UnixMillis, lost: Option<LostFuture>) -> Event {
        let least = [at, copied, self.epoch.0.plus_millis(1)].into_iter();
        let known = lost.map(|lost| lost.epoch.0.plus_millis(1));
        let epoch = Epoch(least.chain(known).max().unwrap_or(at));
        let next = [self.at_most(at.since(copied)), lost.map_or(0, |lost| lost.next_assignment), epoch.0.seconds().0];
        let next = next.into_iter().max().unwrap_or_default();
        let given = AssignmentId(next.saturating_sub(1));
        Event::Genesis { epoch, restored: Some(Restored { from: self.epoch, entry: self.head, given }) }
    }

    /// The next number of a log that goes on from this state for so many milliseconds, at most.
    ///
    /// A number is given to a slot that is staged or broken, and a slot is broken but once for each time it is staged.
    /// So beside one for each slot that can be broken now, each number takes an append to itself, and no log appends
    /// a thousand entries a second for long: each is on disk before the next.
    fn at_most(&self, millis: u64) -> u64 {
        let slots: usize = self.services.values().map(|service| service.slots.len()).sum();
        self.next_assignment.saturating_add(millis).saturating_add(slots as u64)
    }

    /// Folds the genesis of a restored log in: every service changes, since what it may give and honour does.
    pub(super) fn go_on(&mut self, seq: u64, epoch: Epoch, restored: &Restored) -> Result<(), &'static str> {
        if (restored.from, restored.entry) != (self.epoch, self.head) {
            return Err("it goes on from another log");
        }
        if epoch <= self.epoch {
            return Err("epochs must rise");
        }
        let AssignmentId(given) = restored.given;
        if given.saturating_add(1) < self.next_assignment {
            return Err("assignments must count up");
        }
        self.epoch = epoch;
        self.next_assignment = given.saturating_add(1);
        self.application.version = seq;
        for service in self.services.values_mut() {
            service.newest_assignment = service.newest_assignment.max(Some(restored.given));
            (service.version, service.acted) = (seq, seq);
        }
        Ok(())
    }
}
