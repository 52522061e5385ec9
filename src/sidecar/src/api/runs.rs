//! Leases: runs that hold their slot while no request of theirs comes by.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use colorfast_core::error::ParseError;
use colorfast_core::ids::{BundleId, SlotName};
use colorfast_core::release::Phase;
use colorfast_core::time::UnixMillis;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::tokens::text;

/// Longest time for which a lease is held without a renewal: a day.
pub const TTL_MAX_SECONDS: u32 = 24 * 3600;

/// `PUT /v1/services/{service}/runs/{run}`: a run takes a lease, or renews it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldRun {
    /// The bundle that it began on: what `x-agent-bundle` said.
    pub bundle: BundleId,
    /// How long the lease holds unless it is renewed: a minute, unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = TTL_MAX_SECONDS))]
    pub ttl_seconds: Option<u32>,
}

/// A lease, as it is answered and as `GET /v1/services/{service}/runs` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunLease {
    /// The run.
    pub run: RunName,
    /// The bundle that it began on.
    pub bundle: BundleId,
    /// The slot that it holds.
    pub slot: SlotName,
    /// What that slot is doing; a run in one that is condemned is asked to leave.
    pub phase: Phase,
    /// When the lease was taken first.
    pub began: UnixMillis,
    /// When it ends unless it is renewed.
    pub expires: UnixMillis,
    /// When it ends in any case: `pin.max_age_seconds` after it began.
    pub ends: UnixMillis,
}

text! {
    /// The name that a run has at its agent.
    RunName, "a run: 1 to 128 of A-Z a-z 0-9 . _ : @ + -", "^[A-Za-z0-9._:@+-]{1,128}$", |text| {
        (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@+-".contains(&b))
    }
}
