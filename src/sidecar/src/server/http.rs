//! What both APIs have in common: reading requests so that every refusal is a problem document, and the gate.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware;
use axum::routing::get;
use colorfast_core::ids::ServiceName;
use serde::de::DeserializeOwned;

use super::gate::{self, Gate};
use super::problem::{ApiError, Kind};
use crate::api::tokens::TokenName;

/// How long a client may take to send a body.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// Puts the gate, the body limit and answers to everything unknown around `routes`. `/healthz` needs no token.
pub fn guarded(routes: Router, gate: Gate, body_limit: usize) -> Router {
    routes
        .route(gate::HEALTH, get(|| async { "ok" }))
        .fallback(
            |uri: Uri| async move { ApiError::new(Kind::NOT_FOUND, format!("there is nothing at {}", uri.path())) },
        )
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            ApiError::new(Kind::METHOD, format!("{} cannot be asked with {method}", uri.path()))
        })
        .layer(DefaultBodyLimit::max(body_limit))
        .layer(middleware::from_fn_with_state(Arc::new(gate), gate::check))
}

/// The whole body.
#[derive(Debug)]
pub struct Whole(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let read = tokio::time::timeout(BODY_WAIT, Bytes::from_request(request, state)).await;
        match read {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(rejection)) => Err(body_error(&rejection)),
            Err(_) => Err(ApiError::new(Kind::TOO_SLOW, format!("the body did not come within {BODY_WAIT:?}"))),
        }
    }
}

fn body_error(rejection: &BytesRejection) -> ApiError {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(Kind::TOO_LARGE, "the body is longer than this API reads"),
        _ => ApiError::new(Kind::BODY, format!("the body broke off: {}", rejection.body_text())),
    }
}

/// A body that is a JSON document.
#[derive(Debug)]
pub struct Document<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Document<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Whole(bytes) = Whole::from_request(request, state).await?;
        parse(&bytes).map(Self)
    }
}

/// Reads a JSON document; the error names the field.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let document = serde_path_to_error::deserialize(&mut json).map_err(document_error)?;
    json.end().map_err(|error| ApiError::new(Kind::BODY, format!("there is more after the document: {error}")))?;
    Ok(document)
}

/// What serde said, with the path of the field where it is known.
pub fn document_error(error: serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    let field = error.path().to_string();
    let said = error.into_inner();
    if !said.is_data() {
        return ApiError::new(Kind::BODY, format!("the body is no JSON: {said}"));
    }
    at(Kind::BODY, &field, &said)
}

/// The error `said` at the path `field` of a document; a field that is missing has no path yet, only its parent has.
fn at(kind: Kind, field: &str, said: &impl ToString) -> ApiError {
    let said = said.to_string();
    let missing = said.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')).map(|(name, _)| name);
    let path: Vec<_> = [field].into_iter().filter(|field| *field != ".").chain(missing).collect();
    match path.as_slice() {
        [] => ApiError::new(kind, said),
        path => ApiError::new(kind, format!("{}: {said}", path.join("."))).at(path.join(".")),
    }
}

/// The service that the path names.
#[derive(Debug)]
pub struct Service(pub ServiceName);

impl<S: Send + Sync> FromRequestParts<S> for Service {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let name = parameter(parts, state, "service").await?;
        name.parse().map(Self).map_err(|error| ApiError::new(Kind::FIELD, format!("service: {error}")).at("service"))
    }
}

/// The version that the path names.
#[derive(Debug)]
pub struct Version(pub u64);

impl<S: Send + Sync> FromRequestParts<S> for Version {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = parameter(parts, state, "version").await?;
        let wrong = |_| ApiError::new(Kind::FIELD, "version: is not a whole number").at("version");
        text.parse().map(Self).map_err(wrong)
    }
}

/// The member that the path names, `<node id>/<process id>`.
#[derive(Debug)]
pub struct MemberName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for MemberName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        parameter(parts, state, "member").await.map(Self)
    }
}

/// The token that the path names.
#[derive(Debug)]
pub struct NamedToken(pub TokenName);

impl<S: Send + Sync> FromRequestParts<S> for NamedToken {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let name = parameter(parts, state, "token").await?;
        name.parse().map(Self).map_err(|error| ApiError::new(Kind::FIELD, format!("token: {error}")).at("token"))
    }
}

async fn parameter<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Result<String, ApiError> {
    let wrong = || ApiError::new(Kind::NOT_FOUND, "the path is no UTF-8");
    let parameters = RawPathParams::from_request_parts(parts, state).await.map_err(|_| wrong())?;
    let found = parameters.iter().find(|(key, _)| *key == name);
    found.map(|(_, value)| value.to_owned()).ok_or_else(wrong)
}

/// The query, as a document of its own.
#[derive(Debug)]
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
        let read = serde_path_to_error::deserialize(pairs);
        read.map(Self).map_err(|error| at(Kind::QUERY, &error.path().to_string(), error.inner()))
    }
}
