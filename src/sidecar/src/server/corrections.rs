//! Corrections: what stands under ids of which some proxy has said otherwise, told to every member without being asked.
//!
//! A bounded log for each service, in memory: a member says how far it has read, and is told the rest. A restarted sidecar
//! begins a new log, all of which is news to everybody.

use std::collections::{BTreeMap, VecDeque};

use colorfast_core::ids::{ServiceName, Sid};
use colorfast_core::memory::{Record, Remembered, record};
use colorfast_core::wire::discovery::{Corrections as Page, Cursor};
use colorfast_core::wire::incarnation::Incarnation;
use colorfast_core::wire::sessions::Records;
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::warn;

/// Most corrections of a service that are kept.
const KEPT_MAX: usize = 8_192;

/// The corrections of every service.
#[derive(Debug)]
pub struct Corrections {
    incarnation: Incarnation,
    logs: Mutex<BTreeMap<ServiceName, Log>>,
}

/// The corrections of one service, numbered from 0.
#[derive(Debug, Default)]
struct Log {
    kept: VecDeque<Record>,
    /// The number of the next one.
    head: watch::Sender<u64>,
}

impl Log {
    fn head(&self) -> u64 {
        *self.head.borrow()
    }

    /// The number of the oldest that is kept.
    fn tail(&self) -> u64 {
        self.head().saturating_sub(self.kept.len() as u64)
    }
}

impl Corrections {
    /// None yet, in this life of the sidecar.
    pub fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, logs: Mutex::default() }
    }

    /// Which life of the sidecar this is.
    pub fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }

    /// Tells the members of a service what stands under an id.
    pub fn add(&self, service: &ServiceName, id: Sid, stands: &Remembered) {
        let mut logs = self.logs.lock();
        let log = logs.entry(service.clone()).or_default();
        if log.kept.len() >= KEPT_MAX {
            log.kept.pop_front();
        }
        log.kept.push_back(record(id, stands));
        log.head.send_modify(|head| *head += 1);
    }

    /// Wakes whenever there is one more for a service.
    pub fn watch(&self, service: &ServiceName) -> watch::Receiver<u64> {
        self.logs.lock().entry(service.clone()).or_default().head.subscribe()
    }

    /// How far a member has read that says so by `cursor`: all of an earlier life is older than anything here. One that
    /// says nothing is told what comes from now on.
    pub fn read_by(&self, service: &ServiceName, cursor: Option<&Cursor>) -> u64 {
        let head = self.logs.lock().get(service).map_or(0, Log::head);
        let Some(cursor) = cursor else { return head };
        let ours = cursor.as_str().split_once('.').filter(|(life, _)| *life == self.incarnation.as_str());
        ours.and_then(|(_, number)| number.parse().ok()).map_or(0, |number: u64| number.min(head))
    }

    /// What comes next for who has read as far as `read`, at most one document's worth.
    pub fn after(&self, service: &ServiceName, read: u64) -> Page {
        let logs = self.logs.lock();
        let mut bytes = Vec::new();
        let mut next = read;
        if let Some(log) = logs.get(service) {
            let missed = log.tail().saturating_sub(read);
            if missed > 0 {
                warn!(%service, missed, "corrections of sessions came faster than a member read them");
            }
            let from = read.max(log.tail());
            let skipped = usize::try_from(from - log.tail()).unwrap_or(usize::MAX);
            let page = log.kept.iter().skip(skipped).take(Records::MAX);
            page.for_each(|record| bytes.extend_from_slice(record));
            next = from + (bytes.len() / size_of::<Record>()) as u64;
        }
        Page { records: Records::of(&bytes), cursor: Cursor::new(format!("{}.{next}", self.incarnation.as_str())) }
    }
}

#[cfg(test)]
mod tests {
    use colorfast_core::ids::AssignmentId;
    use colorfast_core::memory::{Certainty, Visits};
    use colorfast_core::time::UnixSeconds;

    use super::*;

    fn session(assignment: u64) -> Remembered {
        let (began, certainty, visits) = (UnixSeconds(9), Certainty::Fact, Visits::First);
        Remembered { assignment: AssignmentId(assignment), sid: Sid(1), began, seen: began, certainty, visits }
    }

    /// The ids of a page, and where the next begins.
    fn ids(page: &Page) -> Vec<u64> {
        page.records.sessions().unwrap().into_iter().map(|(id, _)| id.0).collect()
    }

    /// Kept: each member reads every correction once, in order, from where it says that it is; what an earlier life of the
    /// sidecar gave is before all of them, and who gives no place is at the end.
    #[test]
    fn every_correction_is_read_once() {
        let chat: ServiceName = "chat".parse().unwrap();
        let log = Corrections::new(Incarnation::of(7));
        let nothing = log.after(&chat, log.read_by(&chat, None));
        assert_eq!(ids(&nothing), [0; 0]);
        for id in 0..600 {
            log.add(&chat, Sid(id), &session(id));
        }
        let mut cursor = nothing.cursor;
        let mut read = Vec::new();
        loop {
            let page = log.after(&chat, log.read_by(&chat, Some(&cursor)));
            if page.records == Records::default() {
                assert_eq!(page.cursor, cursor);
                break;
            }
            read.extend(ids(&page));
            cursor = page.cursor;
        }
        assert_eq!(read, (0..600).collect::<Vec<_>>());
        assert_eq!(log.read_by(&chat, None), 600);
        for foreign in ["0000000000000008.599", "", "?", "0000000000000007.x"] {
            assert_eq!(log.read_by(&chat, Some(&Cursor::new(foreign.to_owned()))), 0, "{foreign}");
        }
        let ahead = Cursor::new("0000000000000007.9999".to_owned());
        assert_eq!(log.read_by(&chat, Some(&ahead)), 600);
        assert_eq!(log.read_by(&"code".parse().unwrap(), Some(&ahead)), 0, "each service has its own");
    }

    /// Bounded: the oldest fall out, and who comes too late reads on from the oldest that is there.
    #[test]
    fn the_log_is_bounded() {
        let chat: ServiceName = "chat".parse().unwrap();
        let log = Corrections::new(Incarnation::of(7));
        let all = KEPT_MAX as u64 + 10;
        for id in 0..all {
            log.add(&chat, Sid(id), &session(id));
        }
        let page = log.after(&chat, 3);
        assert_eq!(ids(&page).first(), Some(&10));
        assert_eq!(log.read_by(&chat, Some(&page.cursor)), 10 + Records::MAX as u64);
    }
}
