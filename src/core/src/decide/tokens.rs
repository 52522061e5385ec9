//! What a token is worth at a plan and a time: its signature first, then whose it is, then its age, and what it names
//! last.

use super::{PinAction, Refusal};
use crate::ids::{AssignmentId, Sid};
use crate::plan::{Plan, Secrets, SlotIndex};
use crate::seen::Carrier;
use crate::time::{SKEW_SECONDS, UnixSeconds};
use crate::token::pin::Kind;
use crate::token::{pin, preview, run};

/// What a pin is worth.
pub enum Pinned {
    /// It decides: what it says, and what its answer tells the client.
    Holds(SlotIndex, pin::Claims, PinAction),
    /// It would decide by a snapshot that has not come.
    Newer(AssignmentId),
    /// It decides nothing.
    Refused(Refusal),
}

/// Judges one pin; `named` stands for the session id of the request.
pub fn pin(
    plan: &Plan,
    secrets: &Secrets,
    token: &[u8],
    named: Option<Sid>,
    carrier: Carrier,
    now: UnixSeconds,
) -> (Option<pin::Claims>, Pinned) {
    let (claims, key) = match secrets.pins.read(token) {
        Ok(read) => read,
        Err(invalid) => return (None, Pinned::Refused(invalid.into())),
    };
    let refused = |refusal| (Some(claims), Pinned::Refused(refusal));
    if claims.kind == Kind::Bound && named.is_some_and(|sid| sid != claims.sid) {
        return refused(Refusal::OtherSession);
    }
    let settings = &plan.settings.pin;
    let horizon = now.plus(SKEW_SECONDS);
    if claims.began > horizon || claims.refreshed > horizon {
        return refused(Refusal::Future);
    }
    if now.since(claims.began) >= u64::from(settings.max_age_seconds) {
        return refused(Refusal::Expired);
    }
    // The pin of an envelope is never refreshed.
    let idle = if carrier == Carrier::Envelope { 0 } else { now.since(claims.refreshed) };
    if idle >= u64::from(settings.idle_timeout_seconds) {
        return refused(Refusal::Idle);
    }
    let Some(slot) = plan.honours(claims.assignment) else {
        let newer = plan.is_newer(claims.assignment);
        return if newer { (Some(claims), Pinned::Newer(claims.assignment)) } else { refused(Refusal::Broken) };
    };
    let stale = idle >= u64::from(settings.idle_timeout_seconds).div_ceil(4)
        || (carrier != Carrier::Envelope && !secrets.pins.signs_with(key));
    let action = if stale { PinAction::Issue(pin::Claims { refreshed: now, ..claims }) } else { PinAction::Keep };
    (Some(claims), Pinned::Holds(slot, claims, action))
}

/// Judges a preview token: it reaches whatever slot runs something.
pub fn preview(
    plan: &Plan,
    secrets: &Secrets,
    token: &[u8],
    now: UnixSeconds,
) -> (Option<preview::Claims>, Result<SlotIndex, Refusal>) {
    let claims = match secrets.previews.read(token) {
        Ok((claims, _)) => claims,
        Err(invalid) => return (None, Err(invalid.into())),
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
pub fn run(
    plan: &Plan,
    signer: &run::Signer,
    token: &[u8],
    now: UnixSeconds,
) -> (Option<run::Claims>, Result<Option<SlotIndex>, Refusal>) {
    let claims = match signer.read(token) {
        Ok((claims, _)) => claims,
        Err(invalid) => return (None, Err(invalid.into())),
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
