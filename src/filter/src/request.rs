//! One request on its way to a decision.

use std::rc::Rc;

use colorfast_core::cookie::Scheme;
use colorfast_core::decide::{Decision, Need, NeedSet, PinAction, Step, View, Why, decide};
use colorfast_core::ids::SnapshotVersion;
use colorfast_core::names::metric;
use colorfast_core::pin::Claims;
use colorfast_core::plan::Plan;
use colorfast_core::time::UnixMillis;

use crate::host::{self, HeaderMap, Map};
use crate::leader;
use crate::seen::{self, EarlierPass, Seen};
use crate::service::{Current, Service};
use crate::vm::Vm;

/// How long a request waits for a snapshot that knows its pin's assignment.
const NEWER_WAIT_MS: u64 = 500;

/// A request that no decision has been made for yet.
#[derive(Debug)]
pub struct Request {
    service: Rc<Service>,
    headers: HeaderMap,
    seen: Seen,
    /// The snapshot by whose settings the headers were read.
    seen_by: SnapshotVersion,
    /// The plan that the headers were read by: good for a decision in the same callback, not for a later one.
    fresh: Option<Rc<Current>>,
    arrived: UnixMillis,
    draw: u64,
    without: NeedSet,
    waits: Option<Wait>,
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
    /// It goes on; its response hands out this pin.
    Goes(Option<Claims>),
    /// It waits.
    Waits,
}

impl Request {
    /// Reads the request of the running callback; `None` where no service has it, so that it passes untouched.
    pub fn read(vm: &Vm) -> Option<Self> {
        let headers = host::headers(Map::Request).ok()?;
        let (mut authority, mut path) = (&b""[..], &b""[..]);
        for (name, value) in headers.iter() {
            match name {
                b":authority" => authority = value,
                b":path" => path = value,
                _ => {}
            }
        }
        let Some(index) = vm.config.service_of(authority, path) else {
            seen::clear_redirected(vm.services.iter().filter_map(|service| service.current(&vm.metrics)));
            return None;
        };
        let service = vm.services.get(index)?;
        let current = service.current(&vm.metrics)?;
        Some(Self {
            service: Rc::clone(service),
            seen: Seen::read(&headers, &current.plan),
            seen_by: current.plan.version,
            headers,
            fresh: Some(current),
            arrived: host::now(),
            draw: vm.draw(),
            without: NeedSet::default(),
            waits: None,
        })
    }

    /// The service that has the request.
    pub fn service(&self) -> &Rc<Service> {
        &self.service
    }

    /// How the client reached the proxy.
    pub fn scheme(&self) -> Scheme {
        self.seen.scheme
    }

    /// Decides by the newest plan, stamps and strips; or tells that the request must wait.
    /// The effective context is the request's.
    pub fn settle(&mut self, vm: &Vm) -> Settled {
        let (current, now) = match self.fresh.take() {
            Some(current) => (current, self.arrived),
            None => match self.service.current(&vm.metrics) {
                Some(current) => (current, host::now()),
                None => return Settled::Waits,
            },
        };
        let plan = &current.plan;
        if plan.version != self.seen_by {
            // It has waited, and the snapshot that came may look elsewhere for ids and pins.
            (self.seen, self.seen_by) = (Seen::read(&self.headers, plan), plan.version);
        }
        let pins: Vec<&[u8]> = self.seen.pins.iter().map(Vec::as_slice).collect();
        let earlier = self.seen.earlier_pass(plan);
        let decision = loop {
            let view = View {
                session_id: self.seen.session_id.as_deref(),
                pins: &pins,
                client: self.seen.client.as_deref(),
                kept: if let EarlierPass::Kept(chosen) = earlier { Some(chosen) } else { None },
                without: self.without,
            };
            match decide(plan, &view, now, self.draw) {
                Step::Decided(decision) => break decision,
                Step::Needs(need) if Self::may_wait(&self.service, &mut self.waits, vm, plan, need, now) => {
                    return Settled::Waits;
                }
                Step::Needs(need) => {
                    if let Some(wait) = self.waits.take_if(|wait| wait.need == need) {
                        wait.ended(vm, &self.service, End::Timeout, now);
                    }
                    self.without = self.without.with(need);
                }
            }
        };
        if let Some(wait) = self.waits.take() {
            wait.ended(vm, &self.service, End::Met, now);
        }
        if !matches!(earlier, EarlierPass::Kept(_)) {
            self.count(vm, &current, &decision, earlier);
        }
        match decision.chosen.and_then(|chosen| Some((plan.slot(chosen.slot)?, chosen.reason))) {
            Some((slot, reason)) => self.seen.stamp(plan, slot, reason),
            None => self.seen.clear(plan),
        }
        Settled::Goes(match decision.pin {
            PinAction::Issue(claims) => Some(claims),
            PinAction::Keep => None,
        })
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
            Need::Body | Need::Memory(_) | Need::Fleet(_) => false,
        };
        if may {
            *waits = Some(Wait { need, since });
        }
        may
    }

    fn count(&self, vm: &Vm, current: &Current, decision: &Decision, earlier: EarlierPass) {
        let (metrics, service) = (&vm.metrics, &self.service.name);
        if self.seen.is_stamped() && earlier == EarlierPass::None {
            metrics.count(&metric::forged_headers(service), 1);
        }
        for (refusal, times) in decision.refusals.iter() {
            metrics.count(&metric::refused(service, refusal.as_str()), u32::from(times));
        }
        match decision.chosen {
            Some(chosen) => current.counters.count(metrics, &current.plan, chosen.slot, chosen.reason),
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
