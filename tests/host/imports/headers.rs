//! Header and trailer maps.

use wasmi::Linker;
use wasmi::errors::LinkerError;

use super::play;
use crate::abi::MapKind;
use crate::guest::{Guest, Stop, bad_argument};
use crate::state::VmState;
use crate::{HeaderMap, Status, maps};

pub(super) fn link(linker: &mut Linker<VmState>) -> Result<(), LinkerError> {
    play!(linker, "env",
        proxy_get_header_map_pairs(kind, data_at, length_at);
        proxy_set_header_map_pairs(kind, data, length);
        proxy_get_header_map_value(kind, name, name_length, data_at, length_at);
        proxy_add_header_map_value(kind, name, name_length, value, value_length);
        proxy_replace_header_map_value(kind, name, name_length, value, value_length);
        proxy_remove_header_map_value(kind, name, name_length);
    );
    Ok(())
}

fn proxy_get_header_map_pairs(guest: &mut Guest<'_>, kind: u32, data_at: u32, length_at: u32) -> Result<(), Stop> {
    let kind = kind_of(kind)?;
    let map = guest.state().map(kind);
    if map.is_none() {
        // Envoy answers with no headers at all, which reads like an empty request.
        guest.complain(Status::Ok, out_of_reach(kind));
        return guest.give(&[], data_at, length_at);
    }
    let wire = map.filter(|map| !map.is_empty()).map(maps::encode).unwrap_or_default();
    guest.give(&wire, data_at, length_at)
}

fn proxy_set_header_map_pairs(guest: &mut Guest<'_>, kind: u32, data: u32, length: u32) -> Result<(), Stop> {
    let wire = guest.read(data, length)?;
    let Some(map) = maps::decode(&wire) else {
        return Err(bad_argument("a header map that cannot be read"));
    };
    for (_, value) in map.iter() {
        check_value(guest, value);
    }
    change(guest, kind, |headers| *headers = map)
}

fn proxy_get_header_map_value(
    guest: &mut Guest<'_>,
    kind: u32,
    name: u32,
    name_length: u32,
    data_at: u32,
    length_at: u32,
) -> Result<(), Stop> {
    let kind = kind_of(kind)?;
    let name = guest.read(name, name_length)?;
    let map = guest
        .state()
        .map(kind)
        .ok_or_else(|| bad_argument(format!("{} ({})", out_of_reach(kind), String::from_utf8_lossy(&name))))?;
    let value = map.get(&name).ok_or(Status::NotFound)?.to_vec();
    guest.give(&value, data_at, length_at)
}

fn proxy_add_header_map_value(
    guest: &mut Guest<'_>,
    kind: u32,
    name: u32,
    name_length: u32,
    value: u32,
    value_length: u32,
) -> Result<(), Stop> {
    let name = guest.read(name, name_length)?;
    let value = guest.read(value, value_length)?;
    check_value(guest, &value);
    change(guest, kind, |headers| headers.add(name, value))
}

fn proxy_replace_header_map_value(
    guest: &mut Guest<'_>,
    kind: u32,
    name: u32,
    name_length: u32,
    value: u32,
    value_length: u32,
) -> Result<(), Stop> {
    let name = guest.read(name, name_length)?;
    let value = guest.read(value, value_length)?;
    check_value(guest, &value);
    change(guest, kind, |headers| headers.replace(name, value))
}

fn proxy_remove_header_map_value(guest: &mut Guest<'_>, kind: u32, name: u32, name_length: u32) -> Result<(), Stop> {
    let name = guest.read(name, name_length)?;
    change(guest, kind, |headers| headers.remove(name))
}

/// Changes a map; in this ABI a changed request header makes the proxy forget the route.
fn change(guest: &mut Guest<'_>, kind: u32, edit: impl FnOnce(&mut HeaderMap)) -> Result<(), Stop> {
    let kind = kind_of(kind)?;
    let state = guest.state_mut();
    let map = state.map_mut(kind).ok_or_else(|| bad_argument(out_of_reach(kind)))?;
    edit(map);
    if kind == MapKind::RequestHeaders
        && let Some(stream) = state.stream_mut()
    {
        stream.route_cache_clears += 1;
    }
    Ok(())
}

/// Envoy takes any bytes, and then answers 503 in place of the message that would carry them.
fn check_value(guest: &mut Guest<'_>, value: &[u8]) {
    if value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        guest.complain(Status::Ok, "a header value holds CR, LF or NUL".to_owned());
    }
}

fn kind_of(raw: u32) -> Result<MapKind, Stop> {
    MapKind::of(raw).ok_or_else(|| bad_argument(format!("there is no header map {raw}")))
}

fn out_of_reach(kind: MapKind) -> String {
    format!("{kind:?} are out of reach: their callback neither runs nor waits")
}
