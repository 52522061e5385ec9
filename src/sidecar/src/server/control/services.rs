//! Services, their members and how far these are.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use colorfast_core::ids::ServiceName;
use colorfast_core::release::{Entry, Refusal};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Control, WaitMs};
use crate::api::{Bundles, Confirmation, ServiceStatus};
use crate::server::directory::Published;
use crate::server::http::{Asked, MemberName, Service, Version};
use crate::server::members::{Appended, Forgotten};
use crate::server::openapi::Operation;
use crate::server::problem::{ApiError, Kind};
use crate::server::status;

type Shared = State<Arc<Control>>;

/// What `list` is for.
pub fn describe_list(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("services", "Every service", "services")
        .describe("Each with its slots, its proxies and its settings, in order of name.")
        .answers::<Vec<ServiceStatus>>("The services.")
}

/// `GET /v1/services`
pub async fn list(State(control): Shared) -> Json<Vec<ServiceStatus>> {
    let all = control.directory.all();
    Json(all.iter().map(|published| status::of(published, &control)).collect())
}

/// How long `show` is held, and for what.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShowQuery {
    /// The version that is known: a newer one is answered at once. Absent: the one that is now.
    after_version: Option<u64>,
    /// How many milliseconds to wait for a newer version or a change of its members.
    #[serde(default)]
    wait_ms: WaitMs,
}

/// What `show` is for.
pub fn describe_show(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("service", "One service", "services")
        .describe(
            "Its slots, its proxies and its settings. With `wait_ms` the answer is held until the service is beyond \
             `after_version` or one of its members changed, and no longer than that.",
        )
        .takes::<Service>()
        .query::<ShowQuery>()
        .answers::<ServiceStatus>("The service.")
        .may_fail(&[Kind::NO_SERVICE])
}

/// `GET /v1/services/{service}`
pub async fn show(
    State(control): Shared,
    Service(service): Service,
    Asked(query): Asked<ShowQuery>,
) -> Result<Json<ServiceStatus>, ApiError> {
    let end = Instant::now() + query.wait_ms.limit()?;
    let mut published = control.published(&service)?;
    let mut members = control.members.watch(&service);
    let after = query.after_version.unwrap_or_else(|| published.borrow().snapshot.version);
    let newer = published.wait_for(|published| published.snapshot.version > after);
    tokio::select! {
        _ = newer => {}
        _ = members.changed() => {}
        () = control.ending.begun() => {}
        () = tokio::time::sleep_until(end) => {}
    }
    let newest = control.published(&service)?.borrow().clone();
    Ok(Json(status::of(&newest, &control)))
}

/// How long `confirmation` is held.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmationQuery {
    /// How many milliseconds to wait for it to change.
    #[serde(default)]
    wait_ms: WaitMs,
}

impl ConfirmationQuery {
    /// How long that is.
    pub(super) fn limit(&self) -> Result<Duration, ApiError> {
        self.wait_ms.limit()
    }
}

/// What `confirmation` is for.
pub fn describe_confirmation(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("confirmation", "Who has obeyed a version", "services")
        .describe(
            "Each member that is asked, and how far it is. With `wait_ms` the answer is held until it differs from the \
             one at its beginning; a settled one is answered at once.",
        )
        .takes::<Service>()
        .takes::<Version>()
        .query::<ConfirmationQuery>()
        .answers::<Confirmation>("How far the members are.")
        .may_fail(&[Kind::NO_SERVICE, Kind::NOT_FOUND])
}

/// `GET /v1/services/{service}/confirmations/{version}`
pub async fn confirmation(
    State(control): Shared,
    Service(service): Service,
    Version(version): Version,
    Asked(query): Asked<ConfirmationQuery>,
) -> Result<Json<Confirmation>, ApiError> {
    let end = Instant::now() + query.limit()?;
    let appended = control.appended(&service, version).await?;
    let mut members = control.members.watch(&service);
    let first = control.members.confirmation(&service, &appended);
    let mut now = first.clone();
    // A client that asks after the last acknowledgement, or the last refusal, must not sit it out.
    let mut waits = true;
    while waits && !now.is_settled() && now == first {
        waits = tokio::select! {
            _ = members.changed() => true,
            () = control.ending.begun() => false,
            () = tokio::time::sleep_until(end) => false,
        };
        now = control.members.confirmation(&service, &appended);
    }
    Ok(Json(now))
}

/// What `bundles` is for.
pub fn describe_bundles(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("bundles", "Every bundle of a service", "services")
        .describe("Their manifests and digests, by id.")
        .takes::<Service>()
        .answers::<Bundles>("The bundles.")
        .may_fail(&[Kind::NO_SERVICE])
}

/// `GET /v1/services/{service}/bundles`
pub async fn bundles(State(control): Shared, Service(service): Service) -> Result<Json<Bundles>, ApiError> {
    let published = control.published(&service)?.borrow().clone();
    Ok(Json(published.state.bundles.as_ref().clone()))
}

/// What `forget` is for.
pub fn describe_forget(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("forgetMember", "Wait for a proxy no more", "services")
        .describe("For a proxy that is gone for good. Should it come back, it is a member again.")
        .takes::<Service>()
        .takes::<MemberName>()
        .response(204, serde_json::json!({ "description": "It is no member any more." }))
        .may_fail(&[Kind::NO_SERVICE, Kind::NOT_FOUND])
}

/// `DELETE /v1/services/{service}/members/{member}`
pub async fn forget(
    State(control): Shared,
    Service(service): Service,
    MemberName(member): MemberName,
) -> Result<StatusCode, ApiError> {
    control.published(&service)?;
    match control.members.forget(&service, &member) {
        Forgotten::Gone => Ok(StatusCode::NO_CONTENT),
        Forgotten::Unknown => {
            let detail = format!("{service} has no member {member}: `colorfast status` names them");
            Err(ApiError::new(Kind::NOT_FOUND, detail))
        }
    }
}

impl Control {
    pub(super) fn published(&self, service: &ServiceName) -> Result<watch::Receiver<Arc<Published>>, ApiError> {
        let published = self.directory.watch(service);
        published.ok_or_else(|| Refusal::NoService(service.clone()).into())
    }

    /// The append of a version: known where it was lately, else read in the log.
    pub(super) async fn appended(&self, service: &ServiceName, version: u64) -> Result<Appended, ApiError> {
        let newest = self.published(service)?.borrow().snapshot.version;
        if let Some(appended) = self.members.appended(service, version) {
            return Ok(appended);
        }
        let none = || {
            let detail = format!("{service} never was at version {version}; it is at {newest}");
            ApiError::new(Kind::NOT_FOUND, detail)
        };
        let before = version.checked_sub(1).ok_or_else(none)?;
        let records = self.log.read(before, 1).await?;
        let record = records.first().filter(|record| record.seq == version).ok_or_else(none)?;
        let entry: Entry = super::log::entry(record)?;
        if !entry.changes(service) {
            return Err(none());
        }
        Ok(Appended::new(version, entry.at, None))
    }
}
