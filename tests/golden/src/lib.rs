//! Golden decisions: what `decide` comes to for many requests under several plans, folded into one number a plan.
//!
//! Built twice, natively and for wasm32-wasip1. Were one target's logarithm a bit off, or one day's rules not those of
//! the day before, then some request would go to another slot and the number would change.
#![warn(missing_docs)]

use colorfast_core::decide::{Decision, Need, PinAction, Step, View, decide};
use colorfast_core::ids::{AssignmentId, Epoch, KeyId, ServiceName};
use colorfast_core::keys::{Ring, Secret, ServiceKeys};
use colorfast_core::plan::Plan;
use colorfast_core::release::Phase;
use colorfast_core::snapshot::{BundleRef, SlotSnapshot, Snapshot};
use colorfast_core::time::UnixMillis;
use colorfast_core::token::pin::Kind;
use colorfast_core::weight::Weight;

/// The weights of each plan's slots, the live one first: even and odd splits, the least weight, two to eight slots.
pub const PLANS: [&[u32]; 10] = [
    &[9_000, 1_000],
    &[7_500, 2_500],
    &[9_999, 1],
    &[5_000, 5_000],
    &[3_334, 3_333, 3_333],
    &[6_543, 2_111, 1_346],
    &[4_001, 2_999, 1_999, 1_001],
    &[2_000, 2_000, 2_000, 2_000, 2_000],
    &[1_429, 1_429, 1_429, 1_429, 1_428, 1_428, 1_428],
    &[9_301, 100, 99, 100, 100, 100, 100, 100],
];

const EPOCH: Epoch = Epoch(UnixMillis(1_767_225_600_000));
const NOW: UnixMillis = UnixMillis(1_767_312_000_000);
/// Long enough for every branch of the hash of session ids.
const ID_MAX: usize = 320;

/// [`digest`] as an export of the module: the plan by its index, and the requests by the first number and the count.
#[unsafe(no_mangle)]
pub extern "C" fn golden_digest(plan: u32, first: u64, count: u64) -> u64 {
    digest(PLANS[plan as usize], first..first + count)
}

/// Folds the decisions of these requests under a plan of these weights.
pub fn digest(weights: &[u32], requests: std::ops::Range<u64>) -> u64 {
    let plan = plan(weights);
    let mut id = [0; ID_MAX];
    requests.fold(0, |digest, number| {
        let draw = scatter(number);
        let length = fill(&mut id, draw);
        // Every fourth request names no session.
        let session_id = (!number.is_multiple_of(4)).then_some(&id[..length]);
        let mut view = View { session_id, ..View::default() };
        loop {
            match decide(&plan, &view, NOW, draw) {
                Step::Decided(decision) => return fold(digest, &decision),
                Step::Needs(need @ (Need::Memory(_) | Need::Fleet(..))) => view.without = view.without.with(need),
                Step::Needs(need) => unreachable!("nothing is lacking, yet it needs {need:?}"),
            }
        }
    })
}

fn fold(digest: u64, decision: &Decision) -> u64 {
    let (slot, reason) = decision.chosen.map_or((u64::MAX, 0), |chosen| (chosen.slot.0.into(), chosen.reason as u64));
    let pin = match decision.pin {
        PinAction::Keep => 0,
        PinAction::Issue(claims) => claims.sid.0 ^ claims.assignment.0 ^ u64::from(claims.kind == Kind::Bound),
    };
    [slot, reason, pin].iter().fold(digest, |digest, part| scatter(digest ^ part))
}

fn plan(weights: &[u32]) -> Plan {
    let service: ServiceName = "chat".parse().expect("a service name");
    let mut snapshot = Snapshot { epoch: EPOCH, version: 1, ..Snapshot::empty(service) };
    snapshot.ring = Some(Ring { signing: KeyId(1), verifying: vec![KeyId(1)] });
    snapshot.slots = weights.iter().enumerate().map(|(index, weight)| slot(index, *weight)).collect();
    snapshot.settings.slots = snapshot.slots.iter().map(|slot| slot.name.clone()).collect();
    snapshot.newest_assignment = snapshot.slots.iter().filter_map(|slot| slot.assignment).max();
    let keys = ServiceKeys {
        sid: Secret::new([0x5d; 16]),
        ring: [(KeyId(1), Secret::new([0x91; 32]))].into(),
        runs: [].into(),
    };
    Plan::compile(&snapshot, Some(&keys)).expect("a sound snapshot")
}

fn slot(index: usize, weight: u32) -> SlotSnapshot {
    let mut slot = SlotSnapshot::idle(format!("slot-{index}").parse().expect("a slot name"));
    slot.phase = if index == 0 { Phase::Live } else { Phase::Candidate };
    slot.weight = Weight::try_from(weight).expect("a weight");
    slot.assignment = Some(AssignmentId(1_767_225_600 + index as u64));
    slot.bundle = Some(BundleRef { id: format!("v{index}").parse().expect("a bundle id"), digest: None });
    slot
}

/// Writes a session id: mostly as long as people make them, now and then longer. Returns its length.
fn fill(id: &mut [u8; ID_MAX], seed: u64) -> usize {
    let length = if seed.is_multiple_of(64) { seed >> 32 } else { (seed >> 32) % 48 } as usize % ID_MAX + 1;
    for (index, bytes) in id[..length].chunks_mut(8).enumerate() {
        bytes.copy_from_slice(&scatter(seed ^ index as u64).to_le_bytes()[..bytes.len()]);
    }
    length
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the next number after `state`.
fn scatter(state: u64) -> u64 {
    let bits = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
