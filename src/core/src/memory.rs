//! The memory of sessions: what is known of an id whose client echoes nothing.
//!
//! A proxy keeps it as a table of a fixed number of buckets in shared data, a key each. Which bucket an id belongs to is
//! said by its keyed hash, so that nobody can fill one on purpose. A bucket holds [`Bucket::WAYS`] records at most, one
//! behind the other, numbers big-endian:
//!
//! ```text
//!  0         8         9            16     24      28     32
//!  ├ id hash ┼ flags ──┼ assignment ┼ sid ─┼ began ┼ seen ┤
//! ```
//!
//! Of the flags the two lowest bits say how certain it is, and bit 2 that the session has come back. Times are Unix seconds in 32 bits. The
//! same records carry sessions to the sidecar.

use crate::ids::{AssignmentId, Sid};
use crate::settings::PinSettings;
use crate::time::UnixSeconds;

/// What is remembered of a session under one of its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// The bundle in its slot that the session holds.
    pub assignment: AssignmentId,
    /// The session. An id that was learnt inside a session is its alias, and has the sid of the first id.
    pub sid: Sid,
    /// When the session began; never changes, bounds max-age.
    pub began: UnixSeconds,
    /// When it was seen last, coarsely; bounds idle time.
    pub seen: UnixSeconds,
    /// How certain it is that the session holds this assignment.
    pub certainty: Certainty,
    /// Whether it has come back.
    pub visits: Visits,
}

/// How certain it is what a session holds. A fact beats a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// A hash of its id proposed it.
    Guess,
    /// A request showed the id beside the one that decided, or the session went on elsewhere since its slot was down. The
    /// newest counts.
    Shown,
    /// An answer handed it out, or a valid pin or run token says so.
    Fact,
}

/// Whether a request of a session has come after the one that began it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Visits {
    /// None that is known of.
    First,
    /// One has.
    Returned,
}

/// The bits of a record's eight bytes that hold an assignment: numbers begin at Unix seconds and count up.
const ASSIGNMENT: u64 = (1 << 56) - 1;
/// The bits that say how certain it is.
const CERTAINTY: u64 = 0b11 << 56;
const SHOWN: u64 = 1 << 56;
const FACT: u64 = 2 << 56;
/// The bit of a session that has come back.
const RETURNED: u64 = 1 << 58;

impl Certainty {
    fn bits(self) -> u64 {
        match self {
            Self::Guess => 0,
            Self::Shown => SHOWN,
            Self::Fact => FACT,
        }
    }

    fn of_bits(flags: u64) -> Self {
        match flags & CERTAINTY {
            FACT => Self::Fact,
            SHOWN => Self::Shown,
            _ => Self::Guess,
        }
    }
}

impl Remembered {
    /// Whether the session has ended by its age or by idleness.
    pub fn is_over(&self, ages: &PinSettings, now: UnixSeconds) -> bool {
        now.since(self.began) >= ages.max_age_seconds.into() || now.since(self.seen) >= ages.idle_timeout_seconds.into()
    }

    /// Whether it is time to write down that the session was seen: after a quarter of the idle timeout.
    pub fn is_stale(&self, ages: &PinSettings, now: UnixSeconds) -> bool {
        now.since(self.seen) >= ages.stale_seconds()
    }

    /// Whether both say the same of a session, whenever they saw it and however certain they are.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.assignment == other.assignment && self.sid == other.sid && self.began == other.began
    }
}

impl Remembered {
    /// What is told the fleet of an id whose session has ended: no log gives this assignment.
    pub fn ended(self) -> Self {
        Self { assignment: AssignmentId(0), ..self }
    }

    /// Whether it is [`Self::ended`].
    pub fn has_ended(&self) -> bool {
        self.assignment == AssignmentId(0)
    }
}

/// The id hash of a session, and what is remembered under it, as bytes.
pub type Record = [u8; RECORD];

/// Bytes of a record.
pub const RECORD: usize = 32;

/// The record of `what` under `id`.
pub fn record(id: Sid, what: &Remembered) -> Record {
    let mut bytes = [0; RECORD];
    let seconds = |time: UnixSeconds| u64::from(u32::try_from(time.0).unwrap_or(u32::MAX));
    let times = seconds(what.began) << 32 | seconds(what.seen);
    let returned = if what.visits == Visits::Returned { RETURNED } else { 0 };
    let holds = what.assignment.0 & ASSIGNMENT | what.certainty.bits() | returned;
    for (field, number) in bytes.as_chunks_mut::<8>().0.iter_mut().zip([id.0, holds, what.sid.0, times]) {
        *field = number.to_be_bytes();
    }
    bytes
}

/// What [`record`] wrote.
pub fn read(record: &Record) -> (Sid, Remembered) {
    let mut numbers = record.as_chunks::<8>().0.iter().map(|field| u64::from_be_bytes(*field));
    let mut next = || numbers.next().unwrap_or_default();
    let (id, holds, sid, times) = (next(), next(), next(), next());
    let what = Remembered {
        assignment: AssignmentId(holds & ASSIGNMENT),
        sid: Sid(sid),
        began: UnixSeconds(times >> 32),
        seen: UnixSeconds(times & u64::from(u32::MAX)),
        certainty: Certainty::of_bits(holds),
        visits: if holds & RETURNED == 0 { Visits::First } else { Visits::Returned },
    };
    (Sid(id), what)
}

/// How many buckets there are, a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets(u32);

impl Buckets {
    /// Enough for `sessions`: half full by then, so that a bucket overflows rarely before the table is full.
    pub fn for_sessions(sessions: u32) -> Self {
        Self(sessions.div_ceil(Bucket::WAYS as u32 / 2).clamp(1, 1 << 20).next_power_of_two())
    }

    /// How many they are.
    pub fn count(self) -> u32 {
        self.0
    }

    /// The number of the bucket that an id belongs to.
    pub fn of(self, id: Sid) -> u32 {
        (id.0 as u32) & (self.0 - 1)
    }
}

/// One bucket: its records as they stand in shared data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bucket(Vec<u8>);

/// What it took to write something down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// There was room, or only what had ended was in the way.
    Found,
    /// A session that goes on was forgotten for it.
    Made,
}

impl Bucket {
    /// Most records of a bucket.
    pub const WAYS: usize = 16;

    /// The bucket of these bytes. What is no whole record, or beyond the last, is left out.
    pub fn read(mut bytes: Vec<u8>) -> Self {
        let whole = bytes.len() / RECORD * RECORD;
        bytes.truncate(whole.min(Self::WAYS * RECORD));
        Self(bytes)
    }

    /// The bytes to write.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What is remembered under `id`.
    pub fn get(&self, id: Sid) -> Option<Remembered> {
        let id = id.0.to_be_bytes();
        self.0.as_chunks::<RECORD>().0.iter().find(|record| record.starts_with(&id)).map(|record| read(record).1)
    }

    /// Remembers `what` under `id`, in place of what was remembered there. Where the bucket is full, what has ended makes
    /// way, else a session that never came back, else any; of several the one that was seen longest ago.
    pub fn put(&mut self, id: Sid, what: &Remembered, ages: &PinSettings, now: UnixSeconds) -> Room {
        let new = record(id, what);
        let records = self.0.as_chunks_mut::<RECORD>().0;
        if let Some(same) = records.iter_mut().find(|record| record.starts_with(&id.0.to_be_bytes())) {
            *same = new;
            return Room::Found;
        }
        if records.len() < Self::WAYS {
            self.0.extend_from_slice(&new);
            return Room::Found;
        }
        let worth = |record: &Record| {
            let (_, known) = read(record);
            let goes_on = (!known.is_over(ages, now)).then_some(known.visits);
            (goes_on, known.seen)
        };
        let Some(least) = records.iter_mut().min_by_key(|record| worth(record)) else { return Room::Found };
        let room = if worth(least).0.is_none() { Room::Found } else { Room::Made };
        *least = new;
        room
    }

    /// Forgets `id`; tells whether it was there.
    pub fn forget(&mut self, id: Sid) -> bool {
        let records = self.0.as_chunks::<RECORD>().0;
        let Some(at) = records.iter().position(|record| record.starts_with(&id.0.to_be_bytes())) else { return false };
        self.0.drain(at * RECORD..(at + 1) * RECORD);
        true
    }
}

#[cfg(test)]
mod tests;
