//! Functions that Envoy offers beside the ABI.

use wasmi::Linker;
use wasmi::errors::LinkerError;

use super::play;
use crate::ForeignCall;
use crate::guest::{Guest, Stop, not_found};
use crate::state::VmState;

pub(super) fn link(linker: &mut Linker<VmState>) -> Result<(), LinkerError> {
    play!(linker, "env",
        proxy_call_foreign_function(name, name_length, arguments, arguments_length, data_at, length_at);
    );
    Ok(())
}

fn proxy_call_foreign_function(
    guest: &mut Guest<'_>,
    name: u32,
    name_length: u32,
    arguments: u32,
    arguments_length: u32,
    data_at: u32,
    length_at: u32,
) -> Result<(), Stop> {
    let name = guest.read_text(name, name_length)?;
    let arguments = guest.read(arguments, arguments_length)?;
    let state = guest.state_mut();
    match name.as_str() {
        "declare_property" => {}
        "clear_route_cache" => {
            if let Some(stream) = state.stream_mut() {
                stream.route_cache_clears += 1;
            }
        }
        _ => return Err(not_found(format!("there is no foreign function {name}"))),
    }
    let context = state.context();
    state.foreign_calls.push(ForeignCall { name, arguments, context });
    guest.give(&[], data_at, length_at)
}
