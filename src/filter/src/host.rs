//! A thin layer over the host's imports. Every call returns a `Result`: the SDK's own wrappers panic on statuses that
//! they do not expect, and on header values that are not UTF-8.

mod buffer;
mod headers;
mod metric;
mod property;
mod raw;
mod root;
mod shared;
mod stream;

use std::fmt;

pub use buffer::{request_body, response_piece};
pub use headers::{HeaderMap, Map, add_header, headers, remove_header, set_header};
pub use metric::{MetricKind, define_metric, increment, record};
pub use property::{declare_for_request, property, set_property};
pub use root::{Call, call, plugin_configuration, response_body, response_status};
pub use shared::{Cas, put_if_absent, read_shared, shared, update_shared, write_shared};
pub use stream::{answer, now, resume_request, set_effective_context, set_tick_period};

/// A status other than OK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostError(pub u32);

impl HostError {
    /// The thing asked for is not there.
    pub const NOT_FOUND: Self = Self(1);
    /// The compare-and-swap number has moved on.
    pub const CAS_MISMATCH: Self = Self(8);
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host status {}", self.0)
    }
}

fn check(status: u32) -> Result<(), HostError> {
    if status == 0 { Ok(()) } else { Err(HostError(status)) }
}

/// Runs a call that hands a buffer over, and takes the buffer. A host that hands over none gives an empty one.
fn receive(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>, HostError> {
    let mut data = std::ptr::null_mut();
    let mut size = 0;
    check(call(&mut data, &mut size))?;
    if data.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the host had `proxy_on_memory_allocate` of the SDK make this buffer with exactly `size` bytes as a boxed
    // slice, filled it, and keeps no reference to it.
    Ok(unsafe { Vec::from_raw_parts(data, size, size) })
}
