//! What both APIs have in common: reading requests so that every refusal is a problem document, and the gate.

use std::borrow::Cow;
use std::fmt::Display;
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
use colorfast_core::ids::{IdempotencyKey, ServiceName};
use colorfast_core::settings::former;
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::gate::{self, Gate};
use super::openapi::Parameter;
use super::problem::{ApiError, Kind};
use crate::api::IDEMPOTENCY_KEY;
use crate::api::runs::RunName;
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
    let document = match serde_path_to_error::deserialize(&mut json) {
        Ok(document) => document,
        Err(error) => return with_whole_numbers(bytes).ok_or_else(|| document_error(error)),
    };
    json.end().map_err(|error| ApiError::new(Kind::BODY, format!("there is more after the document: {error}")))?;
    Ok(document)
}

/// Reads a document that has whole numbers written with a fraction. They are integers by JSON Schema, though not by serde.
fn with_whole_numbers<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let mut document = serde_json::from_slice(bytes).ok()?;
    whole(&mut document);
    serde_json::from_value(document).ok()
}

/// Writes `7.0` as `7`, wherever it stands.
pub fn whole(value: &mut Value) {
    /// The integers that a float can hold without a doubt.
    const MOST: f64 = 9_007_199_254_740_991.0;
    match value {
        Value::Array(values) => values.iter_mut().for_each(whole),
        Value::Object(fields) => fields.values_mut().for_each(whole),
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() <= MOST);
            if let Some(whole) = whole {
                *value = (whole as i64).into();
            }
        }
        _ => {}
    }
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
    let said = former::hint(&said).map_or(said, str::to_owned);
    let missing = said.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')).map(|(name, _)| name);
    let path: Vec<_> = [field].into_iter().filter(|field| *field != ".").chain(missing).collect();
    match path.as_slice() {
        [] => ApiError::new(kind, said),
        path => ApiError::new(kind, format!("{}: {said}", path.join("."))).at(path.join(".")),
    }
}

/// A part of the path that is a name: its type, the name's type, what it is called in the path, what it is, an example.
macro_rules! path_name {
    ($(#[$doc:meta])* $type:ident, $name:ty, $parameter:literal, $is:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $type(pub $name);

        impl<S: Send + Sync> FromRequestParts<S> for $type {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
                let name = parameter(parts, state, $parameter).await?;
                let wrong = |error| ApiError::new(Kind::FIELD, format!("{}: {error}", $parameter)).at($parameter);
                name.parse().map(Self).map_err(wrong)
            }
        }

        impl Parameter for $type {
            const PROBLEMS: &'static [Kind] = &[Kind::FIELD];

            fn describe(schemas: &mut SchemaGenerator) -> Value {
                let schema = schemas.subschema_for::<$name>();
                json!({ "name": $parameter, "in": "path", "required": true, "description": $is, "schema": schema,
                    "example": $example })
            }
        }
    };
}

path_name! {
    /// The service that the path names.
    Service, ServiceName, "service", "The service.", "chat"
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

impl Parameter for Version {
    const PROBLEMS: &'static [Kind] = &[Kind::FIELD];

    fn describe(schemas: &mut SchemaGenerator) -> Value {
        let schema = u64::json_schema(schemas);
        json!({ "name": "version", "in": "path", "required": true, "description": "A version of the service, or of the application.",
            "schema": schema, "example": 2 })
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

path_name! {
    /// The token that the path names.
    NamedToken, TokenName, "name", "The name of the token.", "ci"
}

path_name! {
    /// The run that the path names.
    NamedRun, RunName, "run", "The name that the run has at its agent.", "nightly-7"
}

impl Parameter for MemberName {
    const PROBLEMS: &'static [Kind] = &[];

    fn describe(_: &mut SchemaGenerator) -> Value {
        json!({ "name": "member", "in": "path", "required": true,
            "description": "The member, `<node id>/<process id>`, its slash encoded as `%2F`.",
            "schema": { "type": "string", "minLength": 1 }, "example": "edge/00000000000000aa" })
    }
}

/// The idempotency key of a request, where it has one.
#[derive(Debug)]
pub struct Repeatable(pub Option<IdempotencyKey>);

impl<S: Send + Sync> FromRequestParts<S> for Repeatable {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let wrong = |cause: &dyn Display| ApiError::new(Kind::KEY, format!("{IDEMPOTENCY_KEY}: {cause}"));
        let mut given = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = given.next() else { return Ok(Self(None)) };
        if given.next().is_some() {
            return Err(wrong(&"stands twice"));
        }
        let text = value.to_str().map_err(|_| wrong(&"is not printable ASCII"))?;
        let text = unquoted(text).ok_or_else(|| wrong(&"begins as a quoted string, but does not end as one"))?;
        text.parse().map(|key| Self(Some(key))).map_err(|error| wrong(&error))
    }
}

impl Parameter for Repeatable {
    const PROBLEMS: &'static [Kind] = &[Kind::KEY, Kind::KEY_REUSED];

    fn describe(_: &mut SchemaGenerator) -> Value {
        let description = "A random text that no other verb has. The verb is carried out once, however often it is \
            sent with it in 24 hours: the answer of the first time comes again, with `repeated`. Keys of refused \
            verbs are not remembered.";
        // Bare, without a quote before it or spaces around it; or a string of structured fields.
        let pattern = r#"^([!#-~]([ -~]{0,126}[!-~])?|"([ !#-\[\]-~]|\\["\\]){1,128}")$"#;
        let schema = json_schema!({ "type": "string", "pattern": pattern });
        json!({ "name": "Idempotency-Key", "in": "header", "required": false, "description": description,
            "schema": schema, "example": "4d2c6a1e" })
    }
}

/// A string as structured fields write it (RFC 9651), between quotes and with backslashes before quotes and
/// backslashes; what has no quotes is taken as it stands.
fn unquoted(text: &str) -> Option<Cow<'_, str>> {
    let Some(quoted) = text.strip_prefix('"') else { return Some(text.into()) };
    let mut plain = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then(|| plain.into()),
            '\\' => plain.push(characters.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            character => plain.push(character),
        }
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
