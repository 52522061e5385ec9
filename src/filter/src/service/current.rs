//! What a worker decides by at a time.

use std::rc::Rc;

use colorfast_core::plan::{Plan, SlotIndex, SlotSet};
use colorfast_core::settings::OnSlotDown;
use colorfast_core::time::UnixMillis;

use crate::metrics::RequestCounters;
use crate::slots::health::{Watch, Watches};

/// A plan, what is counted under it, and what is seen of its slots.
#[derive(Debug)]
pub struct Current {
    /// The plan.
    pub plan: Plan,
    /// The counters of its slots.
    pub counters: RequestCounters,
    watches: Vec<Option<Rc<Watch>>>,
}

impl Current {
    /// What `plan` brings, with the watches that its slots have.
    pub fn new(plan: Plan, watches: &Watches) -> Rc<Self> {
        Rc::new(Self { counters: RequestCounters::new(&plan), watches: watches.of(&plan), plan })
    }

    /// The watch on a slot; none where nothing runs in it, or a hand-written snapshot names no assignment.
    pub fn watch(&self, slot: SlotIndex) -> Option<&Watch> {
        self.watches.get(usize::from(slot.0))?.as_deref()
    }

    /// The slots that are down, where the settings have their sessions go on elsewhere.
    pub fn down(&self, now: UnixMillis) -> SlotSet {
        let mut down = SlotSet::default();
        if self.plan.settings.on_slot_down == OnSlotDown::Reassign {
            let is_down = |slot| self.watch(slot).is_some_and(|watch| watch.is_down(now));
            for (slot, _) in self.plan.slots().filter(|(slot, _)| is_down(*slot)) {
                down = down.with(slot);
            }
        }
        down
    }
}
