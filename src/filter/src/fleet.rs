//! What one request asks the fleet after its session, and what it makes of the answer.

use std::time::Duration;

use colorfast_core::ids::Sid;
use colorfast_core::memory::Remembered;
use colorfast_core::names::metric;
use colorfast_core::plan::Plan;
use colorfast_core::time::UnixMillis;

use crate::asks::{Question, Unasked};
use crate::memory::Place;
use crate::service::Service;
use crate::vm::Vm;

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
    /// It was, with this proposal, and has not answered.
    Asked { proposal: Remembered, since: UnixMillis },
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

    /// The answer has come: what the fleet remembers now, if it said so.
    pub fn told(&mut self, session: Option<Remembered>) {
        if let State::Asked { proposal, .. } = self.state {
            self.state = State::Told { proposal, session };
        }
    }

    /// Asks where that was not done, with what the request would do alone; else heeds the answer as far as it has come. What
    /// the fleet remembers is written down here, so that it is asked once.
    pub fn word(
        &mut self,
        vm: &Vm,
        service: &Service,
        plan: &Plan,
        question: (Sid, Option<Remembered>),
        place: Option<&mut Place>,
        now: UnixMillis,
    ) -> Word {
        let wait = plan.settings.memory.ask_wait_ms.0.into();
        if let (State::Unasked, (id, Some(proposal))) = (self.state, question) {
            let asked = Question { service: &service.name, id, proposal, wait: Duration::from_millis(wait) };
            let unasked = match vm.asks.ask(vm, self.context, &asked) {
                Ok(()) => {
                    self.state = State::Asked { proposal, since: now };
                    return Word::Waits;
                }
                Err(unasked) => unasked,
            };
            self.ends(vm, service, if unasked == Unasked::Full { "full" } else { "no_way" });
            return Word::Nothing;
        }
        let (proposal, told) = match self.state {
            State::Asked { since, .. } if now.is_within(wait, since) => return Word::Waits,
            State::Asked { proposal, .. } => (proposal, None),
            State::Told { proposal, session } => (proposal, session),
            State::Unasked | State::Over => return Word::Nothing,
        };
        self.ends(vm, service, if told.is_some() { "met" } else { "timeout" });
        // A question that was not answered may have been heard all the same.
        let stands = told.unwrap_or(proposal);
        // A snapshot that has come since would have another session begin, but this one has begun.
        let unmoved = question.1.is_some_and(|alone| alone.assignment == stands.assignment);
        if unmoved && stands.agrees_with(&proposal) {
            return Word::Nothing;
        }
        let written = place.map(|place| service.memory.write(place, &stands, &plan.settings.pin, now.seconds()).0);
        let another = written.and_then(|written| written.another(&vm.metrics, &service.name));
        Word::Knows(another.unwrap_or(stands))
    }

    fn ends(&mut self, vm: &Vm, service: &Service, end: &str) {
        self.state = State::Over;
        vm.metrics.count(&metric::waits(&service.name, "fleet", end), 1);
    }
}
