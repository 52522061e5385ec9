//! The way of a request, from its headers to the agent.
//!
//! ```text
//!            observe      resolve                          record              apply
//!  headers ─▶ read ─┬─▶ decide ─▶ needs … ─▶ wait ──┐    ─▶ memory, counts ─▶ stamps, or local reply
//!  body ─▶ body ────┘     ▲   ├─▶ memory            │
//!                         │   └─▶ inquiry (fleet)   │
//!                         └──── settled again ◀─────┴ waiting: by body, answer or tick
//! ```
//!
//! | file | is about |
//! | --- | --- |
//! | [`settle`] | one request, and one try to settle it: the four steps |
//! | [`read`], [`body`], [`held`], [`redirect`] | observe: what the request shows, and what came before this pass |
//! | [`resolve`], [`wait`], [`inquiry`] | resolve: what a decision needs is fetched, waited for, or asked of the fleet |
//! | [`record`], [`names`] | record: the session is written down under each of its names, and all is counted |
//! | [`apply`], [`stamps`], [`local_reply`] | apply: what becomes of the request |
//! | [`waiting`] | streams that wait, where the root finds them |
//! | [`common`], [`doubled`], [`case`] | what requests share, and what the steps of one try share |
//!
//! Only [`crate::stream`] and [`crate::root`] know this room, and [`Requests`] is all that they need of it.

pub mod apply;
pub mod body;
pub mod case;
pub mod common;
pub mod doubled;
pub mod held;
pub mod inquiry;
pub mod local_reply;
pub mod names;
pub mod read;
pub mod record;
pub mod redirect;
pub mod resolve;
pub mod settle;
pub mod stamps;
pub mod wait;
pub mod waiting;

use std::rc::Rc;

use colorfast_core::time::UnixMillis;

use self::body::BodyWaits;
use self::common::Common;
use self::doubled::Doubled;
use self::held::Held;
use self::settle::Request;
use self::waiting::{Progress, State, Waiting};
use crate::flow::Flow;
use crate::response::outcome::Expected;
use crate::sidecar::questions::{Asker, Heard, Question, Questions};
use crate::sidecar::report::Found;
use crate::worker::Worker;

/// The requests of one root.
#[derive(Debug)]
pub struct Requests {
    common: Common,
    waiting: Waiting,
}

impl Requests {
    /// None yet, under the plugin configuration `text` of `worker`; they ask the fleet by `questions`.
    pub fn new(worker: Rc<Worker>, questions: Questions, text: &[u8]) -> Self {
        let doubled = Doubled::under(text);
        let common = Common { worker, questions, bodies: BodyWaits::default(), held: Held::default(), doubled };
        Self { common, waiting: Waiting::default() }
    }

    /// What they go by.
    pub fn worker(&self) -> &Worker {
        &self.common.worker
    }

    /// What they have shown of the listener.
    pub fn found(&self) -> Found {
        Found { chain: self.common.doubled.chain(), bodies: self.common.bodies.told() }
    }

    /// Settles every stream that waits, as far as that can be. The root `root` is the effective context when this returns.
    pub fn settle_all(&self, root: u32) {
        self.waiting.settle_all(&self.common, root);
    }

    /// A callback of `context` runs.
    pub fn enter(&self, context: u32) {
        self.common.questions.enter(context);
    }

    /// Handles the answer to questions; `false` where the token is none of these. The root is the effective context when
    /// this returns.
    pub fn answer(&self, token: u32, body_size: usize) -> bool {
        let Common { worker, questions, .. } = &self.common;
        let now = worker.clock.read();
        let Some(answers) = questions.answer(token, body_size, now) else { return false };
        questions.gather();
        answers.into_iter().for_each(|(question, heard)| self.heard(question, heard, now));
        self.go_on(now);
        true
    }

    /// Asks what could not be asked before, and has those go on whose time is over. The root is the effective context when
    /// this returns.
    fn go_on(&self, now: UnixMillis) {
        let questions = &self.common.questions;
        questions.gather();
        for unsent in questions.take_unsent(now) {
            self.heard(unsent, Heard::Silence, now);
        }
        for unsent in questions.go_on(now) {
            self.heard(unsent, Heard::NoWay, now);
        }
    }

    /// Does what is due. The root is the effective context before and after.
    pub fn tick(&self, now: UnixMillis) {
        self.common.questions.tick(now);
        self.go_on(now);
    }

    fn heard(&self, question: Question, heard: Heard, now: UnixMillis) {
        question.correct(heard, now);
        match question.asker {
            Asker::Nobody => self.common.questions.heard_later(question, heard, now),
            Asker::Stream(context) => self.waiting.told(&self.common, context, question.id, heard),
        }
    }

    /// The headers of the stream `context` have come.
    pub fn begin(&self, context: u32, state: &State, is_headers_only: bool) -> Flow {
        let request = Request::read(&self.common, context, is_headers_only);
        let flow = state.with(|progress| {
            *progress = request.map_or(Progress::Untouched, Progress::Waiting);
            progress.settle(&self.common)
        });
        if flow == Some(Flow::Waits) {
            self.waiting.add(context, state);
        }
        flow.unwrap_or(Flow::Goes)
    }

    /// A piece of the body has come: `size` bytes are held by now.
    pub fn take_body(&self, context: u32, state: &State, size: usize, is_whole: bool) -> Flow {
        state.with(|progress| match progress {
            Progress::Waiting(request) => request.take_body(&self.common, size, is_whole),
            Progress::Settled(expected, held) => {
                *held = None;
                if let Some(decided) = expected.missed_body.take() {
                    self.common.bodies.came_late(&expected.service.name, decided, self.common.worker.clock.read());
                }
            }
            Progress::New | Progress::Untouched | Progress::Answered => {}
        });
        self.advance(context, state)
    }

    /// The trailers have come, so that there is no more of the body. What must not reach the agent is taken off them.
    pub fn take_trailers(&self, context: u32, state: &State) -> Flow {
        state.with(|progress| match progress {
            Progress::Waiting(request) => request.input.end_body(),
            Progress::Settled(_, held) => *held = None,
            Progress::New | Progress::Untouched | Progress::Answered => {}
        });
        let flow = self.advance(context, state);
        if flow == Flow::Goes {
            state.with(|progress| {
                if let Progress::Settled(expected, _) = progress
                    && let Some(current) = expected.service.current()
                {
                    stamps::strip_trailers(&current.plan);
                }
            });
        }
        flow
    }

    /// What the stream may do, after another try to settle it.
    fn advance(&self, context: u32, state: &State) -> Flow {
        let flow = state.with(|progress| {
            let waited = matches!(progress, Progress::Waiting(_));
            let flow = progress.settle(&self.common);
            if waited && flow != Flow::Waits {
                self.waiting.remove(context);
            }
            flow
        });
        flow.unwrap_or(Flow::Goes)
    }

    /// The headers of the answer have come.
    pub fn answered(&self, context: u32, state: &State, is_headers_only: bool) -> Flow {
        let Common { worker, questions, .. } = &self.common;
        self.respond(context, state, |expected| {
            let now = worker.clock.recent();
            expected.answered(now, !is_headers_only);
            expected.tell(questions, context, now);
            expected.pass_headers()
        })
    }

    /// A piece of the answer is passing: `size` bytes, with those that are held. Pieces are looked at, and held only while the
    /// fleet is told of an id that one of them hands out.
    pub fn streams(&self, context: u32, state: &State, size: usize, is_last: bool) -> Flow {
        let Common { worker, questions, .. } = &self.common;
        self.respond(context, state, |expected| {
            expected.streams(&worker.clock, size, is_last);
            expected.tell(questions, context, worker.clock.recent());
            expected.pass_piece(size, is_last)
        })
    }

    /// The trailers of the answer have come.
    pub fn ends(&self, context: u32, state: &State) -> Flow {
        self.respond(context, state, Expected::pass_trailers)
    }

    fn respond(&self, context: u32, state: &State, with: impl FnOnce(&mut Expected) -> Flow) -> Flow {
        let came_to = state.with(|progress| match progress {
            Progress::Settled(expected, _) => {
                let flow = with(expected);
                (flow, expected.is_telling())
            }
            _ => (Flow::Goes, false),
        });
        let (flow, is_telling) = came_to.unwrap_or((Flow::Goes, false));
        // What is told is heard of there, whether something waits for it or not.
        match is_telling {
            true => self.waiting.add(context, state),
            false => self.waiting.remove(context),
        }
        flow
    }

    /// The stream `context` is gone.
    pub fn forget(&self, context: u32, state: &State) {
        let waits = state.with(|progress| match progress {
            Progress::Waiting(_) => true,
            Progress::Settled(expected, _) => {
                expected.ends(self.common.worker.clock.recent());
                expected.is_telling()
            }
            _ => false,
        });
        self.common.questions.forget(context);
        if waits == Some(true) {
            self.waiting.remove(context);
        }
    }
}
