//! The proxy's log.

use wasmi::Linker;
use wasmi::errors::LinkerError;

use super::play;
use crate::LogLevel;
use crate::guest::{Guest, Stop, bad_argument};
use crate::state::VmState;

pub(super) fn link(linker: &mut Linker<VmState>) -> Result<(), LinkerError> {
    play!(linker, "env",
        proxy_log(level, text, length);
        proxy_get_log_level(level_at);
    );
    Ok(())
}

fn proxy_log(guest: &mut Guest<'_>, level: u32, text: u32, length: u32) -> Result<(), Stop> {
    let text = guest.read(text, length)?;
    let level = LogLevel::of(level).ok_or_else(|| bad_argument(format!("there is no log level {level}")))?;
    guest.state_mut().log(level, String::from_utf8_lossy(&text).into_owned());
    Ok(())
}

/// A proxy logs from info on unless told otherwise; this host keeps all lines all the same.
fn proxy_get_log_level(guest: &mut Guest<'_>, level_at: u32) -> Result<(), Stop> {
    guest.write_u32(level_at, LogLevel::Info as u32)
}
