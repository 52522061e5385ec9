//! Properties: attributes of the stream, and filter state that the filter sets.

use super::raw;
use super::status::{HostError, check, receive};

/// The property at `path`; `None` where there is none.
pub fn property(path: &[&str]) -> Option<Vec<u8>> {
    let path = path.join("\0");
    // SAFETY: all pointers are valid for the call.
    receive(|data, size| unsafe { raw::proxy_get_property(path.as_ptr(), path.len(), data, size) }).ok()
}

/// Sets filter state `wasm.<name>` of the stream.
pub fn set_property(name: &str, value: &[u8]) -> Result<(), HostError> {
    // SAFETY: all pointers are valid for the call.
    check(unsafe { raw::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Makes filter state `wasm.<name>` last as long as the downstream request, over internal redirects.
///
/// Works from a root context only. The argument is `envoy.source.extensions.common.wasm.DeclarePropertyArguments`:
/// field 1 is the name, field 3 the type (1, a string), field 5 the life span (1, the downstream request). Field 2 (read only) stays out: a second pass sets
/// the property again.
pub fn declare_for_request(name: &str) -> Result<(), HostError> {
    const FUNCTION: &str = "declare_property";
    let Ok(length) = u8::try_from(name.len()) else { return Err(HostError(2)) };
    let mut argument = vec![0x0a, length];
    argument.extend_from_slice(name.as_bytes());
    argument.extend_from_slice(&[0x18, 1, 0x28, 1]);
    // SAFETY: all pointers are valid for the call.
    receive(|data, size| unsafe {
        raw::proxy_call_foreign_function(
            FUNCTION.as_ptr(),
            FUNCTION.len(),
            argument.as_ptr(),
            argument.len(),
            data,
            size,
        )
    })
    .map(drop)
}

/// The address of the client that Envoy trusts, with its port; empty where it has none.
pub fn client_address() -> Vec<u8> {
    property(&["source", "address"]).unwrap_or_default()
}

/// Why the response is what it is, in Envoy's words.
pub fn response_details() -> Vec<u8> {
    property(&["response", "code_details"]).unwrap_or_default()
}

/// The name of this Envoy, as its configuration has it.
pub fn node_id() -> Vec<u8> {
    property(&["xds", "node", "id"]).unwrap_or_default()
}
