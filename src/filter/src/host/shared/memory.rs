//! What this proxy remembers of sessions: the table of [`colorfast_core::memory`] in shared data, a key for each bucket.
//!
//! A session is looked up with one host call, or none where this worker has met it of late, and written down with one more,
//! by compare-and-swap over the bucket that was looked up: of two requests that begin the same session at once the first
//! wins, and the other follows it.

use std::cell::Cell;
use std::rc::Rc;

use colorfast_core::ids::{ServiceName, Sid};
use colorfast_core::memory::{Bucket, Buckets, Remembered, Room};
use colorfast_core::names::shared;
use colorfast_core::settings::{PinSettings, ServiceSettings};
use colorfast_core::time::UnixSeconds;

use super::data::{self, Cas};
use super::published::Published;
use super::recent::Recent;
use crate::cell::SharedCell;
use crate::host::status::HostError;

/// How often a write that lost its race is tried again. Each loss means that somebody else made progress.
const TRIES: usize = 16;

/// The table of one service.
#[derive(Debug)]
pub struct Memory {
    prefix: String,
    published: Rc<Published>,
    recent: SharedCell<Recent>,
    /// How many changes the process had counted when it was asked last.
    changes: Cell<u64>,
}

/// Where a session stands, or would: its bucket as it was looked up.
#[derive(Debug)]
pub struct Place {
    id: Sid,
    key: String,
    bucket: Bucket,
    cas: Cas,
}

/// What came of writing a session down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It stands there.
    Stands(Room),
    /// Somebody else has written this there meanwhile, and that stands.
    Another(Remembered),
    /// The host takes nothing: it is remembered by nobody.
    Refused,
}

impl Memory {
    /// The table of `service`, whose changes `published` counts.
    pub fn of(service: &ServiceName, published: &Rc<Published>) -> Self {
        Self {
            prefix: shared::memory(service),
            published: Rc::clone(published),
            recent: SharedCell::default(),
            changes: Cell::new(0),
        }
    }

    /// The process has counted so many changes: what was copied before the last of them is looked up again.
    pub fn heed(&self, changes: u64) {
        self.changes.set(changes);
    }

    /// What is remembered under the keyed hash of an id, where this worker has met it of late: nothing can be written with it.
    pub fn recall(&self, id: Sid) -> Option<Remembered> {
        self.recent.with(|recent| recent.get(id, self.changes.get())).flatten()
    }

    /// Looks up a session by the keyed hash of its id.
    pub fn look_up(&self, settings: &ServiceSettings, id: Sid) -> Place {
        let buckets: Buckets = settings.memory.buckets();
        let mut place = Place { id, key: self.key(buckets.of(id)), bucket: Bucket::default(), cas: Cas::ABSENT };
        place.read();
        if let Some(known) = place.known() {
            self.keep(id, known);
        }
        place
    }

    fn keep(&self, id: Sid, session: Remembered) {
        self.recent.with(|recent| recent.keep(id, session, self.changes.get()));
    }

    /// Writes `session` down where it was looked up, unless something else stands there by now.
    pub fn write(&self, place: &mut Place, session: &Remembered, ages: &PinSettings, now: UnixSeconds) -> Written {
        let before = place.known();
        let written = place.write(session, ages, now);
        let Written::Stands(room) = written else { return written };
        self.keep(place.id, *session);
        // Whoever meets a session that made way begins it anew.
        if room == Room::Made || before.is_some_and(|before| !before.agrees_with(session)) {
            self.published.count_change();
        }
        written
    }

    /// Forgets the session `session` under `id`.
    pub fn forget(&self, settings: &ServiceSettings, id: Sid, session: &Remembered) {
        let mut place = self.look_up(settings, id);
        for _ in 0..TRIES {
            if place.known().is_none_or(|known| known.sid != session.sid) {
                break;
            }
            if place.forget() {
                self.published.count_change();
                break;
            }
        }
    }

    /// The key of a bucket, written without the machinery of formats: every session pays for it.
    fn key(&self, number: u32) -> String {
        let mut key = String::with_capacity(self.prefix.len() + 8);
        key.push_str(&self.prefix);
        let digits = (u32::BITS - number.leading_zeros()).div_ceil(4).max(1);
        for place in (0..digits).rev() {
            key.push(char::from_digit((number >> (4 * place)) & 15, 16).unwrap_or('0'));
        }
        key
    }
}

impl Place {
    /// The id by which it was looked up.
    pub fn id(&self) -> Sid {
        self.id
    }

    /// What is remembered.
    pub fn known(&self) -> Option<Remembered> {
        self.bucket.get(self.id)
    }

    /// Writes `session` down, unless something else stands there than what was looked up.
    pub fn write(&mut self, session: &Remembered, ages: &PinSettings, now: UnixSeconds) -> Written {
        let before = self.known();
        for _ in 0..TRIES {
            let room = self.bucket.put(self.id, session, ages, now);
            match data::write_shared(&self.key, self.bucket.bytes(), self.cas) {
                Ok(()) => return Written::Stands(room),
                Err(HostError::CAS_MISMATCH) => self.read(),
                Err(_) => return Written::Refused,
            }
            if let Some(another) = self.known().filter(|now| Some(*now) != before) {
                return Written::Another(another);
            }
        }
        Written::Refused
    }

    /// Forgets what is there; tells whether that came about, else the place was read anew.
    fn forget(&mut self) -> bool {
        self.bucket.forget(self.id);
        let written = data::write_shared(&self.key, self.bucket.bytes(), self.cas);
        if written == Err(HostError::CAS_MISMATCH) {
            self.read();
        }
        written != Err(HostError::CAS_MISMATCH)
    }

    fn read(&mut self) {
        let (bytes, cas) = data::read_shared(&self.key).ok().flatten().unwrap_or((Vec::new(), Cas::ABSENT));
        (self.bucket, self.cas) = (Bucket::read(bytes), cas);
    }
}
