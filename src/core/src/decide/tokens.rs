//! What a token is worth at a plan and a time: its signature first, then whose it is, then its age, and what it names
//! last.

use super::{PinAction, Refusal};
use crate::ids::{AssignmentId, KeyId, Sid};
use crate::plan::{Plan, Secrets, SlotIndex};
use crate::seen::{Carrier, Token};
use crate::time::{SKEW_SECONDS, UnixSeconds};
use crate::token::pin::Kind;
use crate::token::{pin, preview, run};

/// What a pin is worth whose signature is right.
pub enum Pinned {
    /// It decides, and this is what its answer tells the client.
    Holds(SlotIndex, PinAction),
    /// It would decide by a snapshot that has not come.
    Newer(AssignmentId),
    /// It would decide, had it been refreshed of late.
    Idle,
    /// It decides nothing.
    Refused(Refusal),
}

/// Judges one pin by what it says, and the key that signed it; `named` stands for the session id of the request.
pub fn pin(
    plan: &Plan,
    secrets: &Secrets,
    (claims, key): (&pin::Claims, KeyId),
    named: Option<Sid>,
    carrier: Carrier,
    now: UnixSeconds,
) -> Pinned {
    if claims.kind == Kind::Bound && named.is_some_and(|sid| sid != claims.sid) {
        return Pinned::Refused(Refusal::OtherSession);
    }
    let settings = &plan.settings.pin;
    let horizon = now.plus(SKEW_SECONDS);
    if claims.began > horizon || claims.refreshed > horizon {
        return Pinned::Refused(Refusal::Future);
    }
    if now.since(claims.began) >= u64::from(settings.max_age_seconds) {
        return Pinned::Refused(Refusal::Expired);
    }
    // The pin of an envelope is never refreshed.
    let idle = if carrier == Carrier::Envelope { 0 } else { now.since(claims.refreshed) };
    if idle >= u64::from(settings.idle_timeout_seconds) {
        return Pinned::Idle;
    }
    let Some(slot) = plan.honours(claims.assignment) else {
        let newer = plan.is_newer(claims.assignment);
        return if newer { Pinned::Newer(claims.assignment) } else { Pinned::Refused(Refusal::Broken) };
    };
    let stale = idle >= settings.stale_seconds() || (carrier != Carrier::Envelope && !secrets.pins.signs_with(key));
    Pinned::Holds(
        slot,
        if stale { PinAction::Issue(pin::Claims { refreshed: now, ..*claims }) } else { PinAction::Keep },
    )
}

/// Judges a preview token: it reaches whatever slot runs something.
pub fn preview<'t>(
    plan: &Plan,
    secrets: &Secrets,
    token: &'t Token<'_, preview::Claims>,
    now: UnixSeconds,
) -> (Option<&'t preview::Claims>, Result<SlotIndex, Refusal>) {
    let claims = match token.verify(&secrets.previews) {
        Ok((claims, _)) => claims,
        Err(invalid) => return (None, Err((*invalid).into())),
    };
    let longest = u64::from(preview::TTL_MAX_SECONDS).saturating_add(SKEW_SECONDS);
    let judged = if claims.expires <= now {
        Err(Refusal::Expired)
    } else if claims.expires > now.plus(longest) {
        Err(Refusal::Future)
    } else {
        plan.running(&claims.slot).ok_or(Refusal::NoSlot)
    };
    (Some(claims), judged)
}

/// Judges a run token: it reaches the slot that runs the bundle on which the run began. A good token may find none.
pub fn run<'t>(
    plan: &Plan,
    signer: &run::Signer,
    token: &'t Token<'_, run::Claims>,
    now: UnixSeconds,
) -> (Option<&'t run::Claims>, Result<Option<SlotIndex>, Refusal>) {
    let claims = match token.verify(signer) {
        Ok((claims, _)) => claims,
        Err(invalid) => return (None, Err((*invalid).into())),
    };
    let judged = if claims.began > now.plus(SKEW_SECONDS) {
        Err(Refusal::Future)
    } else if now.since(claims.began) >= u64::from(plan.settings.pin.max_age_seconds) {
        Err(Refusal::Expired)
    } else {
        Ok(plan.continues(&claims.bundle))
    };
    (Some(claims), judged)
}
