//! Members: which proxies take part in confirmation, and what each of them decides by.
//!
//! A proxy is a member of a service from its first poll until it was silent for the ttl or was forgotten. The table is
//! in memory; every change is written behind to [`Ephemera`], so that a restarted sidecar still knows its members.

mod id;
mod member;
mod roll;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use colorfast_core::ids::{Epoch, ServiceName, SnapshotVersion};
use colorfast_core::release::Acknowledgements;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::{info, warn};

pub use self::id::{MemberId, is_number};
pub use self::member::Record;
pub use self::roll::Appended;
use self::roll::{Left, Roll, Room};
use super::clock;
use super::tickets::TicketKey;
use crate::api::Confirmation;
use crate::store::Ephemera;

/// Most members of one service: more is a fault, or a client that makes names up.
const MEMBERS_MAX: usize = 10_000;

/// The members of every service.
#[derive(Debug)]
pub struct Members {
    epoch: Epoch,
    ttl: Duration,
    ephemera: Arc<dyn Ephemera>,
    rolls: Mutex<BTreeMap<ServiceName, Roll>>,
}

/// What a poll says of the proxy.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// The version that it decides by.
    pub held: Option<SnapshotVersion>,
    /// The nonce of the response that it refused, and why.
    pub refused: Option<(String, String)>,
}

/// A poll, as far as it is believed.
#[derive(Debug, Clone)]
pub struct Said {
    /// The key that tickets are of.
    pub key: TicketKey,
    /// What it says of the proxy; none where it did not show the member's ticket, and might be anybody's words.
    pub claims: Option<Heard>,
}

/// Why a poll counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TurnedAway {
    /// There are too many members.
    #[error("the service has {MEMBERS_MAX} live members already: forget some, or wait until they lapse")]
    Full,
    /// The member has shown its ticket before, and this poll does not.
    #[error(
        "{0} has a ticket and must show it: another process cannot speak for it. `colorfast member forget {0}` lets it \
        have a new one"
    )]
    NoTicket(String),
}

impl Members {
    /// No service yet; with each that is appended come the members that an earlier process knew. Each of them has a
    /// whole `ttl` to come back: the downtime was ours, not theirs.
    pub fn new(epoch: Epoch, ttl: Duration, ephemera: Arc<dyn Ephemera>) -> Self {
        Self { epoch, ttl, ephemera, rolls: Mutex::default() }
    }

    /// How long a member may be silent.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The service is at a newer version.
    ///
    /// Called before a proxy can see the version, so that no acknowledgement comes before the append.
    pub fn append(&self, service: &ServiceName, appended: Appended) {
        let mut rolls = self.rolls.lock();
        let roll = rolls.entry(service.clone()).or_insert_with(|| {
            let mut roll = Roll::new(self.epoch);
            let deadline = Instant::now() + self.ttl;
            self.kept(service, appended.version()).into_iter().for_each(|record| roll.restore(record, deadline));
            roll
        });
        roll.append(appended);
    }

    /// The members that were known before, the service being at `version`.
    fn kept(&self, service: &ServiceName, version: u64) -> Vec<Record> {
        let mut records = Vec::new();
        for (key, bytes) in self.ephemera.scan(&Record::prefix(service)) {
            match serde_json::from_slice::<Record>(&bytes) {
                Ok(record) if record.epoch == self.epoch => records.push(record),
                // The log was restored: whoever followed it before is waited for until it follows this one.
                Ok(record) if record.lapsed.is_none() => records.push(record.carried(self.epoch, version)),
                Ok(_) => self.ephemera.remove(&key),
                Err(error) => {
                    warn!(key, %error, "dropped a member that cannot be read");
                    self.ephemera.remove(&key);
                }
            }
        }
        records
    }

    /// A proxy has asked for a service. The answer resolves when the poll must end early: the same proxy has opened
    /// too many others since, or was forgotten.
    ///
    /// # Errors
    /// Where it counts for nothing: then nothing has changed.
    pub fn heard(&self, service: &ServiceName, id: &MemberId, said: Said) -> Result<oneshot::Receiver<()>, TurnedAway> {
        let mut rolls = self.rolls.lock();
        // A ticket is of the member, whichever service it was shown for.
        if said.claims.is_none() && rolls.values().any(|roll| roll.has_shown(id, &said.key)) {
            return Err(TurnedAway::NoTicket(id.to_string()));
        }
        let roll = self.roll(&mut rolls, service);
        let joins = !roll.is_member(id);
        // Who comes back after a lapse has its place.
        let room = if roll.record(id).is_some() { Room::Free } else { roll.make_room(MEMBERS_MAX) };
        if let Room::None { news } = room {
            drop(rolls);
            if news {
                warn!(%service, member = %id, "{}: proxies are turned away", TurnedAway::Full);
            }
            return Err(TurnedAway::Full);
        }
        let held = said.claims.as_ref().and_then(|claims| claims.held);
        let now = Instant::now();
        let news = roll.hear(id, said, clock::now(), now, now + self.ttl);
        self.keep(service, id, roll);
        drop(rolls);
        if let Room::Dropped(lapsed) = room {
            self.ephemera.remove(&Record::key(service, &lapsed));
            warn!(%service, member = %lapsed, "a member that lapsed is named no more: there are too many");
        }
        if joins {
            info!(%service, member = %id, held = held.map(|held| held.to_string()), "member joined");
        }
        if let Some(told) = &news.refused {
            warn!(%service, member = %id, version = %told.version, error = told.error, "member refused a snapshot");
        }
        if let Some(ahead) = news.ahead {
            warn!(%service, member = %id, held = %ahead, "member holds a snapshot that this log has not made");
        }
        Ok(news.poll)
    }

    fn roll<'a>(&self, rolls: &'a mut BTreeMap<ServiceName, Roll>, service: &ServiceName) -> &'a mut Roll {
        rolls.entry(service.clone()).or_insert_with(|| Roll::new(self.epoch))
    }

    /// Books that `version` is sent to a proxy under `nonce`; not so where the proxy has refused that version.
    pub fn sends(&self, service: &ServiceName, id: &MemberId, version: SnapshotVersion, nonce: &str) -> Sending {
        let mut rolls = self.rolls.lock();
        match rolls.get_mut(service).map(|roll| roll.send(id, version, nonce)) {
            Some(sending) => sending,
            None => Sending::Withheld,
        }
    }

    /// The services that a proxy is a member of.
    pub fn services_of(&self, id: &MemberId) -> Vec<ServiceName> {
        let rolls = self.rolls.lock();
        rolls.iter().filter(|(_, roll)| roll.is_member(id)).map(|(service, _)| service.clone()).collect()
    }

    /// Drops a member by its name. One that lives comes back with its next poll.
    pub fn forget(&self, service: &ServiceName, name: &str) -> Forgotten {
        let found = self.rolls.lock().get_mut(service).and_then(|roll| roll.forget(name));
        match found {
            Some(id) => {
                self.ephemera.remove(&Record::key(service, &id));
                info!(%service, member = %id, "member forgotten");
                Forgotten::Gone
            }
            None => Forgotten::Unknown,
        }
    }

    /// Drops every member that `is_gone`, since what it ran in is.
    pub fn leave(&self, is_gone: impl Fn(&MemberId) -> bool) {
        for (service, roll) in self.rolls.lock().iter_mut() {
            let gone: Vec<_> =
                roll.live_records().into_iter().map(|record| record.member).filter(|id| is_gone(id)).collect();
            for id in gone {
                roll.forget(&id.to_string());
                self.ephemera.remove(&Record::key(service, &id));
                info!(%service, member = %id, "member left with its pod");
            }
        }
    }

    /// Drops who was silent for the ttl, and gives the moment to ask again.
    pub fn expire(&self) -> Instant {
        let now = Instant::now();
        let mut next = now + self.ttl;
        let mut gone = Vec::new();
        for (service, roll) in self.rolls.lock().iter_mut() {
            for (id, left) in roll.expire(now) {
                self.keep(service, &id, roll);
                gone.push((service.clone(), id, left));
            }
            next = roll.next_deadline().map_or(next, |deadline| next.min(deadline));
        }
        for (service, id, left) in gone {
            match left {
                Left::Lacking => warn!(%service, member = %id, "member lapsed without the newest version"),
                Left::Current => info!(%service, member = %id, "member lapsed"),
                Left::Buried => {}
            }
        }
        next
    }

    /// How far the members are with `version`, which stands in the log as `appended`.
    pub fn confirmation(&self, service: &ServiceName, appended: &Appended) -> Confirmation {
        let mut rolls = self.rolls.lock();
        self.roll(&mut rolls, service).confirmation(appended)
    }

    /// What is known of the append of `version`, where that was lately.
    pub fn appended(&self, service: &ServiceName, version: u64) -> Option<Appended> {
        self.rolls.lock().get(service).and_then(|roll| roll.appended(version)).cloned()
    }

    /// Wakes whenever a member joins, leaves, or takes or refuses a version.
    pub fn watch(&self, service: &ServiceName) -> watch::Receiver<()> {
        self.roll(&mut self.rolls.lock(), service).watch()
    }

    /// Every member of a service, in order of name.
    pub fn of(&self, service: &ServiceName) -> Vec<Record> {
        self.rolls.lock().get(service).map(Roll::live_records).unwrap_or_default()
    }

    /// Writes a member's record behind, or its absence.
    fn keep(&self, service: &ServiceName, id: &MemberId, roll: &Roll) {
        let key = Record::key(service, id);
        match roll.record(id).map(serde_json::to_vec) {
            Some(Ok(bytes)) => self.ephemera.put(&key, bytes, None),
            Some(Err(error)) => warn!(%service, member = %id, %error, "cannot keep a member"),
            None => self.ephemera.remove(&key),
        }
    }
}

/// Whether a response may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// It is booked.
    Booked,
    /// The member has refused this version, or is none any more.
    Withheld,
}

/// What became of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// It is no member any more.
    Gone,
    /// It was none.
    Unknown,
}

/// The members of one service, asked by a check of a verb.
#[derive(Debug)]
pub struct Asked<'a> {
    /// All members.
    pub members: &'a Members,
    /// The service.
    pub service: &'a ServiceName,
}

impl Acknowledgements for Asked<'_> {
    fn lacking(&self, version: u64) -> Vec<String> {
        let rolls = self.members.rolls.lock();
        rolls.get(self.service).map(|roll| roll.lacking(version)).unwrap_or_default()
    }
}

/// The members of all services, asked by a check of a verb that is of all.
#[derive(Debug)]
pub struct AskedOfAll<'a> {
    /// All members.
    pub members: &'a Members,
    /// The services.
    pub services: Vec<&'a ServiceName>,
}

impl Acknowledgements for AskedOfAll<'_> {
    fn lacking(&self, version: u64) -> Vec<String> {
        let of = |service: &&ServiceName| Asked { members: self.members, service }.lacking(version);
        // A proxy is a member of each service that it asks for.
        let named: BTreeSet<_> = self.services.iter().flat_map(of).collect();
        named.into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
