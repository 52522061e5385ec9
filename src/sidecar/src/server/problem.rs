//! Errors of the APIs: each is a problem document (RFC 9457) that says what was wrong, where, and what would be right.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use colorfast_core::error::FieldError;
use colorfast_core::release::Refusal;

use super::authority::VerbError;
use crate::api::{PROBLEM_PREFIX, Problem, problem_code};
use crate::store::Outage;

/// An error on its way to the client.
#[derive(Debug)]
pub struct ApiError(Box<Problem>);

/// What kind of problem: its stable word, its status, and its title.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    code: &'static str,
    status: StatusCode,
    title: &'static str,
}

impl Kind {
    /// No token, or another one.
    pub const UNAUTHENTICATED: Self =
        Self::new(problem_code::UNAUTHENTICATED, StatusCode::UNAUTHORIZED, "The bearer token is missing or wrong");
    /// Authentication has failed too often.
    pub const FAILURES: Self =
        Self::new(problem_code::FAILURES, StatusCode::TOO_MANY_REQUESTS, "Authentication has failed too often");
    /// Who asks may not ask this.
    pub const FORBIDDEN: Self = Self::new(problem_code::FORBIDDEN, StatusCode::FORBIDDEN, "The token is not for this");
    /// The token is for other nodes.
    pub const OTHER_NODE: Self =
        Self::new(problem_code::OTHER_NODE, StatusCode::FORBIDDEN, "The token is for other nodes");
    /// The member's ticket is missing, or is another's.
    pub const TICKET: Self =
        Self::new(problem_code::TICKET, StatusCode::FORBIDDEN, "The ticket of the member is missing or wrong");
    /// There is a token of that name.
    pub const TOKEN_EXISTS: Self =
        Self::new(problem_code::TOKEN_EXISTS, StatusCode::CONFLICT, "There is a token of that name");
    /// There are too many tokens.
    pub const TOKENS_FULL: Self =
        Self::new(problem_code::TOKENS_FULL, StatusCode::CONFLICT, "There are too many tokens");
    /// Nothing is there.
    pub const NOT_FOUND: Self = Self::new(problem_code::NOT_FOUND, StatusCode::NOT_FOUND, "There is no such thing");
    /// Something is there, but not by this method.
    pub const METHOD: Self =
        Self::new(problem_code::METHOD, StatusCode::METHOD_NOT_ALLOWED, "The resource has no such method");
    /// The body is no document of its kind.
    pub const BODY: Self = Self::new(problem_code::BODY, StatusCode::BAD_REQUEST, "The body cannot be read");
    /// The query is not one of this resource.
    pub const QUERY: Self = Self::new(problem_code::QUERY, StatusCode::BAD_REQUEST, "The query cannot be read");
    /// The body is too long.
    pub const TOO_LARGE: Self =
        Self::new(problem_code::TOO_LARGE, StatusCode::PAYLOAD_TOO_LARGE, "The body is too long");
    /// The body did not come.
    pub const TOO_SLOW: Self =
        Self::new(problem_code::TOO_SLOW, StatusCode::REQUEST_TIMEOUT, "The body did not come in time");
    /// A value breaks a rule.
    pub const FIELD: Self = Self::new(problem_code::FIELD, StatusCode::UNPROCESSABLE_ENTITY, "A value breaks a rule");
    /// The operator has seen another version.
    pub const STALE: Self = Self::new(problem_code::STALE, StatusCode::CONFLICT, "The service has changed since");
    /// Only members report.
    pub const NOT_MEMBER: Self = Self::new(problem_code::NOT_MEMBER, StatusCode::CONFLICT, "The proxy is no member");
    /// The sidecar cannot do it now.
    pub const OUTAGE: Self =
        Self::new(problem_code::OUTAGE, StatusCode::SERVICE_UNAVAILABLE, "The sidecar cannot do it now");

    const fn new(code: &'static str, status: StatusCode, title: &'static str) -> Self {
        Self { code, status, title }
    }

    fn of(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NoService(_) | Refusal::NoSlot { .. } | Refusal::NoBundle(_) => {
                Self::new(refusal.code(), StatusCode::NOT_FOUND, "There is no such thing")
            }
            Refusal::Field(_) => Self::FIELD,
            _ => Self::new(refusal.code(), StatusCode::CONFLICT, "The release state does not allow it"),
        }
    }
}

impl ApiError {
    /// A problem of `kind`; `detail` says what was wrong and what would be right.
    pub fn new(kind: Kind, detail: impl ToString) -> Self {
        Self(Box::new(Problem {
            kind: format!("{PROBLEM_PREFIX}{}", kind.code),
            title: kind.title.to_owned(),
            status: kind.status.as_u16(),
            detail: detail.to_string(),
            field: None,
            current_version: None,
            awaited_version: None,
            members: Vec::new(),
            retry_after_seconds: None,
        }))
    }

    /// It makes no sense to try again sooner.
    pub fn retry_after(mut self, rest: Duration) -> Self {
        let seconds = rest.as_secs() + u64::from(rest.subsec_nanos() > 0);
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// The problem stands at `field`.
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        Self::new(Kind::FIELD, &error).at(error.field)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let mut error = Self::new(Kind::of(&refusal), &refusal);
        match refusal {
            Refusal::Field(field) => error.0.field = Some(field.field),
            Refusal::SlotInUse { .. } => error.0.field = Some("settings.slots".to_owned()),
            Refusal::NotIntroduced { version, members, .. } => {
                error.0.awaited_version = Some(version);
                error.0.members = members;
            }
            _ => {}
        }
        error
    }
}

impl From<Outage> for ApiError {
    fn from(outage: Outage) -> Self {
        Self::new(Kind::OUTAGE, outage)
    }
}

impl From<VerbError> for ApiError {
    fn from(error: VerbError) -> Self {
        match error {
            VerbError::Stale { current, .. } => {
                let mut stale = Self::new(Kind::STALE, error);
                stale.0.current_version = Some(current);
                stale
            }
            VerbError::Refused(refusal) => refusal.into(),
            VerbError::Outage(outage) => outage.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(&*self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
