//! Questions to the fleet after sessions that this proxy does not know, and words to it of ids that answers hand out.
//!
//! Both are records under ids of a service, and go out together: as many as there are, in calls of up to
//! [`Records::MAX`], of which [`CALLS_MAX`] are out at once. So a single question goes at once, and a crowd goes in few
//! calls. What bounds them is room and time: of [`ROOM`] questions and no more, each has its own timeout, from when it is
//! asked: one that could not go out in time is not heard, and a call takes as long as the first of its questions has left.
//! A crowd is worth some patience while the sidecar answers, or where the worker itself is late: a question that it could not
//! ask, or hear, in time is asked again, for as long as it says.
//!
//! A call is one of the root context, whichever callback makes it: it must not end with a stream whose client is impatient.
//! The SDK hands its answer to the context whose callback made the call, whatever the effective context was; where that one
//! is gone nobody would hear it. So a stream that ends has its calls made anew.
//!
//! A session that was placed without the fleet's word may have another place for the fleet: every change of the proxy would
//! move it. So the root goes on asking after it, with nobody waiting, until it has an answer.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use colorfast_core::ids::{Sid, SnapshotVersion};
use colorfast_core::json;
use colorfast_core::memory::{Certainty, RECORD, Remembered, record};
use colorfast_core::names;
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::incarnation::Incarnation;
use colorfast_core::wire::sessions::{Ask, Records, Told};

use super::identity::Identity;
use super::link::Link;
use crate::cell::SharedCell;
use crate::host;
use crate::service::Service;

/// Most calls of one worker that are out.
const CALLS_MAX: usize = 8;
/// Most questions of one worker that have no answer yet.
const ROOM: usize = 8_192;
/// Largest answer that is read: it holds as many records as a call, in base64, and two words.
const ANSWER_MAX: usize = Records::MAX * RECORD * 4 / 3 + 512;
/// So long after it was heard last the sidecar is taken to answer, and a worker that was late to be so.
const LASTS_MS: u64 = 100;
/// A worker that ticks no more often than this, or ends a call after twice its time, has too much to do.
const LATE_MS: u64 = 60;
/// How long a question waits that no request waits for, and the next one where nobody has answered.
const LATER_MS: u64 = 1_000;

/// The questions of one root and its streams.
#[derive(Debug)]
pub struct Questions {
    link: Rc<Link>,
    identity: Rc<Identity>,
    root: u32,
    /// The context of the running callback.
    running: Cell<u32>,
    /// Whether many may ask before the next call goes out.
    gathers: Cell<bool>,
    queue: SharedCell<VecDeque<Question>>,
    calls: SharedCell<Vec<Call>>,
    /// The sessions that were placed without the fleet's word, longest ago first.
    later: SharedCell<VecDeque<Question>>,
    /// When a question after one of them was not answered.
    silent_at: Cell<UnixMillis>,
    /// When the sidecar answered last.
    heard_at: Cell<UnixMillis>,
    /// When the worker was late last, and when it ticked.
    late_at: Cell<UnixMillis>,
    ticked_at: Cell<UnixMillis>,
}

/// What the fleet is asked for, or told.
#[derive(Debug, Clone)]
pub struct Question {
    /// The service.
    pub service: Rc<Service>,
    /// The snapshot that the proposal was made under.
    pub version: SnapshotVersion,
    /// The keyed hash of the session id.
    pub id: Sid,
    /// What the proxy will do where the fleet knows nothing, or what it has found out.
    pub proposal: Remembered,
    /// When it is asked.
    pub asked: UnixMillis,
    /// How long the answer may take, in milliseconds.
    pub timeout_ms: u64,
    /// How long it is asked again while the sidecar answers others, in milliseconds.
    pub patience_ms: u64,
    /// Who waits for the answer.
    pub asker: Asker,
}

/// A call that is out.
#[derive(Debug)]
struct Call {
    token: u32,
    /// The context that will be handed the answer.
    booked: u32,
    /// By when it has an answer, or is ended, where the worker is not late.
    ends: UnixMillis,
    questions: Vec<Question>,
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The fleet remembers this from now on.
    Session(Remembered),
    /// The proposal came too late to be a beginning: it is to be decided anew, by this snapshot at least.
    Late(SnapshotVersion),
    /// An answer that says nothing of the session: asked again, it would be the same.
    Nothing,
    /// No answer.
    Silence,
    /// It could not go out.
    NoWay,
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
    /// The sidecar does not know this process yet.
    Unknown,
    /// There is no way to the sidecar.
    NoWay,
}

impl Question {
    /// Where this has told of a fact, and something else stands in the fleet, that is remembered here too.
    pub fn correct(&self, heard: Heard, now: UnixMillis) {
        let Heard::Session(stands) = heard else { return };
        if self.proposal.certainty == Certainty::Fact
            && !stands.agrees_with(&self.proposal)
            && let Some(current) = self.service.current()
        {
            self.service.correct(&current.plan.settings, self.id, &stands, now.seconds());
        }
    }

    /// Whether both can go out in one call.
    fn goes_with(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.service, &other.service) && self.version == other.version
    }

    /// How long is left for the answer.
    fn left_ms(&self, now: UnixMillis) -> u64 {
        self.timeout_ms.saturating_sub(now.since(self.asked))
    }

    fn says_as(&self, other: &Self) -> bool {
        self.id == other.id && self.proposal == other.proposal
    }
}

impl Questions {
    /// None yet; all will go out by `link`, as calls of `root`.
    pub fn by(link: &Rc<Link>, identity: &Rc<Identity>, root: u32) -> Self {
        Self {
            link: Rc::clone(link),
            identity: Rc::clone(identity),
            root,
            running: Cell::new(root),
            gathers: Cell::new(false),
            queue: SharedCell::default(),
            calls: SharedCell::default(),
            later: SharedCell::default(),
            silent_at: Cell::default(),
            heard_at: Cell::default(),
            late_at: Cell::default(),
            ticked_at: Cell::default(),
        }
    }

    /// A callback of `context` runs.
    pub fn enter(&self, context: u32) {
        self.running.set(context);
    }

    /// Asks. The stream that asks is the effective context before and after.
    ///
    /// # Errors
    /// Says why it could not.
    pub fn ask(&self, question: Question) -> Result<(), Unasked> {
        let waiting = |calls: &mut Vec<Call>| calls.iter().map(|call| call.questions.len()).sum::<usize>();
        let out = self.calls.with(waiting).unwrap_or(ROOM) + self.queue.with(|queue| queue.len()).unwrap_or(ROOM);
        if out >= ROOM {
            return Err(Unasked::Full);
        }
        if self.link.tickets.shown().is_none() {
            return Err(Unasked::Unknown);
        }
        let context = match question.asker {
            Asker::Stream(context) => context,
            Asker::Nobody => self.root,
        };
        let (id, asker, now) = (question.id, question.asker, question.asked);
        self.queue.with(|queue| queue.push_back(question));
        if self.gathers.get() {
            return Ok(());
        }
        let sent = self.send(now);
        let _ = host::set_effective_context(context);
        if sent.is_err() {
            self.queue.with(|queue| queue.retain(|question| (question.id, question.asker) != (id, asker)));
        }
        sent
    }

    /// Sends what has gathered, as far as calls may be out. The root is the effective context afterwards.
    ///
    /// # Errors
    /// Where there is no way to the sidecar: nothing waits any more then.
    fn send(&self, now: UnixMillis) -> Result<(), Unasked> {
        let mut sent = Ok(());
        while sent.is_ok() && self.calls.with(|calls| calls.len()).is_some_and(|out| out < CALLS_MAX) {
            let batch = self.queue.with(next_batch).unwrap_or_default();
            let Some(first) = batch.first() else { return Ok(()) };
            let timeout_ms = if self.is_patient(first, now) { first.timeout_ms } else { first.left_ms(now) };
            sent = match self.call(first, &batch, timeout_ms) {
                Ok(token) => {
                    let ends = now.plus_millis(2 * timeout_ms);
                    let call = Call { token, booked: self.running.get(), ends, questions: batch };
                    self.calls.with(|calls| calls.push(call));
                    Ok(())
                }
                Err(unasked) => {
                    self.queue.with(|queue| batch.into_iter().rev().for_each(|question| queue.push_front(question)));
                    Err(unasked)
                }
            };
        }
        sent
    }

    fn call(&self, first: &Question, batch: &[Question], timeout_ms: u64) -> Result<u32, Unasked> {
        let mut records = Vec::with_capacity(batch.len() * RECORD);
        for (place, question) in batch.iter().enumerate() {
            if !batch.iter().take(place).any(|before| before.id == question.id) {
                records.extend_from_slice(&record(question.id, &question.proposal));
            }
        }
        let ask = Ask {
            node: self.identity.node.clone(),
            ticket: Some(self.link.tickets.shown().ok_or(Unasked::NoWay)?),
            instance: self.identity.instance(),
            service: first.service.name.clone(),
            version_info: first.version.to_string(),
            proposals: Records::of(&records),
        };
        let body = serde_json::to_vec(&ask).map_err(|_| Unasked::NoWay)?;
        host::set_effective_context(self.root).map_err(|_| Unasked::NoWay)?;
        // A call with a timeout of 0 has none.
        let timeout = Duration::from_millis(timeout_ms.max(1));
        self.link.call(names::SESSIONS_PATH, &body, timeout).map_err(|_| Unasked::NoWay)
    }

    /// Reads an answer: what came of each question that it is to. None where the token is none of these. The root is the
    /// effective context when this returns.
    pub fn answer(&self, token: u32, body_size: usize, now: UnixMillis) -> Option<Vec<(Question, Heard)>> {
        let call = self.calls.with(|calls| {
            let place = calls.iter().position(|call| call.token == token)?;
            Some(calls.swap_remove(place))
        });
        let call = call.flatten()?;
        // The answer lies with the root, whatever context the SDK has made the effective one.
        let _ = host::set_effective_context(self.root);
        let answer = Answer::read(body_size);
        if let Answer::Told(.., incarnation) = &answer {
            self.link.hear(incarnation);
            self.heard_at.set(now);
        }
        let mut questions = call.questions;
        if let Answer::Silence = answer {
            if now > call.ends {
                self.late_at.set(now);
            }
            let (again, over) = questions.into_iter().partition(|question| self.is_patient(question, now));
            self.queue.with(|queue: &mut VecDeque<_>| queue.extend::<Vec<_>>(again));
            questions = over;
        }
        let heard = questions.into_iter().map(|question| {
            let heard = answer.to(&question);
            if let Heard::Session(stands) = heard {
                question.service.news.has_told(&record(question.id, &stands), now);
            }
            (question, heard)
        });
        Some(heard.collect())
    }

    /// Many may ask from here on: their questions go out together, by [`Self::go_on`].
    pub fn gather(&self) {
        self.gathers.set(true);
    }

    /// Sends what could not go out before, or has gathered. Returns what there is no way for. The root is the effective context
    /// afterwards.
    pub fn go_on(&self, now: UnixMillis) -> Vec<Question> {
        self.gathers.set(false);
        let sent = self.send(now);
        let _ = host::set_effective_context(self.root);
        if sent.is_ok() {
            return Vec::new();
        }
        self.silent_at.set(now);
        self.queue.with(std::mem::take).unwrap_or_default().into()
    }

    /// Whether a question is worth asking again: the sidecar answers, and it was not asked too long ago.
    fn is_patient(&self, question: &Question, now: UnixMillis) -> bool {
        (now.is_within(LASTS_MS, self.heard_at.get()) || now.is_within(LASTS_MS, self.late_at.get()))
            && now.is_within(question.patience_ms, question.asked)
    }

    /// The questions that could not go out in time.
    pub fn take_unsent(&self, now: UnixMillis) -> Vec<Question> {
        self.queue
            .with(|queue| {
                let (late, rest) =
                    queue.drain(..).partition(|question| question.left_ms(now) == 0 && !self.is_patient(question, now));
                *queue = rest;
                late
            })
            .unwrap_or_default()
            .into()
    }

    /// A request goes on without the fleet's word: it is asked for later.
    pub fn later(&self, question: Question) {
        self.later.with(|later| {
            if later.len() < ROOM {
                later.push_back(Question { timeout_ms: LATER_MS, patience_ms: 0, asker: Asker::Nobody, ..question });
            }
        });
    }

    /// Has the sessions asked after that no request waits for, where it is time.
    pub fn tick(&self, now: UnixMillis) {
        let before = self.ticked_at.replace(now);
        if before != UnixMillis::default() && !now.is_within(LATE_MS, before) {
            self.late_at.set(now);
        }
        let waits = |calls: &mut Vec<Call>| calls.iter().any(|call| call.questions.iter().any(of_nobody));
        if self.calls.with(waits) != Some(false) || now.is_within(LATER_MS, self.silent_at.get()) {
            return;
        }
        if self.later.with(|later| later.is_empty()) != Some(false) || self.link.tickets.shown().is_none() {
            return;
        }
        let some = |later: &mut VecDeque<Question>| later.drain(..later.len().min(Records::MAX)).collect::<Vec<_>>();
        let due = self.later.with(some).unwrap_or_default();
        if !due.is_empty() {
            self.queue.with(|queue| queue.extend(due.into_iter().map(|due| Question { asked: now, ..due })));
        }
    }

    /// What came of a question that no request waits for: it is remembered here too, where the session is still where it was
    /// placed.
    pub fn heard_later(&self, question: Question, heard: Heard, now: UnixMillis) {
        let Question { service, id, proposal, .. } = &question;
        let stands = match heard {
            Heard::Silence | Heard::NoWay => {
                self.silent_at.set(now);
                return self.later(question);
            }
            // Its session has begun here, whatever snapshot that was by.
            Heard::Late(version) => return self.later(Question { version, ..question }),
            Heard::Nothing => return,
            Heard::Session(stands) => stands,
        };
        let Some(current) = service.current() else { return };
        let settings = &current.plan.settings;
        let mut place = service.memory.look_up(settings, *id);
        let is_as_placed = |known: &Remembered| {
            known.assignment == proposal.assignment
                && (known.certainty <= stands.certainty || known.agrees_with(&stands))
        };
        if place.known().as_ref().is_some_and(is_as_placed) {
            service.remember_told(&mut place, &stands, &settings.pin, now.seconds());
        }
    }

    /// The stream `context` is gone: nobody waits for its answers, and nobody is handed those of the calls that it has made.
    pub fn forget(&self, context: u32) {
        let is_other = |question: &Question| question.asker != Asker::Stream(context);
        self.queue.with(|queue| queue.retain(is_other));
        let lost = self.calls.with(|calls| {
            calls.iter_mut().for_each(|call| call.questions.retain(is_other));
            calls.extract_if(.., |call| call.booked == context).flat_map(|call| call.questions).collect::<Vec<_>>()
        });
        self.queue.with(|queue| lost.into_iter().flatten().rev().for_each(|question| queue.push_front(question)));
    }
}

fn of_nobody(question: &Question) -> bool {
    question.asker == Asker::Nobody
}

/// Takes the questions that can go out with the first. One that says otherwise of an id than one before it waits.
fn next_batch(queue: &mut VecDeque<Question>) -> Vec<Question> {
    let Some(first) = queue.pop_front() else { return Vec::new() };
    let mut batch = vec![first];
    let mut rest = VecDeque::new();
    while let Some(question) = queue.pop_front() {
        let fits = batch.first().is_some_and(|first| question.goes_with(first));
        let contradicts = || batch.iter().any(|before| before.id == question.id && !before.says_as(&question));
        if fits && batch.len() < Records::MAX && !contradicts() {
            batch.push(question);
        } else {
            rest.push_back(question);
        }
    }
    *queue = rest;
    batch
}

/// What an answer says.
enum Answer {
    /// What stands, by which snapshot, and in which life of the sidecar.
    Told(Vec<(Sid, Remembered)>, SnapshotVersion, Incarnation),
    /// Nothing of sessions.
    Nothing,
    /// There was none: Envoy's own words for a call that ran out of time, and for a connection that was closed.
    Silence,
}

impl Answer {
    /// Reads the answer being handled.
    fn read(body_size: usize) -> Self {
        let told = || {
            let told: Told = json::read(&host::response_body(body_size).ok()?).ok()?;
            let version = told.version_info.parse().ok()?;
            Some(Self::Told(told.sessions.sessions()?, version, told.incarnation))
        };
        match host::response_status() {
            Some(200) if body_size <= ANSWER_MAX => told().unwrap_or(Self::Nothing),
            None | Some(503 | 504) => Self::Silence,
            Some(_) => Self::Nothing,
        }
    }

    /// What it says to one question.
    fn to(&self, question: &Question) -> Heard {
        match self {
            Self::Silence => Heard::Silence,
            Self::Nothing => Heard::Nothing,
            Self::Told(sessions, version, _) => match sessions.iter().find(|(id, _)| *id == question.id) {
                Some((_, session)) => Heard::Session(*session),
                None if *version > question.version => Heard::Late(*version),
                None => Heard::Nothing,
            },
        }
    }
}
