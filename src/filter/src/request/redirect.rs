//! What came before this pass of a request: the filter runs again after an internal redirect, and where it stands twice
//! in a filter chain, on a request that carries our own stamps.
//!
//! Filter state tells our stamps from a client's. What tells the two cases apart is `x-envoy-original-url`: Envoy sets it
//! at every redirect, and never within a chain. A client that sends it cannot change a decision: the pass that decides a
//! request which has it leaves filter state that a redirect drops, and so the next pass of the same chain knows all the
//! same. The ordinary request has neither stamps nor that header, and pays nothing for any of this.
//!
//! (Where another filter has Envoy run the chain anew without a redirect, as on-demand discovery does, that is taken for
//! a second filter, too: the decision stands as it must, and only what is said of the chain is wrong.)

use std::rc::Rc;

use colorfast_core::decide::Chosen;
use colorfast_core::decided::Decided;
use colorfast_core::names::{HEADER_ORIGINAL_URL, PROPERTY_DECIDED, PROPERTY_PASSED};
use colorfast_core::plan::Plan;
use colorfast_core::seen::Presence;

use crate::host::{self, HeaderMap, Map};
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
    /// A decision by another colorfast filter of the same chain: it stands, and so does all that it did.
    SameChain,
}

impl EarlierPass {
    /// Reads what an earlier pass has left. Asked for only where something stands under our names.
    pub fn read(headers: &HeaderMap, plan: &Plan, stamps: Presence) -> Self {
        let Some(decided) = stamps.is_present().then(decided).flatten() else { return Self::None };
        if is_same_chain(headers) {
            return Self::SameChain;
        }
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
            Self::None | Self::Elsewhere | Self::SameChain => None,
        }
    }
}

/// The filter state that outlasts an internal redirect, and that no client can set.
fn decided() -> Option<Decided> {
    String::from_utf8(host::property(&[PROPERTY_DECIDED])?).ok()?.parse().ok()
}

fn is_redirected(headers: &HeaderMap) -> bool {
    headers.iter().any(|(name, _)| name == HEADER_ORIGINAL_URL.as_bytes())
}

/// Whether a request that was decided before is still in the filter chain that decided it.
fn is_same_chain(headers: &HeaderMap) -> bool {
    !is_redirected(headers) || host::property(&[PROPERTY_PASSED]).is_some()
}

/// Notes that this chain has decided a request that was redirected, or says so of itself.
pub fn note_pass(headers: &HeaderMap) {
    if is_redirected(headers) {
        let _ = host::set_property(PROPERTY_PASSED, b"1");
    }
}

/// Takes our stamps off a request that an internal redirect has brought out of the services' reach.
pub fn clear_redirected(headers: &HeaderMap, plans: impl Iterator<Item = Rc<Current>>) {
    let Some(decided) = decided().filter(|_| !is_same_chain(headers)) else { return };
    for current in plans.filter(|current| current.plan.service == decided.service) {
        let settings = &current.plan.settings;
        for name in settings.headers.stamps().into_iter().chain(settings.part_headers.values()) {
            let _ = host::remove_header(Map::Request, name.as_str());
        }
    }
}
