//! Tokens: made, listed and revoked, by admins.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::json;
use tracing::info;

use super::Control;
use crate::api::tokens::{CreateToken, CreatedToken, TokenStatus};
use crate::server::access::{Caller, TokenError};
use crate::server::clock;
use crate::server::http::{Document, NamedToken};
use crate::server::openapi::Operation;
use crate::server::problem::{ApiError, Kind};

/// What `list` is for.
pub fn describe_list(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("tokens", "Every token", "access")
        .describe("All but the secrets, which are not kept.")
        .answers::<Vec<TokenStatus>>("The tokens.")
}

/// `GET /v1/tokens`
pub async fn list(State(control): State<Arc<Control>>) -> Json<Vec<TokenStatus>> {
    Json(control.access.list())
}

/// What `create` is for.
pub fn describe_create(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("createToken", "Make a token", "access")
        .describe(
            "For an operator by `role`, or for proxies by `node`, never both. The token is shown this once. With \
             `certificate` none is made: the client certificate of that name stands for it.",
        )
        .body::<CreateToken>("What the token is for.")
        .makes::<CreatedToken>("The token, and what is kept of it.")
        .may_fail(&[Kind::TOKEN_EXISTS, Kind::TOKENS_FULL])
}

/// `POST /v1/tokens`
pub async fn create(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Document(asked): Document<CreateToken>,
) -> Result<(StatusCode, Json<CreatedToken>), ApiError> {
    let created = control.access.create(asked, &caller.principal, clock::now()).await?;
    let TokenStatus { id, name, role, node, .. } = &created.status;
    let (role, node) = (role.map(|role| role.as_str()), node.as_ref().map(|node| node.as_str()));
    info!(token = %name, %id, role, node, "token made");
    Ok((StatusCode::CREATED, Json(created)))
}

/// What `revoke` is for.
pub fn describe_revoke(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("revokeToken", "Revoke a token", "access")
        .describe("It opens nothing from the next request on.")
        .takes::<NamedToken>()
        .response(204, json!({ "description": "It is revoked." }))
        .may_fail(&[Kind::NOT_FOUND])
}

/// `DELETE /v1/tokens/{name}`
pub async fn revoke(State(control): State<Arc<Control>>, NamedToken(name): NamedToken) -> Result<StatusCode, ApiError> {
    let revoked = control.access.revoke(&name).await?;
    info!(token = %name, id = %revoked.id, "token revoked");
    Ok(StatusCode::NO_CONTENT)
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Field(field) => field.into(),
            TokenError::Outage(outage) => outage.into(),
            TokenError::Exists(_) => Self::new(Kind::TOKEN_EXISTS, error).at("name"),
            TokenError::Unknown(_) => Self::new(Kind::NOT_FOUND, error),
            TokenError::Full => Self::new(Kind::TOKENS_FULL, error),
        }
    }
}

#[cfg(test)]
mod tests;
