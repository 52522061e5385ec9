//! What only a root context uses: its configuration, and HTTP calls to the sidecar. A call dies with the context that made it,
//! so streams have theirs made as the root.

use std::time::Duration;

use proxy_wasm::types::Status;

use super::buffer::{Buffer, buffer};
use super::headers::{Map, header};
use super::status::HostError;

/// A request to make.
#[derive(Debug)]
pub struct Call<'a> {
    /// Envoy's cluster.
    pub cluster: &'a str,
    /// The path.
    pub path: &'a str,
    /// The bearer token, where there is one.
    pub token: Option<&'a str>,
    /// The body, JSON.
    pub body: &'a [u8],
    /// How long the answer may take.
    pub timeout: Duration,
}

/// Sends the call; its answer comes by `on_http_call_response` with the token that this returns.
///
/// This goes through the SDK, since its dispatcher ends the VM on an answer to a call that it did not book.
pub fn call(call: &Call<'_>) -> Result<u32, HostError> {
    let bearer = call.token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", call.path),
        (":authority", call.cluster),
        ("content-type", "application/json"),
    ];
    headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    proxy_wasm::hostcalls::dispatch_http_call(call.cluster, headers, Some(call.body), Vec::new(), call.timeout)
        .map_err(|status: Status| HostError(status as u32))
}

/// The status of the answer being handled; `None` where the answer never came whole.
pub fn response_status() -> Option<u16> {
    let status = header(Map::CallResponse, ":status").ok()??;
    std::str::from_utf8(&status).ok()?.parse().ok()
}

/// The body of the answer being handled, `size` bytes of it.
pub fn response_body(size: usize) -> Result<Vec<u8>, HostError> {
    buffer(Buffer::CallResponse, 0, size)
}

/// The plugin configuration, while it is being handed over.
pub fn plugin_configuration() -> Result<Vec<u8>, HostError> {
    buffer(Buffer::PluginConfiguration, 0, usize::MAX)
}
