//! Ids that an agent hands out in its answers: each is an alias of the session that the answer is of, and is written down
//! before the piece of the answer that holds it passes on. So whatever the client does with it next is known here.

use std::rc::Rc;

use colorfast_core::cookie;
use colorfast_core::decide::alias;
use colorfast_core::envelope;
use colorfast_core::ids::{HeaderName, Sid};
use colorfast_core::memory::Remembered;
use colorfast_core::names::metric;
use colorfast_core::scan::{AnswerScan, Searched};
use colorfast_core::seen::{self, Presence};
use colorfast_core::settings::{AnswerSource, has_run_ended};
use colorfast_core::time::UnixMillis;
use colorfast_core::token::pin::{Claims, Kind};

use crate::clock::Clock;
use crate::host::{self, HeaderMap, Map};
use crate::service::{Current, Service};

/// The session of one answer, which may hand out ids.
#[derive(Debug)]
pub struct Learner {
    service: Rc<Service>,
    current: Rc<Current>,
    session: Remembered,
    end: SessionEnd,
    /// The search of the body, while it goes on.
    scan: Option<AnswerScan>,
    /// The ids that it has found and nobody else knows yet, with what they name.
    found: Vec<(Sid, Remembered)>,
}

/// How the session may end with the answer.
#[derive(Debug, Clone, Copy)]
pub struct SessionEnd {
    /// The keyed hash of the id by which the request names it; its own where the request names none.
    pub named: Sid,
    /// Whether the request is to end it.
    pub asked: Presence,
}

/// Whether the body of an answer has more to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// It may have.
    On,
    /// It has not.
    Over,
}

/// Whether an id went out with the session's pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sealed {
    Yes,
    No,
}

/// What the headers of an answer say of its body.
#[derive(Debug, Clone, Copy)]
pub struct AnswerBody<'a> {
    /// Its type.
    pub content_type: &'a [u8],
    /// How it is encoded; empty where it is not.
    pub encoding: &'a [u8],
    /// Whether there is one at all.
    pub is_there: bool,
}

/// The values of every header of this name.
fn named<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    headers.iter().filter(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
}

impl Learner {
    /// Learns in `session` what an answer of `service` hands out.
    pub fn new(service: &Rc<Service>, current: &Rc<Current>, session: Remembered, end: SessionEnd) -> Self {
        Self { service: Rc::clone(service), current: Rc::clone(current), session, end, scan: None, found: Vec::new() }
    }

    /// Whether the session has ended with the answer: the agent says so of it or of its run, or has done what the client
    /// asked it for. It is forgotten then, and begins anew where somebody goes on with it.
    pub fn ends(&self, headers: &HeaderMap) -> bool {
        let settings = &self.current.plan.settings;
        let says = |name: &Option<HeaderName>, ended: fn(&[u8]) -> bool| {
            let Some(name) = name else { return false };
            named(headers, name.as_str()).any(ended)
        };
        let has_ended = self.end.asked.is_present()
            || says(&settings.session_end_header, |value| !value.is_empty())
            || says(&settings.runs.status_header, has_run_ended);
        if has_ended {
            self.service.forget(settings, self.end.named, &self.session);
        }
        has_ended
    }

    /// Heeds the headers of the answer.
    pub fn hear_headers(&mut self, headers: &HeaderMap, body: AnswerBody<'_>, now: UnixMillis) -> Listening {
        let current = Rc::clone(&self.current);
        let settings = &current.plan.settings;
        for source in &settings.learn_from {
            match source {
                AnswerSource::Header(name) => {
                    named(headers, name.as_str()).for_each(|id| self.learn(id, now));
                }
                AnswerSource::Cookie(name) => {
                    let name = name.as_str().as_bytes();
                    let lines = named(headers, "set-cookie");
                    lines.filter_map(|line| cookie::handed_out(line, name)).for_each(|id| self.learn(id, now));
                }
                AnswerSource::Body(_) | AnswerSource::Event(_) => {}
            }
        }
        if let Some(name) = &settings.pin.envelope_header
            && let Some(id) = named(headers, name.as_str()).find(|id| !id.is_empty())
        {
            let known = self.found.len();
            self.bind(id, now);
            // Whoever has the pin needs no word of the fleet.
            if self.envelop(name.as_str(), id) == Sealed::Yes {
                self.found.truncate(known);
            }
        }
        self.scan = AnswerScan::new(&current.plan, body.content_type).filter(|_| body.is_there);
        if self.scan.is_some() && seen::is_encoded(body.encoding) {
            self.gives_up("encoded");
        }
        if self.scan.is_some() { Listening::On } else { Listening::Over }
    }

    /// The ids that were found since the last time.
    pub fn take_found(&mut self) -> Vec<(Sid, Remembered)> {
        std::mem::take(&mut self.found)
    }

    /// Heeds the piece of the body that is passing, of `size` bytes from `start` on.
    pub fn hear_body(&mut self, clock: &Clock, (start, size): (usize, usize), is_last: bool) -> Listening {
        let Some(scan) = &mut self.scan else { return Listening::Over };
        let piece = host::response_piece(start, size.min(scan.wants())).unwrap_or_default();
        let ids = scan.read(&self.current.plan, &piece);
        let searched = scan.searched();
        if !ids.is_empty() {
            let now = clock.read();
            ids.iter().for_each(|id| self.learn(id, now));
        }
        match searched {
            Searched::Open if !is_last => return Listening::On,
            Searched::Over => self.gives_up("over"),
            Searched::Missing | Searched::Open => self.gives_up("missing"),
            Searched::Found => self.scan = None,
        }
        Listening::Over
    }

    fn gives_up(&mut self, result: &str) {
        self.scan = None;
        self.service.metrics.count(&metric::learnt_ids(&self.service.name, result), 1);
    }

    fn learn(&mut self, id: &[u8], now: UnixMillis) {
        if !id.is_empty() {
            self.bind(id, now);
            self.service.metrics.count(&metric::learnt_ids(&self.service.name, "found"), 1);
        }
    }

    /// Writes down that `id` names the session.
    fn bind(&mut self, id: &[u8], now: UnixMillis) {
        let (plan, service) = (&self.current.plan, &self.service);
        let Some(id) = plan.sid(id) else { return };
        let mut place = service.memory.look_up(&plan.settings, id);
        let (ages, now) = (&plan.settings.pin, now.seconds());
        let fact = |known: Option<&Remembered>| alias(plan, &self.session, known, now);
        if let Some((known, new)) = service.remember_weighed(&mut place, ages, now, fact)
            && known.is_none_or(|known| !known.agrees_with(&new))
        {
            self.found.push((id, new));
        }
    }

    /// Hands out the id in an envelope with the session's pin.
    fn envelop(&self, header: &str, id: &[u8]) -> Sealed {
        let Remembered { assignment, sid, began, seen, .. } = self.session;
        // Free, since the client names the session by other ids, too.
        let claims = Claims { kind: Kind::Free, sid, assignment, began, refreshed: seen };
        let Some(pin) = self.current.plan.mint(&claims) else { return Sealed::No };
        match envelope::seal(id, &pin) {
            Some(sealed) if host::set_header(Map::Response, header, &sealed).is_ok() => {
                self.service.metrics.count(&metric::pins_issued(&self.service.name), 1);
                Sealed::Yes
            }
            _ => {
                self.service.metrics.count(&metric::envelopes_refused(&self.service.name), 1);
                Sealed::No
            }
        }
    }
}
