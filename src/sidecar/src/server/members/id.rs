//! Who a proxy is.

use std::fmt;

use colorfast_core::error::FieldError;
use colorfast_core::wire::discovery::Node;
use serde::{Deserialize, Serialize};

/// Longest node id, in bytes.
const NODE_MAX: usize = 256;
/// Hex digits of a process id.
const PROCESS_CHARS: usize = 16;

/// A node id and a process id: two processes of one node id are two members. Ordered by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MemberId {
    node: String,
    process: String,
}

impl MemberId {
    /// Who `node` is.
    ///
    /// # Errors
    /// Names the field of the document and the rule that it breaks.
    pub fn of(node: &Node) -> Result<Self, FieldError> {
        let id = &node.id;
        if id.is_empty() || id.len() > NODE_MAX || !id.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            let rule = format!("is not a node id: 1 to {NODE_MAX} printable ASCII characters");
            return Err(FieldError::new("node.id", rule));
        }
        let process = &node.metadata.process_id;
        if !is_number(process) {
            return Err(FieldError::new("node.metadata.process_id", "is not 16 lower-case hex digits"));
        }
        Ok(Self { node: id.clone(), process: process.clone() })
    }

    /// Envoy's node id.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// What tells apart processes of one node id.
    pub fn process(&self) -> &str {
        &self.process
    }
}

/// Whether `text` is a 64-bit number as the filter writes it.
pub fn is_number(text: &str) -> bool {
    text.len() == PROCESS_CHARS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.process)
    }
}
