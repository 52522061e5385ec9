//! Bodies and configurations.

use wasmi::Linker;
use wasmi::errors::LinkerError;

use super::play;
use crate::Status;
use crate::abi::BufferKind;
use crate::guest::{Guest, Stop, bad_argument};
use crate::state::VmState;

pub(super) fn link(linker: &mut Linker<VmState>) -> Result<(), LinkerError> {
    play!(linker, "env",
        proxy_get_buffer_bytes(kind, start, length, data_at, length_at);
        proxy_set_buffer_bytes(kind, start, length, data, data_length);
    );
    Ok(())
}

fn proxy_get_buffer_bytes(
    guest: &mut Guest<'_>,
    kind: u32,
    start: u32,
    length: u32,
    data_at: u32,
    length_at: u32,
) -> Result<(), Stop> {
    let kind = kind_of(kind)?;
    let end = start.checked_add(length).ok_or_else(|| bad_argument("start + length overflows"))?;
    let buffer = guest.state().buffer(kind).ok_or(Status::NotFound)?;
    // Reading past the end is fine, and gives what there is.
    let end = buffer.len().min(end as usize);
    let bytes = buffer.get(start as usize..end).unwrap_or_default().to_vec();
    guest.give(&bytes, data_at, length_at)
}

fn proxy_set_buffer_bytes(
    guest: &mut Guest<'_>,
    kind: u32,
    start: u32,
    length: u32,
    data: u32,
    data_length: u32,
) -> Result<(), Stop> {
    let kind = kind_of(kind)?;
    let data = guest.read(data, data_length)?;
    let buffer = guest.state_mut().buffer_mut(kind).ok_or(Status::NotFound)?;
    let (start, length) = (start as usize, length as usize);
    // Envoy can only prepend, append, or replace the whole.
    if start == 0 && length == 0 {
        buffer.splice(0..0, data);
    } else if start == 0 && length >= buffer.len() {
        *buffer = data;
    } else if start >= buffer.len() {
        buffer.extend(data);
    } else {
        return Err(bad_argument("only the start, the end or all of a buffer can be written"));
    }
    Ok(())
}

fn kind_of(raw: u32) -> Result<BufferKind, Stop> {
    BufferKind::of(raw).ok_or_else(|| bad_argument(format!("there is no buffer {raw}")))
}
