//! Read your own writes: the part of an answer that hands out a new id goes on once the fleet has it, so that the client's
//! next request is served alike at any proxy, however soon it comes. Nothing waits while one slot alone holds sessions, and
//! an answer is never held whole: where much of it gathers in the wait, or the wait is over, it goes on all the same, counted.

use std::rc::Rc;
use std::time::Duration;

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
    /// How many words have no answer yet.
    out: usize,
    /// When they are given up.
    end: UnixMillis,
    /// How much of the body is held.
    held: usize,
}

impl Telling {
    /// Tells the fleet of ids that the answer of the stream `context` hands out, while several slots hold sessions.
    pub fn begin(
        &mut self,
        questions: &Questions,
        (service, current): (&Rc<Service>, &Current),
        found: &[(Sid, Remembered)],
        context: u32,
        now: UnixMillis,
    ) {
        let plan = &current.plan;
        if !plan.asks_the_fleet() {
            return;
        }
        let wait = u64::from(plan.settings.memory.tell_wait_ms.0);
        // A call with a timeout of 0 has none.
        let (asker, timeout) = if wait > 0 { (Asker::Stream(context), wait) } else { (Asker::Nobody, LOST_MS) };
        let timeout = Duration::from_millis(timeout);
        for (id, proposal) in found.iter().copied() {
            let asks = Rc::clone(service);
            let question = Question { service: asks, version: plan.version, id, proposal, timeout, asker };
            match questions.ask(question) {
                Ok(()) if wait > 0 => self.out += 1,
                Ok(()) => {}
                // It goes with the next report.
                Err(_) => count(service, "no_way"),
            }
        }
        self.end = now.plus_millis(wait + LOST_MS);
    }

    /// Whether something is waited for.
    pub fn flow(&self) -> Flow {
        if self.out > 0 { Flow::Waits } else { Flow::Goes }
    }

    /// This came of one of the words.
    pub fn told(&mut self, service: &Service, heard: Heard) {
        if self.out > 0 {
            count(service, if matches!(heard, Heard::Session(_)) { "met" } else { "timeout" });
            self.out -= 1;
        }
    }

    /// Whether the answer waits on at a time.
    pub fn wait_on(&mut self, service: &Service, now: UnixMillis) -> Flow {
        if self.out > 0 && now >= self.end {
            self.give_up(service, "timeout");
        }
        self.flow()
    }

    /// Where in what is passing the bytes begin that were not there at the last piece.
    pub fn seen(&self) -> usize {
        if self.out > 0 { self.held } else { 0 }
    }

    /// A piece has come, with which `size` bytes are held: too many of them go on.
    pub fn hold(&mut self, service: &Service, size: usize) -> Flow {
        if self.out > 0 && size > HELD_MAX {
            self.give_up(service, "large");
        }
        self.held = size;
        self.flow()
    }

    fn give_up(&mut self, service: &Service, end: &str) {
        (0..std::mem::take(&mut self.out)).for_each(|_| count(service, end));
    }
}

fn count(service: &Service, end: &str) {
    service.metrics.count(&metric::waits(&service.name, "tell", end), 1);
}
