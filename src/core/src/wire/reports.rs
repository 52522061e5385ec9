//! Reports: what VM instances tell the sidecar, one document an instance, in sections.
//!
//! A document is sent again until its sequence number is acknowledged, and applied once.

use serde::{Deserialize, Serialize};

use crate::ids::{AssignmentId, ServiceName, SlotName};
use crate::json::record;
use crate::time::UnixSeconds;
use crate::wire::discovery::Node;
use crate::wire::incarnation::Incarnation;
use crate::wire::sessions::SessionsReport;
use crate::wire::ticket::Ticket;

/// One report of one VM instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Report {
    /// The proxy.
    pub node: Node,
    /// What proves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Ticket>,
    /// A number drawn once in the life of a VM instance, as 16 hex digits.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = crate::schema::DRAWN)))]
    pub instance: String,
    /// Counts the reports of the instance, from 1.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub sequence: u64,
    /// The life of the sidecar that the instance heard last; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// Who the instance is; sent first and again at every renewal of its lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hello: Option<Hello>,
    /// What the instance has seen of slots since the last report that was acknowledged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = SlotReport::ENTRIES_MAX)))]
    pub slots: Vec<SlotReport>,
    /// The sessions that the instance has learnt since the last report, or seen again after a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub sessions: Vec<SessionsReport>,
}

/// What was seen of one assignment's upstream: numbers of answers that were looked at, not of all that passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlotReport {
    /// The service.
    pub service: ServiceName,
    /// The slot.
    pub slot: SlotName,
    /// What ran in it.
    pub assignment: AssignmentId,
    /// Answers that the agent gave.
    #[serde(default)]
    pub answered: u32,
    /// Answers that Envoy gave itself, since the upstream could not be had.
    #[serde(default)]
    pub unavailable: u32,
    /// Answers whose agent said that it runs the bundle that is staged.
    #[serde(default)]
    pub matched: u32,
    /// Answers whose agent said that it runs another.
    #[serde(default)]
    pub mismatched: u32,
    /// Which it was that it said last; at most [`SlotReport::FOUND_MAX`] printable ASCII characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = SlotReport::FOUND_MAX), regex(pattern = "^[!-~]*$")))]
    pub found: Option<String>,
    /// Requests that the instance has in the slot just now.
    #[serde(default, skip_serializing_if = "is_none")]
    pub in_flight: u32,
    /// Sessions that have come back, as marks of [`crate::sketch`] in base64url without padding.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = crate::schema::MARKS)))]
    pub held: String,
    /// Sessions that were handed out, likewise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = crate::schema::MARKS)))]
    pub issued: String,
    /// When the oldest of those that came back began; 0 where none did.
    #[serde(default, skip_serializing_if = "is_epoch")]
    pub oldest: UnixSeconds,
}

fn is_none(number: &u32) -> bool {
    *number == 0
}

fn is_epoch(at: &UnixSeconds) -> bool {
    at.0 == 0
}

impl SlotReport {
    /// Longest text of an attestation that is told.
    pub const FOUND_MAX: usize = 64;
    /// Most marks of sessions in one report, those of all entries together.
    pub const MARKS_MAX: usize = 8_000;
    /// Most entries of one report.
    pub const ENTRIES_MAX: usize = 128;
}

/// What a VM instance is and what it decides by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hello {
    /// Release of the filter.
    #[cfg_attr(feature = "schema", schemars(length(max = 64), regex(pattern = "^[!-~]*$")))]
    pub filter_version: String,
    /// Snapshot format that it reads.
    pub snapshot_format: u32,
    /// Whether it is alone in its filter chain.
    #[serde(default, skip_serializing_if = "Chain::is_single")]
    pub chain: Chain,
    /// Whether bodies come to its requests that wait for them.
    #[serde(default, skip_serializing_if = "Bodies::is_read")]
    pub bodies: Bodies,
    /// Every service of its configuration.
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub services: Vec<HelloService>,
}

/// How many colorfast filters a filter chain has, as an instance has seen from its requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Chain {
    /// No request has come that another one had decided.
    #[default]
    Single,
    /// Another one stands before this one, and decides.
    Doubled,
}

impl Chain {
    /// Whether there is nothing to tell.
    pub fn is_single(&self) -> bool {
        *self == Self::Single
    }
}

/// What becomes of bodies that are to name a session, as an instance has seen from its requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Bodies {
    /// None is known to be held back.
    #[default]
    Read,
    /// They are held back: the plugin lacks `allow_on_headers_stop_iteration`.
    Held,
}

impl Bodies {
    /// Whether there is nothing to tell.
    pub fn is_read(&self) -> bool {
        *self == Self::Read
    }
}

/// One service of a [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HelloService {
    /// The service.
    pub name: ServiceName,
    /// The snapshot that the instance decides by.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = crate::schema::HELD)))]
    pub version_info: String,
    /// Whether it can read and mint pins.
    pub keyed: bool,
}

/// The sidecar's answer to a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReportAck {
    /// Reports up to this sequence number need not be sent again.
    pub acknowledged: u64,
    /// Which life of the sidecar answers; an older sidecar does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
}

record!(ReportAck, PassedOver, (), [acknowledged], [incarnation], |fields| Self { acknowledged: 0, incarnation: None });
