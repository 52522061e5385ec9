//! Reports: what this VM instance tells the sidecar of itself.

use std::time::Duration;

use colorfast_core::names;
use colorfast_core::snapshot::FORMAT;
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::discovery::Node;
use colorfast_core::wire::reports::{Hello, HelloService, Report, ReportAck};

use crate::host;
use crate::vm::Vm;

/// How often an instance says hello.
const HELLO_MS: u64 = 10_000;
/// How soon an unanswered report is sent again.
const RETRY_MS: u64 = 1_000;
const TIMEOUT: Duration = Duration::from_secs(5);
/// A report without any answer this long is given up: none is known to get lost.
const LOST_MS: u64 = 15_000;
/// Largest answer that is read; it holds one number.
const ACK_MAX: usize = 4096;

/// The reports of one instance. A report has its sequence number until it is acknowledged.
#[derive(Debug)]
pub struct Reporter {
    instance: String,
    sequence: u64,
    /// The report that is out, and since when.
    call: Option<(u32, UnixMillis)>,
    report_at: UnixMillis,
}

impl Reporter {
    /// The reporter of a VM instance, by a random number.
    pub fn new(instance: u64) -> Self {
        Self { instance: format!("{instance:016x}"), sequence: 1, call: None, report_at: UnixMillis(0) }
    }

    /// Sends a report where one is due.
    pub fn tick(&mut self, vm: &Vm, node: &Node, now: UnixMillis) {
        // One that is due later than a whole period was booked before the clock was set back.
        let due = now >= self.report_at || self.report_at > now.plus_millis(HELLO_MS);
        let out = self.call.is_some_and(|(_, sent)| now.is_within(LOST_MS, sent));
        if out || !due {
            return;
        }
        self.report_at = now.plus_millis(RETRY_MS);
        let report = Report {
            node: node.clone(),
            instance: self.instance.clone(),
            sequence: self.sequence,
            hello: Some(hello(vm)),
        };
        let Ok(body) = serde_json::to_vec(&report) else { return };
        let call = host::Call {
            cluster: &vm.config.sidecar_cluster,
            path: names::REPORTS_PATH,
            token: vm.token.as_deref(),
            body: &body,
            timeout: TIMEOUT,
        };
        self.call = host::call(&call).ok().map(|token| (token, now));
    }

    /// Handles the answer to a report; `false` where the token is none of this reporter's.
    pub fn answer(&mut self, token: u32, body_size: usize, now: UnixMillis) -> bool {
        if self.call.take_if(|(sent, _)| *sent == token).is_none() {
            return false;
        }
        let answered = host::response_status() == Some(200) && body_size <= ACK_MAX;
        let body = answered.then(|| host::response_body(body_size).ok()).flatten();
        let ack = body.and_then(|body| serde_json::from_slice::<ReportAck>(&body).ok());
        if ack.is_some_and(|ack| ack.acknowledged >= self.sequence) {
            self.sequence += 1;
            self.report_at = now.plus_millis(HELLO_MS);
        }
        true
    }
}

fn hello(vm: &Vm) -> Hello {
    let services = vm.services.iter().filter_map(|service| {
        let current = service.current(&vm.metrics)?;
        Some(HelloService {
            name: service.name.clone(),
            version_info: current.plan.version.to_string(),
            keyed: current.plan.is_keyed(),
        })
    });
    Hello {
        filter_version: env!("CARGO_PKG_VERSION").to_owned(),
        snapshot_format: FORMAT,
        services: services.collect(),
    }
}
