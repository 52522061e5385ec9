//! The names on the wire, as users read them in the documentation.
//!
//! They are spelled out here on purpose: a test that took them from the code under test would not notice that one
//! has changed.

/// The session id that a request names.
pub const SESSION: &str = "x-agent-session";
/// The pin, on requests and answers.
pub const PIN: &str = "x-agent-pin";
/// The slot that a request was stamped with: what routes match on.
pub const SLOT: &str = "x-agent-slot";
/// The bundle that a request was stamped with.
pub const BUNDLE: &str = "x-agent-bundle";
/// Why that slot.
pub const DECISION: &str = "x-agent-decision";
/// Where early header mutation puts what a client sent under the names of the stamps.
pub const CLIENT_SENT: &str = "x-agent-client-sent";
/// Where a preview token would stand.
pub const PREVIEW: &str = "x-agent-preview";
/// What an agent says that it runs.
pub const ATTESTED: &str = "x-agent-bundle-id";
/// The slot that an agent of the tests was asked as, on each of its answers.
pub const SERVED_BY: &str = "x-served-by";
/// The baggage that an agent of the tests was handed, on each of its answers.
pub const HANDED_BAGGAGE: &str = "x-handed-baggage";
/// Where proxies ask the sidecar for snapshots.
pub const DISCOVERY_PATH: &str = "/v3/discovery:snapshots";
/// Where proxies ask the sidecar after sessions.
pub const SESSIONS_PATH: &str = "/v3/sessions:ask";
/// Where proxies report.
pub const REPORTS_PATH: &str = "/v3/reports";
