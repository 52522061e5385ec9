//! What an internal redirect keeps: it runs the filter again, on a request that carries our own stamps.

use std::rc::Rc;

use colorfast_core::decide::Chosen;
use colorfast_core::decided::Decided;
use colorfast_core::names::PROPERTY_DECIDED;
use colorfast_core::plan::Plan;
use colorfast_core::seen::Presence;

use crate::host::{self, Map};
use crate::service::Current;

/// What came before this pass of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlierPass {
    /// Nothing: the client's request.
    None,
    /// This decision, which stands.
    Kept(Chosen),
    /// A decision of another service, or one that the plan knows no more: the stamps are ours, and of no use here.
    Elsewhere,
}

impl EarlierPass {
    /// Reads what an earlier pass has left. Asked for only where something stands under our names.
    pub fn read(plan: &Plan, stamps: Presence) -> Self {
        let Some(decided) = stamps.is_present().then(decided).flatten() else { return Self::None };
        let slot = plan.slots().find(|(_, slot)| {
            plan.service == decided.service
                && slot.name == decided.slot
                && slot.bundle.as_ref().is_some_and(|bundle| bundle.id == decided.bundle)
        });
        slot.map_or(Self::Elsewhere, |(slot, _)| Self::Kept(Chosen { slot, reason: decided.reason }))
    }

    /// The decision that stands.
    pub fn kept(self) -> Option<Chosen> {
        match self {
            Self::Kept(chosen) => Some(chosen),
            Self::None | Self::Elsewhere => None,
        }
    }
}

/// The filter state that outlasts an internal redirect, and that no client can set.
fn decided() -> Option<Decided> {
    String::from_utf8(host::property(&[PROPERTY_DECIDED])?).ok()?.parse().ok()
}

/// Takes our stamps off a request that an internal redirect has brought out of the services' reach.
pub fn clear_redirected(plans: impl Iterator<Item = Rc<Current>>) {
    let Some(decided) = decided() else { return };
    for current in plans.filter(|current| current.plan.service == decided.service) {
        let settings = &current.plan.settings;
        for name in settings.headers.stamps().into_iter().chain(settings.part_headers.values()) {
            let _ = host::remove_header(Map::Request, name.as_str());
        }
    }
}
