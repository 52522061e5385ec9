//! As much of WASI preview 1 as Envoy plays: environment, clocks, random bytes, standard output.

use wasmi::Linker;
use wasmi::errors::LinkerError;

use super::play;
use crate::LogLevel;
use crate::guest::{Guest, Stop, Trap};
use crate::state::VmState;

const EBADF: i32 = 8;
const EINVAL: i32 = 28;
const ENOTSUP: i32 = 58;

pub(super) fn link(linker: &mut Linker<VmState>) -> Result<(), LinkerError> {
    play!(linker, "wasi_snapshot_preview1",
        args_sizes_get(count_at, size_at);
        args_get(pointers_at, data_at);
        environ_sizes_get(count_at, size_at);
        environ_get(pointers_at, data_at);
        clock_time_get(clock, precision, time_at);
        random_get(data_at, length);
        fd_write(fd, slices, count, written_at);
        fd_fdstat_get(fd, stat_at);
        fd_prestat_get(fd, stat_at);
        fd_close(fd);
        sched_yield();
    );
    linker.func_wrap("wasi_snapshot_preview1", "proc_exit", |caller: wasmi::Caller<'_, VmState>, code: u32| {
        Guest::answer(caller, "proc_exit", |_| Err(Trap::Exit(code).into())).map(drop)
    })?;
    Ok(())
}

fn args_sizes_get(guest: &mut Guest<'_>, count_at: u32, size_at: u32) -> Result<(), Stop> {
    guest.write_u32(count_at, 0)?;
    guest.write_u32(size_at, 0)
}

fn args_get(_: &mut Guest<'_>, _pointers_at: u32, _data_at: u32) -> Result<(), Stop> {
    Ok(())
}

/// `NAME=value` and a zero byte, for each variable.
fn environment(guest: &Guest<'_>) -> Vec<Vec<u8>> {
    let process = guest.state().process.read();
    process.environment.iter().map(|(name, value)| format!("{name}={value}\0").into_bytes()).collect()
}

fn environ_sizes_get(guest: &mut Guest<'_>, count_at: u32, size_at: u32) -> Result<(), Stop> {
    let variables = environment(guest);
    guest.write_u32(count_at, variables.len() as u32)?;
    guest.write_u32(size_at, variables.concat().len() as u32)
}

fn environ_get(guest: &mut Guest<'_>, mut pointers_at: u32, mut data_at: u32) -> Result<(), Stop> {
    for variable in environment(guest) {
        guest.write_u32(pointers_at, data_at)?;
        guest.write(data_at, &variable)?;
        pointers_at += 4;
        data_at += variable.len() as u32;
    }
    Ok(())
}

fn clock_time_get(guest: &mut Guest<'_>, clock: u32, _precision: u64, time_at: u32) -> Result<(), Stop> {
    let process = guest.state().process.clone();
    let time = match clock {
        0 => process.read().wall,
        1 => process.read().monotonic,
        _ => return Err(Stop::Errno(ENOTSUP)),
    };
    guest.write(time_at, &(time.as_nanos() as u64).to_le_bytes())
}

fn random_get(guest: &mut Guest<'_>, data_at: u32, length: u32) -> Result<(), Stop> {
    // As much as Envoy gives in one call.
    if length > 65_536 {
        return Err(Stop::Errno(EINVAL));
    }
    let bytes = guest.state().process.edit().entropy.bytes(length as usize);
    guest.write(data_at, &bytes)
}

fn fd_write(guest: &mut Guest<'_>, fd: u32, slices: u32, count: u32, written_at: u32) -> Result<(), Stop> {
    let level = match fd {
        1 => LogLevel::Info,
        2 => LogLevel::Error,
        _ => return Err(Stop::Errno(EBADF)),
    };
    let mut bytes = Vec::new();
    for slice in guest.read(slices, count.saturating_mul(8))?.as_chunks::<8>().0 {
        let [a, b, c, d, e, f, g, h] = *slice;
        let (data, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        bytes.extend(guest.read(data, length)?);
    }
    let written = bytes.len() as u32;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    guest.state_mut().log(level, text.to_owned());
    guest.write_u32(written_at, written)
}

/// Standard output and error may be written to, and that is all there is to them.
fn fd_fdstat_get(guest: &mut Guest<'_>, fd: u32, stat_at: u32) -> Result<(), Stop> {
    const RIGHT_TO_WRITE: u64 = 64;
    if fd != 1 && fd != 2 {
        return Err(Stop::Errno(EBADF));
    }
    guest.write(stat_at, &[0, RIGHT_TO_WRITE, 0].map(u64::to_le_bytes).concat())
}

/// There are no files.
fn fd_prestat_get(_: &mut Guest<'_>, _fd: u32, _stat_at: u32) -> Result<(), Stop> {
    Err(Stop::Errno(EBADF))
}

fn fd_close(_: &mut Guest<'_>, _fd: u32) -> Result<(), Stop> {
    Ok(())
}

fn sched_yield(_: &mut Guest<'_>) -> Result<(), Stop> {
    Ok(())
}
