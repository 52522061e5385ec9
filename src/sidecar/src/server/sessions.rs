//! The fleet's memory of sessions: what proxies have learnt, and what one is told that meets an id which it does not know.
//!
//! Ids come as keyed hashes; no session id is ever known here. The first proposal for a session stands for as long as its
//! assignment is honoured and the session has not ended, whichever proxy made it; what has ended makes way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Json;
use axum::extract::State;
use colorfast_core::error::FieldError;
use colorfast_core::ids::{AssignmentId, ServiceName, Sid};
use colorfast_core::memory::{RECORD, Record, Remembered, read, record};
use colorfast_core::settings::PinSettings;
use colorfast_core::time::{UnixMillis, UnixSeconds};
use colorfast_core::wire::sessions::{Ask, Records, SessionsReport, Told};
use tracing::warn;

use super::access::Caller;
use super::clock;
use super::directory::{Directory, Published};
use super::http::Document;
use super::members::{MemberId, Members};
use super::openapi::Operation;
use super::problem::{ApiError, Kind};
use super::tickets::Tickets;
use crate::store::Ephemera;

/// Most sessions of all services. Beyond that new ones are answered and not remembered.
const SESSIONS_MAX: usize = 2_000_000;
/// What keys of sessions begin with.
const PREFIX: &str = "session/";

/// The sessions of every service.
#[derive(Debug)]
pub struct Sessions {
    directory: Arc<Directory>,
    members: Arc<Members>,
    tickets: Arc<Tickets>,
    ephemera: Arc<dyn Ephemera>,
    /// How many there are, as of the last count and what came since.
    count: AtomicUsize,
}

impl Sessions {
    /// The sessions that `ephemera` holds.
    pub fn new(
        directory: Arc<Directory>,
        members: Arc<Members>,
        tickets: Arc<Tickets>,
        ephemera: Arc<dyn Ephemera>,
    ) -> Self {
        let sessions = Self { directory, members, tickets, ephemera, count: AtomicUsize::new(0) };
        sessions.recount();
        sessions
    }

    /// Counts them anew, after some have been dropped.
    pub fn recount(&self) {
        self.count.store(self.ephemera.count(PREFIX), Ordering::Relaxed);
    }

    /// Takes in what an instance has learnt.
    pub fn learn(&self, reports: &[SessionsReport], now: UnixMillis) {
        for report in reports {
            let Some(published) = self.published(&report.service) else { continue };
            for (id, session) in report.records.sessions().unwrap_or_default() {
                match session.has_ended() {
                    true => self.forget(&published, id, &session),
                    false => drop(self.put(&published, id, &session, now)),
                }
            }
        }
    }

    fn published(&self, service: &ServiceName) -> Option<Arc<Published>> {
        self.directory.watch(service).map(|service| service.borrow().clone())
    }

    /// Remembers `proposal` unless a session that holds stands there; answers what stands there then, seen now.
    fn put(&self, published: &Published, id: Sid, proposal: &Remembered, now: UnixMillis) -> Remembered {
        let ages = &published.snapshot.settings.pin;
        let mut stands = *proposal;
        let is_full = self.count.load(Ordering::Relaxed) >= SESSIONS_MAX;
        self.ephemera.merge(&key(published, id), Some(expiry(proposal, ages)), &mut |known| {
            let known = known.and_then(of_bytes);
            if let Some(known) = known.filter(|known| holds(published, known, now.seconds())) {
                stands = Remembered { seen: known.seen.max(proposal.seen), ..known };
            } else if known.is_none() {
                if is_full {
                    return None;
                }
                if self.count.fetch_add(1, Ordering::Relaxed) + 1 == SESSIONS_MAX {
                    warn!("the memory of sessions is full: new ones are not remembered for the fleet");
                }
            }
            Some(record(id, &stands).to_vec())
        });
        stands
    }

    /// Forgets a session that has ended, unless another one is remembered under its id.
    fn forget(&self, published: &Published, id: Sid, ended: &Remembered) {
        if self.get(published, id).is_some_and(|known| known.sid == ended.sid) {
            self.ephemera.remove(&key(published, id));
            let _ = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
        }
    }

    /// What is remembered of a session.
    pub fn get(&self, published: &Published, id: Sid) -> Option<Remembered> {
        of_bytes(&self.ephemera.get(&key(published, id))?)
    }
}

fn key(published: &Published, id: Sid) -> String {
    format!("{PREFIX}{}/{:016x}", published.snapshot.service, id.0)
}

fn of_bytes(bytes: &[u8]) -> Option<Remembered> {
    <&Record>::try_from(bytes).ok().map(|record| read(record).1)
}

/// When a session has ended for certain: by idleness, unless it is seen again, or by its age.
fn expiry(session: &Remembered, ages: &PinSettings) -> UnixMillis {
    let end = session.began.plus(ages.max_age_seconds.into()).min(session.seen.plus(ages.idle_timeout_seconds.into()));
    UnixMillis(end.0.saturating_mul(1000))
}

/// Whether a session goes on: it has not ended, and some slot honours its assignment.
fn holds(published: &Published, session: &Remembered, now: UnixSeconds) -> bool {
    let honours = |assignment: AssignmentId| {
        published.snapshot.slots.iter().any(|slot| slot.phase.honours_pins() && slot.assignment == Some(assignment))
    };
    honours(session.assignment) && !session.is_over(&published.snapshot.settings.pin, now)
}

/// What `ask` is for.
pub fn describe_ask(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("askSession", "What the fleet remembers of a session", "proxies")
        .describe(
            "A proxy asks while several slots hold sessions, and it does not know the id of a request. Where nothing is \
             remembered, or what is has ended, the proposal is from now on.",
        )
        .body::<Ask>("Whom it is about, and what the proxy would do.")
        .answers::<Told>("What is remembered from now on.")
        .may_fail(&[Kind::NO_SERVICE, Kind::NOT_MEMBER, Kind::OTHER_NODE, Kind::TICKET])
}

/// `POST /v3/sessions:ask`
pub async fn ask(
    State(sessions): State<Arc<Sessions>>,
    caller: Caller,
    Document(ask): Document<Ask>,
) -> Result<Json<Told>, ApiError> {
    let member = MemberId::of(&ask.node)?;
    caller.be(member.node())?;
    sessions.tickets.admit(&member, ask.ticket.as_ref(), "a question")?;
    let Some((id, proposal)) = ask.proposal.only() else {
        let rule = format!("is not one record: {RECORD} bytes in base64url without padding");
        return Err(FieldError::new("proposal", rule).into());
    };
    let service = &ask.service;
    let no_service = || ApiError::from(colorfast_core::release::Refusal::NoService(service.clone()));
    let published = sessions.published(service).ok_or_else(no_service)?;
    if !sessions.members.services_of(&member).contains(service) {
        let detail = format!("{member} is no member of {service}: it becomes one by asking for a snapshot");
        return Err(ApiError::new(Kind::NOT_MEMBER, detail));
    }
    let stands = sessions.put(&published, id, &proposal, clock::now());
    Ok(Json(Told { session: Records::one(id, &stands) }))
}

#[cfg(test)]
mod tests;
