//! The application: what is of all services, which is the keys of run tokens.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use colorfast_core::ids::ServiceName;
use colorfast_core::release::Entry;
use futures_util::future::select_all;
use tokio::time::Instant;

use super::services::ConfirmationQuery;
use super::verbs::{self, ApplicationVerbDocument};
use super::{Control, log};
use crate::api::{ApplicationStatus, ApplicationVerbResponse, Confirmation, VerbRequest};
use crate::server::access::Caller;
use crate::server::authority::{ApplicationOrder, Effect, Occasion};
use crate::server::http::{Asked, Repeatable, Version, Whole};
use crate::server::members::Appended;
use crate::server::openapi::Operation;
use crate::server::problem::{ApiError, Kind};
use crate::server::status;

type Shared = State<Arc<Control>>;

/// What `show` is for.
pub fn describe_show(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("application", "What is of all services", "application")
        .describe("The keys that sign run tokens, which cross services.")
        .answers::<ApplicationStatus>("The application.")
}

/// `GET /v1/application`
pub async fn show(State(control): Shared) -> Json<ApplicationStatus> {
    Json(status::of_all(&control.directory.application(), &control))
}

/// What `order` is for.
pub fn describe_order(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("applicationVerb", "Carry out a verb on what is of all services", "application")
        .describe(
            "One act of an operator. It is in the log once this answers, and has given a version to every service; \
             whether every proxy has obeyed is told by the confirmation of that version. A verb that is refused changes \
             nothing.",
        )
        .takes::<Repeatable>()
        .body::<ApplicationVerbDocument>("The verb.")
        .answers::<ApplicationVerbResponse>("The verb is carried out.")
        .may_fail(Kind::APPLICATION_REFUSALS)
        .may_fail(&[Kind::STALE])
}

/// `POST /v1/application/verbs`
pub async fn order(
    State(control): Shared,
    caller: Caller,
    Repeatable(key): Repeatable,
    Whole(body): Whole,
) -> Result<Json<ApplicationVerbResponse>, ApiError> {
    let VerbRequest { expected_version, verb } = verbs::parse_application(&body)?;
    let principal = caller.principal.to_string();
    let order = ApplicationOrder { principal, expected_version, key, verb };
    // What was handed in goes on where the caller goes away.
    let done = match control.authority.order_of_all(order).await {
        Ok(done) => done,
        Err(error) => return Err(control.lost(None, error).await),
    };
    Ok(Json(ApplicationVerbResponse {
        version: done.version,
        changed: done.effect == Effect::Changed,
        repeated: done.occasion == Occasion::Earlier,
        status: status::of_all(&done.published, &control),
        confirmation: control.confirmation_of_all(done.version, &control.appended_to_all(done.version).await?),
    }))
}

/// What `confirmation` is for.
pub fn describe_confirmation(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("applicationConfirmation", "Who has obeyed a version of the application", "application")
        .describe(
            "Each member of any service, and how far it is with all that it asks for. With `wait_ms` the answer is held \
             until it differs from the one at its beginning; a settled one is answered at once.",
        )
        .takes::<Version>()
        .query::<ConfirmationQuery>()
        .answers::<Confirmation>("How far the members are.")
        .may_fail(&[Kind::NOT_FOUND])
}

/// `GET /v1/application/confirmations/{version}`
pub async fn confirmation(
    State(control): Shared,
    Version(version): Version,
    Asked(query): Asked<ConfirmationQuery>,
) -> Result<Json<Confirmation>, ApiError> {
    let end = Instant::now() + query.limit()?;
    let appended = control.appended_to_all(version).await?;
    let mut members: Vec<_> = appended.keys().map(|service| control.members.watch(service)).collect();
    let first = control.confirmation_of_all(version, &appended);
    let mut now = first.clone();
    let mut waits = true;
    // Without a service there is no member, and that is settled.
    while waits && !now.is_settled() && now == first {
        let changed = select_all(members.iter_mut().map(|members| Box::pin(members.changed())));
        waits = tokio::select! {
            _ = changed => true,
            () = control.ending.begun() => false,
            () = tokio::time::sleep_until(end) => false,
        };
        now = control.confirmation_of_all(version, &appended);
    }
    Ok(Json(now))
}

impl Control {
    /// The append of a version of the application, as each service knows it.
    async fn appended_to_all(&self, version: u64) -> Result<BTreeMap<ServiceName, Appended>, ApiError> {
        let none = || {
            let newest = self.directory.application().version;
            let detail = format!("the application never was at version {version}; it is at {newest}");
            ApiError::new(Kind::NOT_FOUND, detail)
        };
        let before = version.checked_sub(1).ok_or_else(none)?;
        let records = self.log.read(before, 1).await?;
        let record = records.first().filter(|record| record.seq == version).ok_or_else(none)?;
        let Entry { service: None, at, .. } = log::entry(record)? else { return Err(none()) };
        let services = self.directory.all().into_iter().map(|published| published.snapshot.service.clone());
        let known = |service: &ServiceName| self.members.appended(service, version);
        let appended = |service: &ServiceName| known(service).unwrap_or_else(|| Appended::new(version, at, None));
        Ok(services.map(|service| (service.clone(), appended(&service))).collect())
    }

    /// How far the members of all services are.
    fn confirmation_of_all(&self, version: u64, appended: &BTreeMap<ServiceName, Appended>) -> Confirmation {
        let all = appended.iter();
        Confirmation::of_all(version, all.map(|(service, at)| (service, self.members.confirmation(service, at))))
    }
}

#[cfg(test)]
mod tests;
