//! Bodies of requests, read for session ids while the request waits.
//!
//! A body callback comes to a waiting request only where the listener has `allow_on_headers_stop_iteration`. Envoy does
//! not tell whether it has, so that is found out: without it the whole body that was held comes right behind the
//! decision. A worker that has seen this twice waits for no body any more, and says so.

use std::cell::Cell;
use std::rc::Rc;

use colorfast_core::ids::ServiceName;
use colorfast_core::plan::Plan;
use colorfast_core::scan::{BodyScan, Search};
use colorfast_core::seen::{BodyRole, Seen};
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::reports::Bodies;

use crate::host;
use crate::service::Current;

/// How long a request waits for its body where no body has ever come to one.
const UNPROVEN_WAIT_MS: u64 = 500;
/// How soon behind a decision a body comes that was held.
const HELD_MS: u64 = 10;
/// How many bodies must have been held.
const HELD_ENOUGH: u8 = 2;

/// The body of a request that is not decided.
#[derive(Debug)]
pub struct Body {
    end: End,
    /// What came of it, at most as much as is read. Kept, since a snapshot that comes may have it read anew.
    bytes: Vec<u8>,
    reading: Option<Reading>,
}

/// How a body ends, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// There is none.
    None,
    /// More may come.
    Open,
    /// It has come whole.
    Complete,
    /// More has come than is read.
    Over,
}

/// The search of a body by one plan.
#[derive(Debug)]
struct Reading {
    of: Rc<Current>,
    scan: BodyScan,
    /// How many bytes have been searched.
    read: usize,
}

/// What a body has said of the session id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It was not asked.
    NotAsked,
    /// Nothing yet.
    Open,
    /// This, in the word for metrics.
    Ended(&'static str),
}

impl Body {
    /// The body of a request whose headers have come.
    pub fn new(is_headers_only: bool) -> Self {
        let end = if is_headers_only { End::None } else { End::Open };
        Self { end, bytes: Vec::new(), reading: None }
    }

    /// Takes what has come since: `size` bytes are held by now, of which the first `most` are read.
    pub fn take(&mut self, size: usize, is_whole: bool, most: usize) {
        if self.end != End::Open {
            return;
        }
        let wanted = size.min(most).saturating_sub(self.bytes.len());
        if wanted > 0 {
            self.bytes.extend(host::request_body(self.bytes.len(), wanted).unwrap_or_default());
        }
        self.end = match is_whole {
            _ if size > most => End::Over,
            true => End::Complete,
            false => End::Open,
        };
    }

    /// The request's trailers have come, so there is no more of its body.
    pub fn complete(&mut self) {
        if self.end == End::Open {
            self.end = End::Complete;
        }
    }

    /// Whether any of it came.
    pub fn has_come(&self) -> bool {
        self.end != End::Open || !self.bytes.is_empty()
    }

    /// Reads on, and names the session of `seen` where the body does.
    pub fn read(&mut self, current: &Rc<Current>, seen: &mut Seen<'_>) -> Told {
        match (seen.body, self.end) {
            (BodyRole::None, _) | (_, End::None) => return Told::NotAsked,
            (BodyRole::Encoded, _) => return Told::Ended("encoded"),
            (BodyRole::Other, _) => return Told::Ended("not_json"),
            (BodyRole::Json, _) => {}
        }
        let plan = &current.plan;
        let reading = match &mut self.reading {
            Some(reading) if Rc::ptr_eq(&reading.of, current) => reading,
            reading => reading.insert(Reading { of: Rc::clone(current), scan: BodyScan::new(plan), read: 0 }),
        };
        reading.scan.read(plan, self.bytes.get(reading.read..).unwrap_or_default());
        reading.read = self.bytes.len();
        match reading.scan.search(plan, seen) {
            (Search::Found, Some((source, id))) => {
                seen.name_by_body(source, id.to_vec());
                Told::Ended("found")
            }
            (Search::Open, _) => match self.end {
                End::Open => Told::Open,
                End::Over => Told::Ended("over"),
                End::Complete | End::None => Told::Ended("malformed"),
            },
            (Search::Malformed, _) => Told::Ended("malformed"),
            (Search::Missing | Search::Found, _) => Told::Ended("missing"),
        }
    }
}

/// Whether bodies come to requests that wait, as a worker has found out.
#[derive(Debug, Default)]
pub struct BodyWaits(Cell<Found>);

#[derive(Debug, Clone, Copy)]
enum Found {
    /// So many bodies have come right behind their decision, and none before it.
    Unproven(u8),
    /// One has come.
    Come,
    /// They are held.
    Held,
}

impl Default for Found {
    fn default() -> Self {
        Self::Unproven(0)
    }
}

impl BodyWaits {
    /// A body came to a request that waits.
    pub fn came(&self) {
        self.0.set(Found::Come);
    }

    /// How long a request waits for its body.
    pub fn limit_ms(&self, plan: &Plan) -> u64 {
        let longest = u64::from(plan.settings.body.wait_ms);
        match self.0.get() {
            Found::Unproven(_) => longest.min(UNPROVEN_WAIT_MS),
            Found::Come => longest,
            Found::Held => 0,
        }
    }

    /// A body came to a request of `service` that was decided without it at `decided`: twice proves that bodies are held.
    pub fn came_late(&self, service: &ServiceName, decided: UnixMillis, now: UnixMillis) {
        let Found::Unproven(before) = self.0.get() else { return };
        if !now.is_within(HELD_MS, decided) {
            return;
        }
        let count = before.saturating_add(1);
        if count < HELD_ENOUGH {
            return self.0.set(Found::Unproven(count));
        }
        self.0.set(Found::Held);
        log::error!(
            "colorfast {service}: bodies are held back from requests that wait, so that session ids in bodies are not \
             found: the plugin lacks allow_on_headers_stop_iteration: true"
        );
    }

    /// What is told the sidecar.
    pub fn told(&self) -> Bodies {
        match self.0.get() {
            Found::Held => Bodies::Held,
            Found::Unproven(_) | Found::Come => Bodies::Read,
        }
    }
}
