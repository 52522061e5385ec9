//! Read your own writes: the part of an answer that hands out a new id goes on once the fleet has it, so that the client's
//! next request is served alike at any proxy, however soon it comes. Nothing waits while one slot alone holds sessions.
//!
//! An answer is never held whole. Of headers and of event streams the part waits that has the id. A JSON document is of no use
//! to its client before its end, so its last piece waits, by the length that its headers say or by its end, and all before it
//! has passed. Where much gathers in the wait, or the
//! wait is over, the answer goes on all the same, counted.

use std::rc::Rc;

use colorfast_core::ids::Sid;
use colorfast_core::memory::Remembered;
use colorfast_core::names::metric;
use colorfast_core::time::UnixMillis;

use crate::flow::Flow;
use crate::service::{Current, Service};
use crate::sidecar::questions::{Asker, Heard, Question, Questions};

/// How long after its time a word without an answer is given up, though Envoy ends each call by itself.
const LOST_MS: u64 = 1_000;
/// Most of an answer that is held. Envoy breaks off one that is held beyond its buffer, of 1 MiB by default.
const HELD_MAX: usize = 256 * 1024;

/// The words to the fleet of one answer, and what of it waits for them.
#[derive(Debug, Default)]
pub struct Telling {
    /// The ids of the words that have no answer yet.
    out: Vec<Sid>,
    /// When the last of them went out.
    since: UnixMillis,
    /// How long they may take.
    limit_ms: u64,
    /// Whether a part of the answer is held, and how much of the body.
    held: Option<usize>,
}

/// A part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What its client can use as it comes: headers, a piece of an event stream, and whatever is last.
    Usable,
    /// A piece of a document that is of no use before its end.
    Unfinished,
}

/// What becomes of an answer whose words are out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Some have no answer.
    Waits,
    /// All have, and what is held goes on.
    Resumes,
    /// All have, and nothing is held.
    Over,
}

impl Telling {
    /// Tells the fleet of ids that the answer of the stream `context` hands out, while several slots hold sessions. What is
    /// not waited for goes with the next report.
    pub fn begin(
        &mut self,
        questions: &Questions,
        (service, current): (&Rc<Service>, &Current),
        found: &[(Sid, Remembered)],
        context: u32,
        now: UnixMillis,
    ) {
        let plan = &current.plan;
        let wait = u64::from(plan.settings.memory.tell_wait_ms.0);
        if !plan.asks_the_fleet() || wait == 0 {
            return;
        }
        let asker = Asker::Stream(context);
        for (id, proposal) in found.iter().copied() {
            let told = Rc::clone(service);
            let (version, asked) = (plan.version, now);
            let question =
                Question { service: told, version, id, proposal, asked, timeout_ms: wait, patience_ms: 0, asker };
            match questions.ask(question) {
                Ok(()) => self.out.push(id),
                Err(_) => count(service, "no_way"),
            }
        }
        (self.since, self.limit_ms) = (now, wait + LOST_MS);
    }

    /// Whether some words have no answer.
    pub fn is_out(&self) -> bool {
        !self.out.is_empty()
    }

    /// What a part of the answer may do, with which `size` bytes of the body pass or are held.
    pub fn pass(&mut self, service: &Service, part: Part, size: usize) -> Flow {
        let holds = part == Part::Usable || self.held.is_some();
        if holds && size > HELD_MAX {
            self.give_up(service, "large");
        }
        let waits = self.is_out() && holds;
        self.held = waits.then_some(size);
        if waits { Flow::Waits } else { Flow::Goes }
    }

    /// This came of the word of an id.
    pub fn told(&mut self, service: &Service, id: Sid, heard: Heard) {
        if let Some(place) = self.out.iter().position(|out| *out == id) {
            self.out.swap_remove(place);
            count(service, if matches!(heard, Heard::Session(_)) { "met" } else { "timeout" });
        }
    }

    /// What becomes of the answer at a time.
    pub fn next(&mut self, service: &Service, now: UnixMillis) -> Next {
        if !now.is_within(self.limit_ms, self.since) {
            self.give_up(service, "timeout");
        }
        match (self.is_out(), self.held) {
            (true, _) => Next::Waits,
            (false, Some(_)) => {
                self.held = None;
                Next::Resumes
            }
            (false, None) => Next::Over,
        }
    }

    /// Where in what is passing the bytes begin that were not there at the last piece.
    pub fn seen(&self) -> usize {
        self.held.unwrap_or_default()
    }

    fn give_up(&mut self, service: &Service, end: &str) {
        self.out.drain(..).for_each(|_| count(service, end));
    }
}

fn count(service: &Service, end: &str) {
    service.metrics.count(&metric::waits(&service.name, "tell", end), 1);
}
