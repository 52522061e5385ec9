//! The token check, and the trace that failed ones leave.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::warn;

use super::problem::{ApiError, Kind};
use super::tokens::Token;

/// The one path that needs no token.
pub const HEALTH: &str = "/healthz";
/// The authentication scheme, and the space after it.
const BEARER: &[u8] = b"Bearer ";
/// How often failed authentication is told at most.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Lets in who has the token.
#[derive(Debug)]
pub struct Gate {
    token: Token,
    failures: Mutex<Failures>,
}

/// Failed authentications that the operator's log does not have yet, and when it was told last.
#[derive(Debug, Default)]
struct Failures {
    count: u64,
    told: Option<Instant>,
}

impl Failures {
    /// One more, now; gives how many are to be told.
    fn add(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.told.is_some_and(|told| now < told + TOLD_EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

impl Gate {
    /// A gate that `token` opens.
    pub fn new(token: Token) -> Self {
        Self { token, failures: Mutex::default() }
    }

    fn admits(&self, request: &Request) -> bool {
        let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let given = given.and_then(|value| value.split_at_checked(BEARER.len()));
        given.is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case(BEARER) && self.token.is(given))
    }
}

/// Passes a request on, or refuses it.
///
/// # Errors
/// Where it has no token, or another one.
pub async fn check(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Result<Response, ApiError> {
    if request.uri().path() == HEALTH || gate.admits(&request) {
        return Ok(next.run(request).await);
    }
    let file = gate.token.file_name();
    let untold = gate.failures.lock().add(Instant::now());
    if let Some(count) = untold {
        warn!(token = %file, count, "requests with a wrong token, or none, were refused");
    }
    Err(ApiError::new(Kind::UNAUTHENTICATED, format!("send `authorization: Bearer TOKEN` with the token of {file}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first failure is told at once, the others together, once a minute: a flood does not fill the log.
    #[test]
    fn failures_are_told_now_and_then() {
        let start = Instant::now();
        let mut failures = Failures::default();
        assert_eq!(failures.add(start), Some(1));
        for _ in 0..1_000 {
            assert_eq!(failures.add(start + TOLD_EVERY / 2), None);
        }
        assert_eq!(failures.add(start + TOLD_EVERY), Some(1_001));
        assert_eq!(failures.add(start + TOLD_EVERY), None);
    }
}
