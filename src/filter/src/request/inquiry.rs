//! What one request asks the fleet after its session, and what it makes of the answer.
//!
//! A question that is not answered within the wait is asked once more, for half as long (hedged requests: Dean and Barroso,
//! "The Tail at Scale", 2013). The second says the same as the first, so it does not matter which of them was heard. How
//! long each takes is Envoy's to measure, by the timeout of the call: where the whole machine stood still, the second begins
//! when it goes on.
//!
//! What the fleet takes as a beginning is decided by no older snapshot than its own: a proposal that came too late is made
//! anew, and so is one that a newer snapshot overtook on its way.

use std::rc::Rc;

use colorfast_core::ids::{Sid, SnapshotVersion};
use colorfast_core::memory::{Certainty, Remembered};
use colorfast_core::names::metric;
use colorfast_core::time::UnixMillis;

use super::case::Case;
use crate::host::shared::memory::Place;
use crate::service::Service;
use crate::sidecar::questions::{Asker, Heard, Question, Unasked};

/// How long after its time a call without an answer is given up, though Envoy ends each by itself.
const LOST_MS: u64 = 1_000;
/// How long it is asked again while the sidecar answers other questions of the worker.
const PATIENCE_MS: u64 = 1_000;
/// How long a request waits for the snapshot by which the fleet would have it decided.
const NEWER_WAIT_MS: u64 = 500;
/// How often one request is proposed anew.
const ROUNDS: u8 = 4;

/// How far the fleet was asked after the session of one request.
#[derive(Debug)]
pub struct Inquiry {
    /// The context of the request's stream.
    context: u32,
    state: State,
    /// How often it was proposed anew.
    rounds: u8,
}

/// What was asked.
#[derive(Debug, Clone, Copy)]
struct Asked {
    proposal: Remembered,
    version: SnapshotVersion,
    /// How many milliseconds a second question has; none after it.
    left: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// It was not.
    Unasked,
    /// It was, and has not answered.
    Asked(Asked, UnixMillis),
    /// It has not answered the first question: the second is to be asked.
    Unheard(Asked),
    /// It will not have the proposal as a beginning, and would have it decided by this snapshot at least.
    Late(SnapshotVersion, UnixMillis),
    /// It has said what it remembers from now on.
    Told(Asked, Remembered),
    /// It was asked in vain; how, in the word for metrics.
    InVain(&'static str),
    /// That has been taken into account.
    Over,
}

/// What the fleet's word comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It has not come.
    Waits,
    /// This is remembered.
    Knows(Remembered),
    /// Nothing is, or it cannot be had: the request's own proposal stands.
    Nothing,
}

impl Inquiry {
    /// For the request of the stream `context`.
    pub fn new(context: u32) -> Self {
        Self { context, state: State::Unasked, rounds: 0 }
    }

    /// This came of the question that is out.
    pub fn told(&mut self, heard: Heard, now: UnixMillis) {
        let State::Asked(asked, _) = self.state else { return };
        self.state = match heard {
            Heard::Silence if asked.left > 0 => State::Unheard(asked),
            Heard::Session(session) => State::Told(asked, session),
            Heard::Late(version) => State::Late(version, now),
            Heard::NoWay => State::InVain("no_way"),
            Heard::Silence | Heard::Nothing => State::InVain("timeout"),
        };
    }

    /// Asks where that is to be done, with what the request would do alone; else heeds the answer as far as it has come. What
    /// the fleet remembers is written down here, so that it is asked once.
    pub fn word(&mut self, case: &Case<'_>, id: Sid, proposal: Remembered, place: Option<&mut Place>) -> Word {
        let wait = u64::from(case.plan().settings.memory.ask_wait_ms.0);
        self.propose_anew(case, proposal);
        let asks = match self.state {
            // After 1 ms there is no second question: a call with a timeout of 0 has none.
            State::Unasked => {
                let asked = Asked { proposal, version: case.plan().version, left: wait / 2 };
                self.ask(case, id, asked, wait)
            }
            State::Unheard(asked) => {
                count(case.service, "again");
                self.ask(case, id, Asked { left: 0, ..asked }, asked.left)
            }
            State::Asked(_, since) if case.now.is_within(wait + LOST_MS, since) => return Word::Waits,
            State::Late(_, since) if case.now.is_within(NEWER_WAIT_MS, since) => return Word::Waits,
            State::Told(_, session) => {
                count(case.service, "met");
                self.state = State::Over;
                return heed(case, session, proposal, place);
            }
            State::Asked(..) => Err("timeout"),
            State::InVain(end) => Err(end),
            State::Late(..) => Err("late"),
            State::Over => return Word::Nothing,
        };
        if let Err(end) = asks {
            count(case.service, end);
            self.state = State::Over;
            let alone = Asked { proposal, version: case.plan().version, left: 0 };
            case.common.questions.later(self.question(case, id, alone, 0));
            return Word::Nothing;
        }
        Word::Waits
    }

    /// A proposal by an older snapshot, which nobody has taken up but the fleet for this very request, is made anew.
    fn propose_anew(&mut self, case: &Case<'_>, proposal: Remembered) {
        let version = case.plan().version;
        let is_anew = match self.state {
            State::Late(needed, _) => version >= needed,
            State::Told(asked, session) => {
                asked.version < version
                    && session.certainty == Certainty::Guess
                    && session.agrees_with(&asked.proposal)
                    && !proposal.agrees_with(&asked.proposal)
            }
            _ => false,
        };
        if is_anew && self.rounds < ROUNDS {
            self.rounds += 1;
            self.state = State::Unasked;
        }
    }

    /// Asks; else says why not, in the word for metrics.
    fn ask(&mut self, case: &Case<'_>, id: Sid, asked: Asked, timeout_ms: u64) -> Result<(), &'static str> {
        match case.common.questions.ask(self.question(case, id, asked, timeout_ms)) {
            Ok(()) => self.state = State::Asked(asked, case.now),
            // It is getting to know this process: waited for as for the first snapshot.
            Err(Unasked::Unknown) if may_wait_for_ticket(case) => {}
            Err(Unasked::Full) => return Err("full"),
            Err(Unasked::Unknown | Unasked::NoWay) => return Err("no_way"),
        }
        Ok(())
    }

    fn question(&self, case: &Case<'_>, id: Sid, asked: Asked, timeout_ms: u64) -> Question {
        Question {
            service: Rc::clone(case.service),
            version: asked.version,
            id,
            proposal: asked.proposal,
            asked: case.now,
            timeout_ms,
            // The second question is the last.
            patience_ms: if asked.left > 0 { PATIENCE_MS } else { 0 },
            asker: Asker::Stream(self.context),
        }
    }
}

/// What the fleet remembers counts: where that is the request's own proposal it begins the session. What a pin says that is
/// idle is none: the fleet has seen its session since.
fn heed(case: &Case<'_>, session: Remembered, proposal: Remembered, place: Option<&mut Place>) -> Word {
    let (ages, now) = (&case.plan().settings.pin, case.now.seconds());
    if session.agrees_with(&proposal) && !proposal.is_over(ages, now) {
        return Word::Nothing;
    }
    let another = place.and_then(|place| case.service.remember_told(place, &session, ages, now));
    Word::Knows(another.unwrap_or(session))
}

fn may_wait_for_ticket(case: &Case<'_>) -> bool {
    let longest = case.plan().settings.bootstrap_wait_ms.0;
    case.now.is_within(longest.into(), case.common.worker.started)
}

fn count(service: &Service, end: &str) {
    service.metrics.count(&metric::waits(&service.name, "fleet", end), 1);
}
