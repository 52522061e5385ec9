//! Shared data: one map for the process, each key read and written whole.

use crate::host::raw;
use crate::host::status::{HostError, check, receive};

/// The number that tells whether a key was written since it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cas(u32);

impl Cas {
    /// Matches no key that exists; on a missing one the host creates it: put-if-absent.
    pub const ABSENT: Self = Self(u32::MAX);
}

/// How often a write that lost its race is tried again. Each loss means that somebody else made progress.
const TRIES: usize = 16;

/// The value of a key; `None` where there is none.
pub fn shared(key: &str) -> Result<Option<Vec<u8>>, HostError> {
    Ok(read_shared(key)?.map(|(value, _)| value))
}

/// The value of a key with its number; `None` where there is none.
pub fn read_shared(key: &str) -> Result<Option<(Vec<u8>, Cas)>, HostError> {
    let mut cas = 0;
    // SAFETY: all pointers are valid for the call.
    let value =
        receive(|data, size| unsafe { raw::proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &mut cas) });
    match value {
        Ok(value) => Ok(Some((value, Cas(cas)))),
        Err(HostError::NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a key that was not written since it was read; else [`HostError::CAS_MISMATCH`].
pub fn write_shared(key: &str, value: &[u8], cas: Cas) -> Result<(), HostError> {
    // SAFETY: all pointers are valid for the call.
    check(unsafe { raw::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas.0) })
}

/// Writes `value` unless the key has one, and returns the one it then has.
pub fn put_if_absent(key: &str, value: &[u8]) -> Result<Vec<u8>, HostError> {
    match write_shared(key, value, Cas::ABSENT) {
        Ok(()) => Ok(value.to_vec()),
        Err(HostError::CAS_MISMATCH) => Ok(shared(key)?.unwrap_or_default()),
        Err(error) => Err(error),
    }
}

/// What becomes of a value, given the one that is there; `None` leaves it.
type Next<'a> = dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>> + 'a;

/// Replaces the value of a key by what `next` makes of it, by compare-and-swap.
/// `next` answers `None` where the value shall stand; then this answers `false`.
pub fn update_shared(key: &str, mut next: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>) -> Result<bool, HostError> {
    update(key, &mut next)
}

/// One loop for all: made anew for each use it would be kilobytes of the module.
#[inline(never)]
fn update(key: &str, next: &mut Next<'_>) -> Result<bool, HostError> {
    for _ in 0..TRIES {
        let current = read_shared(key)?;
        let (value, cas) = match &current {
            Some((value, cas)) => (Some(value.as_slice()), *cas),
            None => (None, Cas::ABSENT),
        };
        let Some(next) = next(value) else { return Ok(false) };
        match write_shared(key, &next, cas) {
            Ok(()) => return Ok(true),
            Err(HostError::CAS_MISMATCH) => {}
            Err(error) => return Err(error),
        }
    }
    Err(HostError::CAS_MISMATCH)
}
