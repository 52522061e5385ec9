//! A proxy that decides by what its own configuration says, with keys that the test knows: no sidecar reaches it.
//!
//! Blue with `b-1` is live (assignment 10), green with `g-1` drains (assignment 11), and 12 was given last. So a pin
//! decides something: only by one does a request come to green.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use colorfast_core::ids::{AssignmentId, KeyId, Sid};
use colorfast_core::keys::{Secret, ServiceKeys, SidHasher};
use colorfast_core::time::UnixSeconds;
use colorfast_core::token::pin::{Claims, Kind, Signer};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::envoy::{Envoy, EnvoyConfig};

/// The assignment of blue, which is live.
pub const BLUE: AssignmentId = AssignmentId(10);
/// The assignment of green, which drains.
pub const GREEN: AssignmentId = AssignmentId(11);
/// Where nobody listens: there is no sidecar.
pub const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const SERVICE: &str = "chat";
const SID_KEY: [u8; 16] = [7; 16];
const KEY: [u8; 32] = [1; 32];

/// Two agents and the proxy before them.
#[derive(Debug)]
pub struct Lone {
    /// The agent of the slot that is live.
    pub blue: Agent,
    /// The agent of the slot that drains.
    pub green: Agent,
    /// The proxy.
    pub envoy: Envoy,
}

impl Lone {
    /// Starts agents and proxy.
    ///
    /// # Errors
    /// Where one of them does not start.
    pub async fn start() -> Result<Self> {
        let (blue, green) = (Agent::start("b-1").await?, Agent::start("g-1").await?);
        let envoy = Envoy::start(config(&blue, &green)?).await?;
        Ok(Self { blue, green, envoy })
    }

    /// The same with a snapshot and with keys of the test's choice.
    ///
    /// # Errors
    /// As [`Lone::start`].
    pub async fn deciding_by(snapshot: &Value, keys: &str) -> Result<Self> {
        let (blue, green) = (Agent::start("b-1").await?, Agent::start("g-1").await?);
        // Only HTTP/2 all the way carries trailers without being told to.
        let config = config_by(&blue, &green, &plugin_by(snapshot), keys)?.cluster_http2("agent_blue");
        let envoy = Envoy::start(config).await?;
        Ok(Self { blue, green, envoy })
    }
}

/// The configuration of such a proxy.
///
/// # Errors
/// Where the shipped file cannot be read.
pub fn config(blue: &Agent, green: &Agent) -> Result<EnvoyConfig> {
    config_by(blue, green, &plugin(), &keys())
}

fn config_by(blue: &Agent, green: &Agent, plugin: &Value, keys: &str) -> Result<EnvoyConfig> {
    let config = EnvoyConfig::shipped()?.agent("blue", blue.address()).agent("green", green.address());
    let config = config.plugin(plugin).sidecar(NOBODY);
    Ok(config.env("COLORFAST_KEYS", keys))
}

/// The plugin configuration of such a proxy.
#[must_use]
pub fn plugin() -> Value {
    plugin_by(&snapshot())
}

fn plugin_by(snapshot: &Value) -> Value {
    json!({
        "sidecar_cluster": "colorfast_sidecar",
        "services": [{"name": SERVICE, "bootstrap": snapshot}],
    })
}

/// The keys that such a proxy has in its environment, as `COLORFAST_KEYS`.
#[must_use]
pub fn keys() -> String {
    let ring = BTreeMap::from([(KeyId(1), Secret::new(KEY))]);
    let keys = ServiceKeys { sid: Secret::new(SID_KEY), ring, runs: BTreeMap::new() };
    json!({ SERVICE: keys }).to_string()
}

fn snapshot() -> Value {
    json!({
        "format": 1,
        "service": SERVICE,
        "settings": {"pin": {"cookie": "always"}, "bootstrap_wait_ms": 0},
        "ring": {"signing": 1, "verifying": [1]},
        "newest_assignment": 12,
        "slots": [
            {"name": "blue", "phase": "live", "weight": 10_000, "assignment": BLUE, "bundle": {"id": "b-1"}},
            {"name": "green", "phase": "draining", "assignment": GREEN, "bundle": {"id": "g-1"}},
        ],
    })
}

/// What a pin of `session` says that began a while ago.
#[must_use]
pub fn bound(session: &str, assignment: AssignmentId) -> Claims {
    let now = now();
    let sid = SidHasher::new(&Secret::new(SID_KEY)).sid(session.as_bytes());
    Claims { kind: Kind::Bound, sid, assignment, began: now, refreshed: now }
}

/// What a pin says whose session has no id.
#[must_use]
pub fn free(assignment: AssignmentId) -> Claims {
    let now = now();
    Claims { kind: Kind::Free, sid: Sid(4711), assignment, began: now, refreshed: now }
}

/// Signs with the key that the proxy knows.
///
/// # Errors
/// None that can occur with these keys.
pub fn sign(claims: &Claims) -> Result<String> {
    let key = Secret::new(KEY);
    let signer = Signer::new(&SERVICE.parse()?, KeyId(1), [(KeyId(1), &key)]);
    Ok(signer.context("a ring with its key")?.mint(claims))
}

fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
