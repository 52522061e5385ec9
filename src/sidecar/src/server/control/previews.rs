//! Preview tokens, minted for an operator.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use colorfast_core::error::FieldError;
use colorfast_core::plan::Plan;
use colorfast_core::release::{Phase, Refusal};
use colorfast_core::token::preview::{Claims, TTL_MAX_SECONDS};
use tracing::info;

use super::Control;
use crate::api::{PreviewToken, PreviewTokenRequest};
use crate::server::clock;
use crate::server::http::{Document, Service};
use crate::server::openapi::Operation;
use crate::server::problem::{ApiError, Kind};

/// How long a token holds, unless the request says otherwise.
const TTL_SECONDS: u32 = 3600;

/// What `mint` is for.
pub fn describe_mint(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("mintPreviewToken", "Make a preview token", "services")
        .describe(
            "With it a request reaches a slot whatever its phase: for smoke tests and evaluations on the real path. It \
             is a secret.",
        )
        .takes::<Service>()
        .body::<PreviewTokenRequest>("Which slot, and for how long.")
        .answers::<PreviewToken>("The token.")
        .may_fail(&[Kind::NO_SERVICE, Kind::NO_SLOT, Kind::WRONG_PHASE])
}

/// `POST /v1/services/{service}/preview-tokens`
pub async fn mint(
    State(control): State<Arc<Control>>,
    Service(service): Service,
    Document(asked): Document<PreviewTokenRequest>,
) -> Result<Json<PreviewToken>, ApiError> {
    let published = control.published(&service)?.borrow().clone();
    let PreviewTokenRequest { slot, ttl_seconds } = asked;
    let ttl = ttl_seconds.unwrap_or(TTL_SECONDS);
    if !(1..=TTL_MAX_SECONDS).contains(&ttl) {
        let rule = format!("is {ttl}, 1 to {TTL_MAX_SECONDS} (a day) is allowed");
        return Err(FieldError::new("ttl_seconds", rule).into());
    }
    let Some(state) = published.state.slots.get(&slot) else {
        let known = published.state.settings.slots.clone();
        return Err(Refusal::NoSlot { slot, known }.into());
    };
    let Some(bundle) = state.bundle.clone().filter(|_| state.phase != Phase::Idle) else {
        let wanted = "a slot that runs a bundle: `colorfast stage SLOT BUNDLE` puts one there";
        return Err(Refusal::WrongPhase { slot, phase: state.phase, verb: "preview-token", wanted }.into());
    };
    let plan = Plan::compile(&published.snapshot, Some(&published.keys));
    let plan = plan.map_err(|error| ApiError::new(Kind::OUTAGE, format!("the keys cannot be used: {error}")))?;
    let expires = clock::now().seconds().plus(ttl.into());
    let token = plan.mint_preview(&Claims { expires, slot: slot.clone() });
    let token = token.ok_or_else(|| ApiError::new(Kind::OUTAGE, "no keys are known to sign with"))?;
    // Who asked stands in every line of the log; the token itself is nobody's to read.
    info!(%service, %slot, %bundle, ttl_seconds = ttl, "preview token minted");
    let header = published.snapshot.settings.headers.preview.clone();
    Ok(Json(PreviewToken { token, header, slot, bundle, expires }))
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use serde_json::{Value, json};

    use crate::server::rig::{Answer, Rig};

    async fn mint(rig: &Rig, body: Value) -> Answer {
        rig.control(Method::POST, "/v1/services/chat/preview-tokens", body.to_string()).await
    }

    /// A token is for a slot that runs something and for a day at most; everything else is refused, with what would do.
    #[tokio::test]
    async fn is_minted_for_what_runs() {
        let rig = Rig::with_chat().await;
        let made = mint(&rig, json!({"slot": "green"})).await.json(200);
        assert_eq!((&made["bundle"], &made["header"]), (&json!("v2"), &json!("x-agent-preview")));
        rig.verb(json!({"verb": "recycle", "slot": "green"})).await;
        let cases = [
            (json!({"slot": "green"}), 409, "green is idle"),
            (json!({"slot": "mauve"}), 404, "only blue, green"),
            (json!({"slot": "blue", "ttl_seconds": 86_401}), 422, "1 to 86400 (a day)"),
            (json!({"slot": "blue", "ttl_seconds": 0}), 422, "ttl_seconds"),
            (json!({"slot": "blue", "ttl": 1}), 400, "unknown field `ttl`"),
            (json!({}), 400, "slot"),
        ];
        for (body, status, wanted) in cases {
            let (_, _, detail) = mint(&rig, body.clone()).await.problem(status);
            assert!(detail.contains(wanted), "{body}: {detail}");
        }
    }
}
