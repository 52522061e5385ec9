//! The way back: what the answer says of the agent, and the pin that goes to the client with it.

use std::rc::Rc;

use colorfast_core::cookie::{self, Scheme};
use colorfast_core::ids::{HeaderName, Sid};
use colorfast_core::memory::Remembered;
use colorfast_core::names::metric;
use colorfast_core::plan::SlotIndex;
use colorfast_core::scan::Media;
use colorfast_core::time::UnixMillis;
use colorfast_core::token::pin::Claims;

use super::learning::{AnswerBody, Learner, Listening};
use super::telling::{Next, Part, Telling};
use crate::clock::Clock;
use crate::flow::Flow;
use crate::host::{self, HeaderMap, Map};
use crate::service::{Current, Service};
use crate::sidecar::questions::{Heard, Questions};
use crate::slots::health::Answer;
use crate::slots::sessions::Flight;

/// A decided stream, until its answer comes.
#[derive(Debug)]
pub struct Expected {
    /// The service that it is of.
    pub service: Rc<Service>,
    /// What it was decided by.
    pub current: Rc<Current>,
    /// The slot that it went to.
    pub slot: Option<SlotIndex>,
    /// The pin that its answer hands out.
    pub issue: Option<Issue>,
    /// How the client reached the proxy, where it sent a pin cookie.
    pub pin_cookie: Option<Scheme>,
    /// What learns the ids that its answer hands out.
    pub learner: Option<Learner>,
    /// Those that it found at the end, and the fleet has not been told of.
    found: Vec<(Sid, Remembered)>,
    /// What counts it as a request under way; it ends with the stream.
    pub flight: Option<Flight>,
    /// When it was decided, where it had waited for a body of which nothing came.
    pub missed_body: Option<UnixMillis>,
    /// What kind of body its answer has.
    media: Media,
    /// How much of it is to come, where its headers say so: a client that has all of it waits for no end.
    to_come: Option<usize>,
    /// What the fleet is told of the ids that its answer hands out.
    telling: Telling,
}

/// A pin that the response hands out.
#[derive(Debug)]
pub struct Issue {
    /// What it says.
    pub claims: Claims,
    /// How the client reached the proxy.
    pub scheme: Scheme,
}

impl Expected {
    /// Nothing is: the request passes as it came, though `service` has it.
    pub fn nothing(service: &Rc<Service>, current: &Rc<Current>) -> Self {
        Self {
            service: Rc::clone(service),
            current: Rc::clone(current),
            slot: None,
            issue: None,
            pin_cookie: None,
            learner: None,
            found: Vec::new(),
            flight: None,
            missed_body: None,
            media: Media::Other,
            to_come: None,
            telling: Telling::default(),
        }
    }

    /// Handles the response of the running callback. One that hands out no pin is looked at now and then only.
    pub fn answered(&mut self, now: UnixMillis, has_body: bool) {
        let (issue, learner) = (self.issue.take(), self.learner.take());
        let slot = self.slot.take();
        let watch = slot.and_then(|slot| self.current.watch(slot)).filter(|watch| issue.is_some() || watch.is_due(now));
        if issue.is_none() && learner.is_none() && watch.is_none() {
            return;
        }
        let Ok(headers) = host::headers(Map::Response) else { return };
        let shown = Shown::read(&headers, &self.current.plan.settings.headers.attestation);
        let answer = shown.answer();
        if let Some(watch) = watch {
            let bundle = slot.and_then(|slot| self.current.plan.slot(slot)?.bundle.as_ref());
            watch.note(answer, bundle.map(|bundle| &bundle.id), now);
        }
        // Where Envoy itself answered no session began, and what others may be given hands out nobody's pin.
        if !matches!((answer, shown.cache), (Answer::OfAgent(_), Cache::Private)) {
            return;
        }
        // An answer that is no success hands out no id, and ends nothing.
        let learner = learner.filter(|_| shown.status.starts_with(b"2"));
        if learner.as_ref().is_some_and(|learner| learner.ends(&headers)) {
            self.flight.iter_mut().for_each(Flight::let_go);
            self.take_back();
            return;
        }
        if let Some(issue) = issue {
            issue.hand_out(&self.service);
        }
        if let Some(mut learner) = learner {
            let body = AnswerBody { content_type: shown.content_type, encoding: shown.encoding, is_there: has_body };
            (self.media, self.to_come) = (Media::of(shown.content_type), shown.length);
            let listening = learner.hear_headers(&headers, body, now);
            self.found.append(&mut learner.take_found());
            self.learner = (listening == Listening::On).then_some(learner);
        }
    }

    /// Takes the pin of a session that has ended back, where it came in a cookie.
    fn take_back(&self) {
        let plan = &self.current.plan;
        if let Some(scheme) = self.pin_cookie {
            let value = cookie::take_back(&plan.cookie, &plan.settings.pin, scheme);
            let _ = host::add_header(Map::Response, "set-cookie", value.as_bytes());
        }
    }

    /// Handles a piece of the response's body, with which `size` bytes are passing or held.
    pub fn streams(&mut self, clock: &Clock, size: usize, is_last: bool) {
        let start = self.telling.seen();
        let piece = (start, size.saturating_sub(start));
        self.to_come = self.to_come.map(|to_come| to_come.saturating_sub(piece.1));
        if let Some(learner) = &mut self.learner
            && learner.hear_body(clock, piece, is_last) == Listening::Over
        {
            self.found.append(&mut learner.take_found());
            self.learner = None;
        }
    }

    /// Tells the fleet of the ids that were found since the last time, by the newest plan: asking may have begun since the
    /// request was decided.
    pub fn tell(&mut self, questions: &Questions, context: u32, now: UnixMillis) {
        let mut found = std::mem::take(&mut self.found);
        self.learner.iter_mut().for_each(|learner| found.append(&mut learner.take_found()));
        if !found.is_empty()
            && let Some(current) = self.service.current()
        {
            self.telling.begin(questions, (&self.service, &current), &found, context, now);
        }
    }

    /// Whether the fleet is told of something, and has not answered.
    pub fn is_telling(&self) -> bool {
        self.telling.is_out()
    }

    /// What the headers of the answer may do.
    pub fn pass_headers(&mut self) -> Flow {
        self.telling.pass(&self.service, Part::Usable, 0)
    }

    /// What a piece of the answer's body may do, with which `size` bytes pass or are held.
    pub fn pass_piece(&mut self, size: usize, is_last: bool) -> Flow {
        let is_whole = is_last || self.to_come == Some(0);
        let part = if is_whole || self.media == Media::EventStream { Part::Usable } else { Part::Unfinished };
        self.telling.pass(&self.service, part, size)
    }

    /// What the trailers of the answer may do: nothing more comes behind them.
    pub fn pass_trailers(&mut self) -> Flow {
        self.telling.pass(&self.service, Part::Usable, self.telling.seen())
    }

    /// This came of the word to the fleet of an id.
    pub fn told(&mut self, id: Sid, heard: Heard) {
        self.telling.told(&self.service, id, heard);
    }

    /// The stream is gone.
    pub fn ends(&mut self, now: UnixMillis) {
        if let Some(flight) = self.flight.take() {
            self.service.ends(&flight, &self.current.plan.settings.pin, now);
        }
    }

    /// What becomes of the answer at a time.
    pub fn next(&mut self, now: UnixMillis) -> Next {
        self.telling.next(&self.service, now)
    }
}

/// What the headers of a response show.
struct Shown<'a> {
    status: &'a [u8],
    grpc_status: &'a [u8],
    attestation: &'a [u8],
    content_type: &'a [u8],
    encoding: &'a [u8],
    length: Option<usize>,
    cache: Cache,
    via: Via,
}

/// Whether shared caches may keep the answer, as it says of itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cache {
    Private,
    Public,
}

/// Whether the router has marked the answer as one of an upstream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Via {
    Upstream,
    Unknown,
}

impl<'a> Shown<'a> {
    fn read(headers: &'a HeaderMap, attestation: &HeaderName) -> Self {
        let none = &b""[..];
        let mut shown = Self {
            status: none,
            grpc_status: none,
            attestation: none,
            content_type: none,
            encoding: none,
            length: None,
            cache: Cache::Private,
            via: Via::Unknown,
        };
        for (name, value) in headers.iter() {
            match name {
                b":status" => shown.status = value,
                b"content-type" => shown.content_type = value,
                b"content-encoding" => shown.encoding = value,
                b"content-length" => shown.length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
                b"grpc-status" => shown.grpc_status = value,
                b"cache-control" if is_public(value) => shown.cache = Cache::Public,
                // The router measures how long an upstream took, and nobody else: no answer of Envoy's own has it.
                b"x-envoy-upstream-service-time" => shown.via = Via::Upstream,
                _ if name == attestation.as_str().as_bytes() => shown.attestation = value,
                _ => {}
            }
        }
        shown
    }

    /// Whose answer it is. Envoy is asked only where the router left no mark.
    fn answer(&self) -> Answer<'a> {
        if self.via == Via::Upstream {
            return Answer::OfAgent(self.attestation);
        }
        let details = host::response_details();
        match details.as_slice() {
            b"via_upstream" => Answer::OfAgent(self.attestation),
            details if self.is_unavailable() && is_upstream_failure(details) => Answer::Unavailable,
            _ => Answer::OfEnvoy,
        }
    }

    /// Whether the status is one that Envoy gives for an upstream that it cannot have; to gRPC it says so beside a 200.
    fn is_unavailable(&self) -> bool {
        const UNAVAILABLE: &[u8] = b"14";
        matches!(self.status, b"503" | b"504") || self.grpc_status == UNAVAILABLE
    }
}

/// Whether Envoy's words for why it answered by itself are about the upstream: none is healthy, it cannot be reached,
/// it broke off, it took too long. A limit of this proxy's own (`overflow`) says nothing of the upstream.
fn is_upstream_failure(details: &[u8]) -> bool {
    const FAILURES: [&[u8]; 4] = [b"no_healthy_upstream", b"cluster_not_found", b"upstream_", b"response_timeout"];
    let overflow = details.windows(8).any(|word| word == b"overflow");
    !overflow && FAILURES.iter().any(|failure| details.starts_with(failure))
}

/// Whether a value of `cache-control` says that shared caches may keep the answer.
fn is_public(control: &[u8]) -> bool {
    control.split(|b| *b == b',').any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"public"))
}

impl Issue {
    /// Puts the pin on the response of the running callback.
    fn hand_out(&self, service: &Service) {
        let Some(current) = service.current() else { return };
        let plan = &current.plan;
        let Some(token) = plan.mint(&self.claims) else { return };
        let settings = &plan.settings;
        if plan.uses_header() {
            let _ = host::set_header(Map::Response, settings.headers.pin.as_str(), token.as_bytes());
        }
        if plan.uses_cookie() {
            let age = self.claims.refreshed.since(self.claims.began);
            let left = u64::from(settings.pin.max_age_seconds).saturating_sub(age);
            let value = cookie::set(&plan.cookie, &token, left, &settings.pin, self.scheme);
            let _ = host::add_header(Map::Response, "set-cookie", value.as_bytes());
        }
        service.metrics.count(&metric::pins_issued(&service.name), 1);
    }
}
