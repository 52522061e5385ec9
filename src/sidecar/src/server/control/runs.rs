//! Runs that hold their slot by a lease.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::json;
use tracing::info;

use super::Control;
use crate::api::runs::{HoldRun, RunLease};
use crate::server::clock;
use crate::server::http::{Document, NamedRun, Service};
use crate::server::leases::LeaseRefusal;
use crate::server::openapi::Operation;
use crate::server::problem::{ApiError, Kind};

/// What `list` is for.
pub fn describe_list(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("runs", "Runs that hold a lease", "runs")
        .describe("Those whose lease has not ended, in order of name.")
        .takes::<Service>()
        .answers::<Vec<RunLease>>("The leases.")
        .may_fail(&[Kind::NO_SERVICE])
}

/// `GET /v1/services/{service}/runs`
pub async fn list(
    State(control): State<Arc<Control>>,
    Service(service): Service,
) -> Result<Json<Vec<RunLease>>, ApiError> {
    let published = control.published(&service)?.borrow().clone();
    Ok(Json(control.holdings.leases.list(&service, &published.state, clock::now())))
}

/// What `hold` is for.
pub fn describe_hold(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("holdRun", "Take a lease for a run, or renew it", "runs")
        .describe(
            "For work without traffic: the slot that runs the bundle counts as held until the lease ends, and is not \
             recycled. Renew it well before that, and end it with the run. The answer says what the slot is doing: a run \
             in one that is condemned is asked to leave.",
        )
        .takes::<Service>()
        .takes::<NamedRun>()
        .body::<HoldRun>("The bundle that the run began on, and for how long.")
        .answers::<RunLease>("The lease.")
        .may_fail(&[Kind::NO_SERVICE, Kind::BUNDLE_GONE, Kind::RUN_OVER_AGE])
}

/// `PUT /v1/services/{service}/runs/{run}`
pub async fn hold(
    State(control): State<Arc<Control>>,
    Service(service): Service,
    NamedRun(run): NamedRun,
    Document(asked): Document<HoldRun>,
) -> Result<Json<RunLease>, ApiError> {
    let published = control.published(&service)?.borrow().clone();
    let now = clock::now();
    let lease = control.holdings.leases.hold(&service, &published.state, &run, &asked, now)?;
    if lease.began == now {
        info!(%service, %run, slot = %lease.slot, bundle = %lease.bundle, "run holds its slot");
    }
    Ok(Json(lease))
}

/// What `end` is for.
pub fn describe_end(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("endRun", "End the lease of a run", "runs")
        .describe("The run is over: it holds nothing any more.")
        .takes::<Service>()
        .takes::<NamedRun>()
        .response(204, json!({ "description": "It holds nothing any more." }))
        .may_fail(&[Kind::NO_SERVICE, Kind::NOT_FOUND])
}

/// `DELETE /v1/services/{service}/runs/{run}`
pub async fn end(
    State(control): State<Arc<Control>>,
    Service(service): Service,
    NamedRun(run): NamedRun,
) -> Result<StatusCode, ApiError> {
    control.published(&service)?;
    control.holdings.leases.end(&service, &run)?;
    info!(%service, %run, "run ended");
    Ok(StatusCode::NO_CONTENT)
}

impl From<LeaseRefusal> for ApiError {
    fn from(refusal: LeaseRefusal) -> Self {
        match refusal {
            LeaseRefusal::Field(field) => field.into(),
            LeaseRefusal::BundleGone(_) => Self::new(Kind::BUNDLE_GONE, refusal).at("bundle"),
            LeaseRefusal::OverAge(_) => Self::new(Kind::RUN_OVER_AGE, refusal),
            LeaseRefusal::Unknown(_) => Self::new(Kind::NOT_FOUND, refusal),
            LeaseRefusal::Full => Self::new(Kind::OUTAGE, refusal),
        }
    }
}
