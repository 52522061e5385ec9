//! What a request waits for, and for how long: each kind of wait has its limit.

use colorfast_core::decide::{Need, Why};
use colorfast_core::names::metric;
use colorfast_core::time::UnixMillis;

use super::case::Case;
use crate::service::Service;
use crate::sidecar::leader;

/// How long a request waits for a snapshot that knows its pin's assignment.
const NEWER_WAIT_MS: u64 = 500;

/// The wait of one request.
#[derive(Debug, Default)]
pub struct Waits(Option<Wait>);

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

impl Waits {
    /// Whether what is needed may still come; the request then waits for it. What this filter cannot fetch is never waited
    /// for.
    pub fn begin_or_go_on(&mut self, case: &Case<'_>, need: Need) -> bool {
        let (service, now) = (case.service, case.now);
        let since = match self.0 {
            Some(wait) if wait.need == need => wait.since,
            before => {
                // What it waited for before has come: the plan asks for something else now.
                if let Some(before) = before {
                    before.ended(service, End::Met, now);
                    self.0 = None;
                }
                now
            }
        };
        let may = match need {
            _ if case.observed.body.is_full() => false,
            Need::Snapshot(Why::Bootstrap) => {
                let longest = case.plan().settings.bootstrap_wait_ms.0;
                now.is_within(longest.into(), case.common.worker.started)
            }
            Need::Snapshot(Why::Newer(assignment)) => {
                if self.0.is_none() {
                    leader::want(service, assignment);
                }
                now.is_within(NEWER_WAIT_MS, since) && service.may_yet_learn(assignment, now)
            }
            Need::Body => now.is_within(case.common.bodies.limit_ms(case.plan()), since),
            Need::Memory(_) | Need::Fleet(..) => false,
        };
        if may {
            self.0 = Some(Wait { need, since });
        }
        may
    }

    /// What is needed is not to be had: where it was waited for, that was in vain.
    pub fn give_up(&mut self, service: &Service, need: Need, now: UnixMillis) {
        if let Some(wait) = self.0.take_if(|wait| wait.need == need) {
            wait.ended(service, End::Timeout, now);
        }
    }

    /// The request is decided: what it waited for last has come.
    pub fn end(&mut self, service: &Service, now: UnixMillis) {
        if let Some(wait) = self.0.take() {
            wait.ended(service, End::Met, now);
        }
    }
}

impl Wait {
    /// Counts a wait that is over. After one in vain later requests need not wait for the same, for a while.
    fn ended(self, service: &Service, end: End, now: UnixMillis) {
        service.metrics.count(&metric::waits(&service.name, self.need.as_str(), end.as_str()), 1);
        if let (Need::Snapshot(Why::Newer(assignment)), End::Timeout) = (self.need, end) {
            service.stop_waiting_for(assignment, now);
        }
    }
}
