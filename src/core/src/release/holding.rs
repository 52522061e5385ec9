//! What still holds a slot, so that it cannot be recycled.

use std::fmt;

use crate::ids::SlotName;
use crate::release::state::SlotState;
use crate::time::UnixMillis;

/// Who holds the slots of a service.
pub trait Holding: fmt::Debug {
    /// What holds the slot of this name, which is in this state.
    fn of(&self, slot: &SlotName, state: &SlotState) -> Held;
}

/// Nobody holds anything.
impl Holding for () {
    fn of(&self, _: &SlotName, _: &SlotState) -> Held {
        Held::default()
    }
}

/// Whether anybody can tell what holds a slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reach {
    /// Proxies report.
    #[default]
    Live,
    /// Nobody does: the log is kept where no proxy reports to.
    Offline,
}

/// What holds one slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Sessions that have come back at least once and are not idle.
    pub sessions: u64,
    /// Sessions that were handed out and may yet come back.
    pub issued: u64,
    /// Requests that are under way.
    pub in_flight: u64,
    /// When all of these sessions have ended, unless one comes back until then.
    pub sessions_until: Option<UnixMillis>,
    /// The members that have not reported lately: they may know of more.
    pub unheard: Vec<String>,
    /// Whether the numbers above say anything.
    pub reach: Reach,
    /// Runs that hold it by a lease, though no request of theirs may ever come.
    pub runs: u64,
    /// When the last of these leases ends, unless it is renewed.
    pub runs_until: Option<UnixMillis>,
}
