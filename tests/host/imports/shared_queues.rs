//! Queues between VMs. Nobody is told of a new entry: whoever waits for one looks at its tick.

use std::collections::VecDeque;

use wasmi::Linker;
use wasmi::errors::LinkerError;

use super::play;
use crate::Status;
use crate::guest::{Guest, Stop, not_found};
use crate::process::Queue;
use crate::state::VmState;

pub(super) fn link(linker: &mut Linker<VmState>) -> Result<(), LinkerError> {
    play!(linker, "env",
        proxy_register_shared_queue(name, name_length, id_at);
        proxy_resolve_shared_queue(vm_id, vm_id_length, name, name_length, id_at);
        proxy_enqueue_shared_queue(id, value, value_length);
        proxy_dequeue_shared_queue(id, data_at, length_at);
    );
    Ok(())
}

fn proxy_register_shared_queue(guest: &mut Guest<'_>, name: u32, name_length: u32, id_at: u32) -> Result<(), Stop> {
    let name = guest.read(name, name_length)?;
    let vm_id = guest.state().plugin.vm_id.clone();
    let id = find(guest, &vm_id, &name).unwrap_or_else(|| {
        let mut process = guest.state().process.edit();
        process.queues.push(Queue { vm_id, name, entries: VecDeque::new() });
        process.queues.len() as u32
    });
    guest.write_u32(id_at, id)
}

fn proxy_resolve_shared_queue(
    guest: &mut Guest<'_>,
    vm_id: u32,
    vm_id_length: u32,
    name: u32,
    name_length: u32,
    id_at: u32,
) -> Result<(), Stop> {
    let mut vm_id = guest.read_text(vm_id, vm_id_length)?;
    if vm_id.is_empty() {
        vm_id.clone_from(&guest.state().plugin.vm_id);
    }
    let name = guest.read(name, name_length)?;
    let id = find(guest, &vm_id, &name).ok_or(Status::NotFound)?;
    guest.write_u32(id_at, id)
}

fn proxy_enqueue_shared_queue(guest: &mut Guest<'_>, id: u32, value: u32, value_length: u32) -> Result<(), Stop> {
    let value = guest.read(value, value_length)?;
    with_queue(guest, id, |queue| queue.entries.push_back(value))
}

fn proxy_dequeue_shared_queue(guest: &mut Guest<'_>, id: u32, data_at: u32, length_at: u32) -> Result<(), Stop> {
    let entry = with_queue(guest, id, |queue| queue.entries.pop_front())?;
    guest.give(&entry.ok_or(Status::Empty)?, data_at, length_at)
}

/// Queues are numbered from 1, in the order in which they were registered.
fn find(guest: &Guest<'_>, vm_id: &str, name: &[u8]) -> Option<u32> {
    let process = guest.state().process.read();
    let place = process.queues.iter().position(|queue| queue.vm_id == vm_id && queue.name == name);
    place.map(|place| place as u32 + 1)
}

fn with_queue<T>(guest: &Guest<'_>, id: u32, act: impl FnOnce(&mut Queue) -> T) -> Result<T, Stop> {
    let mut process = guest.state().process.edit();
    let place = (id as usize).checked_sub(1);
    match place.and_then(|place| process.queues.get_mut(place)) {
        Some(queue) => Ok(act(queue)),
        None => Err(not_found(format!("there is no shared queue {id}"))),
    }
}
