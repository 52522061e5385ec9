//! The control API: what operators ask and order.

mod log;
mod previews;
mod services;
mod tokens;
mod verbs;
mod why;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{delete, get, post};
use serde::Deserialize;

use super::access::Access;
use super::authority::Authority;
use super::copies::{self, Backups};
use super::directory::Directory;
use super::ending::Ending;
use super::gate::Gate;
use super::http;
use super::members::Members;
use super::observations::Observations;
use super::problem::ApiError;
use super::reports::Reports;
use crate::store::Log;

/// Longest body: a bundle with all its tools is a small part of it.
const BODY_MAX: usize = 1024 * 1024;
/// Longest wait for something to change.
const WAIT_MAX_MS: u64 = 30_000;

/// What the control API works on.
#[derive(Debug)]
pub struct Control {
    /// Where verbs go.
    pub authority: Authority,
    /// Where services are read.
    pub directory: Arc<Directory>,
    /// Who obeys.
    pub members: Arc<Members>,
    /// What they tell.
    pub reports: Arc<Reports>,
    /// What they have seen of slots.
    pub observations: Arc<Observations>,
    /// What happened.
    pub log: Arc<dyn Log>,
    /// Copies of the store.
    pub backups: Backups,
    /// Who may come in.
    pub access: Arc<Access>,
    /// Ends every wait.
    pub ending: Ending,
}

/// The routes of the control address.
pub fn routes(control: Arc<Control>, gate: Gate) -> Router {
    let routes = Router::new()
        .route("/v1/services", get(services::list))
        .route("/v1/services/{service}", get(services::show))
        .route("/v1/services/{service}/verbs", post(verbs::order))
        .route("/v1/services/{service}/confirmations/{version}", get(services::confirmation))
        .route("/v1/services/{service}/bundles", get(services::bundles))
        .route("/v1/services/{service}/why", post(why::why))
        .route("/v1/services/{service}/preview-tokens", post(previews::mint))
        .route("/v1/services/{service}/members/{member}", delete(services::forget))
        .route("/v1/events", get(log::events))
        .route("/v1/log/verification", get(log::verification))
        .route("/v1/backup", get(copies::download))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{token}", delete(tokens::revoke))
        .with_state(control);
    http::guarded(routes, gate, BODY_MAX)
}

/// How long a request may be held.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(transparent)]
struct WaitMs(u64);

impl WaitMs {
    fn limit(self) -> Result<Duration, ApiError> {
        let Self(millis) = self;
        if millis > WAIT_MAX_MS {
            let rule = format!("is {millis}, at most {WAIT_MAX_MS} is allowed");
            return Err(colorfast_core::error::FieldError::new("wait_ms", rule).into());
        }
        Ok(Duration::from_millis(millis))
    }
}

#[cfg(test)]
mod tests;
