//! Buffers: bodies and configurations.

use super::raw;
use super::status::{HostError, receive};

/// Which buffer.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum Buffer {
    /// The body of the stream's request, as far as the host holds it.
    RequestBody = 0,
    /// The piece of the response's body that is passing.
    ResponseBody = 1,
    /// The body of an HTTP call's answer.
    CallResponse = 4,
    /// The configuration of the plugin.
    PluginConfiguration = 7,
}

/// What stands in a buffer from `start` on, `size` bytes at most; nothing where it is not there.
pub fn buffer(buffer: Buffer, start: usize, size: usize) -> Result<Vec<u8>, HostError> {
    // SAFETY: both pointers are valid for the call.
    match receive(|data, length| unsafe { raw::proxy_get_buffer_bytes(buffer as u32, start, size, data, length) }) {
        Err(HostError::NOT_FOUND) => Ok(Vec::new()),
        bytes => bytes,
    }
}

/// The body of the request of the running callback: `size` bytes of it, from `start` on.
pub fn request_body(start: usize, size: usize) -> Result<Vec<u8>, HostError> {
    buffer(Buffer::RequestBody, start, size)
}

/// What is passing of the response's body, with what is held of it: up to `size` bytes from `start` on.
pub fn response_piece(start: usize, size: usize) -> Result<Vec<u8>, HostError> {
    buffer(Buffer::ResponseBody, start, size)
}
