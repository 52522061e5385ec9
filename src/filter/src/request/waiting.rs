//! Streams that wait: where the root finds them, and the one way in which they are settled.

use std::rc::Rc;

use colorfast_core::ids::Sid;

use super::common::Common;
use super::held::Share;
use super::read::Input;
use super::settle::{Request, Settled};
use crate::cell::SharedCell;
use crate::flow::Flow;
use crate::host::{self, Direction};
use crate::response::outcome::Expected;
use crate::response::telling::Next;
use crate::sidecar::questions::Heard;

/// How far a stream is. It lives here and not in the stream's context, since the root settles it too.
#[derive(Debug, Default)]
pub enum Progress {
    /// Its headers have not come.
    #[default]
    New,
    /// It waits for something.
    Waiting(Request),
    /// It is of no service, and passes untouched.
    Untouched,
    /// It is decided. Where its next piece lets it go, what is held of it until then.
    Settled(Expected, Option<Share>),
    /// It was answered here, and goes nowhere.
    Answered,
}

/// The progress of one stream, shared by its context and the registry.
pub type State = Rc<SharedCell<Progress>>;

impl Progress {
    /// Settles the request as far as it can be: the one step that headers, bodies, answers and ticks all take. The
    /// effective context is the stream's. Returns what the request may do. Called by a callback of the request itself, whose
    /// piece goes on with all that is held.
    pub fn settle(&mut self, common: &Common) -> Flow {
        self.settle_keeping(common, |_| None)
    }

    /// [`Self::settle`], with what stays held of the request once it is decided.
    fn settle_keeping(&mut self, common: &Common, keep: fn(&mut Input) -> Option<Share>) -> Flow {
        let request = match self {
            Self::Waiting(request) => request,
            Self::Answered => return Flow::Ends,
            _ => return Flow::Goes,
        };
        match request.settle(common) {
            Settled::Waits => Flow::Waits,
            Settled::Answered => {
                *self = Self::Answered;
                Flow::Ends
            }
            Settled::Goes(expected) => {
                *self = Self::Settled(expected, keep(&mut request.input));
                Flow::Goes
            }
        }
    }

    /// Takes another step from outside the stream's callbacks, whether it is the request that waits or its answer.
    fn step(&mut self, common: &Common) -> Step {
        if let Self::Settled(expected, _) = self {
            return match expected.next(common.worker.clock.recent()) {
                Next::Waits => Step::Stays,
                Next::Resumes => Step::Resumes(Direction::Response),
                Next::Over => Step::Leaves,
            };
        }
        match (self.settle_keeping(common, Input::take_cut), &self) {
            (Flow::Waits, _) => Step::Stays,
            // The next piece lets a request go of which one is held. Let go here, Envoy would add that piece to those that it
            // keeps to try the request again with, and the agent would never get it.
            (Flow::Ends, _) | (Flow::Goes, Self::Settled(_, Some(_))) => Step::Leaves,
            (Flow::Goes, _) => Step::Resumes(Direction::Request),
        }
    }

    /// This came of the question after an id.
    fn told(&mut self, common: &Common, id: Sid, heard: Heard) {
        match self {
            Self::Waiting(request) => request.resolver.inquiry.told(heard, common.worker.clock.recent()),
            Self::Settled(expected, _) => expected.told(id, heard),
            Self::New | Self::Untouched | Self::Answered => {}
        }
    }
}

/// What a stream that waits comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It waits on.
    Stays,
    /// This half of it goes on.
    Resumes(Direction),
    /// It waits for nothing more that the root would hear of.
    Leaves,
}

/// The waiting streams of one root, in order of their context ids.
#[derive(Debug, Default)]
pub struct Waiting(SharedCell<Vec<(u32, State)>>);

impl Waiting {
    /// Notes that a stream waits.
    pub fn add(&self, context: u32, stream: &State) {
        self.0.with(|streams| {
            if let Err(place) = find(streams, context) {
                streams.insert(place, (context, Rc::clone(stream)));
            }
        });
    }

    /// Forgets a stream that has been settled by its own callback, or is gone.
    pub fn remove(&self, context: u32) {
        self.0.with(|streams| find(streams, context).ok().map(|place| streams.remove(place)));
    }

    /// A waiting stream hears what came of its question, and goes on as far as it can. Leaves it the effective context.
    pub fn told(&self, common: &Common, context: u32, id: Sid, heard: Heard) {
        let found =
            self.0.with(|streams| streams.get(find(streams, context).ok()?).map(|(_, stream)| Rc::clone(stream)));
        let Some(stream) = found.flatten() else { return };
        if host::set_effective_context(context).is_err() {
            return;
        }
        let step = stream.with(|progress| {
            progress.told(common, id, heard);
            progress.step(common)
        });
        match step.unwrap_or(Step::Stays) {
            Step::Stays => {}
            Step::Leaves => self.remove(context),
            Step::Resumes(direction) => {
                self.remove(context);
                let _ = host::resume(direction);
            }
        }
    }

    /// Tries every waiting stream again and resumes those that are settled. Called by the root `root`, which is the
    /// effective context again when this returns.
    pub fn settle_all(&self, common: &Common, root: u32) {
        let streams = self.0.with(std::mem::take).unwrap_or_default();
        if streams.is_empty() {
            return;
        }
        let mut still = Vec::new();
        for (context, stream) in streams {
            // A stream whose context is gone needs no answer.
            if host::set_effective_context(context).is_err() {
                continue;
            }
            match stream.with(|progress| progress.step(common)).unwrap_or(Step::Stays) {
                Step::Stays => still.push((context, stream)),
                Step::Leaves => {}
                Step::Resumes(direction) => drop(host::resume(direction)),
            }
        }
        self.0.with(|streams| *streams = still);
        let _ = host::set_effective_context(root);
    }
}

/// Where a stream stands, or would.
fn find(streams: &[(u32, State)], context: u32) -> Result<usize, usize> {
    streams.binary_search_by_key(&context, |(known, _)| *known)
}
