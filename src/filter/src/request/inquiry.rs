//! What one request asks the fleet after its session, and what it makes of the answer.
//!
//! A question that is not answered within the wait is asked once more, for half as long (hedged requests: Dean and Barroso,
//! "The Tail at Scale", 2013). The second says the same as the first, so it does not matter which of them was heard. How
//! long each takes is Envoy's to measure, by the timeout of the call: where the whole machine stood still, the second begins
//! when it goes on.

use std::time::Duration;

use colorfast_core::ids::Sid;
use colorfast_core::memory::Remembered;
use colorfast_core::names::metric;
use colorfast_core::time::UnixMillis;

use super::case::Case;
use crate::host::shared::memory::Place;
use crate::service::Service;
use crate::sidecar::questions::{Heard, Question, Unasked};

/// How long after its time a call without an answer is given up, though Envoy ends each by itself.
const LOST_MS: u64 = 1_000;

/// How far the fleet was asked after the session of one request.
#[derive(Debug)]
pub struct Inquiry {
    /// The context of the request's stream.
    context: u32,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// It was not.
    Unasked,
    /// It was, with this proposal, and has not answered. A second question has as many milliseconds as are `left`.
    Asked { proposal: Remembered, since: UnixMillis, left: u64 },
    /// It has not answered the first question: the second is to be asked.
    Unheard { proposal: Remembered, left: u64 },
    /// It has said what it remembers from now on; none where it could not.
    Told { proposal: Remembered, session: Option<Remembered> },
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
        Self { context, state: State::Unasked }
    }

    /// This came of the question that is out.
    pub fn told(&mut self, heard: Heard) {
        let State::Asked { proposal, left, .. } = self.state else { return };
        self.state = match heard {
            Heard::Silence if left > 0 => State::Unheard { proposal, left },
            Heard::Session(session) => State::Told { proposal, session: Some(session) },
            Heard::Silence | Heard::Nothing => State::Told { proposal, session: None },
        };
    }

    /// Asks where that is to be done, with what the request would do alone; else heeds the answer as far as it has come. What
    /// the fleet remembers is written down here, so that it is asked once.
    pub fn word(&mut self, case: &Case<'_>, question: (Sid, Option<Remembered>), place: Option<&mut Place>) -> Word {
        let (service, questions, now) = (case.service, &case.common.questions, case.now);
        let wait = u64::from(case.plan().settings.memory.ask_wait_ms.0);
        let asks = match (self.state, question.1) {
            // After 1 ms there is no second question: a call with a timeout of 0 has none.
            (State::Unasked, Some(proposal)) => Some((proposal, wait, wait / 2)),
            (State::Unheard { proposal, left }, _) => {
                count(service, "again");
                Some((proposal, left, 0))
            }
            _ => None,
        };
        let (proposal, told, end) = match (asks, self.state) {
            (Some((proposal, timeout, left)), _) => {
                let timeout = Duration::from_millis(timeout);
                let asked = Question { service: &service.name, id: question.0, proposal, timeout };
                match questions.ask(self.context, &asked) {
                    Ok(()) => {
                        self.state = State::Asked { proposal, since: now, left };
                        return Word::Waits;
                    }
                    Err(Unasked::Full) => (proposal, None, "full"),
                    Err(Unasked::NoWay) => (proposal, None, "no_way"),
                }
            }
            (None, State::Asked { since, .. }) if now.is_within(wait + LOST_MS, since) => return Word::Waits,
            (None, State::Asked { proposal, .. }) => (proposal, None, "timeout"),
            (None, State::Told { proposal, session: Some(session) }) => (proposal, Some(session), "met"),
            (None, State::Told { proposal, session: None }) => (proposal, None, "timeout"),
            (None, State::Unasked | State::Unheard { .. } | State::Over) => return Word::Nothing,
        };
        self.state = State::Over;
        count(service, end);
        if told.is_none() {
            questions.later(&service.name, question.0, proposal);
        }
        // A question that was not answered may have been heard all the same.
        let stands = told.unwrap_or(proposal);
        // A snapshot that has come since would have another session begin, but this one has begun.
        let unmoved = question.1.is_some_and(|alone| alone.assignment == stands.assignment);
        if unmoved && stands.agrees_with(&proposal) {
            return Word::Nothing;
        }
        let ages = &case.plan().settings.pin;
        let another = place.and_then(|place| service.remember_told(place, &stands, ages, now.seconds()));
        Word::Knows(another.unwrap_or(stands))
    }
}

fn count(service: &Service, end: &str) {
    service.metrics.count(&metric::waits(&service.name, "fleet", end), 1);
}
