//! One root's part in the fleet: it may lead, and it reports.

use std::rc::Rc;

use colorfast_core::names;
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::discovery::{Node, NodeMetadata};

use super::leader::Leader;
use super::link::Link;
use super::report::{Found, Reporter};
use crate::host;
use crate::worker::Worker;

/// Longest node id that is told to the sidecar.
const NODE_ID_MAX: usize = 256;

/// A root that takes part.
#[derive(Debug)]
pub struct Membership {
    node: Rc<Node>,
    leaders: Vec<Leader>,
    reporter: Reporter,
}

impl Membership {
    /// The part of the root whose configuration came at `generation`, in Unix milliseconds: newer ones pre-empt older
    /// ones that are being drained. The root is the effective context.
    pub fn new(worker: &Worker, link: &Rc<Link>, generation: u64) -> Option<Self> {
        let owner = host::random()?;
        let process = host::put_if_absent(names::shared::PROCESS, &host::random()?.to_le_bytes()).ok()?;
        let process = u64::from_le_bytes(process.try_into().ok()?);
        // The sidecar takes printable ASCII; whatever else stands in the id must not cost the proxy its snapshots.
        let printable = |b: &u8| if (0x20..0x7f).contains(b) { char::from(*b) } else { '?' };
        let id: String = host::node_id().iter().take(NODE_ID_MAX).map(printable).collect();
        let id = if id.is_empty() { "unnamed".to_owned() } else { id };
        let node = Rc::new(Node { id, metadata: NodeMetadata { process_id: format!("{process:016x}") } });
        let leader = |service| Leader::new(service, link, &node, &worker.draws, (owner, generation));
        Some(Self {
            leaders: worker.services.iter().map(leader).collect(),
            reporter: Reporter::new(owner, link, &node),
            node,
        })
    }

    /// Who takes part.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Leads and reports, where that is due. The root is the effective context.
    pub fn tick(&mut self, worker: &Worker, found: Found, now: UnixMillis) {
        for leader in &mut self.leaders {
            leader.tick(now);
        }
        self.reporter.tick(&worker.services, found, now);
    }

    /// Handles an answer; `false` where nobody here waits for it.
    pub fn answer(&mut self, worker: &Worker, token: u32, body_size: usize, now: UnixMillis) -> bool {
        self.reporter.answer(&worker.services, token, body_size, now)
            || self.leaders.iter_mut().any(|leader| leader.answer(token, body_size, now))
    }
}
