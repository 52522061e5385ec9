//! Every name that colorfast puts outside itself: headers, properties, metrics, shared-data keys, paths, environment.

use std::fmt::Display;

use crate::ids::{BundleId, ServiceName, SlotName};

/// Request header that routes match on: the chosen slot.
pub const HEADER_SLOT: &str = "x-agent-slot";
/// Request header: the id of the bundle in the chosen slot.
pub const HEADER_BUNDLE: &str = "x-agent-bundle";
/// Request header: why the slot was chosen.
pub const HEADER_DECISION: &str = "x-agent-decision";
/// Request and response header that carries the pin.
pub const HEADER_PIN: &str = "x-agent-pin";
/// Request header that carries a preview token.
pub const HEADER_PREVIEW: &str = "x-agent-preview";
/// Request header that names the session, unless the service's settings say otherwise.
pub const HEADER_SESSION: &str = "x-agent-session";
/// Session id that an MCP server issues and its client echoes (MCP, streamable HTTP).
pub const HEADER_MCP_SESSION: &str = "mcp-session-id";
/// Response header by which an agent may say which bundle it runs.
pub const HEADER_ATTESTATION: &str = "x-agent-bundle-id";
/// Request header that Envoy sets at every internal redirect.
pub const HEADER_ORIGINAL_URL: &str = "x-envoy-original-url";
/// Where the listener's early mutation copies what a client sent under a name that we stamp.
pub const HEADER_CLIENT_SENT: &str = "x-agent-client-sent";

/// The cookie that carries the pin of `service`, unless its settings say otherwise.
pub fn pin_cookie(service: &ServiceName) -> String {
    format!("agent-pin-{service}")
}

/// Filter state (`wasm.colorfast.decided` in access logs): the whole [`crate::decided::Decided`].
pub const PROPERTY_DECIDED: &str = "colorfast.decided";

/// Filter state that an internal redirect drops: this chain has decided the redirected request.
pub const PROPERTY_PASSED: &str = "colorfast.passed";

/// Path of discovery, under the sidecar's discovery address.
pub const DISCOVERY_PATH: &str = "/v3/discovery:snapshots";
/// Path of reports, under the sidecar's discovery address.
pub const REPORTS_PATH: &str = "/v3/reports";
/// Path of questions after sessions, under the sidecar's discovery address.
pub const SESSIONS_PATH: &str = "/v3/sessions:ask";
/// The resource type of discovery.
pub const SNAPSHOT_TYPE_URL: &str = "type.googleapis.com/colorfast.v1.Snapshot";

/// The `type` of the problem document that refuses a poll or a report for its ticket.
pub const PROBLEM_TICKET: &str = "urn:colorfast:problem:ticket";

/// Environment variable of the VM: bearer token of discovery.
pub const ENV_TOKEN: &str = "COLORFAST_TOKEN";
/// Environment variable of the VM: JSON object from service name to [`crate::keys::ServiceKeys`].
pub const ENV_KEYS: &str = "COLORFAST_KEYS";

/// Shared-data keys. All start with the format of what they hold, so that filters of two formats
/// can share a VM id without reading each other's data.
pub mod shared {
    use super::{Display, ServiceName};

    /// A random number that tells this process from any other of the same node id.
    pub const PROCESS: &str = "cf1/process";
    /// When this process was first configured, Unix milliseconds.
    pub const STARTED: &str = "cf1/started";

    /// The ticket that this process was given last, by whichever sidecar; empty where it was refused.
    pub const TICKET: &str = "cf1/ticket";

    /// The ticket that the sidecar behind `cluster` gave; empty where it was refused.
    pub fn ticket_of(cluster: &str) -> String {
        format!("cf1/ticket/{cluster}")
    }

    /// The plugin configurations that tick in this process, and since when.
    pub const CONFIGURATIONS: &str = "cf1/configurations";
    /// The configuration that was last found twice in a filter chain.
    pub const DOUBLED: &str = "cf1/doubled";

    fn of(service: &ServiceName, what: impl Display) -> String {
        format!("cf1/{service}/{what}")
    }

    /// The whole discovery answer that the process decides by.
    pub fn snapshot(service: &ServiceName) -> String {
        of(service, "snapshot")
    }

    /// The answer that was decided by before, to go back to.
    pub fn previous(service: &ServiceName) -> String {
        of(service, "previous")
    }

    /// The VMs that were rebuilt under the present snapshot of late.
    pub fn rebuilds(service: &ServiceName) -> String {
        of(service, "rebuilds")
    }

    /// The rank of [`snapshot`]; the only key that every request reads.
    pub fn version(service: &ServiceName) -> String {
        of(service, "version")
    }

    /// The version that a configuration has pushed last.
    pub fn pushed(service: &ServiceName) -> String {
        of(service, "pushed")
    }

    /// Who polls for the process, until when.
    pub fn lease(service: &ServiceName) -> String {
        of(service, "lease")
    }

    /// The hash of the answer that a leader is about to parse; cleared when it survived.
    pub fn attempting(service: &ServiceName) -> String {
        of(service, "attempting")
    }

    /// What the keys of the buckets of the table of sessions begin with; a number follows.
    pub fn memory(service: &ServiceName) -> String {
        of(service, "memory/")
    }

    /// The newest assignment that a valid pin has named and no snapshot has brought yet.
    pub fn wanted(service: &ServiceName) -> String {
        of(service, "wanted")
    }

    /// How far the corrections of the fleet have been applied.
    pub fn corrected(service: &ServiceName) -> String {
        of(service, "corrected")
    }
}

/// Metric names, as `/stats` shows them behind `wasmcustom.`. The varying parts stand between fixed words,
/// the bundle id last (it alone may hold dots), so that `stats_tags` expressions can cut them out.
pub mod metric {
    use super::{BundleId, Display, ServiceName, SlotName};

    fn of(service: &ServiceName, what: impl Display) -> String {
        format!("colorfast.service.{service}.{what}")
    }

    /// Counter: requests by slot and the reason of the decision.
    pub fn requests(service: &ServiceName, slot: &SlotName, decision: &str) -> String {
        of(service, format_args!("requests.slot.{slot}.decision.{decision}"))
    }

    /// Counter: requests that begin no session, by their kind.
    pub fn beginning_nothing(service: &ServiceName, kind: &str) -> String {
        of(service, format_args!("requests_beginning_nothing.kind.{kind}"))
    }

    /// Counter: requests that were answered 409, since the bundle of their session is gone.
    pub fn gone(service: &ServiceName) -> String {
        of(service, "requests_gone")
    }

    /// Counter: requests that got no stamp, since no slot was live.
    pub fn unrouted(service: &ServiceName) -> String {
        of(service, "requests_unrouted")
    }

    /// Counter: requests that a preview token sent to a slot; they are in no other.
    pub fn previews(service: &ServiceName, slot: &SlotName) -> String {
        of(service, format_args!("previews.slot.{slot}"))
    }

    /// Counter: tokens that were not honoured, by kind and cause.
    pub fn refused(service: &ServiceName, kind: &str, cause: &str) -> String {
        of(service, format_args!("tokens_refused.kind.{kind}.cause.{cause}"))
    }

    /// Counter: requests that came with a header that only colorfast may set.
    pub fn forged_headers(service: &ServiceName) -> String {
        of(service, "forged_headers")
    }

    /// Counter: pins handed out.
    pub fn pins_issued(service: &ServiceName) -> String {
        of(service, "pins_issued")
    }

    /// Counter: answers whose agent said which bundle it runs, by slot and whether that was the one that is staged
    /// there (`match` or `mismatch`).
    pub fn attestations(service: &ServiceName, slot: &SlotName, result: &str) -> String {
        of(service, format_args!("attestations.slot.{slot}.result.{result}"))
    }

    /// Counter: answers that Envoy gave itself, since the upstream of the slot could not be had.
    pub fn upstream_unavailable(service: &ServiceName, slot: &SlotName) -> String {
        of(service, format_args!("upstream_unavailable.slot.{slot}"))
    }

    /// Counter: requests whose body was to name their session, by what came of it.
    pub fn session_bodies(service: &ServiceName, result: &str) -> String {
        of(service, format_args!("session_bodies.result.{result}"))
    }

    /// Counter: answers that were to hand out a session id, by what came of it, and ids that were learnt (`found`).
    pub fn learnt_ids(service: &ServiceName, result: &str) -> String {
        of(service, format_args!("learnt_ids.result.{result}"))
    }

    /// Counter: session ids of the agent that were too long for an envelope.
    pub fn envelopes_refused(service: &ServiceName) -> String {
        of(service, "envelopes_refused")
    }

    /// Counter: requests that were answered 404, since the session of their envelope has ended.
    pub fn ended(service: &ServiceName) -> String {
        of(service, "requests_ended")
    }

    /// Counter: waits by what was waited for and how they ended (`met` or `timeout`; for the fleet also `full`, `no_way`, and
    /// beside that `again`).
    pub fn waits(service: &ServiceName, need: &str, end: &str) -> String {
        of(service, format_args!("waits.need.{need}.end.{end}"))
    }

    /// Counter: sessions that were forgotten since there was no room for them, though they had not ended.
    pub fn memory_evictions(service: &ServiceName) -> String {
        of(service, "memory_evictions")
    }

    /// Counter: ids that were remembered otherwise than the fleet has them, and were corrected by its word.
    pub fn memory_corrected(service: &ServiceName) -> String {
        of(service, "memory_corrected")
    }

    /// Counter: sessions that the fleet was not told of, since too many were learnt at once.
    pub fn memory_untold(service: &ServiceName) -> String {
        of(service, "memory_untold")
    }

    /// Counter: polls that came to nothing: no answer, or none that discovery knows.
    pub fn polls_failed(service: &ServiceName) -> String {
        of(service, "polls_failed")
    }

    /// Gauge: 1 where keys are known; 0 where requests are decided by hash and no pin is minted.
    pub fn keyed(service: &ServiceName) -> String {
        of(service, "keyed")
    }

    /// Gauge: the version of the snapshot decided by, within its epoch.
    pub fn snapshot_version(service: &ServiceName) -> String {
        of(service, "snapshot_version")
    }

    /// Gauge: the epoch of the snapshot decided by.
    pub fn snapshot_epoch(service: &ServiceName) -> String {
        of(service, "snapshot_epoch")
    }

    /// Gauge: the version of the snapshot that the configuration pushes, within its epoch.
    pub fn pushed_version(service: &ServiceName) -> String {
        of(service, "pushed_version")
    }

    /// Gauge: the epoch of that snapshot.
    pub fn pushed_epoch(service: &ServiceName) -> String {
        of(service, "pushed_epoch")
    }

    /// Counter: snapshots refused, whatever the cause; discovery tells the sidecar which.
    pub fn snapshots_refused(service: &ServiceName) -> String {
        of(service, "snapshots_refused")
    }

    /// Counter: snapshots that were left again, since the filter died under them.
    pub fn retreats(service: &ServiceName) -> String {
        of(service, "retreats")
    }

    /// Counter: requests that another colorfast filter of the same chain had decided already.
    pub fn doubled(service: &ServiceName) -> String {
        of(service, "doubled")
    }

    /// Gauge, an info metric: 1 while `slot` runs `bundle`, else 0.
    pub fn bundle_info(service: &ServiceName, slot: &SlotName, bundle: &BundleId) -> String {
        of(service, format_args!("info.slot.{slot}.bundle.{bundle}"))
    }
}
