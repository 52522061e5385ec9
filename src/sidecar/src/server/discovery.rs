//! Discovery: proxies ask with the version that they hold, and are answered when there is a newer one.
//!
//! What a proxy holds is what its request says, whichever response came before: a new leader in the same process starts
//! without a nonce. A refusal counts for the response whose nonce it repeats, or for the last where it could read none.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use colorfast_core::error::FieldError;
use colorfast_core::ids::{ServiceName, SnapshotVersion};
use colorfast_core::names::{DISCOVERY_PATH, REPORTS_PATH, SESSIONS_PATH, SNAPSHOT_TYPE_URL};
use colorfast_core::release::Refusal;
use colorfast_core::wire::discovery::{Cursor, DiscoveryRequest, DiscoveryResponse};
use colorfast_core::wire::sessions::Records;
use colorfast_core::wire::ticket::Ticket;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::access::Caller;
use super::corrections::Corrections;
use super::directory::{Directory, Published};
use super::ending::Ending;
use super::gate::Gate;
use super::http::{self, Document};
use super::members::{Heard, MemberId, Members, Said, Sending, TurnedAway};
use super::openapi::{About, Api, Operation};
use super::problem::{ApiError, Kind};
use super::reports::{self, Reports};
use super::sessions::{self, Sessions};
use super::tickets::Tickets;
use crate::store::Outage;

/// How long a request is held where there is nothing newer, unless members lapse sooner than that.
const HOLD: Duration = Duration::from_secs(20);
/// Longest body.
const BODY_MAX: usize = 64 * 1024;
/// How many services that are asked for and do not exist are told apart in the log.
const UNKNOWN_MAX: usize = 256;

/// What discovery answers from.
#[derive(Debug)]
pub struct Discovery {
    directory: Arc<Directory>,
    members: Arc<Members>,
    tickets: Arc<Tickets>,
    corrections: Arc<Corrections>,
    ending: Ending,
    hold: Duration,
    unknown: Mutex<BTreeSet<ServiceName>>,
}

impl Discovery {
    /// Discovery over what is published.
    pub fn new(
        directory: Arc<Directory>,
        members: Arc<Members>,
        tickets: Arc<Tickets>,
        corrections: Arc<Corrections>,
        ending: Ending,
    ) -> Self {
        // A member must be heard well within its ttl.
        let hold = HOLD.min(members.ttl() / 2);
        Self { directory, members, tickets, corrections, ending, hold, unknown: Mutex::default() }
    }
}

/// What discovery says of itself.
const ABOUT: About = About {
    title: "colorfast: discovery",
    description: "What proxies ask of a sidecar: snapshots to decide by, and a place for what they have to tell.",
    server: "http://127.0.0.1:18000",
    document: "/v3/openapi.json",
};

/// What the routes of the discovery address work on.
#[derive(Debug, Clone)]
pub struct Proxies {
    /// Snapshots.
    pub discovery: Arc<Discovery>,
    /// Reports.
    pub reports: Arc<Reports>,
    /// The fleet's memory of sessions.
    pub sessions: Arc<Sessions>,
}

impl FromRef<Proxies> for Arc<Discovery> {
    fn from_ref(proxies: &Proxies) -> Self {
        proxies.discovery.clone()
    }
}

impl FromRef<Proxies> for Arc<Reports> {
    fn from_ref(proxies: &Proxies) -> Self {
        proxies.reports.clone()
    }
}

impl FromRef<Proxies> for Arc<Sessions> {
    fn from_ref(proxies: &Proxies) -> Self {
        proxies.sessions.clone()
    }
}

/// The routes of the discovery address.
pub fn routes(proxies: Proxies, gate: Gate) -> Router {
    let (routes, _) = described();
    http::guarded(routes.with_state(proxies), gate, BODY_MAX)
}

/// The routes, and the document that describes them. A route is added here together with its description.
pub fn described() -> (Router<Proxies>, Value) {
    Api::new()
        .post(DISCOVERY_PATH, snapshots, describe_snapshots)
        .post(REPORTS_PATH, reports::receive, reports::describe_receive)
        .post(SESSIONS_PATH, sessions::ask, sessions::describe_ask)
        .finish(&ABOUT)
}

fn describe_snapshots(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("pollSnapshot", "A snapshot newer than the one that is held", "proxies")
        .describe(
            "xDS in its REST form, as JSON. The request is held, for 20 s at most, until there is a newer snapshot. The \
             next request acknowledges the answer by its version, or refuses it by `error_detail`. Corrections of what \
             proxies remember of sessions come the same way, with a snapshot or without.",
        )
        .body::<DiscoveryRequest>("What the proxy holds, and what was wrong with what it got.")
        .answers::<DiscoveryResponse>("The snapshot, the keys of its service, corrections. Keep it to yourself.")
        .response(304, json!({ "description": "Nothing became newer while the request was held." }))
        .may_fail(&[Kind::NO_SERVICE, Kind::OTHER_NODE, Kind::TICKET])
}

/// A request that keeps the rules.
#[derive(Debug)]
struct Poll {
    service: ServiceName,
    member: MemberId,
    heard: Heard,
    ticket: Option<Ticket>,
    corrected: Option<Cursor>,
}

impl Poll {
    fn read(request: DiscoveryRequest) -> Result<Self, FieldError> {
        if request.type_url != SNAPSHOT_TYPE_URL {
            return Err(FieldError::new("type_url", format!("is not {SNAPSHOT_TYPE_URL}")));
        }
        let [service] = request.resource_names.as_slice() else {
            let found = request.resource_names.len();
            return Err(FieldError::new("resource_names", format!("names {found} services, not exactly one")));
        };
        let held = match request.version_info.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|error| FieldError::new("version_info", error))?),
        };
        let nonce = request.response_nonce;
        Ok(Self {
            service: service.clone(),
            member: MemberId::of(&request.node)?,
            ticket: request.ticket,
            corrected: request.corrected,
            heard: Heard { held, refused: request.error_detail.map(|error| (nonce, error.message)) },
        })
    }
}

async fn snapshots(
    State(discovery): State<Arc<Discovery>>,
    caller: Caller,
    Document(request): Document<DiscoveryRequest>,
) -> Result<Response, ApiError> {
    let Poll { service, member, heard, ticket, corrected } = Poll::read(request)?;
    caller.be(member.node())?;
    let Some(mut published) = discovery.directory.watch(&service) else {
        discovery.unknown(&service, &member);
        return Err(Refusal::NoService(service).into());
    };
    let mut corrections = discovery.corrections.watch(&service);
    let read = discovery.corrections.read_by(&service, corrected.as_ref());
    // Whoever does not show the ticket is not believed, and is given it unless it was shown before.
    let proven = discovery.tickets.proves(&member, ticket.as_ref());
    let (held, ticket) = match proven {
        true => (heard.held, None),
        false => (None, Some(discovery.tickets.of(&member))),
    };
    debug!(%service, %member, ?heard, proven, "poll");
    let said = Said { key: discovery.tickets.key().clone(), claims: Some(heard).filter(|_| proven) };
    let mut unwanted = discovery.members.heard(&service, &member, said)?;
    let end = Instant::now() + discovery.hold;
    let asker = Asker { member, held, ticket, read };
    loop {
        let newest = published.borrow_and_update().clone();
        corrections.mark_unchanged();
        if let Some(response) = discovery.answer(&asker, &newest)? {
            return Ok(Json(response).into_response());
        }
        tokio::select! {
            Ok(()) = published.changed() => {}
            Ok(()) = corrections.changed() => {}
            _ = &mut unwanted => break,
            () = discovery.ending.begun() => break,
            () = tokio::time::sleep_until(end) => break,
        }
    }
    Ok(StatusCode::NOT_MODIFIED.into_response())
}

/// A member that polls.
#[derive(Debug)]
struct Asker {
    member: MemberId,
    /// What it decides by, as far as it is believed.
    held: Option<SnapshotVersion>,
    /// What it is given to prove itself by from now on.
    ticket: Option<Ticket>,
    /// How many corrections it has read.
    read: u64,
}

impl Discovery {
    /// What a member is sent, where there is something newer: a snapshot that it has not refused, or corrections.
    fn answer(&self, asker: &Asker, newest: &Published) -> Result<Option<DiscoveryResponse>, Outage> {
        let Asker { member, held, ticket, read } = asker;
        let (service, version) = (&newest.snapshot.service, newest.snapshot.version());
        let corrections = self.corrections.after(service, *read);
        let is_news = held.is_none_or(|held| held < version);
        if !is_news && corrections.records == Records::default() {
            return Ok(None);
        }
        let nonce = getrandom::u64().map_err(|error| Outage { what: "draw a nonce", cause: error.to_string() })?;
        let nonce = format!("{nonce:016x}");
        let sends = is_news && self.members.sends(service, member, version, &nonce) == Sending::Booked;
        if !sends && corrections.records == Records::default() {
            return Ok(None);
        }
        debug!(%service, %member, %version, sends, cursor = corrections.cursor.as_str(), "poll answered");
        let stays = || held.map(|held| held.to_string()).unwrap_or_default();
        Ok(Some(DiscoveryResponse {
            version_info: if sends { version.to_string() } else { stays() },
            resources: sends.then(|| newest.resource()).into_iter().collect(),
            type_url: SNAPSHOT_TYPE_URL.to_owned(),
            ticket: ticket.clone(),
            corrections: Some(corrections),
            nonce,
        }))
    }

    /// Tells the operator once: the proxy asks again every second until somebody creates the service.
    fn unknown(&self, service: &ServiceName, member: &MemberId) {
        let mut unknown = self.unknown.lock();
        if unknown.len() < UNKNOWN_MAX && unknown.insert(service.clone()) {
            warn!(%service, %member, "a proxy asks for a service that does not exist");
        }
    }
}

impl From<TurnedAway> for ApiError {
    fn from(away: TurnedAway) -> Self {
        match away {
            TurnedAway::Full => Self::new(Kind::OUTAGE, away),
            TurnedAway::NoTicket(_) => Self::new(Kind::TICKET, away),
        }
    }
}

#[cfg(test)]
mod tests;
