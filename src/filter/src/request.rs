//! One request on its way to a decision.

use std::rc::Rc;

use colorfast_core::baggage;
use colorfast_core::decide::{Decision, Need, NeedSet, PinAction, Reason, Step, View, Way, Why, decide};
use colorfast_core::memory::Remembered;
use colorfast_core::names::metric;
use colorfast_core::plan::Plan;
use colorfast_core::plugin::Direction;
use colorfast_core::seen::{self, Presence, Seen};
use colorfast_core::settings::Sessionless;
use colorfast_core::time::UnixMillis;

use crate::body::{Body, Told};
use crate::earlier::{self, EarlierPass};
use crate::fleet::{Inquiry, Word};
use crate::gone;
use crate::host::{self, HeaderMap, Map};
use crate::leader;
use crate::learning::{Learner, SessionEnd};
use crate::memory::Place;
use crate::response::{Expected, Issue};
use crate::service::{Current, Service};
use crate::stamps;
use crate::vm::Vm;

/// How long a request waits for a snapshot that knows its pin's assignment.
const NEWER_WAIT_MS: u64 = 500;

/// A request that no decision has been made for yet.
#[derive(Debug)]
pub struct Request {
    service: Rc<Service>,
    headers: HeaderMap,
    /// The address that Envoy trusts, where the settings have asked for it.
    address: Option<Vec<u8>>,
    /// The plan of the callback that read the headers: good for a decision in the same one, not in a later one.
    fresh: Option<Rc<Current>>,
    arrived: UnixMillis,
    draw: u64,
    without: NeedSet,
    waits: Option<Wait>,
    body: Body,
    /// Whether its session was only now heard of.
    news: Presence,
    /// What the fleet is asked after its session.
    pub inquiry: Inquiry,
}

/// What a request waits for, and since when.
#[derive(Debug, Clone, Copy)]
struct Wait {
    need: Need,
    since: UnixMillis,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// What was waited for came.
    Met,
    /// It did not come in time.
    Timeout,
}

impl End {
    /// The word for metrics.
    fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Timeout => "timeout",
        }
    }
}

/// What one try to settle a request came to.
#[derive(Debug)]
pub enum Settled {
    /// It goes on; this becomes of its response.
    Goes(Expected),
    /// It waits.
    Waits,
    /// It was answered here.
    Answered,
}

impl Request {
    /// Reads the request of the running callback, of the stream `context`; `None` where no service has it, so that it
    /// passes untouched.
    pub fn read(vm: &Vm, context: u32, is_headers_only: bool) -> Option<Self> {
        let headers = host::headers(Map::Request).ok()?;
        if vm.config.direction == Direction::Egress {
            if headers.iter().any(|(name, line)| name == b"baggage" && baggage::find(line).next().is_some()) {
                stamps::drop_runs(&headers);
            }
            return None;
        }
        let (mut authority, mut path) = (&b""[..], &b""[..]);
        for (name, value) in headers.iter() {
            match name {
                b":authority" => authority = value,
                b":path" => path = value,
                _ => {}
            }
        }
        let Some(index) = vm.config.service_of(authority, path) else {
            earlier::clear_redirected(&headers, vm.services.iter().filter_map(|service| service.current(&vm.metrics)));
            return None;
        };
        let service = vm.services.get(index)?;
        let current = service.current(&vm.metrics)?;
        Some(Self {
            service: Rc::clone(service),
            headers,
            address: None,
            fresh: Some(current),
            arrived: vm.read_clock(),
            draw: vm.draw(),
            without: NeedSet::default(),
            waits: None,
            body: Body::new(is_headers_only),
            news: Presence::Absent,
            inquiry: Inquiry::new(context),
        })
    }

    /// Takes what has come of the body: `size` bytes are held by now.
    pub fn take_body(&mut self, vm: &Vm, size: usize, is_whole: bool) {
        vm.bodies.came();
        if let Some(current) = self.service.current(&vm.metrics) {
            let most = current.plan.settings.body.prefix_bytes;
            self.body.take(size, is_whole, usize::try_from(most).unwrap_or(usize::MAX));
        }
    }

    /// Takes note that the body has ended.
    pub fn end_body(&mut self) {
        self.body.complete();
    }

    /// Decides by the newest plan, stamps and strips; or tells that the request must wait.
    /// The effective context is the request's.
    pub fn settle(&mut self, vm: &Vm) -> Settled {
        let (current, now) = match self.fresh.take() {
            Some(current) => (current, self.arrived),
            None => match self.service.current(&vm.metrics) {
                Some(current) => (current, vm.read_clock()),
                None => return Settled::Waits,
            },
        };
        let plan = &current.plan;
        // Anew at each try: a snapshot that came since may look elsewhere for ids and pins.
        let mut seen = Seen::read(self.headers.iter(), plan);
        let told = self.body.read(&current, &mut seen);
        let client = if plan.settings.sessionless == Sessionless::Client && seen.session_id.is_none() {
            let address =
                self.address.get_or_insert_with(|| host::property(&["source", "address"]).unwrap_or_default());
            Some(seen::client(address.clone(), seen.user_agent))
        } else {
            None
        };
        let earlier = EarlierPass::read(&self.headers, plan, seen.stamps);
        if earlier == EarlierPass::SameChain {
            vm.found_doubled(&self.service.name);
            return Settled::Goes(Expected {
                service: Rc::clone(&self.service),
                current,
                slot: None,
                issue: None,
                pin_cookie: None,
                learner: None,
                flight: None,
                missed_body: None,
            });
        }
        let down = current.down(now);
        // Looked up anew at each try, too: another worker may have met the session since.
        let (mut place, mut remembered, mut without) = (None, None, self.without);
        let decision = loop {
            let view = View {
                down,
                kept: earlier.kept(),
                memory: remembered,
                news: self.news,
                unread_body: if told == Told::Open { Presence::Present } else { Presence::Absent },
                without,
                ..seen.view(client.as_deref())
            };
            let step = decide(plan, &view, now, self.draw);
            // What was met of late is enough to go on by, but not to write down or to ask.
            if let (None, Some(id)) = (&place, step.writes()) {
                let found = self.service.memory.look_up(&plan.settings, id);
                (remembered, place) = (found.known(), Some(found));
                without = without.with(Need::Memory(id));
                continue;
            }
            match step {
                Step::Decided(decision) => match self.remember(vm, plan, &decision, place.as_mut(), now) {
                    // Somebody was faster: the session is where that one put it.
                    Some(another) => (remembered, self.news) = (Some(another), Presence::Present),
                    None => break decision,
                },
                Step::Needs(need @ Need::Memory(id)) => {
                    remembered = self.service.memory.recall(id);
                    if remembered.is_none() {
                        let found = self.service.memory.look_up(&plan.settings, id);
                        (remembered, place) = (found.known(), Some(found));
                        without = without.with(need);
                    }
                }
                Step::Needs(need @ Need::Fleet(id)) => {
                    let alone = View { without: without.with(need), ..view };
                    let proposal = match decide(plan, &alone, now, self.draw) {
                        Step::Decided(decision) => decision.session,
                        Step::Needs(_) => None,
                    };
                    let question = (id, proposal);
                    match self.inquiry.word(vm, &self.service, plan, question, place.as_mut(), now) {
                        Word::Waits => return Settled::Waits,
                        Word::Knows(session) => (remembered, self.news) = (Some(session), Presence::Present),
                        Word::Nothing => {}
                    }
                    without = without.with(need);
                }
                Step::Needs(need) if Self::may_wait(&self.service, &mut self.waits, vm, plan, need, now) => {
                    return Settled::Waits;
                }
                Step::Needs(need) => {
                    if let Some(wait) = self.waits.take_if(|wait| wait.need == need) {
                        wait.ended(vm, &self.service, End::Timeout, now);
                    }
                    self.without = self.without.with(need);
                    without = without.with(need);
                }
            }
        };
        if let Some(wait) = self.waits.take() {
            wait.ended(vm, &self.service, End::Met, now);
        }
        let mut missed_body = None;
        if !matches!(earlier, EarlierPass::Kept(_)) {
            self.count(vm, &current, &decision, &seen, earlier);
            if decision.chosen.is_none_or(|chosen| chosen.reason != Reason::Preview) {
                let in_vain = self.count_body(vm, told);
                missed_body = (in_vain && !self.body.has_come()).then_some(now);
            }
        }
        if decision.way != Way::Goes {
            gone::answer(plan, &seen, decision.way);
            return Settled::Answered;
        }
        earlier::note_pass(&self.headers);
        stamps::carry_run(&self.headers, &seen, plan, &decision.run);
        match decision.chosen.and_then(|chosen| Some((plan.slot(chosen.slot)?, chosen.reason))) {
            Some((slot, reason)) => {
                #[cfg(feature = "crash")]
                crate::crash::where_marked(slot);
                stamps::stamp(&self.headers, &seen, plan, slot, reason);
            }
            None => stamps::clear(&self.headers, &seen, plan),
        }
        let slot = decision.chosen.map(|chosen| chosen.slot);
        let named = decision.session.filter(|_| decision.chosen.is_some_and(|chosen| chosen.reason != Reason::Preview));
        let hears = matches!(decision.pin, PinAction::Issue(_)) || seen.enveloped.is_some() || plan.hears_answers();
        let learner = named.filter(|_| hears).map(|session| {
            // A client of MCP ends its session so (streamable HTTP, "Session Management").
            let asked = if seen.enveloped.is_some() { seen.deletes } else { Presence::Absent };
            let named = seen.session_id.as_deref().and_then(|id| plan.sid(id)).unwrap_or(session.sid);
            let end = SessionEnd { named, asked };
            Learner::new(&self.service, &current, session, end)
        });
        let pin_cookie = Some(seen.scheme).filter(|_| seen.pin_cookie.is_present());
        // Over a redirect a session was counted at its first pass.
        let session = decision.session.filter(|_| !matches!(earlier, EarlierPass::Kept(_)));
        let session = session.zip(decision.chosen).map(|(session, chosen)| (session, chosen.reason));
        let flight = slot.and_then(|slot| current.watch(slot)).map(|watch| {
            watch.sends(now);
            watch.begins(session, &plan.settings.pin, now)
        });
        let issue = match decision.pin {
            PinAction::Issue(claims) => Some(Issue { claims, scheme: seen.scheme }),
            PinAction::Keep => None,
        };
        Settled::Goes(Expected {
            service: Rc::clone(&self.service),
            current,
            slot,
            issue,
            pin_cookie,
            learner,
            flight,
            missed_body,
        })
    }

    /// Writes down the session of a decision that asks for it; another one where that stands there by now.
    fn remember(
        &self,
        vm: &Vm,
        plan: &Plan,
        decision: &Decision,
        place: Option<&mut Place>,
        now: UnixMillis,
    ) -> Option<Remembered> {
        let (Some(_), Some(session), Some(place)) = (decision.remember, decision.session, place) else { return None };
        let (written, learnt) = self.service.memory.write(place, &session, &plan.settings.pin, now.seconds());
        learnt.count(&vm.metrics, &self.service.name);
        written.another(&vm.metrics, &self.service.name)
    }

    /// Whether what is needed may still come; the request then waits for it. Each kind of wait has its limit; what this
    /// filter cannot fetch is never waited for.
    fn may_wait(
        service: &Service,
        waits: &mut Option<Wait>,
        vm: &Vm,
        plan: &Plan,
        need: Need,
        now: UnixMillis,
    ) -> bool {
        let since = match *waits {
            Some(wait) if wait.need == need => wait.since,
            before => {
                // What it waited for before has come: the plan asks for something else now.
                if let Some(before) = before {
                    before.ended(vm, service, End::Met, now);
                    *waits = None;
                }
                now
            }
        };
        let may = match need {
            Need::Snapshot(Why::Bootstrap) => now.is_within(plan.settings.bootstrap_wait_ms.0.into(), vm.started),
            Need::Snapshot(Why::Newer(assignment)) => {
                if waits.is_none() {
                    leader::want(service, assignment);
                }
                now.is_within(NEWER_WAIT_MS, since) && service.may_yet_learn(assignment, now)
            }
            Need::Body => now.is_within(vm.bodies.limit_ms(plan), since),
            Need::Memory(_) | Need::Fleet(_) => false,
        };
        if may {
            *waits = Some(Wait { need, since });
        }
        may
    }

    /// Counts what came of the body. Returns whether it was waited for in vain.
    fn count_body(&self, vm: &Vm, told: Told) -> bool {
        let in_vain = told == Told::Open && self.without.contains(Need::Body);
        let result = match told {
            Told::Ended(result) => result,
            Told::Open if in_vain => "late",
            Told::Open | Told::NotAsked => return false,
        };
        vm.metrics.count(&metric::session_bodies(&self.service.name, result), 1);
        in_vain
    }

    fn count(&self, vm: &Vm, current: &Current, decision: &Decision, seen: &Seen<'_>, earlier: EarlierPass) {
        let (metrics, service) = (&vm.metrics, &self.service.name);
        if seen.stamps.is_present() && earlier == EarlierPass::None {
            metrics.count(&metric::forged_headers(service), 1);
        }
        for (kind, refusal, times) in decision.refusals.iter() {
            metrics.count(&metric::refused(service, kind.as_str(), refusal.as_str()), u32::from(times));
        }
        match decision.chosen {
            Some(chosen) => current.counters.count(metrics, &current.plan, chosen.slot, chosen.reason),
            None if decision.way == Way::Gone => metrics.count(&metric::gone(service), 1),
            None if decision.way == Way::Ended => metrics.count(&metric::ended(service), 1),
            None => metrics.count(&metric::unrouted(service), 1),
        }
    }
}

impl Wait {
    /// Counts a wait that is over. After one in vain later requests need not wait for the same, for a while.
    fn ended(self, vm: &Vm, service: &Service, end: End, now: UnixMillis) {
        vm.metrics.count(&metric::waits(&service.name, self.need.as_str(), end.as_str()), 1);
        if let (Need::Snapshot(Why::Newer(assignment)), End::Timeout) = (self.need, end) {
            service.stop_waiting_for(assignment, now);
        }
    }
}
