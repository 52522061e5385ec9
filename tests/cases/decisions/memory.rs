//! What a table says of memory, and what must stand there afterwards.

use colorfast_core::ids::{AssignmentId, Sid};
use colorfast_core::keys::SidHasher;
use colorfast_core::memory::{Bucket, Certainty, Remembered, Visits};
use colorfast_core::names::shared;
use colorfast_core::settings::PinSettings;
use colorfast_core::time::UnixSeconds;
use serde::Deserialize;
use wasm_host::Process;

use super::table::{Bytes, Case};
use crate::releases::{self, service};

/// A session that the proxy remembers. Times are seconds before the request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// The id that it is remembered under.
    pub id: Bytes,
    /// The assignment that it holds.
    pub assignment: u64,
    /// The first id of the session, where this one was learnt inside it.
    #[serde(default)]
    pub alias_of: Option<Bytes>,
    /// Seconds since the session began.
    #[serde(default)]
    pub began: i64,
    /// Seconds since it was seen.
    #[serde(default)]
    pub seen: i64,
}

/// What must be remembered under the request's session id.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The assignment.
    pub assignment: u64,
    /// Seconds from the session's beginning to the request; with the decision, unless it is said.
    #[serde(default)]
    pub began: Option<i64>,
    /// Seconds since it was seen, likewise.
    #[serde(default)]
    pub seen: Option<i64>,
}

/// The keyed hash of an id.
pub fn sid(id: &[u8]) -> Sid {
    SidHasher::new(&releases::keys(&[1]).sid).sid(id)
}

fn before(now: UnixSeconds, seconds: i64) -> UnixSeconds {
    UnixSeconds(now.0.saturating_add_signed(-seconds))
}

impl Given {
    /// What is remembered.
    pub fn remembered(&self, now: UnixSeconds) -> (Sid, Remembered) {
        let first = self.alias_of.as_ref().unwrap_or(&self.id);
        let remembered = Remembered {
            assignment: AssignmentId(self.assignment),
            sid: sid(&first.bytes()),
            began: before(now, self.began),
            seen: before(now, self.seen),
            certainty: Certainty::Guess,
            visits: Visits::Returned,
        };
        (sid(&self.id.bytes()), remembered)
    }
}

/// Puts what a row gives into the memory of a process.
pub fn put(case: &Case, process: &Process, now: UnixSeconds) {
    let buckets = case.given.snapshot().settings.memory.buckets();
    for (id, remembered) in case.given.remembered(now) {
        let key = format!("{}{:x}", shared::memory(&service("chat")), buckets.of(id));
        let mut bucket = Bucket::read(process.shared_data(&key).map(|(bytes, _)| bytes).unwrap_or_default());
        bucket.put(id, &remembered, &PinSettings::default(), now);
        process.set_shared_data(&key, bucket.bytes(), None).unwrap();
    }
}

/// What a process remembers under the session id of a row.
pub fn held(case: &Case, process: &Process) -> Option<Remembered> {
    let id = sid(&case.session_id()?);
    let bucket = case.given.snapshot().settings.memory.buckets().of(id);
    let (bytes, _) = process.shared_data(&format!("{}{bucket:x}", shared::memory(&service("chat"))))?;
    Bucket::read(bytes).get(id)
}

/// Compares what is remembered at the end with what was wanted.
pub fn compare(case: &Case, found: Option<Remembered>, arrived: UnixSeconds, decided: UnixSeconds) {
    let Some(wanted) = &case.wanted.remembered else { return };
    let at = |seconds: Option<i64>| seconds.map_or(decided, |seconds| before(arrived, seconds));
    let found = found.map(|found| (found.assignment.0, found.began, found.seen));
    assert_eq!(found, Some((wanted.assignment, at(wanted.began), at(wanted.seen))), "{}: remembered", case.name);
}
