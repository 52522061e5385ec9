//! Why a request goes where it goes: the filter's own decision, with what every rule said of it.

mod ask;
mod spans;
mod watcher;

use serde::{Deserialize, Serialize};

pub use self::ask::{HeaderLine, Request};

use self::watcher::Watcher;
use crate::decide::{Need, NeedSet, PinAction, PlacedBy, Reason, Step, View, Way, decide_watched};
use crate::ids::{BundleId, ServiceName, Sid, SlotName};
use crate::memory::Remembered;
use crate::plan::Plan;
use crate::seen::{self, Seen};
use crate::settings::Sessionless;
use crate::time::UnixMillis;
use crate::weight::Weight;

/// Where a request goes, and what every rule said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Explanation {
    /// The service.
    pub service: ServiceName,
    /// The snapshot that was decided by, `<epoch>.<version>`.
    pub version: String,
    /// The time that was decided for.
    pub at: UnixMillis,
    /// Where the request goes.
    pub outcome: Outcome,
    /// Every rule in order.
    pub rules: Vec<RuleSaid>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "WhyOutcome"))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// Always there.
    Slot {
        /// The slot.
        slot: SlotName,
        /// The bundle in it.
        bundle: Option<BundleId>,
        /// The rule that chose it.
        reason: Reason,
    },
    /// To one of these, by chance.
    Chance {
        /// The slots that take new sessions.
        shares: Vec<Share>,
        /// The rule.
        reason: Reason,
    },
    /// Back to the client with 409: the bundle of its session is gone.
    Gone,
    /// Back to the client with 404: its session has ended.
    Ended,
    /// To the default route, without a stamp: no slot is live.
    Unrouted,
}

/// What one slot takes of the requests that chance places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Share {
    /// The slot.
    pub slot: SlotName,
    /// The bundle in it.
    pub bundle: Option<BundleId>,
    /// Its weight.
    pub weight: Weight,
}

/// What one rule said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RuleSaid {
    /// The rule.
    pub rule: Reason,
    /// Whether it chose.
    pub verdict: Verdict,
    /// Why, or why not.
    pub said: String,
}

/// Whether a rule chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It did.
    Applied,
    /// It could not.
    DidNotApply,
    /// One before it did.
    NotAsked,
}

/// What is known of the memory of sessions.
pub enum Recall<'a> {
    /// This, by the keyed hash of the session id.
    Fleet(&'a dyn Fn(Sid) -> Option<Remembered>),
    /// Nothing: it is asked for a time for which nobody has kept it.
    Unknown,
}

/// Decides for `request` by `plan` as the filter would at `now`, and tells what every rule said.
///
/// What the filter would wait for is taken as not to be had.
pub fn explain(plan: &Plan, request: &Request, now: UnixMillis, recall: &Recall<'_>) -> Explanation {
    let headers = request.headers_for(plan);
    let mut seen = Seen::read(headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice())), plan);
    if let Some(id) = request.session_for(plan) {
        seen.session_id = Some(id.into());
    }
    let address = request.client_address.as_ref().map(|address| address.clone().into_bytes());
    let client = address
        .filter(|_| plan.settings.sessionless == Sessionless::Client && seen.session_id.is_none())
        .map(|address| seen::client(address, seen.user_agent));
    let mut watcher = Watcher::new(plan, now.seconds(), matches!(recall, Recall::Fleet(_)));
    let (mut without, mut memory) = (NeedSet::default(), None);
    let decision = loop {
        // Which slots are down is each worker's own to know.
        let view = View { memory, without, ..seen.view(client.as_deref()) };
        // A draw decides only where the outcome is told as chance.
        match decide_watched(plan, &view, now, 0, &mut watcher) {
            Step::Decided(decision) => break decision,
            Step::Needs(need) => {
                if let (Need::Memory(id), Recall::Fleet(recall)) = (need, recall) {
                    memory = recall(id);
                }
                without = without.with(need);
            }
        }
    };
    let chosen = decision.chosen.and_then(|chosen| Some((plan.slot(chosen.slot)?, chosen.reason)));
    let outcome = match chosen {
        None if decision.way == Way::Gone => Outcome::Gone,
        None if decision.way == Way::Ended => Outcome::Ended,
        None => Outcome::Unrouted,
        Some((_, reason)) if watcher.placed_by() == Some(PlacedBy::Draw) && plan.takers() > 1 => {
            Outcome::Chance { shares: shares(plan), reason }
        }
        Some((slot, reason)) => Outcome::Slot {
            slot: slot.name.clone(),
            bundle: slot.bundle.as_ref().map(|bundle| bundle.id.clone()),
            reason,
        },
    };
    let mut notes = request.notes(plan, &seen, client.is_some());
    if matches!(decision.pin, PinAction::Issue(_)) {
        notes.push("the answer of the agent hands out a pin".to_owned());
    }
    Explanation {
        service: plan.service.clone(),
        version: plan.version.to_string(),
        at: now,
        rules: watcher.rules(decision.way, chosen.map(|(_, reason)| reason), &seen),
        outcome,
        notes,
    }
}

fn shares(plan: &Plan) -> Vec<Share> {
    let takes = plan.slots().filter(|(_, slot)| slot.weight.takes_sessions());
    takes
        .map(|(_, slot)| Share {
            slot: slot.name.clone(),
            bundle: slot.bundle.as_ref().map(|bundle| bundle.id.clone()),
            weight: slot.weight,
        })
        .collect()
}

#[cfg(test)]
mod tests;
