//! Server-sent events: a service as it changes, and the log as it grows. Both end with the process.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::response::sse::{Event, KeepAlive, Sse};
use colorfast_core::ids::ServiceName;
use colorfast_core::release::Entry;
use futures_util::Stream;
use futures_util::stream::unfold;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::Control;
use super::log::entry;
use crate::api::{ServiceStatus, Sessions};
use crate::server::directory::Published;
use crate::server::http::{Asked, Service};
use crate::server::openapi::{Operation, Parameter};
use crate::server::problem::{ApiError, Kind};
use crate::server::status;
use crate::store::{Head, Record};

/// A status is sent no more often than this: what changes in between is in the next one.
const PAUSE: Duration = Duration::from_millis(100);
/// How often is looked whether slots hold other numbers of sessions or runs.
const RECOUNT: Duration = Duration::from_secs(2);
/// How often a comment says that the stream lives, while nothing else does.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Entries that are read in one go.
const PAGE: usize = 100;

/// What both are sent as.
type Events<S> = Sse<axum::response::sse::KeepAliveStream<S>>;

fn sse<S: Stream<Item = Result<Event, Infallible>> + Send + 'static>(events: S) -> Events<S> {
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// What an answer that goes on and on is like.
const STREAM: &str = "Events. A comment every ten seconds shows that the stream lives; it ends with the process.";

/// What `watch` is for.
pub fn describe_watch(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("watchService", "A service, as it changes", "streams")
        .describe(
            "Server-sent events of the type `status`, each with the whole service as `GET /v1/services/{service}` shows \
             it: one at once, one after every change of the service or its members, at most ten in a second, and one \
             within two seconds after slots hold more or less.",
        )
        .takes::<Service>()
        .streams::<ServiceStatus>("status", STREAM)
        .may_fail(&[Kind::NO_SERVICE])
}

/// `GET /v1/services/{service}/watch`
pub async fn watch(
    State(control): State<Arc<Control>>,
    Service(service): Service,
) -> Result<Events<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let published = control.published(&service)?;
    let members = control.members.watch(&service);
    Ok(sse(unfold(Watching { control, published, members, next: None, told: Vec::new() }, |mut watching| async move {
        let event = watching.next().await?;
        Some((Ok(event), watching))
    })))
}

/// A service that is watched.
struct Watching {
    control: Arc<Control>,
    published: watch::Receiver<Arc<Published>>,
    members: watch::Receiver<()>,
    /// When the next status may be sent; none before the first.
    next: Option<Instant>,
    /// What its slots held in the status that was sent last.
    told: Vec<(Option<Sessions>, u64)>,
}

/// What slots hold: it comes and goes without a change of the service.
fn holdings(status: &ServiceStatus) -> Vec<(Option<Sessions>, u64)> {
    status.slots.iter().map(|slot| (slot.sessions, slot.runs)).collect()
}

impl Watching {
    /// The service once it has changed; none where the process ends.
    async fn next(&mut self) -> Option<Event> {
        if let Some(next) = self.next {
            loop {
                tokio::select! {
                    changed = self.published.changed() => break changed.ok()?,
                    changed = self.members.changed() => break changed.ok()?,
                    () = tokio::time::sleep(RECOUNT) => {
                        let published = self.published.borrow().clone();
                        if holdings(&status::of(&published, &self.control)) != self.told {
                            break;
                        }
                    }
                    () = self.control.ending.begun() => return None,
                }
            }
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.control.ending.begun() => return None,
            }
        }
        self.next = Some(Instant::now() + PAUSE);
        // Marked as seen before it is read: what comes in between is told again rather than missed.
        self.members.borrow_and_update();
        let published = self.published.borrow_and_update().clone();
        let status = status::of(&published, &self.control);
        self.told = holdings(&status);
        Event::default()
            .event("status")
            .json_data(status)
            .inspect_err(|error| warn!(%error, "cannot send a status"))
            .ok()
    }
}

/// Which entries.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamQuery {
    /// Those of this service alone.
    service: Option<ServiceName>,
    /// Those after this one; 0 unless said.
    #[serde(default)]
    after: u64,
}

/// The last event that the client has seen.
pub struct LastEventId(Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(LAST_EVENT_ID) else { return Ok(Self(None)) };
        let number = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let number = number.and_then(|text| text.parse().ok());
        let wrong = || ApiError::new(Kind::LAST_EVENT_ID, format!("{LAST_EVENT_ID}: is not the number of an entry"));
        number.map(|number| Self(Some(number))).ok_or_else(wrong)
    }
}

const LAST_EVENT_ID: &str = "last-event-id";

impl Parameter for LastEventId {
    const PROBLEMS: &'static [Kind] = &[Kind::LAST_EVENT_ID];

    fn describe(_: &mut SchemaGenerator) -> Value {
        json!({ "name": "Last-Event-ID", "in": "header", "required": false,
            "description": "The `id` of the last event that was seen, as browsers send it by themselves; overrules `after`.",
            "schema": { "type": "string", "pattern": "^[0-9]{1,19}$" } })
    }
}

/// What `events` is for.
pub fn describe_events(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("streamEvents", "The log, as it grows", "streams")
        .describe(
            "Server-sent events of the type `entry`, each with one entry as `GET /v1/events` shows it; its `id` is the \
             entry's `seq`, so that `Last-Event-ID` goes on where a stream broke off.",
        )
        .query::<StreamQuery>()
        .takes::<LastEventId>()
        .streams::<Entry>("entry", STREAM)
}

/// `GET /v1/events/stream`
pub async fn events(
    State(control): State<Arc<Control>>,
    Asked(query): Asked<StreamQuery>,
    LastEventId(last): LastEventId,
) -> Events<impl Stream<Item = Result<Event, Infallible>>> {
    let (after, head) = (last.unwrap_or(query.after), control.log.watch());
    let following = Following { control, head, service: query.service, after, read: VecDeque::new() };
    sse(unfold(following, |mut following| async move {
        let event = following.next().await?;
        Some((Ok(event), following))
    }))
}

/// A log that is followed.
struct Following {
    control: Arc<Control>,
    head: watch::Receiver<Head>,
    service: Option<ServiceName>,
    /// The last entry that was read.
    after: u64,
    /// Entries that wait to be sent.
    read: VecDeque<Record>,
}

impl Following {
    /// The next entry; none where the process ends, or the log cannot be read. Whoever asks again goes on there.
    async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(record) = self.read.pop_front() {
                let entry = entry(&record).ok()?;
                if self.service.is_none() || self.service == entry.service {
                    return Some(Event::default().event("entry").id(record.seq.to_string()).data(record.text));
                }
            }
            self.head.borrow_and_update();
            self.read = self.control.log.read(self.after, PAGE).await.ok()?.into();
            match self.read.back() {
                Some(last) => self.after = last.seq,
                None => tokio::select! {
                    changed = self.head.changed() => changed.ok()?,
                    () = self.control.ending.begun() => return None,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
