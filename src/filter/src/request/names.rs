//! The further names of a session: ids that its requests show by later sources than the one that decided. They find it where
//! a request lacks the first one.

use colorfast_core::decide::further;
use colorfast_core::memory::Remembered;

use super::case::Case;

/// Writes the ids that the request shows beside the one that decided down as names of `session`. One that this worker has
/// met of late as such costs no look.
pub fn remember(case: &Case<'_>, session: &Remembered) {
    let (plan, service, now) = (case.plan(), case.service, case.now.seconds());
    for id in case.observed.seen.further().filter_map(|id| plan.sid(id)) {
        let met = service.memory.recall(id);
        if met.is_some_and(|met| further(plan, session, Some(&met), now).is_none()) {
            continue;
        }
        let mut place = service.memory.look_up(&plan.settings, id);
        let newest = |known: Option<&Remembered>| further(plan, session, known, now);
        service.remember_weighed(&mut place, &plan.settings.pin, now, newest);
    }
}
