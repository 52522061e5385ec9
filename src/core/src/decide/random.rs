//! Rule `random`: there is nothing to hash, or the settings have the client hashed; pinned from then on.

use super::placing::{begins, key};
use super::rule::{Context, Verdict};
use super::{Observer, Reason, hash};

/// The rule.
pub fn rule<O: Observer>(context: &mut Context<'_, O>) -> Verdict {
    let (by, key) = key(context);
    if hash::is_name(by) {
        return Verdict::Passes;
    }
    let slot = context.plan.place(key, context.down);
    context.watch.placed(by, key, slot);
    slot.map_or(Verdict::Passes, |slot| Verdict::Decides(begins(context, slot, Reason::Random)))
}
