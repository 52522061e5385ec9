//! Reports: what this VM instance tells the sidecar of itself, and of the slots that it sees.

use std::rc::Rc;
use std::time::Duration;

use colorfast_core::json;
use colorfast_core::memory::RECORD;
use colorfast_core::names;
use colorfast_core::snapshot::FORMAT;
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::reports::{Bodies, Chain, Hello, HelloService, Report, ReportAck, SlotReport};
use colorfast_core::wire::sessions::{Records, SessionsReport};
use colorfast_core::wire::ticket::Ticket;

use super::identity::Identity;
use super::link::{self, Link};
use crate::host;
use crate::service::Service;
use crate::slots::health::Watch;

/// How often an instance says hello.
const HELLO_MS: u64 = 10_000;
/// How long after one report it is told who holds slots, where that has changed.
const SESSIONS_MS: u64 = 2_000;
/// How soon after one report the next may follow, or the same again where it was not answered.
const PACE_MS: u64 = 1_000;
const TIMEOUT: Duration = Duration::from_secs(5);
/// A report without any answer this long is given up: none is known to get lost.
const LOST_MS: u64 = 15_000;
/// Largest answer that is read; it holds one number.
const ACK_MAX: usize = 4096;

/// The reports of one instance. A report has its sequence number until it is acknowledged.
#[derive(Debug)]
pub struct Reporter {
    link: Rc<Link>,
    identity: Rc<Identity>,
    sequence: u64,
    call: Option<Sent>,
    /// The sections of the report of this sequence number; none before it is sent first.
    sections: Option<Sections>,
    report_at: UnixMillis,
    sessions_at: UnixMillis,
    hello_at: UnixMillis,
}

/// What an instance has found out of the listener that it stands in.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Whether it stands there alone.
    pub chain: Chain,
    /// Whether bodies come to requests that wait.
    pub bodies: Bodies,
}

/// What one report is about.
#[derive(Debug)]
struct Sections {
    /// Whether it says hello: what is true at the time, each time that it is sent.
    says_hello: bool,
    /// The same each time that it is sent: the sidecar may have applied it though its answer got lost.
    slots: Vec<SlotReport>,
    /// What was learnt of the sessions of each service, in the order of the configuration.
    sessions: Vec<Learnt>,
}

/// What was learnt of the sessions of one service.
#[derive(Debug)]
struct Learnt {
    records: Vec<u8>,
    flushed: Option<u64>,
}

impl Learnt {
    fn take(&mut self, service: &Service, left: &mut usize) {
        self.records = service.news.take(*left);
        *left -= self.records.len() / RECORD;
        let emptied = !service.news.is_some() && !watches_of(service, Watch::has_sessions);
        self.flushed = unflushed(service).filter(|_| emptied);
    }

    fn report(&self, service: &Service) -> Option<SessionsReport> {
        let is_news = !self.records.is_empty() || self.flushed.is_some();
        let (service, records) = (service.name.clone(), Records::of(&self.records));
        is_news.then_some(SessionsReport { service, records, flushed: self.flushed })
    }
}

/// A report that is out.
#[derive(Debug)]
struct Sent {
    token: u32,
    at: UnixMillis,
    ticket: Ticket,
}

impl Reporter {
    /// The reporter of a VM instance.
    pub fn new(link: &Rc<Link>, identity: &Rc<Identity>) -> Self {
        let never = UnixMillis(0);
        Self {
            link: Rc::clone(link),
            identity: Rc::clone(identity),
            sequence: 1,
            call: None,
            sections: None,
            report_at: never,
            sessions_at: never,
            hello_at: never,
        }
    }

    /// Sends a report where one is due, once there is a ticket to show: before that the process is no member.
    pub fn tick(&mut self, services: &[Rc<Service>], found: Found, now: UnixMillis) {
        if self.link.has_begun_anew() {
            services.iter().for_each(|service| service.tell_again(now));
            // What is to be told again was not told by the report that is out.
            self.sections.iter_mut().flat_map(|sections| &mut sections.sessions).for_each(|said| said.flushed = None);
        }
        let out = self.call.as_ref().is_some_and(|sent| now.is_within(LOST_MS, sent.at));
        let learnt = services.iter().any(|service| service.news.is_some() || unflushed(service).is_some());
        // What was learnt of sessions is told at once, where the last report has been heard: a switch may follow.
        let prompt = learnt && self.sections.is_none();
        if out || !(prompt || is_due(self.report_at, PACE_MS, now)) {
            return;
        }
        let says_hello = is_due(self.hello_at, HELLO_MS, now);
        let tells_sessions = || is_due(self.sessions_at, SESSIONS_MS, now) && watches(services, Watch::has_sessions);
        let has_news = || learnt || watches(services, Watch::is_urgent) || tells_sessions();
        if self.sections.is_none() && !says_hello && !has_news() {
            return;
        }
        let Some(ticket) = self.link.tickets.shown() else { return };
        if self.sections.is_none() {
            self.sections =
                Some(Sections { says_hello, slots: self.news(services), sessions: self.learnt_sessions(services) });
        }
        let Some(Sections { says_hello, slots, sessions }) = &self.sections else { return };
        self.report_at = now.plus_millis(PACE_MS);
        self.sessions_at = now.plus_millis(SESSIONS_MS);
        let report = Report {
            node: self.identity.node.clone(),
            ticket: Some(ticket.clone()),
            instance: self.identity.instance(),
            incarnation: self.link.incarnation(),
            sequence: self.sequence,
            hello: says_hello.then(|| hello(services, found)),
            slots: slots.clone(),
            sessions: services.iter().zip(sessions).filter_map(|(service, learnt)| learnt.report(service)).collect(),
        };
        let Ok(body) = serde_json::to_vec(&report) else { return };
        let call = self.link.call(names::REPORTS_PATH, &body, TIMEOUT);
        self.call = call.ok().map(|token| Sent { token, at: now, ticket });
    }

    /// Handles the answer to a report; `false` where the token is none of this reporter's.
    pub fn answer(&mut self, services: &[Rc<Service>], token: u32, body_size: usize, now: UnixMillis) -> bool {
        let Some(sent) = self.call.take_if(|sent| sent.token == token) else { return false };
        let status = host::response_status();
        if status == Some(403) && link::refuses_ticket(body_size) {
            self.link.tickets.refused(Some(&sent.ticket));
        }
        let answered = status == Some(200) && body_size <= ACK_MAX;
        let body = answered.then(|| host::response_body(body_size).ok()).flatten();
        let ack = body.and_then(|body| json::read::<ReportAck>(&body).ok());
        let Some(ack) = ack else { return true };
        if ack.acknowledged >= self.sequence {
            self.sequence += 1;
            self.heard(services, now);
        }
        if let Some(incarnation) = &ack.incarnation {
            self.link.hear(incarnation);
        }
        true
    }

    /// The report that was out has been heard.
    fn heard(&mut self, services: &[Rc<Service>], now: UnixMillis) {
        let Some(Sections { says_hello, sessions, .. }) = self.sections.take() else { return };
        if says_hello {
            self.hello_at = now.plus_millis(HELLO_MS);
        }
        for (service, Learnt { records, flushed }) in services.iter().zip(&sessions) {
            service.news.has_told(records, now);
            flushed.iter().for_each(|flush| service.news.has_flushed(*flush));
        }
    }

    /// What was seen since the last report. Each begins at another service, so that none waits for ever behind others.
    fn news(&self, services: &[Rc<Service>]) -> Vec<SlotReport> {
        let count = services.len();
        let first = usize::try_from(self.sequence).unwrap_or_default().checked_rem(count).unwrap_or_default();
        let services = services.iter().cycle().skip(first).take(count);
        let mut marks = SlotReport::MARKS_MAX;
        let watches = services.flat_map(|service| service.watches.all().into_iter().map(move |watch| (service, watch)));
        let news = watches.filter_map(|(service, watch)| watch.take(&service.name, &mut marks));
        news.take(SlotReport::ENTRIES_MAX).collect()
    }

    /// What was learnt of sessions since the last report, as far as one document holds it, of another service first each
    /// time. What is seen of slots is taken before: a flush says that all was told.
    fn learnt_sessions(&self, services: &[Rc<Service>]) -> Vec<Learnt> {
        let (mut left, count) = (Records::MAX, services.len());
        let first = usize::try_from(self.sequence).unwrap_or_default().checked_rem(count).unwrap_or_default();
        let mut learnt: Vec<_> = services.iter().map(|_| Learnt { records: Vec::new(), flushed: None }).collect();
        for (service, learnt) in services.iter().zip(&mut learnt).skip(first) {
            learnt.take(service, &mut left);
        }
        for (service, learnt) in services.iter().zip(&mut learnt).take(first) {
            learnt.take(service, &mut left);
        }
        learnt
    }
}

/// The flush that the fleet has yet to hear of from this instance. What is decided from now on is decided by the snapshot
/// that asked for it.
fn unflushed(service: &Service) -> Option<u64> {
    service.news.lacks(service.current()?.plan.flush)
}

/// Whether the time of something has come that recurs within `period`. Later than that it was booked before the clock
/// was set back.
fn is_due(at: UnixMillis, period: u64, now: UnixMillis) -> bool {
    now >= at || at > now.plus_millis(period)
}

/// Whether some slot is so.
fn watches(services: &[Rc<Service>], is_so: fn(&Watch) -> bool) -> bool {
    services.iter().any(|service| watches_of(service, is_so))
}

fn watches_of(service: &Service, is_so: fn(&Watch) -> bool) -> bool {
    service.watches.all().iter().any(|watch| is_so(watch))
}

fn hello(services: &[Rc<Service>], found: Found) -> Hello {
    let services = services.iter().filter_map(|service| {
        let current = service.current()?;
        Some(HelloService {
            name: service.name.clone(),
            version_info: current.plan.version.to_string(),
            keyed: current.plan.is_keyed(),
        })
    });
    Hello {
        filter_version: env!("CARGO_PKG_VERSION").to_owned(),
        snapshot_format: FORMAT,
        chain: found.chain,
        bodies: found.bodies,
        services: services.collect(),
    }
}
