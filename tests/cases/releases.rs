//! The snapshots and keys that the cases are about: one service in the phases of one release.

use std::collections::BTreeMap;
use std::time::Duration;

use colorfast_core::ids::{AssignmentId, Epoch, KeyId, RunId, ServiceName, Sid};
use colorfast_core::keys::{Ring, Secret, ServiceKeys};
use colorfast_core::release::Phase;
use colorfast_core::settings::AskWaitMs;
use colorfast_core::snapshot::{BundleRef, SlotSnapshot, Snapshot};
use colorfast_core::time::{UnixMillis, UnixSeconds};
use colorfast_core::token::pin::{Claims, Kind, Signer};
use colorfast_core::token::run;
use colorfast_core::weight::Weight;
use serde::Deserialize;

/// The log of every snapshot here, unless a case says otherwise.
pub const EPOCH: Epoch = Epoch(UnixMillis(1_767_000_000_000));
/// What runs in blue.
pub const BLUE: AssignmentId = AssignmentId(101);
/// What runs in green.
pub const GREEN: AssignmentId = AssignmentId(102);

/// A service by its name.
pub fn service(name: &str) -> ServiceName {
    name.parse().unwrap()
}

/// The key of `sid` of every service here.
const SID_KEY: [u8; 16] = [0x5d; 16];

/// The key of the application's runs.
const RUN_KEY: [u8; 32] = [0x3e; 32];

/// The run token of a run that began so many seconds ago on `bundle`.
pub fn run_token(began: UnixSeconds, bundle: &str, key: RunKey) -> String {
    let key = Secret::new(if key == RunKey::Own { RUN_KEY } else { [0xbe; 32] });
    let signer = run::Signer::of_application(KeyId(1), [(KeyId(1), &key)]).unwrap();
    signer.mint(&run::Claims { run: RunId(77), began, bundle: bundle.parse().unwrap() })
}

/// What a run token of the application says.
pub fn read_run(token: &[u8]) -> Option<run::Claims> {
    let key = Secret::new(RUN_KEY);
    let signer = run::Signer::of_application(KeyId(1), [(KeyId(1), &key)]).unwrap();
    signer.read(token).ok().map(|(claims, _)| claims)
}

/// Whose key signed a run token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKey {
    /// The application's.
    #[default]
    Own,
    /// Another application's, of the same id.
    Foreign,
}

/// The signing key of this id; another one where `forged`.
pub fn ring_key(id: KeyId, forger: Forger) -> Secret<32> {
    let own = if forger == Forger::Nobody { 0 } else { 0x80 };
    Secret::new([own | id.0 as u8; 32])
}

/// Who made a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forger {
    /// The sidecar: it is the real one.
    Nobody,
    /// Somebody who knows its id alone.
    Somebody,
}

/// The keys of a service whose ring holds these ids.
pub fn keys(ids: &[u16]) -> ServiceKeys {
    let ring = ids.iter().map(|id| (KeyId(*id), ring_key(KeyId(*id), Forger::Nobody))).collect();
    ServiceKeys { sid: Secret::new(SID_KEY), ring, runs: [(KeyId(1), Secret::new(RUN_KEY))].into() }
}

/// The keys as `COLORFAST_KEYS` has them.
pub fn environment_keys(name: &str) -> String {
    serde_json::to_string(&BTreeMap::from([(name, keys(&[1]))])).unwrap()
}

/// The signer of a service whose ring is key 1 alone.
pub fn signer(name: &str) -> Signer {
    Signer::new(&service(name), KeyId(1), [(KeyId(1), &ring_key(KeyId(1), Forger::Nobody))]).unwrap()
}

/// The pin of a session of `chat` that began now, names no id, and holds `assignment`.
pub fn free_pin(now: Duration, assignment: AssignmentId) -> String {
    let now = UnixSeconds(now.as_secs());
    signer("chat").mint(&Claims { kind: Kind::Free, sid: Sid(7), assignment, began: now, refreshed: now })
}

/// A snapshot of `chat` in which these are blue and green.
fn of(version: u64, slots: [SlotSnapshot; 2]) -> Snapshot {
    let mut snapshot = Snapshot { epoch: EPOCH, version, ..Snapshot::empty(service("chat")) };
    snapshot.ring = Some(Ring { signing: KeyId(1), verifying: vec![KeyId(1)] });
    snapshot.run_ring = snapshot.ring.clone();
    snapshot.newest_assignment = slots.iter().filter_map(|slot| slot.assignment).max();
    snapshot.slots = slots.to_vec();
    // There is no fleet, unless a case says so.
    snapshot.settings.memory.ask_wait_ms = AskWaitMs(0);
    snapshot
}

fn slot(name: &str, phase: Phase, weight: u32, assignment: AssignmentId, bundle: &str) -> SlotSnapshot {
    let mut slot = SlotSnapshot::idle(name.parse().unwrap());
    slot.phase = phase;
    slot.weight = Weight::try_from(weight).unwrap();
    slot.assignment = Some(assignment);
    slot.bundle = Some(BundleRef { id: bundle.parse().unwrap(), digest: None });
    slot
}

/// Before a release: blue is live, green is staged.
pub fn blue_live(version: u64) -> Snapshot {
    split(version, 0)
}

/// While ramping: green takes so many parts of the new sessions.
pub fn split(version: u64, green: u32) -> Snapshot {
    let phase = if green == 0 { Phase::Staged } else { Phase::Candidate };
    of(version, [slot("blue", Phase::Live, 10_000 - green, BLUE, "b-1"), slot("green", phase, green, GREEN, "g-1")])
}

/// After the switch: green is live, blue keeps its sessions.
pub fn green_live(version: u64) -> Snapshot {
    of(version, [slot("blue", Phase::Draining, 0, BLUE, "b-1"), slot("green", Phase::Live, 10_000, GREEN, "g-1")])
}

/// After a rollback that broke green: blue is live again.
pub fn rolled_back(version: u64) -> Snapshot {
    let broken = AssignmentId(GREEN.0 + 1);
    of(version, [slot("blue", Phase::Live, 10_000, BLUE, "b-1"), slot("green", Phase::Condemned, 0, broken, "g-1")])
}

/// Blue is live and its bundle is named after the version, so that a stamp tells which snapshot decided.
pub fn numbered(version: u64) -> Snapshot {
    of(
        version,
        [slot("blue", Phase::Live, 10_000, BLUE, &format!("v{version}")), SlotSnapshot::idle("green".parse().unwrap())],
    )
}

/// Nothing is live.
pub fn none_live(version: u64) -> Snapshot {
    of(version, [slot("blue", Phase::Staged, 0, BLUE, "b-1"), SlotSnapshot::idle("green".parse().unwrap())])
}

/// The same as a configuration holds it: of no log, and its keys in the environment if anywhere.
pub fn as_bootstrap(snapshot: Snapshot) -> Snapshot {
    Snapshot { epoch: Epoch::BOOTSTRAP, version: 0, ..snapshot }
}

/// The same for another service.
pub fn of_service(name: &str, snapshot: Snapshot) -> Snapshot {
    Snapshot { service: service(name), ..snapshot }
}
