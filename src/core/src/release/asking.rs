//! When proxies ask the fleet after sessions, and tell it those that they know: before weight moves, until one slot alone
//! holds sessions; and before a slot is freed.

use crate::ids::ServiceName;
use crate::release::check::Circumstances;
use crate::release::event::Event;
use crate::release::holding::{Held, Reach};
use crate::release::phase::Phase;
use crate::release::refusal::Refusal;
use crate::release::state::{ServiceState, State};
use crate::release::verb::Verb;

/// For so long after weight has moved, proxies ask on whatever they have reported: not all of it may have come.
const LINGER_MILLIS: u64 = 60_000;

impl State {
    /// What comes before `verb`, as an event to append: weight moves to a slot only once proxies ask the fleet and have
    /// told it what they know, and a slot is freed only once they have told whom it holds. `None` where that would do
    /// nothing, or has been done.
    ///
    /// # Errors
    /// Says why the verb is refused.
    pub fn prepare(
        &self,
        service: &ServiceName,
        verb: &Verb,
        at: &Circumstances<'_>,
    ) -> Result<Option<Event>, Refusal> {
        let (Some(event), Some(state)) = (self.check(service, verb, at)?, self.services.get(service)) else {
            return Ok(None);
        };
        let (slot, prepares) = match event {
            Event::Ramped { slot, .. } | Event::Switched { slot, .. } => {
                let asks = state.settings.memory.ask_wait_ms.0 > 0 && state.live().is_some();
                (slot, asks && state.prepared().is_none())
            }
            // Each time: sessions may have come back, and requests begun, since the last. What was staged alone has had none.
            Event::Recycled { slot, force: None } => {
                let held = state.slots.get(&slot).is_some_and(|slot| slot.phase != Phase::Staged);
                (slot, held)
            }
            _ => return Ok(None),
        };
        Ok(prepares.then_some(Event::Prepared { slot }))
    }
}

/// Whether proxies ask though one slot alone holds sessions, as far as anybody knows.
pub fn settled(state: &ServiceState, at: &Circumstances<'_>) -> bool {
    let over = |since| at.now.since(since) >= LINGER_MILLIS;
    let holders = || state.slots.iter().filter(|(_, slot)| slot.phase.honours_pins());
    state.asking.is_some_and(|asking| over(asking.since))
        && holders().all(|(_, slot)| over(slot.since))
        && holders().filter(|(_, slot)| slot.phase != Phase::Live).all(|(name, slot)| {
            let Held { sessions, issued, in_flight, unheard, runs, reach, .. } = at.holding.of(name, slot);
            let is_told = unheard.is_empty() && reach == Reach::Live;
            slot.phase == Phase::Draining && sessions + issued + in_flight + runs == 0 && is_told
        })
}
