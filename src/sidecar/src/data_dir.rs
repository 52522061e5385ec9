//! The data folder: what the sidecar leaves in it for the command line and for proxies.

use serde::{Deserialize, Serialize};

/// Where a running sidecar listens: a [`Serving`] document.
pub const SERVE_FILE: &str = "serve.json";
/// The bearer token of the control API.
pub const CONTROL_TOKEN_FILE: &str = "control.token";
/// The bearer token of discovery.
pub const DISCOVERY_TOKEN_FILE: &str = "discovery.token";
/// The store.
pub const STORE_FILE: &str = "colorfast.db";
/// Locked by the sidecar that runs here, for as long as it does; holds its process id.
pub const LOCK_FILE: &str = "lock";

/// What stands in [`SERVE_FILE`] while a sidecar listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// Who listens.
    pub pid: u32,
    /// URL for proxies.
    pub discovery: String,
    /// URL for operators.
    pub control: String,
}

/// The log of an offline store: an entry a line, to be committed.
pub const LOG_FILE: &str = "log.jsonl";
/// The secrets of an offline store, never to be committed.
pub const SECRETS_FILE: &str = "secrets.json";
