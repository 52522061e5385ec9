//! Metrics.

use wasmi::Linker;
use wasmi::errors::LinkerError;

use super::play;
use crate::guest::{Guest, Stop, bad_argument, not_found};
use crate::metrics::MetricKind;
use crate::state::VmState;

pub(super) fn link(linker: &mut Linker<VmState>) -> Result<(), LinkerError> {
    play!(linker, "env",
        proxy_define_metric(kind, name, name_length, id_at);
        proxy_increment_metric(id, offset);
        proxy_record_metric(id, value);
        proxy_get_metric(id, value_at);
    );
    Ok(())
}

fn proxy_define_metric(guest: &mut Guest<'_>, kind: u32, name: u32, name_length: u32, id_at: u32) -> Result<(), Stop> {
    let name = guest.read_text(name, name_length)?;
    let kind =
        MetricKind::of(kind).ok_or_else(|| bad_argument(format!("there is no kind {kind} of metric ({name})")))?;
    let state = guest.state_mut();
    state.process.edit().metrics.define(kind, &name);
    let id = state.metric_ids.define(kind, &name);
    guest.write_u32(id_at, id)
}

fn proxy_increment_metric(guest: &mut Guest<'_>, id: u32, offset: i64) -> Result<(), Stop> {
    let (kind, name) = metric(guest, id)?;
    let done = guest.state().process.edit().metrics.increment(kind, &name, offset);
    done.map_err(|status| Stop::Refused(status, format!("a {kind:?} cannot be moved by {offset} ({name})")))
}

fn proxy_record_metric(guest: &mut Guest<'_>, id: u32, value: u64) -> Result<(), Stop> {
    let (kind, name) = metric(guest, id)?;
    guest.state().process.edit().metrics.record(kind, &name, value);
    Ok(())
}

fn proxy_get_metric(guest: &mut Guest<'_>, id: u32, value_at: u32) -> Result<(), Stop> {
    let (kind, name) = metric(guest, id)?;
    let value = guest.state().process.read().metrics.get(kind, &name);
    let value = value.map_err(|status| Stop::Refused(status, format!("a {kind:?} cannot be read ({name})")))?;
    guest.write(value_at, &value.to_le_bytes())
}

fn metric(guest: &Guest<'_>, id: u32) -> Result<(MetricKind, String), Stop> {
    let metric = guest.state().metric_ids.get(id);
    metric.ok_or_else(|| not_found(format!("this VM defined no metric {id}")))
}
