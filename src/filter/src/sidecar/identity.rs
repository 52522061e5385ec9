//! Who speaks: the proxy, and the VM instance in it.

use colorfast_core::names;
use colorfast_core::wire::discovery::{Node, NodeMetadata};

use crate::entropy::Draws;
use crate::host;

/// Longest node id that is told to the sidecar.
const NODE_ID_MAX: usize = 256;

/// One root's name in the fleet, known from its configuration on.
#[derive(Debug)]
pub struct Identity {
    /// The proxy.
    pub node: Node,
    /// A random number of the instance.
    pub owner: u64,
}

impl Identity {
    /// Reads the node id and draws what is random. The process has the number that its first root has drawn.
    pub fn new(draws: &Draws) -> Self {
        let drawn = || host::random().unwrap_or_else(|| draws.next());
        let (owner, process) = (drawn(), drawn());
        let first = host::put_if_absent(names::shared::PROCESS, &process.to_le_bytes()).ok();
        let process = first.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?))).unwrap_or(process);
        // The sidecar takes printable ASCII; whatever else stands in the id must not cost the proxy its snapshots.
        let printable = |b: &u8| if (0x20..0x7f).contains(b) { char::from(*b) } else { '?' };
        let id: String = host::node_id().iter().take(NODE_ID_MAX).map(printable).collect();
        let id = if id.is_empty() { "unnamed".to_owned() } else { id };
        Self { node: Node { id, metadata: NodeMetadata { process_id: format!("{process:016x}") } }, owner }
    }

    /// The instance as the sidecar knows it.
    pub fn instance(&self) -> String {
        format!("{:016x}", self.owner)
    }
}
