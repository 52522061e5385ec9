//! Discovery: xDS in its REST form, as JSON.
//!
//! The proxy asks with the version it holds; the sidecar holds the request open until there is something newer.
//! The next request is the ACK (its `version_info` is the version just sent), or the NACK (`error_detail`).

use serde::{Deserialize, Serialize};

use crate::ids::ServiceName;
use crate::json::{newtype, record};
use crate::snapshot::Resource;
use crate::wire::sessions::Records;
use crate::wire::ticket::Ticket;

/// A proxy's request: what it holds, what it wants, what was wrong with what it got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiscoveryRequest {
    /// The version that every worker of the proxy decides by at least; empty before the first.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = crate::schema::HELD)))]
    pub version_info: String,
    /// The nonce of the response that this request answers; empty at first.
    #[serde(default)]
    pub response_nonce: String,
    /// Exactly one service.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 1)))]
    pub resource_names: Vec<ServiceName>,
    /// [`crate::names::SNAPSHOT_TYPE_URL`]
    #[cfg_attr(feature = "schema", schemars(extend("const" = crate::names::SNAPSHOT_TYPE_URL)))]
    pub type_url: String,
    /// Who asks.
    pub node: Node,
    /// What proves it, once the proxy has been given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Ticket>,
    /// Why the response was not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<Status>,
    /// The last corrections that the process has applied; absent at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected: Option<Cursor>,
}

/// A place among the corrections of a service, opaque to proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Cursor(#[cfg_attr(feature = "schema", schemars(length(max = 64), regex(pattern = "^[!-~]*$")))] String);

newtype!(Cursor, String);

impl Cursor {
    /// The cursor of this text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What stands in the fleet under ids of which some proxy has said otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Corrections {
    /// What stands: to be written down wherever something else is remembered under the id.
    pub records: Records,
    /// Where the next corrections begin: the next request says so once these are applied.
    pub cursor: Cursor,
}

record!(Corrections, PassedOver, (), [records, cursor], [], |fields| Self::default());

/// The proxy that asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Node {
    /// Envoy's node id.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 256), regex(pattern = crate::schema::PRINTABLE)))]
    pub id: String,
    /// What tells apart two proxies of one node id.
    pub metadata: NodeMetadata,
}

/// Metadata of a [`Node`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeMetadata {
    /// A number drawn once in the life of a process, as 16 hex digits.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = crate::schema::DRAWN)))]
    pub process_id: String,
}

/// `google.rpc.Status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// A gRPC status code; 3 (invalid argument) for a snapshot that breaks a rule.
    pub code: i32,
    /// The field and the rule.
    pub message: String,
}

impl Status {
    /// The gRPC code of an invalid argument.
    pub const INVALID_ARGUMENT: i32 = 3;
}

/// The sidecar's answer: 200 with a resource, with corrections or with both, or 304 when nothing became newer while the
/// request was held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiscoveryResponse {
    /// Version of the resource; without one, the version that the proxy holds.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = crate::schema::HELD)))]
    pub version_info: String,
    /// The snapshot of the service that was asked for, with its keys; none where the answer brings corrections alone.
    #[cfg_attr(feature = "schema", schemars(length(max = 1)))]
    pub resources: Vec<Resource>,
    /// [`crate::names::SNAPSHOT_TYPE_URL`]
    pub type_url: String,
    /// What stands in the fleet under ids of which some proxy has said otherwise, since those that the request names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrections: Option<Corrections>,
    /// The ticket of the member, until it has shown it once. Right before the nonce: both are known before the rest is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Ticket>,
    /// To be repeated by the next request.
    pub nonce: String,
}

record!(
    DiscoveryResponse,
    PassedOver,
    (),
    [version_info, resources, type_url, nonce],
    [ticket, corrections],
    |fields| Self {
        version_info: String::new(),
        resources: Vec::new(),
        type_url: String::new(),
        ticket: None,
        corrections: None,
        nonce: String::new()
    }
);
