//! The sidecar as the cases play it: what proxies ask it, and what it answers.

use colorfast_core::ids::{AssignmentId, Sid, SnapshotVersion};
use colorfast_core::memory::{Remembered, record};
use colorfast_core::names;
use colorfast_core::snapshot::{Resource, Snapshot};
use colorfast_core::wire::discovery::{DiscoveryRequest, DiscoveryResponse};
use colorfast_core::wire::incarnation::Incarnation;
use colorfast_core::wire::reports::Report;
use colorfast_core::wire::sessions::{Ask, Records, Told};
use colorfast_core::wire::ticket::Ticket;
use wasm_host::{HttpCall, Vm};

use crate::releases;

/// The cluster of the sidecar.
pub const CLUSTER: &str = "colorfast_sidecar";

/// The life of it that answers.
pub const INCARNATION: u64 = 7;

/// The ticket that it gives.
pub const TICKET: &str = "ticket-1";

/// The answer that brings `snapshot`, with its keys, to whoever has shown its ticket.
pub fn response(snapshot: &Snapshot) -> DiscoveryResponse {
    let version = snapshot.version();
    DiscoveryResponse {
        version_info: version.to_string(),
        resources: vec![Resource { state: snapshot.clone(), keys: Some(releases::keys(&[1])) }],
        type_url: names::SNAPSHOT_TYPE_URL.to_owned(),
        ticket: None,
        corrections: None,
        nonce: format!("nonce-{version}"),
    }
}

/// The same with a ticket.
pub fn ticketed(snapshot: &Snapshot, ticket: &str) -> DiscoveryResponse {
    DiscoveryResponse { ticket: Some(Ticket::new(ticket.to_owned())), ..response(snapshot) }
}

/// An answer as it goes over the wire.
pub fn bytes(response: &DiscoveryResponse) -> Vec<u8> {
    serde_json::to_vec(response).unwrap()
}

/// A call of a VM that waits for the sidecar's answer.
pub struct Waiting<T> {
    /// What it says.
    pub says: T,
    /// The call.
    pub call: HttpCall,
    vm: Vm,
}

/// A poll.
pub type Poll = Waiting<DiscoveryRequest>;

/// The polls of a VM that are held open, oldest first.
pub fn polls(vm: &Vm) -> Vec<Poll> {
    to(vm, names::DISCOVERY_PATH)
}

/// The reports of a VM that are not answered, oldest first.
pub fn reports(vm: &Vm) -> Vec<Waiting<Report>> {
    to(vm, names::REPORTS_PATH)
}

/// The questions of a VM after sessions that are not answered, oldest first.
pub fn asks(vm: &Vm) -> Vec<Waiting<Ask>> {
    to(vm, names::SESSIONS_PATH)
}

fn to<T: serde::de::DeserializeOwned>(vm: &Vm, path: &str) -> Vec<Waiting<T>> {
    let calls = vm.calls().into_iter().filter(|call| call.cluster == CLUSTER && call.path() == path);
    calls.map(|call| Waiting { says: serde_json::from_slice(&call.body).unwrap(), vm: vm.clone(), call }).collect()
}

impl<T> Waiting<T> {
    /// Answers with this status and body.
    pub fn answer(self, status: u16, body: impl AsRef<[u8]>) {
        self.vm.answer(self.call.token, [(":status", status.to_string())], body).unwrap();
    }

    /// Lets the call run out of time.
    pub fn time_out(self) {
        self.vm.timeout(self.call.token).unwrap();
    }

    /// Finds nobody listening.
    pub fn refuse(self) {
        self.vm.unreachable(self.call.token).unwrap();
    }

    /// Breaks the call off, so that no answer comes whole.
    pub fn break_off(self) {
        self.vm.break_off(self.call.token).unwrap();
    }
}

impl<T> Waiting<T> {
    /// Refuses it for its ticket.
    pub fn want_ticket(self) {
        self.answer(403, format!(r#"{{"type":"{}","title":"t","status":403,"detail":"d"}}"#, names::PROBLEM_TICKET));
    }
}

impl Waiting<Ask> {
    /// The proposals, in order.
    pub fn proposals(&self) -> Vec<(Sid, Remembered)> {
        self.says.proposals.sessions().unwrap()
    }

    /// The one proposal.
    pub fn proposal(&self) -> (Sid, Remembered) {
        self.says.proposals.only().unwrap()
    }

    /// Says what stands under ids, by the snapshot of `version`.
    pub fn say(self, stands: &[(Sid, Remembered)], version: SnapshotVersion) {
        let records: Vec<u8> = stands.iter().flat_map(|(id, session)| record(*id, session)).collect();
        let told = Told {
            sessions: Records::of(&records),
            version_info: version.to_string(),
            incarnation: Incarnation::of(INCARNATION),
        };
        self.answer(200, serde_json::to_vec(&told).unwrap());
    }

    /// Says that every session holds `assignment`, by the snapshot of the proposals.
    pub fn place(self, assignment: AssignmentId) {
        let placed = |(id, proposal)| (id, Remembered { assignment, ..proposal });
        let stands: Vec<_> = self.proposals().into_iter().map(placed).collect();
        let version = self.says.version_info.parse().unwrap();
        self.say(&stands, version);
    }
}

impl Poll {
    /// The ticket that it shows.
    pub fn shows(&self) -> Option<&str> {
        self.says.ticket.as_ref().map(Ticket::as_str)
    }

    /// Brings a snapshot, and the ticket where it was not shown.
    pub fn bring(self, snapshot: &Snapshot) {
        let response = match self.says.ticket {
            None => ticketed(snapshot, TICKET),
            Some(_) => response(snapshot),
        };
        self.answer(200, bytes(&response));
    }

    /// What was wrong with the last answer, where the poll says so.
    pub fn nack(&self) -> Option<&str> {
        self.says.error_detail.as_ref().map(|status| status.message.as_str())
    }
}
