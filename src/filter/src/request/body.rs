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

use super::held::Share;
use crate::host;
use crate::service::Current;

/// How long a request waits for its body where no body has ever come to one.
const UNPROVEN_WAIT_MS: u64 = 500;
/// How soon behind a decision a body comes that was held.
const HELD_MS: u64 = 10;
/// How many bodies must have been held.
const HELD_ENOUGH: u8 = 2;

/// How much is fetched at once: what the worker's memory grows by, once.
const PIECE: usize = 64 * 1024;

/// The body of a request that is not decided. It stays where Envoy holds it: each byte is fetched once, as it comes.
#[derive(Debug)]
pub struct Body {
    end: End,
    held: Share,
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
    /// More may come, but the worker holds as much as it may.
    Full,
}

/// The search of a body for the sources of one plan.
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
    pub fn new(is_headers_only: bool, held: Share) -> Self {
        let end = if is_headers_only { End::None } else { End::Open };
        Self { end, held, reading: None }
    }

    /// Takes note of what has come since: `size` bytes are held by now. All requests of the worker may hold `most`.
    pub fn take(&mut self, size: usize, is_whole: bool, most: usize) {
        let all = self.held.set(size);
        self.end = match is_whole {
            true => End::Complete,
            false if all > most => End::Full,
            false => End::Open,
        };
    }

    /// The request's trailers have come, so there is no more of its body.
    pub fn complete(&mut self) {
        if self.end != End::None {
            self.end = End::Complete;
        }
    }

    /// Whether any of it came.
    pub fn has_come(&self) -> bool {
        self.end != End::Open || self.held.bytes() > 0
    }

    /// Takes over what is held of it, where more may come.
    pub fn take_cut(&mut self) -> Option<Share> {
        let is_cut = matches!(self.end, End::Open | End::Full) && self.held.bytes() > 0;
        is_cut.then(|| self.held.take())
    }

    /// Whether the request must wait for nothing more, since the worker holds as much as it may.
    pub fn is_full(&self) -> bool {
        self.end == End::Full
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
        let most = usize::try_from(plan.settings.body.prefix_bytes).unwrap_or(usize::MAX);
        let reading = match &mut self.reading {
            Some(reading) if reading.of.plan.pointers == plan.pointers => reading,
            // Envoy has it all from its start.
            reading => reading.insert(Reading { of: Rc::clone(current), scan: BodyScan::new(plan), read: 0 }),
        };
        reading.go_on(plan, seen, self.held.bytes().min(most));
        let (come_to, found) = reading.scan.search(plan, seen);
        let result = match come_to {
            Search::Open if self.held.bytes() > most => "over",
            Search::Open => match self.end {
                End::Open => return Told::Open,
                End::Full => "full",
                End::Complete | End::None => "malformed",
            },
            Search::Malformed => "malformed",
            Search::Missing | Search::Found => "missing",
        };
        match found.or_else(|| reading.scan.so_far(plan, seen)) {
            Some((source, id)) => {
                seen.name_by_body(source, id.to_vec());
                Told::Ended("found")
            }
            None => Told::Ended(result),
        }
    }
}

impl Reading {
    /// Searches on, as far as `until`, and no further than it takes.
    fn go_on(&mut self, plan: &Plan, seen: &Seen<'_>, until: usize) {
        while self.read < until && self.scan.search(plan, seen).0 == Search::Open {
            let piece = host::request_body(self.read, (until - self.read).min(PIECE)).unwrap_or_default();
            if piece.is_empty() {
                return;
            }
            self.scan.read(plan, &piece);
            self.read += piece.len();
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
