//! Questions after sessions that this proxy does not know: to the sidecar, for the fleet.
//!
//! A question is a call of the root context, whichever callback makes it: it must not end with a stream whose client is
//! impatient, and the root may ask for a stream that has waited for something else before. Its answer comes back to
//! whatever context the SDK has booked it on, and that hands it on to the stream that waits for it. A worker has no more
//! questions out than [`OUT_MAX`]: the next request does without.
//!
//! A session that was placed without the fleet's word may have another place for the fleet: every change of the proxy would
//! move it. So the root goes on asking after it, one session at a time, with nobody waiting, until it has an answer.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use colorfast_core::ids::{ServiceName, Sid};
use colorfast_core::json;
use colorfast_core::memory::Remembered;
use colorfast_core::names;
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::discovery::Node;
use colorfast_core::wire::sessions::{Ask, Records, Told};

use super::link::Link;
use crate::cell::SharedCell;
use crate::host;
use crate::service::Service;

/// Most questions of one worker that are out.
const OUT_MAX: usize = 64;
/// Largest answer that is read: it holds one record.
const ANSWER_MAX: usize = 512;
/// Most sessions of one worker that are asked after later.
const LATER_MAX: usize = 1_024;
/// How long such a question waits, and the next one where nobody has answered.
const LATER_MS: u64 = 1_000;

/// The questions of one root and its streams.
#[derive(Debug)]
pub struct Questions {
    link: Rc<Link>,
    /// The token of each call that is out, and the context of the stream that waits for it.
    out: SharedCell<Vec<(u32, u32)>>,
    /// Who asks; known from the first tick on.
    node: SharedCell<Option<Node>>,
    root: Cell<u32>,
    /// The sessions that were placed without its word, longest ago first.
    later: SharedCell<Vec<Later>>,
    /// When a question after one of them was not answered.
    silent_at: Cell<UnixMillis>,
}

/// A session that was placed without the fleet's word.
#[derive(Debug, Clone)]
struct Later {
    service: ServiceName,
    id: Sid,
    proposal: Remembered,
}

/// What the fleet is asked for.
#[derive(Debug)]
pub struct Question<'a> {
    /// The service.
    pub service: &'a ServiceName,
    /// The keyed hash of the session id.
    pub id: Sid,
    /// What the proxy will do where the fleet knows nothing.
    pub proposal: Remembered,
    /// How long the answer may take.
    pub timeout: Duration,
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The fleet remembers this from now on.
    Session(Remembered),
    /// An answer that says nothing of the session: asked again, it would be the same.
    Nothing,
    /// No answer.
    Silence,
}

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The stream of this context.
    Stream(u32),
    /// No stream: it is of a session that was placed without it.
    Nobody,
}

/// Why there is no question out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unasked {
    /// There are too many already.
    Full,
    /// The sidecar cannot be asked: it does not know this process, or there is no way to it.
    NoWay,
}

impl Questions {
    /// None yet; all will go out by `link`.
    pub fn by(link: &Rc<Link>) -> Self {
        Self {
            link: Rc::clone(link),
            out: SharedCell::default(),
            node: SharedCell::default(),
            root: Cell::default(),
            later: SharedCell::default(),
            silent_at: Cell::default(),
        }
    }

    /// Who asks from now on, and as which root context.
    pub fn introduce(&self, node: &Node, root: u32) {
        self.root.set(root);
        self.node.with(|known| *known = Some(node.clone()));
    }

    /// Asks for the stream `context`, which is the effective context before and after.
    ///
    /// # Errors
    /// Says why it could not.
    pub fn ask(&self, context: u32, question: &Question<'_>) -> Result<(), Unasked> {
        if self.out.with(|out| out.len()).is_none_or(|out| out >= OUT_MAX) {
            return Err(Unasked::Full);
        }
        let node = self.node.with(|node| node.clone()).flatten().ok_or(Unasked::NoWay)?;
        let ticket = Some(self.link.tickets.shown().ok_or(Unasked::NoWay)?);
        let proposal = Records::one(question.id, &question.proposal);
        let ask = Ask { node, ticket, service: question.service.clone(), proposal };
        let body = serde_json::to_vec(&ask).map_err(|_| Unasked::NoWay)?;
        let root = self.root.get();
        host::set_effective_context(root).map_err(|_| Unasked::NoWay)?;
        let call = self.link.call(names::SESSIONS_PATH, &body, question.timeout);
        let _ = host::set_effective_context(context);
        let token = call.map_err(|_| Unasked::NoWay)?;
        self.out.with(|out| out.push((token, context)));
        Ok(())
    }

    /// Reads an answer: who waits for it, and what it says. None where the token is none of these. The root is the effective
    /// context when this returns.
    pub fn answer(&self, token: u32, body_size: usize) -> Option<(Asker, Heard)> {
        let context = self.out.with(|out| {
            let place = out.iter().position(|(known, _)| *known == token)?;
            Some(out.swap_remove(place).1)
        });
        let (context, root) = (context.flatten()?, self.root.get());
        if context == root {
            return Some((Asker::Nobody, heard(body_size)));
        }
        // The answer lies with the root, whatever context the SDK has made the effective one.
        let _ = host::set_effective_context(root);
        Some((Asker::Stream(context), heard(body_size)))
    }

    /// The root context that asks.
    pub fn root(&self) -> u32 {
        self.root.get()
    }

    /// A request goes on without the fleet's word: it is to be had later.
    pub fn later(&self, service: &ServiceName, id: Sid, proposal: Remembered) {
        self.later.with(|later| {
            if later.len() < LATER_MAX {
                later.push(Later { service: service.clone(), id, proposal });
            }
        });
    }

    /// Asks after the next session that no request waits for, where it is time. The root is the effective context.
    pub fn tick(&self, now: UnixMillis) {
        let root = self.root.get();
        let is_out = self.out.with(|out| out.iter().any(|(_, waits)| *waits == root));
        if is_out == Some(true) || now.is_within(LATER_MS, self.silent_at.get()) {
            return;
        }
        let Some(Later { service, id, proposal }) = self.later.with(|later| later.first().cloned()).flatten() else {
            return;
        };
        let timeout = Duration::from_millis(LATER_MS);
        if self.ask(root, &Question { service: &service, id, proposal, timeout }).is_err() {
            self.silent_at.set(now);
        }
    }

    /// What the fleet remembers of the session asked after is remembered here too, where it is still where it was placed.
    pub fn heard_later(&self, services: &[Rc<Service>], heard: Heard, now: UnixMillis) {
        if heard == Heard::Silence {
            return self.silent_at.set(now);
        }
        let asked = self.later.with(|later| later.drain(..later.len().min(1)).next()).flatten();
        let (Some(Later { service, id, proposal }), Heard::Session(session)) = (asked, heard) else { return };
        let Some(service) = services.iter().find(|known| known.name == service) else { return };
        let Some(current) = service.current() else { return };
        let settings = &current.plan.settings;
        let mut place = service.memory.look_up(settings, id);
        if place.known().is_some_and(|known| known.assignment == proposal.assignment) {
            service.memory.write(&mut place, &session, &settings.pin, now.seconds());
        }
    }

    /// A stream is gone: nobody waits for its answer.
    pub fn forget(&self, context: u32) {
        self.out.with(|out| out.retain(|(_, waits)| *waits != context));
    }
}

/// What the answer being handled says.
fn heard(body_size: usize) -> Heard {
    match host::response_status() {
        Some(200) if body_size <= ANSWER_MAX => session(body_size).map_or(Heard::Nothing, Heard::Session),
        // Envoy's own words for a call that ran out of time, and for a connection that was closed.
        None | Some(503 | 504) => Heard::Silence,
        Some(_) => Heard::Nothing,
    }
}

fn session(body_size: usize) -> Option<Remembered> {
    let told: Told = json::read(&host::response_body(body_size).ok()?).ok()?;
    told.session.only().map(|(_, session)| session)
}
