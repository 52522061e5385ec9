//! Reports: what VM instances tell the sidecar, one document an instance, in sections.
//!
//! A document is sent again until its sequence number is acknowledged, and applied once.

use serde::{Deserialize, Serialize};

use crate::ids::ServiceName;
use crate::wire::discovery::Node;

/// One report of one VM instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The proxy.
    pub node: Node,
    /// A number drawn once in the life of a VM instance, as 16 hex digits.
    pub instance: String,
    /// Counts the reports of the instance, from 1.
    pub sequence: u64,
    /// Who the instance is; sent first and again at every renewal of its lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hello: Option<Hello>,
}

/// What a VM instance is and what it decides by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Release of the filter.
    pub filter_version: String,
    /// Snapshot format that it reads.
    pub snapshot_format: u32,
    /// Every service of its configuration.
    pub services: Vec<HelloService>,
}

/// One service of a [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloService {
    /// The service.
    pub name: ServiceName,
    /// The snapshot that the instance decides by.
    pub version_info: String,
    /// Whether it can read and mint pins.
    pub keyed: bool,
}

/// The sidecar's answer to a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAck {
    /// Reports up to this sequence number need not be sent again.
    pub acknowledged: u64,
}
