//! Metric ids by name: every name is defined once a VM, at its first use.

use std::cell::Cell;

use colorfast_core::decide::Reason;
use colorfast_core::ids::ServiceName;
use colorfast_core::names::metric;
use colorfast_core::plan::{Plan, SlotIndex};

use crate::cell::SharedCell;
use crate::host::{self, MetricKind};

/// The metrics of one VM, in order of their names: a table of hashes would cost the module kilobytes, and what counts at
/// each request has its id at hand.
#[derive(Debug, Default)]
pub struct Metrics(SharedCell<Vec<(String, u32)>>);

impl Metrics {
    /// Counts `by` more of `name`. Metrics are told best effort: a host that refuses one loses a number, no request.
    pub fn count(&self, name: &str, by: u32) {
        if let Some(id) = self.id(MetricKind::Counter, name) {
            let _ = host::increment(id, by);
        }
    }

    /// Sets the gauge `name`.
    pub fn gauge(&self, name: &str, value: u64) {
        if let Some(id) = self.id(MetricKind::Gauge, name) {
            let _ = host::record(id, value);
        }
    }

    fn id(&self, kind: MetricKind, name: &str) -> Option<u32> {
        self.0.with(|ids| match ids.binary_search_by(|(known, _)| known.as_str().cmp(name)) {
            Ok(place) => ids.get(place).map(|(_, id)| *id),
            Err(place) => {
                let id = host::define_metric(kind, name).ok()?;
                ids.insert(place, (name.to_owned(), id));
                Some(id)
            }
        })?
    }
}

/// The counters that every request touches, by slot and reason, with their ids at hand.
#[derive(Debug)]
pub struct RequestCounters {
    service: ServiceName,
    slots: Vec<[Cell<Option<u32>>; Reason::ALL.len()]>,
}

impl RequestCounters {
    /// Counters for every slot of `plan`.
    pub fn new(plan: &Plan) -> Self {
        let slots = plan.slots().map(|_| std::array::from_fn(|_| Cell::new(None))).collect();
        Self { service: plan.service.clone(), slots }
    }

    /// Counts one request.
    pub fn count(&self, metrics: &Metrics, plan: &Plan, slot: SlotIndex, reason: Reason) {
        let Some(cell) = self.slots.get(usize::from(slot.0)).and_then(|slot| slot.get(reason as usize)) else { return };
        let id = cell.get().or_else(|| {
            let slot = &plan.slot(slot)?.name;
            let name = match reason {
                Reason::Preview => metric::previews(&self.service, slot),
                _ => metric::requests(&self.service, slot, reason.as_str()),
            };
            metrics.id(MetricKind::Counter, &name)
        });
        cell.set(id);
        if let Some(id) = id {
            let _ = host::increment(id, 1);
        }
    }
}
