//! Rule `preview`: an operator's token names the slot. It mints no pin and writes nothing.

use super::rule::{Context, Ruled, Verdict};
use super::{Observer, Reason, tokens};
use crate::token::TokenKind;

/// The rule.
pub fn rule<O: Observer>(context: &mut Context<'_, O>) -> Verdict {
    let (Some(secrets), Some(token)) = (context.secrets, context.view.preview) else { return Verdict::Passes };
    let (claims, judged) = tokens::preview(context.plan, secrets, token, context.at);
    context.watch.preview(claims, judged);
    match judged {
        Ok(slot) => Verdict::Decides(Ruled::by_token(slot, Reason::Preview)),
        Err(refusal) => {
            context.refusals.count(TokenKind::Preview, refusal);
            Verdict::Passes
        }
    }
}
