//! Sessions whose bundle is gone: one policy for all that names them, `on_bundle_gone`.

use super::rule::{Context, Newer};
use super::{Refusal, Way};
use crate::seen::{Beginning, Carrier};
use crate::settings::OnBundleGone;

/// A pin whose signature is right does not decide. What is newer than the plan may be honoured later: nothing has ended.
/// MCP has a session end by its age, too: its id is all that the client holds.
pub fn by_pin<O>(context: &mut Context<'_, O>, carrier: Carrier, refusal: Refusal) {
    if context.newer == Newer::Something || matches!(refusal, Refusal::SlotDown | Refusal::OtherSession) {
        return;
    }
    let way = match (policy(context), carrier) {
        (OnBundleGone::ByProtocol | OnBundleGone::NotFound, Carrier::Envelope) => Some(Way::Ended),
        _ if refusal == Refusal::Broken => by_name(context),
        _ => None,
    };
    context.gone = context.gone.or(way);
}

/// What becomes of a session whose bundle is gone, where no envelope names it.
pub fn by_name<O>(context: &Context<'_, O>) -> Option<Way> {
    match policy(context) {
        OnBundleGone::ByProtocol | OnBundleGone::New => None,
        OnBundleGone::NotFound => Some(Way::Ended),
        OnBundleGone::Refuse => Some(Way::Gone),
    }
}

/// The policy for the request. A preflight asks the listener, not an agent: it is never refused.
fn policy<O>(context: &Context<'_, O>) -> OnBundleGone {
    match context.view.beginning {
        Beginning::Preflight => OnBundleGone::New,
        Beginning::Session | Beginning::Head => context.plan.settings.on_bundle_gone,
    }
}
