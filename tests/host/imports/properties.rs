//! Properties and filter state.

use wasmi::Linker;
use wasmi::errors::LinkerError;

use super::play;
use crate::Status;
use crate::guest::{Guest, Stop, not_found};
use crate::state::VmState;

pub(super) fn link(linker: &mut Linker<VmState>) -> Result<(), LinkerError> {
    play!(linker, "env",
        proxy_get_property(path, path_length, data_at, length_at);
        proxy_set_property(path, path_length, value, value_length);
    );
    Ok(())
}

fn proxy_get_property(
    guest: &mut Guest<'_>,
    path: u32,
    path_length: u32,
    data_at: u32,
    length_at: u32,
) -> Result<(), Stop> {
    let path = guest.read(path, path_length)?;
    let state = guest.state();
    let of_stream = state.stream().and_then(|stream| {
        // What the guest set is found again by the first part of the path alone.
        let first = path.split(|byte| *byte == 0).next().unwrap_or_default();
        let set = stream.filter_state.get(first).map(Vec::as_slice);
        set.or_else(|| stream.properties.get(&path)).map(<[u8]>::to_vec)
    });
    let value =
        of_stream.or_else(|| state.process.read().properties.get(&path).map(<[u8]>::to_vec)).ok_or(Status::NotFound)?;
    guest.give(&value, data_at, length_at)
}

fn proxy_set_property(
    guest: &mut Guest<'_>,
    path: u32,
    path_length: u32,
    value: u32,
    value_length: u32,
) -> Result<(), Stop> {
    let path = guest.read(path, path_length)?;
    let value = guest.read(value, value_length)?;
    let context = guest.state().context();
    let stream = guest
        .state_mut()
        .stream_mut()
        .ok_or_else(|| not_found(format!("context {context} is no stream, so it has no filter state")))?;
    stream.filter_state.insert(path, value);
    Ok(())
}
