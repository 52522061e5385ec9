//! Rule `pin`: the first pin that holds, those of the header before those of the cookie, and that of the envelope last.

use super::memory::{self, Beside};
use super::rule::{Context, Newer, Ruled, Verdict};
use super::tokens::{self, Pinned};
use super::{Chosen, Need, Observer, PinAction, Reason, Refusal, Why, gone};
use crate::ids::KeyId;
use crate::memory::Remembered;
use crate::plan::{Secrets, SlotIndex};
use crate::seen::{Carrier, Envelope, Verified};
use crate::token::TokenKind;
use crate::token::pin::Claims;

/// The rule.
pub fn rule<O: Observer>(context: &mut Context<'_, O>) -> Verdict {
    let Some(secrets) = context.secrets else { return Verdict::Passes };
    if let Some(need) = context.lacks_body() {
        return Verdict::Needs(need);
    }
    let Some(pins) = context.view.pins else { return Verdict::Passes };
    for (carrier, token) in pins.iter() {
        match one(context, secrets, carrier, token.verify(&secrets.pins)) {
            Verdict::Passes => {}
            verdict => return verdict,
        }
    }
    match envelope(context, secrets, pins.envelope()) {
        Verdict::Passes => {}
        verdict => return verdict,
    }
    context.gone.map_or(Verdict::Passes, Verdict::Ends)
}

fn envelope<O: Observer>(context: &mut Context<'_, O>, secrets: &Secrets, envelope: Envelope) -> Verdict {
    let verified = match envelope {
        Envelope::None => return Verdict::Passes,
        Envelope::Unverified(invalid) => Err(invalid),
        Envelope::Holds(claims, key) => {
            // What an envelope says is as old as its session: where memory knows how it went on, that goes first.
            if let Some(id) = context.sid() {
                match memory::instead_of_envelope(context, id, &claims) {
                    Ok(None) => {}
                    Ok(Some(ruled)) => return Verdict::Decides(ruled),
                    Err(need) => return Verdict::Needs(need),
                }
            }
            Ok((claims, key))
        }
    };
    one(context, secrets, Carrier::Envelope, &verified)
}

/// One pin.
fn one<O: Observer>(
    context: &mut Context<'_, O>,
    secrets: &Secrets,
    carrier: Carrier,
    verified: &Verified<Claims>,
) -> Verdict {
    let refusal = match verified {
        Err(invalid) => (*invalid).into(),
        Ok((claims, key)) => match judged(context, secrets, carrier, claims, *key) {
            Ok(verdict) => return verdict,
            Err(refusal) => refusal,
        },
    };
    if verified.is_ok() {
        gone::by_pin(context, carrier, refusal);
    }
    context.watch.pin(carrier, verified.as_ref().ok().map(|(claims, _)| claims), Err(refusal));
    context.refusals.count(TokenKind::Pin, refusal);
    Verdict::Passes
}

/// A pin whose signature is right: what it comes to, or why it does not decide.
fn judged<O: Observer>(
    context: &mut Context<'_, O>,
    secrets: &Secrets,
    carrier: Carrier,
    claims: &Claims,
    key: KeyId,
) -> Result<Verdict, Refusal> {
    match tokens::pin(context.plan, secrets, (claims, key), context.sid(), carrier, context.at) {
        Pinned::Holds(slot, _) if context.down.contains(slot) => {
            context.moves = Some(memory::of_pin(claims));
            Err(Refusal::SlotDown)
        }
        Pinned::Holds(slot, pin) => holds(context, carrier, claims, slot, pin),
        Pinned::Newer(assignment) => match context.lacks(Need::Snapshot(Why::Newer(assignment))) {
            Some(need) => Ok(Verdict::Needs(need)),
            None => {
                context.newer = Newer::Something;
                Err(Refusal::Newer)
            }
        },
        Pinned::Idle => {
            context.idle = context.idle.or(Some(*claims));
            Err(Refusal::Idle)
        }
        Pinned::Refused(refusal) => Err(refusal),
    }
}

/// A pin that holds decides, unless the session that the request names holds something else.
fn holds<O: Observer>(
    context: &mut Context<'_, O>,
    carrier: Carrier,
    claims: &Claims,
    slot: SlotIndex,
    pin: PinAction,
) -> Result<Verdict, Refusal> {
    let remember = match carrier {
        Carrier::Envelope => memory::beside_envelope(context, claims).map_err(Beside::Needs),
        Carrier::Header | Carrier::Cookie => memory::beside_pin(context, claims, pin),
    };
    match remember {
        Ok(remember) => {
            context.watch.pin(carrier, Some(claims), Ok(slot));
            let session = Some(Remembered { seen: context.at, ..memory::of_pin(claims) });
            Ok(Verdict::Decides(Ruled { chosen: Chosen { slot, reason: Reason::Pin }, pin, session, remember }))
        }
        Err(Beside::Needs(need)) => Ok(Verdict::Needs(need)),
        Err(Beside::Another) => Err(Refusal::OtherSession),
    }
}
