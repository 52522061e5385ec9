//! Rule `hash`: a request that names a session is placed by weighted rendezvous hash, so that every proxy agrees.

use super::placing::{begins, key};
use super::rule::{Context, Verdict};
use super::{Observer, PlacedBy, Reason};
use crate::memory::Remembered;

/// The rule.
pub fn rule<O: Observer>(context: &mut Context<'_, O>) -> Verdict {
    if let Some(need) = context.lacks_body() {
        return Verdict::Needs(need);
    }
    let (by, key) = key(context);
    if !is_name(by) {
        return Verdict::Passes;
    }
    let slot = context.plan.place(key, context.down);
    context.watch.placed(by, key, slot);
    slot.map_or(Verdict::Passes, |slot| Verdict::Decides(begins(context, slot, Reason::Hash)))
}

/// The session that would begin by this rule, for the fleet to know.
pub fn proposal<O: Observer>(context: &mut Context<'_, O>) -> Option<Remembered> {
    let (by, key) = key(context);
    let slot = context.plan.place(key, context.down).filter(|_| is_name(by))?;
    begins(context, slot, Reason::Hash).session
}

/// Whether a request that is placed so names a session.
pub fn is_name(by: PlacedBy) -> bool {
    matches!(by, PlacedBy::Session | PlacedBy::Run)
}
