//! The log, to be read and verified.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use colorfast_core::error::FieldError;
use colorfast_core::ids::ServiceName;
use colorfast_core::release::Entry;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Control;
use crate::api::{Events, Verification};
use crate::server::authority;
use crate::server::http::Asked;
use crate::server::openapi::Operation;
use crate::server::problem::{ApiError, Kind};
use crate::store::Record;

/// Entries of an answer, unless the query says otherwise.
const LIMIT: usize = 100;
/// Most entries of an answer.
const LIMIT_MAX: usize = 1000;

/// Which entries.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Those of this service alone.
    service: Option<ServiceName>,
    /// Those after this one.
    #[serde(default)]
    after: u64,
    /// At most so many; 100 unless said.
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    limit: Option<usize>,
}

/// What `events` is for.
pub fn describe_events(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("events", "Entries of the log", "log")
        .describe("What was done, when, and by whom, oldest first. `head` is the last entry of the whole log.")
        .query::<EventsQuery>()
        .answers::<Events>("The entries.")
}

/// `GET /v1/events`
pub async fn events(
    State(control): State<Arc<Control>>,
    Asked(query): Asked<EventsQuery>,
) -> Result<Json<Events>, ApiError> {
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(FieldError::new("limit", format!("is {limit}, 1 to {LIMIT_MAX} is allowed")).into());
    }
    let head = control.log.watch().borrow().seq;
    let mut entries = Vec::new();
    let mut after = query.after;
    while entries.len() < limit {
        let page = control.log.read(after, LIMIT_MAX).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for record in &page {
            let entry = entry(record)?;
            if entries.len() < limit && (query.service.is_none() || entry.service == query.service) {
                entries.push(entry);
            }
        }
    }
    Ok(Json(Events { entries, head }))
}

/// The entry in a record. That its chain is whole was seen at the start, and is seen again by a verification.
pub fn entry(record: &Record) -> Result<Entry, ApiError> {
    serde_json::from_str(&record.text).map_err(|error| {
        let detail = format!("entry {} cannot be read: {error}: run `colorfast verify-log`", record.seq);
        ApiError::new(Kind::OUTAGE, detail)
    })
}

/// What `verification` is for.
pub fn describe_verification(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("verifyLog", "Verify the log", "log")
        .describe("Reads the whole log again: each entry is checked against the chain of hashes and folded anew.")
        .answers::<Verification>("How many entries are in order, and what is wrong with the next.")
}

/// `GET /v1/log/verification`
pub async fn verification(State(control): State<Arc<Control>>) -> Result<Json<Verification>, ApiError> {
    Ok(Json(authority::verify(control.log.as_ref()).await?))
}
