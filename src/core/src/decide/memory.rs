//! Rule `memory`: a session that was seen before, whose client echoes nothing.

use super::{Chosen, Need, Observer, PinAction, Reason, Refusal, Ruled, View, Why, issue};
use crate::ids::{AssignmentId, Sid};
use crate::memory::{Certainty, Remembered, Visits};
use crate::plan::{Plan, SlotIndex, SlotSet};
use crate::seen::Carrier;
use crate::time::{SKEW_SECONDS, UnixSeconds};
use crate::token::pin::{Claims, Kind};

/// What memory says of a session.
pub enum Found {
    /// It goes on there.
    Holds(SlotIndex, Remembered),
    /// This is to be fetched first.
    Needs(Need),
    /// It holds an assignment that no snapshot has brought in time.
    Newer,
    /// There is none, or it has ended.
    Nothing,
}

/// Why the pin of a request that names a session does not decide yet, or not at all.
pub enum Beside {
    /// This is to be fetched first.
    Needs(Need),
    /// The session holds another assignment.
    Another,
}

/// What a remembered session comes to.
enum Judged {
    Holds(SlotIndex),
    Newer(AssignmentId),
    Gone(Refusal),
}

/// Rule `memory`; `id` stands for the session id of the request.
pub fn rule(
    plan: &Plan,
    view: &View<'_>,
    id: Sid,
    down: SlotSet,
    now: UnixSeconds,
    watch: &mut impl Observer,
) -> Found {
    let known = match recall(plan, view, id, now) {
        Ok(known) => known,
        Err(need) => return Found::Needs(need),
    };
    let Some(session) = known else { return Found::Nothing };
    let (judged, found) = match judge(plan, &session, now) {
        Judged::Holds(slot) if down.contains(slot) => (Err(Refusal::SlotDown), Found::Nothing),
        Judged::Holds(slot) => (Ok(slot), Found::Holds(slot, session)),
        Judged::Newer(assignment) => {
            let need = Need::Snapshot(Why::Newer(assignment));
            if !view.without.contains(need) {
                return Found::Needs(need);
            }
            (Err(Refusal::Newer), Found::Newer)
        }
        Judged::Gone(refusal) => (Err(refusal), Found::Nothing),
    };
    watch.memory(&session, judged);
    found
}

/// What becomes of a request whose session id came in an envelope, where this proxy remembers the session.
pub fn instead_of_envelope(
    plan: &Plan,
    view: &View<'_>,
    id: Sid,
    down: SlotSet,
    now: UnixSeconds,
) -> Result<Option<Ruled>, Need> {
    let known = recall_here(view, id)?;
    Ok(known.and_then(|known| match judge(plan, &known, now) {
        Judged::Holds(slot) if !down.contains(slot) => Some(ruled(plan, view, id, slot, known, now, false)),
        _ => None,
    }))
}

/// What is to be written down under an id that the agent hands out in the session `of`: an alias. None where that stands
/// there already, or a session that goes on elsewhere has the same id.
pub fn alias(plan: &Plan, of: &Remembered, known: Option<&Remembered>, now: UnixSeconds) -> Option<Remembered> {
    let new = Remembered { seen: now, certainty: Certainty::Fact, ..*of };
    match known {
        Some(known) if known.agrees_with(of) => known.is_stale(&plan.settings.pin, now).then_some(new),
        Some(known) if matches!(judge(plan, known, now), Judged::Holds(_)) => None,
        _ => Some(new),
    }
}

/// What becomes of a request whose session is remembered. A client that echoes pins is handed one that holds, and so is
/// one that may have none yet, and every client now and then; one that is newer than the plan is left with the client.
pub fn ruled(
    plan: &Plan,
    view: &View<'_>,
    id: Sid,
    slot: SlotIndex,
    known: Remembered,
    now: UnixSeconds,
    leave_pins_alone: bool,
) -> Ruled {
    let stale = known.is_stale(&plan.settings.pin, now);
    let session = if stale { Remembered { seen: now, ..known } } else { known };
    let echoes = view.pins.iter().any(|(carrier, _)| carrier != Carrier::Envelope);
    let kind = if session.sid == id { Kind::Bound } else { Kind::Free };
    let issues = (stale || echoes || view.news.is_present()) && !leave_pins_alone;
    let pin = if issues { issue(plan, &session, kind, now) } else { PinAction::Keep };
    let chosen = Chosen { slot, reason: Reason::Memory };
    Ruled { chosen, pin, session: Some(session), remember: stale.then_some(id) }
}

/// Under which id the session of a pin that holds is to be written down. A bound pin says all that memory would, so
/// nothing is looked up for it but when it is refreshed. A free one may come from a cookie jar that several
/// conversations share: where the session that the request names holds another assignment, that one counts.
pub fn beside_pin(
    plan: &Plan,
    view: &View<'_>,
    id: Option<Sid>,
    claims: &Claims,
    pin: PinAction,
    now: UnixSeconds,
) -> Result<Option<Sid>, Beside> {
    let Some(id) = id.filter(|_| claims.kind == Kind::Free || pin != PinAction::Keep) else { return Ok(None) };
    let known = recall(plan, view, id, now).map_err(Beside::Needs)?;
    let held = known.filter(|known| matches!(judge(plan, known, now), Judged::Holds(_)));
    match held {
        Some(known) if claims.kind == Kind::Free && known.assignment != claims.assignment => Err(Beside::Another),
        Some(known) if known.agrees_with(&of_pin(claims)) && !known.is_stale(&plan.settings.pin, now) => Ok(None),
        _ => Ok(Some(id)),
    }
}

/// What a pin says of its session.
pub fn of_pin(claims: &Claims) -> Remembered {
    let Claims { assignment, sid, began, refreshed, .. } = *claims;
    let (certainty, visits) = (Certainty::Fact, Visits::Returned);
    Remembered { assignment, sid, began, seen: refreshed, certainty, visits }
}

/// What is remembered under `id`, once it was looked for: by this proxy first, and where that is nothing that holds, by
/// the fleet, while several slots hold sessions.
fn recall(plan: &Plan, view: &View<'_>, id: Sid, now: UnixSeconds) -> Result<Option<Remembered>, Need> {
    let known = recall_here(view, id)?;
    let fleet = Need::Fleet(id);
    let holds = known.is_some_and(|known| !matches!(judge(plan, &known, now), Judged::Gone(_)));
    if holds || !plan.asks_the_fleet() || view.without.contains(fleet) { Ok(known) } else { Err(fleet) }
}

/// What this proxy remembers under `id`, once it was looked for.
fn recall_here(view: &View<'_>, id: Sid) -> Result<Option<Remembered>, Need> {
    let need = Need::Memory(id);
    if view.memory.is_none() && !view.without.contains(need) { Err(need) } else { Ok(view.memory) }
}

fn judge(plan: &Plan, session: &Remembered, now: UnixSeconds) -> Judged {
    let ages = &plan.settings.pin;
    if session.began > now.plus(SKEW_SECONDS) {
        return Judged::Gone(Refusal::Future);
    }
    if now.since(session.began) >= ages.max_age_seconds.into() {
        return Judged::Gone(Refusal::Expired);
    }
    if session.is_over(ages, now) {
        return Judged::Gone(Refusal::Idle);
    }
    match plan.honours(session.assignment) {
        Some(slot) => Judged::Holds(slot),
        None if plan.is_newer(session.assignment) => Judged::Newer(session.assignment),
        None => Judged::Gone(Refusal::Broken),
    }
}
