//! The fleet's memory of sessions: what proxies have learnt, and what one is told that meets ids which it does not know.
//!
//! Ids come as keyed hashes; no session id is ever known here. What stands under an id stands for as long as its
//! assignment is honoured and the session has not ended; what has ended makes way, and a fact overrules a guess.

mod standing;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Json;
use axum::extract::State;
use colorfast_core::error::FieldError;
use colorfast_core::ids::{ServiceName, Sid, SnapshotVersion};
use colorfast_core::memory::{Remembered, Visits, record};
use colorfast_core::rendezvous::mix;
use colorfast_core::settings::PinSettings;
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::sessions::{Ask, Records, SessionsReport, Told};
use tracing::warn;

use self::standing::{Ground, How, Overruled, Standing, Teller, Word};
use super::access::Caller;
use super::accounts::Accounts;
use super::clock;
use super::corrections::Corrections;
use super::directory::{Directory, Published};
use super::http::Document;
use super::members::{MemberId, Members, is_number};
use super::openapi::Operation;
use super::origins::{self, PREFIX};
use super::problem::{ApiError, Kind};
use super::tickets::Tickets;
use crate::store::Ephemera;

/// Most sessions of all services. Beyond that those that never came back make way.
const SESSIONS_MAX: usize = 2_000_000;
/// So many sessions are looked at, and so often, for one that makes way.
const LOOK: usize = 16;
const LOOKS: usize = 2;
/// The operator is told of every so many sessions that made way or found no room.
const CROWDED_EVERY: usize = 100_000;

/// The sessions of every service.
#[derive(Debug)]
pub struct Sessions {
    directory: Arc<Directory>,
    members: Arc<Members>,
    tickets: Arc<Tickets>,
    ephemera: Arc<dyn Ephemera>,
    accounts: Arc<Accounts>,
    corrections: Arc<Corrections>,
    /// Most that are remembered.
    room: usize,
    /// How many there are, as of the last count and what came since.
    count: AtomicUsize,
    /// How many made way for others, or found no room.
    crowded: AtomicUsize,
}

impl Sessions {
    /// The sessions that `ephemera` holds.
    pub fn new(
        directory: Arc<Directory>,
        members: Arc<Members>,
        tickets: Arc<Tickets>,
        ephemera: Arc<dyn Ephemera>,
        accounts: Arc<Accounts>,
        corrections: Arc<Corrections>,
    ) -> Self {
        let (count, crowded) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let room = SESSIONS_MAX;
        let sessions = Self { directory, members, tickets, ephemera, accounts, corrections, room, count, crowded };
        sessions.recount();
        sessions
    }

    /// Counts them anew, after some have been dropped.
    pub fn recount(&self) {
        self.count.store(self.ephemera.count(PREFIX), Ordering::Relaxed);
    }

    /// Takes in what an instance of a member has learnt.
    pub fn learn(&self, member: &MemberId, instance: &str, reports: &[SessionsReport], now: UnixMillis) {
        let teller = Teller::of(member, instance);
        for report in reports {
            let Some(published) = self.published(&report.service) else { continue };
            for (id, session) in report.records.sessions().unwrap_or_default() {
                self.hear(&published, id, &Word { session, teller, how: How::Reported }, now);
            }
        }
    }

    fn published(&self, service: &ServiceName) -> Option<Arc<Published>> {
        self.directory.watch(service).map(|service| service.borrow().clone())
    }

    /// Takes in what a proxy says of a session, and gives the answer to it.
    fn hear(&self, published: &Published, id: Sid, word: &Word, now: UnixMillis) -> Option<Remembered> {
        if word.session.has_ended() {
            self.forget(published, id, &word.session);
            return None;
        }
        // Most sessions are told of under the id that they began with.
        let session = match word.session.sid == id {
            true => word.session,
            false => origins::trace(self.ephemera.as_ref(), &published.snapshot.service, word.session),
        };
        // A proxy whose clock is fast has seen nothing in the future.
        let (began, seen) = (session.began.min(now.seconds()), session.seen.min(now.seconds()));
        let session = Remembered { began, seen, ..session };
        let traced = Word { session, ..*word };
        let is_traced = !traced.session.agrees_with(&word.session);
        let word = &traced;
        let (key, ground) = (key(published, id), Ground::new(published, now));
        let has_room = self.make_room(&key, id, &word.session);
        let expires = expiry(&word.session, &published.snapshot.settings.pin, now);
        let (mut outcome, mut is_new) = (ground.weigh(None, word), false);
        self.ephemera.merge(&key, Some(expires), &mut |bytes| {
            let known = bytes.and_then(Standing::read);
            outcome = ground.weigh(known, word);
            is_new = bytes.is_none() && has_room && outcome.kept.is_some();
            let changes = outcome.kept != known && (bytes.is_some() || has_room);
            outcome.kept.filter(|_| changes).map(|kept| kept.write(id))
        });
        if is_new {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        let service = &published.snapshot.service;
        if let Some(kept) = outcome.kept {
            let is_told = is_traced && word.how == How::Reported;
            if is_told || outcome.overruled == Overruled::Somebody {
                self.corrections.add(service, id, &kept.session);
            }
            if outcome.answer.is_some() {
                self.accounts.told(service, id, &word.session, &kept.session, now);
            }
        }
        outcome.answer
    }

    /// Whether there is room for what is told under `key`: beyond the limit another session makes way, one that never
    /// came back before any that did, and none that did for one that did not.
    fn make_room(&self, key: &str, id: Sid, told: &Remembered) -> bool {
        if self.count.load(Ordering::Relaxed) < self.room || self.ephemera.get(key).is_some() {
            return true;
        }
        let crowded = self.crowded.fetch_add(1, Ordering::Relaxed);
        if crowded.is_multiple_of(CROWDED_EVERY) {
            let crowded = crowded + 1;
            warn!(
                crowded,
                "the memory of sessions is full: some make way for new ones, those that never came back first"
            );
        }
        // Ids are keyed hashes: those after any place are as good as drawn.
        let mut from = key.replace(&digits(id), &digits(Sid(mix(id.0))));
        let mut least = None;
        for _ in 0..LOOKS {
            let sample = self.ephemera.sample(PREFIX, &from, LOOK);
            let Some((last, _)) = sample.last() else { break };
            from.clone_from(last);
            let worth = |bytes: &[u8]| Standing::read(bytes).map(|known| (known.session.visits, known.session.seen));
            let all = sample.into_iter().map(|(key, bytes)| (worth(&bytes), key));
            least = all.chain(least).min();
            if matches!(least, Some((None | Some((Visits::First, _)), _))) {
                break;
            }
        }
        match least {
            Some((worth, key)) if worth.is_none_or(|(visits, _)| visits <= told.visits) => {
                self.remove(&key);
                true
            }
            _ => false,
        }
    }

    /// Forgets a session that has ended, unless another one is remembered under its id.
    fn forget(&self, published: &Published, id: Sid, ended: &Remembered) {
        if self.get(published, id).is_some_and(|known| known.sid == ended.sid && known.began <= ended.began) {
            self.remove(&key(published, id));
        }
    }

    fn remove(&self, key: &str) {
        self.ephemera.remove(key);
        let _ = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    }

    /// What is remembered of a session.
    pub fn get(&self, published: &Published, id: Sid) -> Option<Remembered> {
        Standing::read(&self.ephemera.get(&key(published, id))?).map(|standing| standing.session)
    }
}

fn key(published: &Published, id: Sid) -> String {
    origins::key(&published.snapshot.service, id)
}

fn digits(id: Sid) -> String {
    format!("{:016x}", id.0)
}

/// When a session that is told of now has ended for certain, whoever told of it before.
fn expiry(session: &Remembered, ages: &PinSettings, now: UnixMillis) -> UnixMillis {
    let end = session.seen.max(now.seconds()).plus(ages.idle_timeout_seconds.into());
    UnixMillis(end.0.saturating_mul(1000))
}

/// What `ask` is for.
pub fn describe_ask(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("askSessions", "What the fleet remembers of sessions", "proxies")
        .describe(
            "A proxy asks while several slots hold sessions: under ids that it does not know it says what it would do, \
             under ids that an answer hands out what it has done. The first stands, a fact overrules a guess, and what \
             has ended makes way. A guess of a snapshot that is not the newest begins nothing: its id is left out of the \
             answer, and the proxy decides it anew.",
        )
        .body::<Ask>("What the proxy would do, or has done.")
        .answers::<Told>("What stands from now on.")
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
    let (version, proposals) = validate(&ask)?;
    let service = &ask.service;
    let no_service = || ApiError::from(colorfast_core::release::Refusal::NoService(service.clone()));
    let published = sessions.published(service).ok_or_else(no_service)?;
    if !sessions.members.services_of(&member).contains(service) {
        let detail = format!("{member} is no member of {service}: it becomes one by asking for a snapshot");
        return Err(ApiError::new(Kind::NOT_MEMBER, detail));
    }
    let (teller, how, now) = (Teller::of(&member, &ask.instance), How::Asked(version), clock::now());
    let mut stands = Vec::new();
    for (id, session) in proposals {
        if let Some(session) = sessions.hear(&published, id, &Word { session, teller, how }, now) {
            stands.extend_from_slice(&record(id, &session));
        }
    }
    Ok(Json(Told {
        sessions: Records::of(&stands),
        version_info: published.snapshot.version().to_string(),
        incarnation: sessions.corrections.incarnation().clone(),
    }))
}

/// The snapshot and the proposals of a question that keeps the rules.
fn validate(ask: &Ask) -> Result<(SnapshotVersion, Vec<(Sid, Remembered)>), FieldError> {
    if !is_number(&ask.instance) {
        return Err(FieldError::new("instance", "is not 16 lower-case hex digits"));
    }
    let version = match ask.version_info.as_str() {
        "" => SnapshotVersion::default(),
        text => text.parse().map_err(|error| FieldError::new("version_info", error))?,
    };
    let most = Records::MAX;
    let Some(proposals) = ask.proposals.sessions().filter(|all| !all.is_empty()) else {
        let rule = format!("are not 1 to {most} whole records in base64url without padding");
        return Err(FieldError::new("proposals", rule));
    };
    let ids: BTreeSet<_> = proposals.iter().map(|(id, _)| id.0).collect();
    if ids.len() < proposals.len() {
        return Err(FieldError::new("proposals", "have an id twice"));
    }
    Ok((version, proposals))
}

#[cfg(test)]
mod tests;
