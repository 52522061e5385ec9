//! What the host answers to a call: a status, and a buffer where the call hands one over.

use std::fmt;

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

/// The status of a call as a result.
pub fn check(status: u32) -> Result<(), HostError> {
    if status == 0 { Ok(()) } else { Err(HostError(status)) }
}

/// Runs a call that hands a buffer over, and takes the buffer. A host that hands over none gives an empty one.
pub fn receive(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>, HostError> {
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
