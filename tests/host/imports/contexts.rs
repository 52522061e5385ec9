//! Whom the guest speaks for, its time, and its end.

use std::time::Duration;

use wasmi::Linker;
use wasmi::errors::LinkerError;

use super::play;
use crate::guest::{Guest, Stop, bad_argument, not_found};
use crate::state::{Deferred, VmState};

pub(super) fn link(linker: &mut Linker<VmState>) -> Result<(), LinkerError> {
    play!(linker, "env",
        proxy_set_effective_context(context);
        proxy_set_tick_period_milliseconds(period);
        proxy_get_current_time_nanoseconds(time_at);
        proxy_done();
    );
    Ok(())
}

fn proxy_set_effective_context(guest: &mut Guest<'_>, context: u32) -> Result<(), Stop> {
    let state = guest.state_mut();
    if !state.knows(context) {
        return Err(bad_argument(format!("there is no context {context}")));
    }
    state.effective = Some(context);
    Ok(())
}

fn proxy_set_tick_period_milliseconds(guest: &mut Guest<'_>, period: u32) -> Result<(), Stop> {
    let state = guest.state_mut();
    let root = state.root_id();
    if let Some(root) = state.roots.get_mut(&root) {
        root.tick_period = (period > 0).then(|| Duration::from_millis(period.into()));
    }
    Ok(())
}

fn proxy_get_current_time_nanoseconds(guest: &mut Guest<'_>, time_at: u32) -> Result<(), Stop> {
    let now = guest.state().process.now().as_nanos() as u64;
    guest.write(time_at, &now.to_le_bytes())
}

fn proxy_done(guest: &mut Guest<'_>) -> Result<(), Stop> {
    let state = guest.state_mut();
    let context = state.context();
    let root = state.roots.get_mut(&context).filter(|root| root.ending);
    let root = root.ok_or_else(|| not_found(format!("context {context} does not wait to end")))?;
    root.ending = false;
    state.deferred.push_back(Deferred::Delete { root: context });
    Ok(())
}
