//! The leader of a service: polls the sidecar for the process, validates what comes, and publishes it.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use colorfast_core::ids::{AssignmentId, Epoch, SnapshotVersion};
use colorfast_core::names::{self, metric, shared};
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::discovery::{Corrections, Cursor, DiscoveryRequest, Status};
use colorfast_core::wire::ticket::Ticket;

use super::discovery_answer::DiscoveryAnswer;
use super::identity::Identity;
use super::link::{self, Link};
use crate::entropy::Draws;
use crate::host::shared::lease::Lease;
use crate::host::shared::published::{Rank, Step};
use crate::host::shared::ticket::{Given, Refused};
use crate::host::{self, HostError};
use crate::service::Service;

/// How often the lease is looked at.
const LEASE_CHECK_MS: u64 = 500;
/// How long the sidecar may hold a poll open. Its own limit is lower, so that this is met only when it is stuck.
const POLL_TIMEOUT: Duration = Duration::from_secs(30);
/// A call without any answer this long is given up: none is known to get lost.
const POLL_LOST_MS: u64 = 40_000;
/// A poll younger than this would have brought what is wanted.
const POLL_FRESH_MS: u64 = 200;
/// A poll that brought nothing was held open for this long at least, by a sidecar in its senses.
const POLL_HELD_MS: u64 = 500;
/// Largest answer that is read: thousands of times what a snapshot takes.
const ANSWER_MAX: usize = 1 << 20;
/// Delay after a failed poll: doubled from the first to the last, each time with jitter.
const BACKOFF_MS: (u64, u64) = (50, 1_000);
/// Longest text of a refusal.
const REFUSAL_MAX: usize = 512;

/// One root's part in leading one service.
#[derive(Debug)]
pub struct Leader {
    service: Rc<Service>,
    link: Rc<Link>,
    identity: Rc<Identity>,
    draws: Rc<Draws>,
    lease: Lease,
    leads: bool,
    lease_check_at: UnixMillis,
    call: Option<Poll>,
    poll_at: UnixMillis,
    backoff_ms: u64,
    nonce: String,
    refusal: Option<Status>,
    wanted: Option<AssignmentId>,
    /// The rank that the poll which is out reports on.
    reported: Rank,
    trouble: Option<Trouble>,
}

/// Why polls come to nothing. Told when it begins, when it changes and when it is over, not at every poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Envoy did not send the poll: the cluster is missing, mostly.
    NotSent(HostError),
    /// There was no answer.
    NoAnswer,
    /// The sidecar does not take the token.
    Token,
    /// The sidecar wants a ticket that this process does not have.
    Ticket,
    /// The answer has a status that discovery does not know; Envoy itself says 503 for a sidecar that is away.
    Status(u16),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(error) => write!(f, "a poll cannot be sent ({error}): is there such a cluster?"),
            Self::NoAnswer => f.write_str("a poll had no answer"),
            Self::Token => write!(f, "the sidecar refuses the token ({} in Envoy's environment)", names::ENV_TOKEN),
            Self::Ticket => {
                f.write_str("the sidecar wants the ticket of this process (`colorfast member forget` helps)")
            }
            Self::Status(403) => f.write_str("the sidecar says that the token is for other nodes than this"),
            Self::Status(404) => {
                f.write_str("the sidecar does not know the service (`colorfast service apply` creates it)")
            }
            Self::Status(503) => f.write_str("the sidecar cannot be reached"),
            Self::Status(status) => write!(f, "a poll was answered with {status}"),
        }
    }
}

/// A poll that is out.
#[derive(Debug)]
struct Poll {
    token: u32,
    sent: UnixMillis,
    ticket: Option<Ticket>,
}

/// Why an answer was not taken.
enum Unusable {
    /// It breaks a rule: the sidecar is told which.
    Refused(String),
    /// It brings nothing newer: what it brings, and what is held.
    Stale(SnapshotVersion, SnapshotVersion),
}

impl Leader {
    /// A root that may come to lead `service`, whose configuration came at `generation`.
    pub fn new(
        service: &Rc<Service>,
        link: &Rc<Link>,
        identity: &Rc<Identity>,
        draws: &Rc<Draws>,
        generation: u64,
    ) -> Self {
        Self {
            lease: Lease::new(&service.name, identity.owner, generation),
            service: Rc::clone(service),
            link: Rc::clone(link),
            identity: Rc::clone(identity),
            draws: Rc::clone(draws),
            leads: false,
            lease_check_at: UnixMillis(0),
            call: None,
            poll_at: UnixMillis(0),
            backoff_ms: BACKOFF_MS.0,
            nonce: String::new(),
            refusal: None,
            wanted: None,
            reported: Rank::default(),
            trouble: None,
        }
    }

    /// Takes or keeps the lease, and polls where no poll is out.
    pub fn tick(&mut self, now: UnixMillis) {
        if now >= self.lease_check_at || self.lease_check_at > now.plus_millis(LEASE_CHECK_MS) {
            self.lease_check_at = now.plus_millis(LEASE_CHECK_MS);
            let led = std::mem::replace(&mut self.leads, self.lease.hold(now));
            if led != self.leads {
                self.start_over();
            }
        }
        if !self.leads {
            return;
        }
        self.heed_wanted(now);
        self.heed_retreat(now);
        if let Some(call) = &self.call
            && now.since(call.sent) < POLL_LOST_MS
        {
            return;
        }
        if now >= self.poll_at || self.poll_at > now.plus_millis(BACKOFF_MS.1 * 2) {
            self.poll(now);
        }
    }

    /// Handles the answer to a poll; `false` where the token is none of this leader's. An answer to a poll that was
    /// given up, or that comes after the lease was lost, is dropped: whoever leads now asks for itself.
    pub fn answer(&mut self, token: u32, body_size: usize, now: UnixMillis) -> bool {
        let Some(call) = self.call.take_if(|call| call.token == token) else { return false };
        if !self.lease.is_held() {
            self.leads = false;
            self.start_over();
            return true;
        }
        let refused_before = self.refusal.take().is_some();
        let prompt = match host::response_status() {
            Some(200) => match self.take(body_size, now) {
                Ok(()) => true,
                // Told at once, once. A sidecar that goes on sending what is refused, or what cannot even be named,
                // is not asked faster for that.
                Err(Unusable::Refused(error)) => {
                    self.refuse(error);
                    self.poll_soon(now, !refused_before && !self.nonce.is_empty());
                    return true;
                }
                Err(Unusable::Stale(brought, held)) => {
                    log::warn!(
                        "colorfast {}: snapshot {brought} is not above {held}, which is held",
                        self.service.name
                    );
                    false
                }
            },
            Some(403) if link::refuses_ticket(body_size) => match self.link.tickets.refused(call.ticket.as_ref()) {
                // Another service's leader was given it meanwhile.
                Refused::Another => {
                    self.poll(now);
                    return true;
                }
                Refused::None => self.fail(Trouble::Ticket),
            },
            Some(401 | 429) => self.fail(Trouble::Token),
            // Nothing newer, said by the sidecar or by silence. One that says so at once did not hold the poll.
            Some(304 | 504) => now.since(call.sent) >= POLL_HELD_MS,
            None => self.fail(Trouble::NoAnswer),
            Some(status) => self.fail(Trouble::Status(status)),
        };
        if prompt {
            self.backoff_ms = BACKOFF_MS.0;
            if self.trouble.take().is_some() {
                log::info!("colorfast {}: discovery works again", self.service.name);
            }
        }
        self.poll_soon(now, prompt);
        true
    }

    /// Notes that a poll came to nothing; answers that the next is not prompt.
    fn fail(&mut self, trouble: Trouble) -> bool {
        let name = &self.service.name;
        self.service.metrics.count(&metric::polls_failed(name), 1);
        if self.trouble.replace(trouble) != Some(trouble) {
            let held = self.service.current().map(|current| current.plan.version);
            match held.filter(|held| held.epoch != Epoch::BOOTSTRAP) {
                Some(held) => log::warn!("colorfast {name}: goes on by snapshot {held}: {trouble}"),
                None => log::warn!("colorfast {name}: has the snapshot of its configuration only: {trouble}"),
            }
        }
        false
    }

    fn refuse(&mut self, error: String) {
        log::warn!("colorfast {}: snapshot refused: {error}", self.service.name);
        self.service.metrics.count(&metric::snapshots_refused(&self.service.name), 1);
        let message = error.chars().take(REFUSAL_MAX).collect();
        self.refusal = Some(Status { code: Status::INVALID_ARGUMENT, message });
    }

    /// Polls now where that is `prompt`, else after a while.
    fn poll_soon(&mut self, now: UnixMillis, prompt: bool) {
        if prompt { self.poll(now) } else { self.back_off(now) }
    }

    /// A valid pin has named an assignment that this process does not know: ask at once, once for each.
    fn heed_wanted(&mut self, now: UnixMillis) {
        let wanted = read_wanted(&self.service);
        let known = self.service.current().and_then(|current| current.plan.newest_assignment());
        if wanted <= known || wanted <= self.wanted {
            return;
        }
        self.wanted = wanted;
        if self.call.as_ref().is_some_and(|call| now.since(call.sent) > POLL_FRESH_MS) {
            self.call = None;
        }
        self.poll_at = now;
    }

    /// The process has left a snapshot: the poll that is out says that it has it.
    fn heed_retreat(&mut self, now: UnixMillis) {
        let rank = self.service.rank();
        if rank.step == Step::Back && self.reported < rank {
            self.call = None;
            self.poll_at = now;
        }
    }

    fn start_over(&mut self) {
        self.call = None;
        self.nonce.clear();
        self.refusal = None;
        self.poll_at = UnixMillis(0);
        self.backoff_ms = BACKOFF_MS.0;
    }

    fn poll(&mut self, now: UnixMillis) {
        let Some(current) = self.service.current() else { return };
        let holds = &current.plan;
        let ticket = self.link.tickets.shown();
        self.reported = self.service.rank();
        let request = DiscoveryRequest {
            version_info: if holds.is_bootstrap() { String::new() } else { holds.version.to_string() },
            response_nonce: self.nonce.clone(),
            resource_names: vec![self.service.name.clone()],
            type_url: names::SNAPSHOT_TYPE_URL.to_owned(),
            node: self.identity.node.clone(),
            ticket: ticket.clone(),
            error_detail: self.refusal.clone(),
            corrected: read_corrected(&self.service),
        };
        let Ok(body) = serde_json::to_vec(&request) else { return };
        match self.link.call(names::DISCOVERY_PATH, &body, POLL_TIMEOUT) {
            Ok(token) => self.call = Some(Poll { token, sent: now, ticket }),
            Err(error) => {
                self.fail(Trouble::NotSent(error));
                self.back_off(now);
            }
        }
    }

    fn back_off(&mut self, now: UnixMillis) {
        let jitter = self.draws.next() % self.backoff_ms;
        self.poll_at = now.plus_millis(self.backoff_ms / 2 + jitter);
        self.backoff_ms = (self.backoff_ms * 2).min(BACKOFF_MS.1);
    }

    /// Validates an answer and publishes it.
    ///
    /// A snapshot that crashed the VM would crash every leader after it in turn. So its hash is written down before it
    /// is looked at and cleared after; a leader that finds it written was not the first to try.
    fn take(&mut self, body_size: usize, now: UnixMillis) -> Result<(), Unusable> {
        if body_size > ANSWER_MAX {
            self.nonce.clear();
            return Err(Unusable::Refused(format!("the answer has {body_size} bytes, at most {ANSWER_MAX} are read")));
        }
        let answer = host::response_body(body_size)
            .map_err(|error| Unusable::Refused(format!("the answer cannot be read: {error}")))?;
        let parted = DiscoveryAnswer::part(&answer);
        self.nonce = parted.nonce();
        let given = self.link.tickets.take(parted.ticket());
        let key = shared::attempting(&self.service.name);
        let hash = parted.hash().to_le_bytes();
        let mark = host::shared(&key).ok().flatten();
        if mark.is_some_and(|mark| mark == hash) {
            return Err(Unusable::Refused(
                "quarantined: an earlier attempt to read this snapshot did not end".to_owned(),
            ));
        }
        let _ = host::update_shared(&key, |_| Some(hash.to_vec()));
        let taken = self.validate(&answer, now);
        let _ = host::update_shared(&key, |_| Some(Vec::new()));
        match taken {
            // It came for the ticket's sake: to be acknowledged at once.
            Err(Unusable::Stale(..)) if given == Given::New => Ok(()),
            taken => taken,
        }
    }

    fn validate(&self, answer: &[u8], now: UnixMillis) -> Result<(), Unusable> {
        let answered = self.service.read(answer).map_err(Unusable::Refused)?;
        if let Some(corrections) = &answered.corrections {
            self.correct(corrections, now);
            if answered.resources.is_empty() {
                return Ok(());
            }
        }
        let plan = self.service.compile(&answered).map_err(Unusable::Refused)?;
        let _ = self.service.current();
        if self.service.has_left(plan.version) {
            return Err(Unusable::Refused(
                "quarantined: the filter died again and again under this snapshot, and went back to the one before"
                    .to_owned(),
            ));
        }
        let holds = self.service.rank().version;
        if plan.version <= holds {
            return Err(Unusable::Stale(plan.version, holds));
        }
        self.service
            .publish(plan.version, answer, now)
            .map_err(|error| Unusable::Refused(format!("it cannot be published: {error}")))
    }

    /// Writes down what stands in the fleet, wherever this proxy remembers something else, and how far that has come.
    fn correct(&self, Corrections { records, cursor }: &Corrections, now: UnixMillis) {
        let Some(current) = self.service.current() else { return };
        for (id, session) in records.sessions().unwrap_or_default() {
            self.service.correct(&current.plan.settings, id, &session, now.seconds());
        }
        let text = cursor.as_str().as_bytes();
        let _ = host::update_shared(&shared::corrected(&self.service.name), |_| Some(text.to_vec()));
    }
}

/// How far corrections have been applied, whichever VM has led.
fn read_corrected(service: &Service) -> Option<Cursor> {
    let text = host::shared(&shared::corrected(&service.name)).ok()??;
    String::from_utf8(text).ok().map(Cursor::new)
}

/// Tells the leader, whichever VM it is in, that a newer assignment is about.
pub fn want(service: &Service, assignment: AssignmentId) {
    let key = shared::wanted(&service.name);
    let _ = host::update_shared(&key, |current| {
        let current = current.and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        (current < Some(assignment.0)).then(|| assignment.0.to_le_bytes().to_vec())
    });
}

fn read_wanted(service: &Service) -> Option<AssignmentId> {
    let bytes = host::shared(&shared::wanted(&service.name)).ok()??;
    Some(AssignmentId(u64::from_le_bytes(bytes.try_into().ok()?)))
}
