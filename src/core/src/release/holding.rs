//! What still holds a slot, so that it cannot be recycled.

use std::fmt;

use crate::ids::{BundleId, SlotName};
use crate::release::state::SlotState;
use crate::time::UnixMillis;

/// Who holds the slots of a service.
pub trait Holding: fmt::Debug {
    /// What holds `slot` while it runs `bundle`.
    fn of(&self, slot: &SlotName, bundle: &BundleId) -> Held;
}

impl SlotState {
    /// What holds this slot, which is called `name`.
    pub fn held(&self, name: &SlotName, holding: &dyn Holding) -> Held {
        self.bundle.as_ref().map_or_else(Held::default, |bundle| holding.of(name, bundle))
    }
}

/// Nobody holds anything.
impl Holding for () {
    fn of(&self, _: &SlotName, _: &BundleId) -> Held {
        Held::default()
    }
}

/// What holds one slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Runs that hold it by a lease, though no request of theirs may ever come.
    pub runs: u64,
    /// When the last of these leases ends, unless it is renewed.
    pub runs_until: Option<UnixMillis>,
}
