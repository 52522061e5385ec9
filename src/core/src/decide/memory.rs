//! Rule `memory`: a session that was seen before, whose client echoes nothing.

use super::rule::{Context, Newer, Ruled, Verdict};
use super::{Chosen, Need, Observer, PinAction, Reason, Refusal, Why, gone, placing};
use crate::ids::{AssignmentId, Sid};
use crate::memory::{Certainty, Remembered, Visits};
use crate::plan::{Plan, SlotIndex};
use crate::time::{SKEW_SECONDS, UnixSeconds};
use crate::token::pin::{Claims, Kind};

/// Why the pin of a request that names a session does not decide yet, or not at all.
pub enum Beside {
    /// This is to be fetched first.
    Needs(Need),
    /// The session holds another assignment.
    Another,
}

/// What a remembered session comes to.
pub enum Judged {
    /// It goes on there.
    Holds(SlotIndex),
    /// It holds an assignment that the plan does not know yet.
    Newer(AssignmentId),
    /// It has ended.
    Gone(Refusal),
}

/// The rule. A pin whose last refresh is too long ago names its session by its sid, where the request names none: a stream
/// that lasts is a session in use, and is remembered so.
pub fn rule<O: Observer>(context: &mut Context<'_, O>) -> Verdict {
    if let Some(way) = context.gone {
        return Verdict::Ends(way);
    }
    if context.secrets.is_none() {
        return Verdict::Passes;
    }
    let name = context.name();
    let idle = context.idle.filter(|_| name.is_none());
    let Some(id) = name.or(idle.map(|claims| claims.sid)) else { return Verdict::Passes };
    let known = match recall(context, id, idle.map(|claims| of_pin(&claims))) {
        Ok(known) => known.filter(|known| idle.is_none_or(|claims| claims.sid == known.sid)),
        Err(need) => return Verdict::Needs(need),
    };
    let Some(session) = known else { return Verdict::Passes };
    let judged = judge(context.plan, &session, context.at);
    let told = match judged {
        Judged::Holds(slot) if context.down.contains(slot) => {
            context.moves = Some(session);
            Err(Refusal::SlotDown)
        }
        Judged::Holds(slot) => Ok(slot),
        Judged::Newer(assignment) => {
            if let Some(need) = context.lacks(Need::Snapshot(Why::Newer(assignment))) {
                return Verdict::Needs(need);
            }
            context.newer = Newer::Something;
            Err(Refusal::Newer)
        }
        Judged::Gone(refusal) => Err(refusal),
    };
    context.watch.memory(&session, told);
    match told {
        Ok(slot) => Verdict::Decides(ruled(context, id, slot, session)),
        Err(Refusal::Broken) if context.newer == Newer::Nothing => {
            gone::by_name(context).map_or(Verdict::Passes, Verdict::Ends)
        }
        Err(_) => Verdict::Passes,
    }
}

/// What becomes of a request with an envelope, where this proxy remembers where the session of its pin went on. What is
/// remembered of another session under the same id does not apply: the ids of agents need not be unique.
pub fn instead_of_envelope<O: Observer>(
    context: &mut Context<'_, O>,
    id: Sid,
    claims: &Claims,
) -> Result<Option<Ruled>, Need> {
    let known = recall_here(context, id)?.filter(|known| known.sid == claims.sid);
    Ok(known.and_then(|known| match judge(context.plan, &known, context.at) {
        Judged::Holds(slot) if !context.down.contains(slot) => Some(ruled(context, id, slot, known)),
        _ => None,
    }))
}

/// What becomes of a request whose session is remembered. A client that echoes pins is handed one that holds, and so is
/// one that may have none yet, and every client now and then; one that is newer than the plan is left with the client.
fn ruled<O: Observer>(context: &mut Context<'_, O>, id: Sid, slot: SlotIndex, known: Remembered) -> Ruled {
    let view = context.view;
    let stale = known.is_stale(&context.plan.settings.pin, context.at);
    let seen = if stale { context.at } else { known.seen };
    let session = Remembered { seen, visits: Visits::Returned, ..known };
    let echoes = view.pins.is_some_and(|pins| pins.iter().next().is_some());
    let issues = (stale || echoes || view.news.is_present()) && context.newer == Newer::Nothing;
    let kind = match (context.sid(), context.idle) {
        (None, Some(claims)) => claims.kind,
        (name, _) => placing::kind(&session, name),
    };
    let pin = if issues { context.issue(&session, kind) } else { PinAction::Keep };
    let chosen = Chosen { slot, reason: Reason::Memory };
    // That it has come back is written down once: then it outlives those that never did.
    let news = stale || known.visits == Visits::First;
    Ruled { chosen, pin, session: Some(session), remember: news.then_some(id) }
}

/// Under which id the session of a pin that holds is to be written down. A bound pin says all that memory would, so
/// nothing is looked up for it but when it is refreshed. A free one may come from a cookie jar that several
/// conversations share: where the session that the request names holds another assignment, that one counts.
pub fn beside_pin<O: Observer>(
    context: &mut Context<'_, O>,
    claims: &Claims,
    pin: PinAction,
) -> Result<Option<Sid>, Beside> {
    let id = context.sid().filter(|_| claims.kind == Kind::Free || pin != PinAction::Keep);
    let Some(id) = id else { return Ok(None) };
    // Of its own session a pin is a fact. Of an id that it is not bound to it is no more than a proposal.
    let certainty = if claims.kind == Kind::Free { Certainty::Guess } else { Certainty::Fact };
    let proposal = Remembered { certainty, ..of_pin(claims) };
    let known = recall(context, id, Some(proposal)).map_err(Beside::Needs)?;
    match known.filter(|known| holds(context, known)) {
        Some(known) if claims.kind == Kind::Free && known.assignment != claims.assignment => Err(Beside::Another),
        known => Ok(unless_known(context, known, claims).then_some(id)),
    }
}

/// The same of an envelope: its pin came with the id itself, so it is of no other session, and needs no word of the fleet.
/// Where another session is remembered under the same id that one stays there.
pub fn beside_envelope<O: Observer>(context: &mut Context<'_, O>, claims: &Claims) -> Result<Option<Sid>, Need> {
    let Some(id) = context.sid() else { return Ok(None) };
    let known = recall_here(context, id)?.filter(|known| holds(context, known));
    let another = known.is_some_and(|known| known.sid != claims.sid);
    Ok((!another && unless_known(context, known, claims)).then_some(id))
}

/// What a pin says of its session: a fact.
pub fn of_pin(claims: &Claims) -> Remembered {
    let Claims { assignment, sid, began, refreshed, .. } = *claims;
    Remembered { assignment, sid, began, seen: refreshed, certainty: Certainty::Fact, visits: Visits::Returned }
}

/// Whether what a pin says is news to memory: that its session has come back is, once.
fn unless_known<O>(context: &Context<'_, O>, known: Option<Remembered>, claims: &Claims) -> bool {
    known.is_none_or(|known| {
        !known.agrees_with(&of_pin(claims))
            || known.visits == Visits::First
            || known.is_stale(&context.plan.settings.pin, context.at)
    })
}

fn holds<O>(context: &Context<'_, O>, known: &Remembered) -> bool {
    matches!(judge(context.plan, known, context.at), Judged::Holds(_))
}

/// What is remembered under `id`, once it was looked for: by this proxy first, and where that is nothing that holds, by
/// the fleet, while several slots hold sessions.
fn recall<O: Observer>(
    context: &mut Context<'_, O>,
    id: Sid,
    proposal: Option<Remembered>,
) -> Result<Option<Remembered>, Need> {
    let known = recall_here(context, id)?;
    let gone = |known: &Remembered| matches!(judge(context.plan, known, context.at), Judged::Gone(_));
    // While one slot alone holds sessions, what is gone here went on nowhere else.
    if known.is_some_and(|known| !gone(&known) || !context.plan.asks_the_fleet()) {
        return Ok(known);
    }
    context.fleet(id, proposal).map_or(Ok(known), Err)
}

/// What this proxy remembers under `id`, once it was looked for.
fn recall_here<O: Observer>(context: &Context<'_, O>, id: Sid) -> Result<Option<Remembered>, Need> {
    match (context.view.memory, context.lacks(Need::Memory(id))) {
        (None, Some(need)) => Err(need),
        (known, _) => Ok(known),
    }
}

/// What `session` comes to at a time.
pub fn judge(plan: &Plan, session: &Remembered, now: UnixSeconds) -> Judged {
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
