//! Time, ticks and the flow of streams.

use std::time::Duration;

use colorfast_core::time::UnixMillis;

use super::raw;
use super::status::{HostError, check};

/// The time; 0 where the host has none, which makes every pin one from the future.
pub fn now() -> UnixMillis {
    let mut nanoseconds = 0;
    // SAFETY: the pointer is valid for the call.
    let status = unsafe { raw::proxy_get_current_time_nanoseconds(&mut nanoseconds) };
    UnixMillis(if status == 0 { nanoseconds / 1_000_000 } else { 0 })
}

/// Has the root context ticked at this period.
pub fn set_tick_period(period: Duration) -> Result<(), HostError> {
    let millis = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
    // SAFETY: a plain number.
    check(unsafe { raw::proxy_set_tick_period_milliseconds(millis) })
}

/// Makes the following calls act on another context of this VM; an error where it is gone.
pub fn set_effective_context(context: u32) -> Result<(), HostError> {
    // SAFETY: a plain number.
    check(unsafe { raw::proxy_set_effective_context(context) })
}

/// Answers the request of the effective context instead of sending it on, once the running callback has returned.
pub fn answer(status: u32, details: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<(), HostError> {
    /// Envoy finds the status of gRPC by that of HTTP.
    const NO_GRPC_STATUS: i32 = -1;
    let size = |text: &str| u32::try_from(text.len()).unwrap_or_default().to_le_bytes();
    let mut map = u32::try_from(headers.len()).unwrap_or_default().to_le_bytes().to_vec();
    for (name, value) in headers {
        map.extend_from_slice(&size(name));
        map.extend_from_slice(&size(value));
    }
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        map.extend_from_slice(text.as_bytes());
        map.push(0);
    }
    // SAFETY: each pointer is valid for the call, for as many bytes as its size says.
    check(unsafe {
        raw::proxy_send_local_response(
            status,
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            map.as_ptr(),
            map.len(),
            NO_GRPC_STATUS,
        )
    })
}

/// The two halves of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// The request, on its way to the agent.
    Request = 0,
    /// The answer, on its way back.
    Response = 1,
}

/// Lets the paused half of the effective context's stream go on, once the running callback has returned.
pub fn resume(direction: Direction) -> Result<(), HostError> {
    // SAFETY: a plain number.
    check(unsafe { raw::proxy_continue_stream(direction as u32) })
}
