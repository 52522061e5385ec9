//! Where a request goes for which neither a token nor memory decides, and the session that begins with it.

use super::rule::{Context, Newer, Ruled};
use super::{Chosen, Decision, Observer, PinAction, PlacedBy, Reason, Refusals, RunAction, Way};
use crate::ids::Sid;
use crate::memory::{Certainty, Remembered, Visits};
use crate::plan::SlotIndex;
use crate::rendezvous::{self, Key};
use crate::seen::Beginning;
use crate::settings::Sessionless;
use crate::token::pin::Kind;

/// What a request is placed by.
pub fn key<O: Observer>(context: &mut Context<'_, O>) -> (PlacedBy, Key) {
    let view = context.view;
    let run = context.runs().id.map(|run| run.0.to_be_bytes());
    match (view.session_id, run, view.client) {
        (Some(id), ..) => (PlacedBy::Session, Key::of(id)),
        (None, Some(run), _) => (PlacedBy::Run, Key::of(&run)),
        (None, None, Some(client)) if context.plan.settings.sessionless == Sessionless::Client => {
            (PlacedBy::Client, Key::of(client))
        }
        _ => (PlacedBy::Draw, Key(context.draw)),
    }
}

/// A session begins in `slot`.
pub fn begins<O: Observer>(context: &mut Context<'_, O>, slot: SlotIndex, reason: Reason) -> Ruled {
    let name = context.name();
    let session = begin(context, slot, name).filter(|_| context.newer == Newer::Nothing);
    Ruled {
        chosen: Chosen { slot, reason },
        pin: session.map_or(PinAction::Keep, |session| context.issue(&session, kind(&session, name))),
        remember: name.filter(|_| session.is_some()),
        session,
    }
}

/// What stands of a request that an earlier pass has decided, over an internal redirect.
pub fn kept<O: Observer>(context: &mut Context<'_, O>, kept: Chosen) -> Decision {
    context.watch.kept(kept);
    let name = context.sid();
    let begun = kept.reason.begins_a_session().then(|| begin(context, kept.slot, name)).flatten();
    Decision {
        way: Way::Goes,
        chosen: Some(kept),
        pin: begun.map_or(PinAction::Keep, |session| context.issue(&session, kind(&session, name))),
        run: RunAction::Keep,
        session: begun,
        remember: None,
        refusals: Refusals::default(),
    }
}

/// The session that begins now in `slot` under `name`; none where keys or assignments are missing, or the request begins
/// none. One whose own slot is down is no new one: it goes on here, and that is the newest that is known of it.
fn begin<O>(context: &Context<'_, O>, slot: SlotIndex, name: Option<Sid>) -> Option<Remembered> {
    context.secrets?;
    if context.view.beginning != Beginning::Session {
        return None;
    }
    let (assignment, now) = (context.plan.slot(slot)?.assignment?, context.at);
    if let Some(moved) = context.moves {
        return Some(Remembered { assignment, seen: now, certainty: Certainty::Shown, ..moved });
    }
    // Apart from the draw that chose the slot, so that a sid says nothing of the split.
    let sid = name.unwrap_or_else(|| Sid(rendezvous::mix(context.draw ^ 0x9e37_79b9_7f4a_7c15)));
    let (certainty, visits) = (Certainty::Guess, Visits::First);
    Some(Remembered { assignment, sid, began: now, seen: now, certainty, visits })
}

/// The kind of pin of a session that a request calls `name`.
pub fn kind(session: &Remembered, name: Option<Sid>) -> Kind {
    if name == Some(session.sid) { Kind::Bound } else { Kind::Free }
}
