//! What a decision does to its request, and what is then expected of the answer.

use colorfast_core::decide::{Decision, PinAction, Reason, Way};
use colorfast_core::memory::Remembered;
use colorfast_core::seen::Presence;

use super::case::Case;
use super::record::Recorded;
use super::{local_reply, redirect, stamps};
use crate::response::learning::{Learner, SessionEnd};
use crate::response::outcome::{Expected, Issue};

/// Stamps and strips the request of the effective context, and says what is expected of its answer; none where it was
/// answered here.
pub fn apply(case: &Case<'_>, decision: &Decision, recorded: Recorded) -> Option<Expected> {
    let (plan, seen, headers) = (case.plan(), &case.observed.seen, case.observed.headers);
    if decision.way != Way::Goes {
        local_reply::answer(plan, seen, decision.way);
        return None;
    }
    redirect::note_pass(headers);
    stamps::carry_run(headers, seen, plan, &decision.run);
    match decision.chosen.and_then(|chosen| Some((plan.slot(chosen.slot)?, chosen.reason))) {
        Some((slot, reason)) => {
            #[cfg(feature = "crash")]
            crate::crash::where_marked(slot);
            stamps::stamp(headers, seen, plan, slot, reason);
        }
        None => stamps::clear(headers, seen, plan),
    }
    let issue = match decision.pin {
        PinAction::Issue(claims) => Some(Issue { claims, scheme: seen.scheme }),
        PinAction::Keep => None,
    };
    let named = decision.session.filter(|_| decision.chosen.is_some_and(|chosen| chosen.reason != Reason::Preview));
    let hears = issue.is_some() || seen.enveloped.is_some() || plan.hears_answers();
    let mut expected = Expected::nothing(case.service, case.current);
    expected.slot = decision.chosen.map(|chosen| chosen.slot);
    expected.issue = issue;
    expected.pin_cookie = Some(seen.scheme).filter(|_| seen.pin_cookie.is_present());
    expected.learner = named.filter(|_| hears).map(|session| learner(case, session));
    expected.flight = recorded.flight;
    expected.missed_body = recorded.missed_body;
    Some(expected)
}

/// What learns the ids that the answer to a request of `session` hands out.
fn learner(case: &Case<'_>, session: Remembered) -> Learner {
    let seen = &case.observed.seen;
    // A client of MCP ends its session so (streamable HTTP, "Session Management").
    let asked = if seen.enveloped.is_some() { seen.deletes } else { Presence::Absent };
    let named = seen.session_id.as_deref().and_then(|id| case.plan().sid(id)).unwrap_or(session.sid);
    Learner::new(case.service, case.current, session, SessionEnd { named, asked })
}
