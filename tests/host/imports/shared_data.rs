//! Data that all VMs of one id share.

use wasmi::Linker;
use wasmi::errors::LinkerError;

use super::play;
use crate::Status;
use crate::guest::{Guest, Stop};
use crate::state::VmState;

pub(super) fn link(linker: &mut Linker<VmState>) -> Result<(), LinkerError> {
    play!(linker, "env",
        proxy_get_shared_data(key, key_length, data_at, length_at, cas_at);
        proxy_set_shared_data(key, key_length, value, value_length, cas);
    );
    Ok(())
}

fn proxy_get_shared_data(
    guest: &mut Guest<'_>,
    key: u32,
    key_length: u32,
    data_at: u32,
    length_at: u32,
    cas_at: u32,
) -> Result<(), Stop> {
    let key = guest.read(key, key_length)?;
    let state = guest.state();
    let found =
        state.process.read().shared_data.get(&state.plugin.vm_id, &key).map(|(value, cas)| (value.to_vec(), cas));
    state.process.edit().shared_data.was_read(&state.plugin.vm_id, &key);
    let (value, cas) = found.ok_or(Status::NotFound)?;
    guest.give(&value, data_at, length_at)?;
    guest.write_u32(cas_at, cas)
}

fn proxy_set_shared_data(
    guest: &mut Guest<'_>,
    key: u32,
    key_length: u32,
    value: u32,
    value_length: u32,
    cas: u32,
) -> Result<(), Stop> {
    let key = guest.read(key, key_length)?;
    let value = guest.read(value, value_length)?;
    let state = guest.state();
    let done = state.process.edit().shared_data.set(&state.plugin.vm_id, &key, &value, cas);
    Ok(done?)
}
