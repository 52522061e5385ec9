//! The control API: what operators ask and order.

mod application;
mod changes;
mod log;
mod previews;
mod runs;
mod services;
mod streams;
mod tokens;
mod verbs;
mod why;

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::access::{Access, Caller};
use super::authority::Authority;
use super::copies::{self, Backups};
use super::directory::Directory;
use super::ending::Ending;
use super::gate::Gate;
use super::holdings::Holdings;
use super::http;
use super::members::Members;
use super::observations::Observations;
use super::openapi::{About, Api};
use super::pods::Pods;
use super::problem::ApiError;
use super::reports::Reports;
use super::sessions::Sessions;
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
    /// Who holds slots.
    pub holdings: Holdings,
    /// What the fleet remembers of sessions.
    pub sessions: Arc<Sessions>,
    /// What happened.
    pub log: Arc<dyn Log>,
    /// Copies of the store.
    pub backups: Backups,
    /// Who may come in.
    pub access: Arc<Access>,
    /// The pods of proxies, where they are watched.
    pub pods: Option<Arc<Pods>>,
    /// Ends every wait.
    pub ending: Ending,
    /// What members prove themselves by.
    #[cfg(test)]
    pub tickets: Arc<super::tickets::Tickets>,
}

/// What the control API says of itself.
const ABOUT: About = About {
    title: "colorfast: the control API",
    description: "What operators and their programs ask of a sidecar: the state of a release, and verbs that change it.",
    server: "http://127.0.0.1:18001",
    document: "/v1/openapi.json",
};

/// The routes of the control address.
pub fn routes(control: Arc<Control>, gate: Gate) -> Router {
    let (routes, _) = described();
    http::guarded(routes.with_state(control), gate, BODY_MAX)
}

/// The routes for one who stands behind no gate: the process itself, on behalf of `caller`.
pub fn inside(control: Arc<Control>, caller: Caller) -> Router {
    let (routes, _) = described();
    routes.with_state(control).layer(Extension(caller))
}

/// The routes, and the document that describes them. A route is added here together with its description.
pub fn described() -> (Router<Arc<Control>>, Value) {
    Api::new()
        .get("/v1/services", services::list, services::describe_list)
        .get("/v1/services/{service}", services::show, services::describe_show)
        .post("/v1/services/{service}/verbs", verbs::order, verbs::describe_order)
        .get("/v1/services/{service}/confirmations/{version}", services::confirmation, services::describe_confirmation)
        .get("/v1/services/{service}/watch", streams::watch, streams::describe_watch)
        .get("/v1/services/{service}/bundles", services::bundles, services::describe_bundles)
        .post("/v1/services/{service}/why", why::why, why::describe_why)
        .post("/v1/services/{service}/preview-tokens", previews::mint, previews::describe_mint)
        .get("/v1/services/{service}/runs", runs::list, runs::describe_list)
        .put("/v1/services/{service}/runs/{run}", runs::hold, runs::describe_hold)
        .delete("/v1/services/{service}/runs/{run}", runs::end, runs::describe_end)
        .delete("/v1/services/{service}/members/{member}", services::forget, services::describe_forget)
        .get("/v1/application", application::show, application::describe_show)
        .post("/v1/application/verbs", application::order, application::describe_order)
        .get("/v1/application/confirmations/{version}", application::confirmation, application::describe_confirmation)
        .get("/v1/events", log::events, log::describe_events)
        .get("/v1/events/stream", streams::events, streams::describe_events)
        .get("/v1/log/verification", log::verification, log::describe_verification)
        .get("/v1/backup", copies::download, copies::describe_download)
        .get("/v1/tokens", tokens::list, tokens::describe_list)
        .post("/v1/tokens", tokens::create, tokens::describe_create)
        .delete("/v1/tokens/{name}", tokens::revoke, tokens::describe_revoke)
        .finish(&ABOUT)
}

/// How many milliseconds the answer may be held at most, while there is nothing new.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
struct WaitMs(#[schemars(range(max = WAIT_MAX_MS))] u64);

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
