//! Header maps. Names and values are bytes: clients send what they like.

use super::raw;
use super::status::{HostError, check, receive};

/// Which map of the stream or call.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum Map {
    /// The request's headers; only while the request passes.
    Request = 0,
    /// The request's trailers.
    RequestTrailers = 1,
    /// The response's headers.
    Response = 2,
    /// The headers of an HTTP call's answer.
    CallResponse = 6,
}

/// All headers of a map, in one host call.
pub fn headers(map: Map) -> Result<HeaderMap, HostError> {
    // SAFETY: both pointers are valid for the call.
    receive(|data, size| unsafe { raw::proxy_get_header_map_pairs(map as u32, data, size) }).map(HeaderMap)
}

/// The first header of this name; `None` where there is none.
pub fn header(map: Map, name: &str) -> Result<Option<Vec<u8>>, HostError> {
    // SAFETY: all pointers are valid for the call.
    let value = receive(|data, size| unsafe {
        raw::proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), data, size)
    });
    match value {
        Ok(value) => Ok(Some(value)),
        Err(HostError::NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets the header, in place of any of its name.
pub fn set_header(map: Map, name: &str, value: &[u8]) -> Result<(), HostError> {
    // SAFETY: all pointers are valid for the call.
    check(unsafe {
        raw::proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

/// Adds a header beside others of its name.
pub fn add_header(map: Map, name: &str, value: &[u8]) -> Result<(), HostError> {
    // SAFETY: all pointers are valid for the call.
    check(unsafe {
        raw::proxy_add_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

/// Removes every header of this name.
pub fn remove_header(map: Map, name: &str) -> Result<(), HostError> {
    // SAFETY: all pointers are valid for the call.
    check(unsafe { raw::proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// Headers as the host hands them over, read in place:
/// a count, then the sizes of each name and value (32-bit little-endian), then the bytes, each with a NUL behind it.
#[derive(Debug, Default)]
pub struct HeaderMap(Vec<u8>);

impl HeaderMap {
    /// Every header in order. Ends early where the buffer is shorter than it says.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let count = number(&self.0, 0).unwrap_or(0);
        let mut sizes = 4;
        let mut at = count.saturating_mul(8).saturating_add(4);
        std::iter::from_fn(move || {
            if sizes / 8 >= count {
                return None;
            }
            let name = self.text(&mut at, number(&self.0, sizes)?)?;
            let value = self.text(&mut at, number(&self.0, sizes + 4)?)?;
            sizes += 8;
            Some((name, value))
        })
    }

    fn text(&self, at: &mut usize, size: usize) -> Option<&[u8]> {
        let end = at.checked_add(size)?;
        let text = self.0.get(*at..end)?;
        *at = end.checked_add(1)?;
        Some(text)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*four)).ok()
}
