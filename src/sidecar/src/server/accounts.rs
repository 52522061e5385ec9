//! Accounts: how many sessions each slot holds, by what proxies report.
//!
//! Sessions are counted by sketches, each of a part of the time for which a session holds its slot without coming back:
//! the idle timeout for those that have come back once, `first_return` for those that have not. The newest parts make the
//! count, and the oldest fall out whole. All of it is kept with the ephemera: a restart goes on counting.
//!
//! Proxies report the marks of sessions. Those that began a moment ago by a hash of their id are counted here, by what
//! stands under the id: see [`Pending`].

mod pending;

use std::collections::BTreeMap;
use std::sync::Arc;

use colorfast_core::ids::{AssignmentId, ServiceName, Sid, SlotName};
use colorfast_core::memory::Remembered;
use colorfast_core::settings::PinSettings;
use colorfast_core::sketch::{self, REGISTERS, Sketch};
use colorfast_core::time::{UnixMillis, UnixSeconds};
use colorfast_core::wire::reports::SlotReport;
use parking_lot::Mutex;
use tracing::warn;

use self::pending::{Due, Pending};
use super::directory::Directory;
use super::origins;
use crate::store::Ephemera;

/// How long requests under way count after the instance was heard last: it says so with every hello.
const IN_FLIGHT_MS: u64 = 30_000;

/// The accounts of every service.
#[derive(Debug)]
pub struct Accounts {
    directory: Arc<Directory>,
    ephemera: Arc<dyn Ephemera>,
    pending: Mutex<Pending>,
}

/// What a slot holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Sessions that have come back at least once.
    pub held: u64,
    /// Sessions that were handed out and have not come back yet.
    pub issued: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// When the oldest of those held began.
    pub oldest: Option<UnixSeconds>,
    /// When none is held or issued any more, unless one comes back until then.
    pub until: Option<UnixMillis>,
}

/// The two kinds of sessions, each with its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Held,
    Issued,
}

impl Standing {
    fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Issued => "issued",
        }
    }

    /// For how many seconds a session holds its slot without coming back.
    fn seconds(self, settings: &PinSettings) -> u32 {
        match self {
            Self::Held => settings.idle_timeout_seconds,
            Self::Issued => settings.first_return_seconds.0,
        }
    }

    /// How long what was reported in a part counts after that part began: the window, this part, and one more, since a
    /// session that goes on is told once in each.
    fn millis(self, settings: &PinSettings) -> u64 {
        let seconds = self.seconds(settings);
        u64::from(seconds) * 1000 + 2 * sketch::part_millis(seconds)
    }
}

/// The sessions of one part of a window.
#[derive(Debug, Default)]
struct Part {
    sketch: Sketch,
    oldest: UnixSeconds,
}

impl Part {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (oldest, sketch) = bytes.split_first_chunk()?;
        Some(Self { oldest: UnixSeconds(u64::from_be_bytes(*oldest)), sketch: Sketch::read(sketch)? })
    }

    fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + REGISTERS);
        bytes.extend_from_slice(&self.oldest.0.to_be_bytes());
        bytes.extend_from_slice(&self.sketch.write());
        bytes
    }

    /// Takes in a session as `standing` has it.
    fn note(&mut self, standing: Standing, session: &Remembered) {
        self.sketch.note(session.sid);
        if standing == Standing::Held {
            self.oldest = earliest(self.oldest, session.began);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.sketch.merge(&other.sketch);
        self.oldest = earliest(self.oldest, other.oldest);
    }
}

/// The earlier of two moments, of which 0 is none.
fn earliest(one: UnixSeconds, other: UnixSeconds) -> UnixSeconds {
    match (one.0, other.0) {
        (0, _) => other,
        (_, 0) => one,
        _ => one.min(other),
    }
}

impl Accounts {
    /// Of the services in `directory`.
    pub fn new(directory: Arc<Directory>, ephemera: Arc<dyn Ephemera>) -> Self {
        Self { directory, ephemera, pending: Mutex::default() }
    }

    /// A proxy has told `said` of a session under an id, where `stands` stands now.
    pub fn told(&self, service: &ServiceName, id: Sid, said: &Remembered, stands: &Remembered, now: UnixMillis) {
        let mut pending = self.pending.lock();
        pending.note(service, id, said, stands, now);
        let due = pending.take_excess();
        self.mark(due, now);
    }

    /// Marks the sessions whose account is known by now: many at once. Whoever counts meanwhile finds each of them pending or
    /// marked.
    pub fn settle(&self, now: UnixMillis) {
        let mut pending = self.pending.lock();
        let due = pending.take(now);
        self.mark(due, now);
    }

    /// Marks all sessions, before the process ends.
    pub fn settle_all(&self, now: UnixMillis) {
        let mut pending = self.pending.lock();
        let due = pending.take_all();
        self.mark(due, now);
    }

    fn mark(&self, due: Vec<Due>, now: UnixMillis) {
        let mut parts: BTreeMap<_, Part> = BTreeMap::new();
        for Due { service, session } in due {
            let session = origins::trace(self.ephemera.as_ref(), &service, session);
            let standing = pending::standing(&session);
            let part = parts.entry((service, session.assignment.0, standing)).or_default();
            part.note(standing, &session);
        }
        for ((service, assignment, standing), part) in parts {
            let Some(published) = self.directory.watch(&service).map(|service| service.borrow().clone()) else {
                continue;
            };
            let state = &published.state;
            let holder = state.slots.iter().find(|(_, slot)| slot.assignment == Some(AssignmentId(assignment)));
            let Some((slot, _)) = holder else { continue };
            let place = Place { service: &service, slot, assignment: AssignmentId(assignment) };
            self.merge(&place, standing, &part, &state.settings.pin, now);
        }
    }

    /// Adds what an instance tells, by a name that no other has. What it tells of an assignment that is in no slot now is
    /// dropped, so that no more is kept than there are slots.
    pub fn add(&self, instance: &str, report: &SlotReport, now: UnixMillis) {
        let Some(published) = self.directory.watch(&report.service) else { return };
        let published = published.borrow().clone();
        let state = &published.state;
        let present = state.slots.get(&report.slot).and_then(|slot| slot.assignment);
        if present != Some(report.assignment) {
            return;
        }
        let place = Place { service: &report.service, slot: &report.slot, assignment: report.assignment };
        let key = place.in_flight(instance);
        match report.in_flight {
            0 => self.ephemera.remove(&key),
            number => self.ephemera.put(&key, number.to_be_bytes().to_vec(), Some(now.plus_millis(IN_FLIGHT_MS))),
        }
        let told = [(Standing::Held, &report.held, report.oldest), (Standing::Issued, &report.issued, UnixSeconds(0))];
        for (standing, marks, oldest) in told.into_iter().filter(|(_, marks, _)| !marks.is_empty()) {
            if let Some(sketch) = Sketch::of_text(marks) {
                self.merge(&place, standing, &Part { sketch, oldest }, &state.settings.pin, now);
            }
        }
    }

    fn merge(&self, place: &Place<'_>, standing: Standing, told: &Part, settings: &PinSettings, now: UnixMillis) {
        let length = sketch::part_millis(standing.seconds(settings));
        let began = now.0 - now.0 % length;
        let key = format!("{}{began:016x}", place.parts(standing));
        let expires = UnixMillis(began).plus_millis(standing.millis(settings));
        self.ephemera.merge_aside(&key, Some(expires), |known| {
            let mut part = known.and_then(Part::read).unwrap_or_default();
            part.merge(told);
            Some(part.write())
        });
    }

    /// What a slot holds under an assignment now.
    pub fn of(
        &self,
        service: &ServiceName,
        slot: &SlotName,
        assignment: AssignmentId,
        settings: &PinSettings,
        now: UnixMillis,
    ) -> Account {
        self.settle(now);
        let place = Place { service, slot, assignment };
        let (mut held, mut held_until) = (Part::default(), None);
        let (mut issued, mut issued_until) = (Part::default(), None);
        // What is pending before what is marked: a session that goes from one to the other meanwhile is seen twice, not never.
        for session in self.pending.lock().of(service, assignment) {
            let standing = pending::standing(session);
            let (part, until) = match standing {
                Standing::Held => (&mut held, &mut held_until),
                Standing::Issued => (&mut issued, &mut issued_until),
            };
            part.note(standing, session);
            *until = (*until).max(Some(now.plus_millis(standing.millis(settings))));
        }
        for (standing, part, until) in
            [(Standing::Held, &mut held, &mut held_until), (Standing::Issued, &mut issued, &mut issued_until)]
        {
            let (marked, marked_until) = self.whole(&place, standing, settings, now);
            part.merge(&marked);
            *until = (*until).max(marked_until);
        }
        let mut all = held.sketch.clone();
        all.merge(&issued.sketch);
        // Who has come back is in both. What is left of the others is exact where it is nothing.
        let back = held.sketch.count();
        let waiting = if all == held.sketch { 0 } else { all.count().saturating_sub(back).max(1) };
        let in_flight = self.ephemera.scan(&place.in_flight("")).into_iter();
        Account {
            held: back,
            issued: waiting,
            in_flight: in_flight
                .filter_map(|(_, bytes)| Some(u64::from(u32::from_be_bytes(bytes.try_into().ok()?))))
                .fold(0, u64::saturating_add),
            oldest: (held.oldest.0 > 0).then_some(held.oldest),
            until: held_until.max(issued_until.filter(|_| waiting > 0)),
        }
    }

    /// The parts that count, together, and when the last of them counts no more.
    fn whole(
        &self,
        place: &Place<'_>,
        standing: Standing,
        settings: &PinSettings,
        now: UnixMillis,
    ) -> (Part, Option<UnixMillis>) {
        let (mut whole, mut until) = (Part::default(), None);
        let prefix = place.parts(standing);
        for (key, bytes) in self.ephemera.scan(&prefix) {
            let began = key.strip_prefix(&prefix).and_then(|began| u64::from_str_radix(began, 16).ok());
            let (Some(began), Some(part)) = (began, Part::read(&bytes)) else {
                warn!(key, "passed over an account that cannot be read");
                continue;
            };
            let end = UnixMillis(began).plus_millis(standing.millis(settings));
            if end > now {
                whole.merge(&part);
                until = until.max(Some(end));
            }
        }
        (whole, until)
    }
}

/// Where the account of an assignment stands. Names have no slashes, so no two share a place.
struct Place<'a> {
    service: &'a ServiceName,
    slot: &'a SlotName,
    assignment: AssignmentId,
}

impl Place<'_> {
    fn parts(&self, standing: Standing) -> String {
        let Self { service, slot, assignment } = self;
        format!("account/{service}/{slot}/{assignment}/{}/", standing.as_str())
    }

    fn in_flight(&self, instance: &str) -> String {
        let Self { service, slot, assignment } = self;
        format!("in-flight/{service}/{slot}/{assignment}/{instance}")
    }
}

#[cfg(test)]
mod tests;
