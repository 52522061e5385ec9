//! The roll of one service: its members, and how far they are with each of its last versions.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use colorfast_core::ids::{Epoch, SnapshotVersion};
use colorfast_core::time::UnixMillis;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::id::MemberId;
use super::member::{Member, Record, Refused};
use super::{Heard, Said, Sending};
use crate::api::{Confirmation, MemberProgress, Millis, Outcome, Progress};
use crate::server::tickets::TicketKey;

/// How many versions are remembered with the time that their confirmation took.
const VERSIONS_MAX: usize = 64;
/// How long a member that lapsed without the newest version is still named, and nobody else takes the name of one that has
/// shown its ticket.
const NAMED: Duration = Duration::from_secs(3600);

/// A version of the service in the log.
#[derive(Debug, Clone)]
pub struct Appended {
    version: u64,
    at: UnixMillis,
    when: Option<Instant>,
    last_acknowledgement: Option<Instant>,
    confirmed_after: Option<Duration>,
}

impl Appended {
    /// `version` was appended `at`; `when` on this process's clock, unknown for what an earlier process appended.
    pub fn new(version: u64, at: UnixMillis, when: Option<Instant>) -> Self {
        Self { version, at, when, last_acknowledgement: None, confirmed_after: None }
    }

    /// Which version.
    pub fn version(&self) -> u64 {
        self.version
    }
}

/// What a poll told that was not known.
#[derive(Debug)]
pub struct News {
    /// Resolves when the poll must end early.
    pub poll: oneshot::Receiver<()>,
    /// What the member refused just now.
    pub refused: Option<Told>,
    /// It newly holds what this log cannot have given it.
    pub ahead: Option<SnapshotVersion>,
}

/// A refusal as it goes to the operator's log.
#[derive(Debug)]
pub struct Told {
    /// What was refused.
    pub version: SnapshotVersion,
    /// Why.
    pub error: String,
}

/// Whether one more member can be taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    /// It can.
    Free,
    /// It can, since one that lapsed before is named no more.
    Dropped(MemberId),
    /// All are live.
    None {
        /// Whether there was room when one came last.
        news: bool,
    },
}

/// How a member left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It had what it was asked for. Where it has shown its ticket its name is kept for it.
    Current,
    /// It lacks a version that was appended while it was a member: it stays to be named.
    Lacking,
    /// It is not named any more either.
    Buried,
}

/// The members of one service.
#[derive(Debug)]
pub struct Roll {
    epoch: Epoch,
    current: u64,
    members: BTreeMap<MemberId, Member>,
    versions: VecDeque<Appended>,
    changed: watch::Sender<()>,
    /// Whether a proxy was turned away since the last one was taken in.
    full: bool,
}

impl Roll {
    /// Nobody yet.
    pub fn new(epoch: Epoch) -> Self {
        let (members, versions) = (BTreeMap::new(), VecDeque::new());
        Self { epoch, current: 0, members, versions, changed: watch::Sender::new(()), full: false }
    }

    /// Takes in a member that an earlier process knew.
    pub fn restore(&mut self, record: Record, deadline: Instant) {
        let deadline = if record.lapsed.is_some() { Instant::now() + NAMED } else { deadline };
        self.members.insert(record.member.clone(), Member::new(record, deadline));
    }

    /// The service has a newer version.
    pub fn append(&mut self, appended: Appended) {
        self.current = appended.version;
        self.versions.push_back(appended);
        let excess = self.versions.len().saturating_sub(VERSIONS_MAX);
        self.versions.drain(..excess);
    }

    /// What is remembered of the append of `version`.
    pub fn appended(&self, version: u64) -> Option<&Appended> {
        self.versions.iter().rev().find(|appended| appended.version == version)
    }

    /// Wakes whenever a member joins, leaves, or takes or refuses a version.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Makes room for one more than are kept, among `most`. Who has lapsed is kept only to be named, and goes first.
    pub fn make_room(&mut self, most: usize) -> Room {
        if self.members.len() < most {
            self.full = false;
            return Room::Free;
        }
        let lapsed = self.members.iter().filter(|(_, member)| !member.is_live());
        let Some(oldest) = lapsed.min_by_key(|(_, member)| member.deadline).map(|(id, _)| id.clone()) else {
            return Room::None { news: !std::mem::replace(&mut self.full, true) };
        };
        self.members.remove(&oldest);
        self.full = false;
        self.settle(Instant::now());
        Room::Dropped(oldest)
    }

    /// Whether `id` is a member now.
    pub fn is_member(&self, id: &MemberId) -> bool {
        self.members.get(id).is_some_and(Member::is_live)
    }

    /// Whether `id` has shown its ticket of this key.
    pub fn has_shown(&self, id: &MemberId, key: &TicketKey) -> bool {
        self.record(id).is_some_and(|record| record.shown.as_ref() == Some(key))
    }

    /// What is kept of `id`.
    pub fn record(&self, id: &MemberId) -> Option<&Record> {
        self.members.get(id).map(|member| &member.record)
    }

    /// Every member, in order of name.
    pub fn live_records(&self) -> Vec<Record> {
        self.live().map(|member| member.record.clone()).collect()
    }

    fn live(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.is_live())
    }

    /// A proxy polled: it is a member from now until `deadline`.
    pub fn hear(&mut self, id: &MemberId, said: Said, at: UnixMillis, now: Instant, deadline: Instant) -> News {
        let (epoch, current) = (self.epoch, self.current);
        let fresh = || Record {
            member: id.clone(),
            epoch,
            joined: current,
            held: None,
            foreign: None,
            refused: None,
            shown: None,
            seen: at,
            lapsed: None,
        };
        let mut changed = !self.is_member(id);
        let appended = self.versions.back().and_then(|appended| appended.when);
        let member = self.members.entry(id.clone()).or_insert_with(|| Member::new(fresh(), deadline));
        // Silent until now: who waits is told that it is not any more.
        changed |= member.heard.is_none_or(|heard| appended.is_some_and(|appended| heard < appended));
        (member.heard, member.deadline) = (Some(now), deadline);
        (member.record.seen, member.record.lapsed) = (at, None);
        let heard = match said.claims {
            Some(claims) => {
                member.record.shown = Some(said.key);
                claims
            }
            None => Heard { held: member.record.held(), refused: None },
        };
        let moved = member.record.held() != heard.held;
        member.record.hold(heard.held, current);
        let taken = |refused: &Refused| heard.held >= Some(refused.version());
        changed |= moved | member.record.refused.take_if(|refused| taken(refused)).is_some();
        let refused = heard.refused.and_then(|(nonce, said)| {
            let refused = member.refuse(&nonce, &said)?;
            Some(Told { version: refused.version(), error: refused.error.clone() })
        });
        changed |= refused.is_some();
        let newest = SnapshotVersion { epoch, version: current };
        let news = News { poll: member.open_poll(), refused, ahead: heard.held.filter(|held| moved && *held > newest) };
        if moved {
            self.acknowledged(id, now);
        }
        if changed {
            self.settle(now);
        }
        news
    }

    /// Books a response to `id`, unless it has refused that version.
    pub fn send(&mut self, id: &MemberId, version: SnapshotVersion, nonce: &str) -> Sending {
        self.members.get_mut(id).map_or(Sending::Withheld, |member| member.send(version, nonce))
    }

    /// Drops the member of that name.
    pub fn forget(&mut self, name: &str) -> Option<MemberId> {
        let id = self.members.keys().find(|id| id.to_string() == name)?.clone();
        self.members.remove(&id);
        self.settle(Instant::now());
        Some(id)
    }

    /// Drops who lapsed, except those that must still be named.
    pub fn expire(&mut self, now: Instant) -> Vec<(MemberId, Left)> {
        let mut left = Vec::new();
        let (epoch, current) = (self.epoch, self.current);
        self.members.retain(|id, member| {
            if member.deadline > now {
                return true;
            }
            let how = match member.record.lapsed {
                Some(_) => Left::Buried,
                None if holds(epoch, current, member, current) || member.record.joined >= current => Left::Current,
                None => Left::Lacking,
            };
            left.push((id.clone(), how));
            member.record.lapsed = Some(current);
            member.deadline = now + NAMED;
            how == Left::Lacking || (how == Left::Current && member.record.shown.is_some())
        });
        if !left.is_empty() {
            self.settle(now);
        }
        left
    }

    /// When somebody lapses next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.members.values().map(|member| member.deadline).min()
    }

    /// The members that have not acknowledged `version`.
    pub fn lacking(&self, version: u64) -> Vec<String> {
        let lacking = self.live().filter(|member| !self.has(member, version));
        lacking.map(|member| member.record.member.to_string()).collect()
    }

    /// How far everyone is who is asked for a version.
    pub fn confirmation(&self, appended: &Appended) -> Confirmation {
        let asked = self.asked(appended.version);
        let members: Vec<_> = asked
            .map(|member| MemberProgress {
                member: member.record.member.to_string(),
                progress: self.progress(member, appended),
                services: Vec::new(),
            })
            .collect();
        let outcome = match members.as_slice() {
            [] => Outcome::NoMembers,
            all if all.iter().all(|member| member.progress == Progress::Acknowledged) => Outcome::Confirmed,
            _ => Outcome::Pending,
        };
        let known = self.appended(appended.version).and_then(|appended| appended.confirmed_after);
        let confirmed_after = known.filter(|_| outcome == Outcome::Confirmed);
        Confirmation {
            version: appended.version,
            outcome,
            confirmed_after_ms: confirmed_after.map(|span| Millis(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))),
            members,
        }
    }

    /// Who is asked for a version: every member, and who was one when it was appended and lapsed without it.
    fn asked(&self, version: u64) -> impl Iterator<Item = &Member> {
        self.members.values().filter(move |member| match member.record.lapsed {
            None => true,
            Some(at) => member.record.joined < version && version <= at && !self.has(member, version),
        })
    }

    fn has(&self, member: &Member, version: u64) -> bool {
        holds(self.epoch, self.current, member, version)
    }

    fn progress(&self, member: &Member, appended: &Appended) -> Progress {
        if self.has(member, appended.version) {
            return Progress::Acknowledged;
        }
        let wanted = SnapshotVersion { epoch: self.epoch, version: appended.version };
        if let Some(refused) = member.record.refused.as_ref().filter(|refused| refused.version() >= wanted) {
            return Progress::Refused { error: refused.error.clone(), retried: refused.retried };
        }
        let heard_since = match (member.heard, appended.when) {
            (Some(heard), Some(when)) => heard >= when,
            (heard, None) => heard.is_some() || member.record.seen >= appended.at,
            (None, Some(_)) => false,
        };
        if heard_since { Progress::Lagging } else { Progress::Silent }
    }

    /// `id` holds another version than before.
    fn acknowledged(&mut self, id: &MemberId, now: Instant) {
        let Some(member) = self.members.get(id) else { return };
        let (epoch, current) = (self.epoch, self.current);
        for appended in self.versions.iter_mut().filter(|appended| appended.confirmed_after.is_none()) {
            if holds(epoch, current, member, appended.version) {
                appended.last_acknowledgement = Some(now);
            }
        }
    }

    /// Something changed: closes the books on the versions that everyone has now, and wakes who waits.
    fn settle(&mut self, now: Instant) {
        let confirmed = |appended: &&Appended| {
            let mut asked = self.asked(appended.version).peekable();
            asked.peek().is_some() && asked.all(|member| self.has(member, appended.version))
        };
        let open = self.versions.iter().filter(|appended| appended.confirmed_after.is_none());
        let closed: Vec<_> = open.filter(confirmed).map(|appended| appended.version).collect();
        for appended in self.versions.iter_mut().filter(|appended| closed.contains(&appended.version)) {
            let last = appended.last_acknowledgement.unwrap_or(now);
            appended.confirmed_after = appended.when.map(|when| last.saturating_duration_since(when));
        }
        self.changed.send_replace(());
    }
}

/// Whether `member` decides by `version` or a newer one of this log. What a log cannot have given is no version of it.
fn holds(epoch: Epoch, current: u64, member: &Member, version: u64) -> bool {
    let held = member.record.held_of_ours().filter(|held| held.epoch == epoch && held.version <= current);
    held.is_some_and(|held| held.version >= version)
}
