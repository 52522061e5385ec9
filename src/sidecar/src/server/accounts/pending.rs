//! Sessions that proxies told of and that are not marked yet: what their account is, is known a moment later.
//!
//! A session that begins by a hash of its id may be taken back by a fact, or come back at another proxy; proxies leave it
//! to the sidecar to count those.

use std::collections::{BTreeMap, VecDeque};

use colorfast_core::ids::{AssignmentId, ServiceName, Sid};
use colorfast_core::memory::{Certainty, Remembered, Visits};
use colorfast_core::time::UnixMillis;

use super::Standing;

/// How long a session is looked at before it is marked.
const YOUNG_MS: u64 = 2_000;
/// Most that are looked at: beyond that the oldest are marked sooner.
const PENDING_MAX: usize = 100_000;

/// The sessions of all services, by the ids that they were told under.
#[derive(Debug, Default)]
pub struct Pending {
    sessions: BTreeMap<(ServiceName, u64), Remembered>,
    due: VecDeque<(UnixMillis, (ServiceName, u64))>,
}

/// A session to be marked.
#[derive(Debug)]
pub struct Due {
    /// Whose it is.
    pub service: ServiceName,
    /// The session.
    pub session: Remembered,
}

/// How a session counts.
pub(super) fn standing(session: &Remembered) -> Standing {
    match session.visits {
        Visits::Returned => Standing::Held,
        Visits::First => Standing::Issued,
    }
}

impl Pending {
    /// A proxy has told `said` of the session under an id, where `stands` stands now. One that is a fact is marked by the
    /// proxy that has it, unless it is known here alone that it came back.
    pub fn note(&mut self, service: &ServiceName, id: Sid, said: &Remembered, stands: &Remembered, now: UnixMillis) {
        let place = (service.clone(), id.0);
        if let Some(known) = self.sessions.get_mut(&place) {
            // Of two that are told at once, either may come here first.
            let visits = known.visits.max(stands.visits);
            let newer = if stands.certainty >= known.certainty { *stands } else { *known };
            *known = Remembered { visits, ..newer };
        } else if said.certainty == Certainty::Guess || stands.visits == Visits::Returned {
            self.due.push_back((now.plus_millis(YOUNG_MS), place.clone()));
            self.sessions.insert(place, *stands);
        }
    }

    /// Takes what is due by `now`, once the first of it has been for `late_ms`: marks are made many at a time.
    pub fn take(&mut self, now: UnixMillis, late_ms: u64) -> Vec<Due> {
        let mut due = Vec::new();
        let waits = self.due.front().is_none_or(|(first, _)| first.plus_millis(late_ms) > now);
        let is_due = |(at, _): &(UnixMillis, _)| !waits && *at <= now;
        while self.due.front().is_some_and(is_due) || self.due.len() > PENDING_MAX {
            let Some((_, place)) = self.due.pop_front() else { break };
            if let Some(session) = self.sessions.remove(&place) {
                due.push(Due { service: place.0, session });
            }
        }
        due
    }

    /// Takes all.
    pub fn take_all(&mut self) -> Vec<Due> {
        self.due.clear();
        let all = std::mem::take(&mut self.sessions).into_iter();
        all.map(|((service, _), session)| Due { service, session }).collect()
    }

    /// The sessions of an assignment.
    pub fn of<'a>(
        &'a self,
        service: &ServiceName,
        assignment: AssignmentId,
    ) -> impl Iterator<Item = &'a Remembered> + use<'a> {
        let (first, last) = ((service.clone(), 0), (service.clone(), u64::MAX));
        let all = self.sessions.range(first..=last).map(|(_, session)| session);
        all.filter(move |session| session.assignment == assignment)
    }
}
