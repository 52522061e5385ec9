//! A pin whose last refresh is too long ago, streams that were open meanwhile, and how often a request is decided.

use super::*;
use crate::ids::{Epoch, KeyId};
use crate::keys::{Ring, Secret, ServiceKeys};
use crate::memory::{Certainty, Visits};
use crate::release::Phase;
use crate::snapshot::{BundleRef, SlotSnapshot, Snapshot};
use crate::time::UnixSeconds;
use crate::token::pin::{Claims, Kind};
use crate::weight::Weight;

const NOW: UnixMillis = UnixMillis(1_767_225_600_000);
const IDLE: u64 = 86_400;
const BLUE: AssignmentId = AssignmentId(101);
const GREEN: AssignmentId = AssignmentId(102);
const SLOT_OF_BLUE: SlotIndex = SlotIndex(0);

/// Whether the fleet is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    On,
    Off,
}

/// Blue drains, green is live.
fn plan(asking: Asking) -> Plan {
    let mut snapshot = Snapshot::empty("chat".parse().unwrap());
    (snapshot.epoch, snapshot.version) = (Epoch(UnixMillis(1_767_000_000_000)), 7);
    snapshot.flush = (asking == Asking::On).then_some(6);
    snapshot.ring = Some(Ring { signing: KeyId(1), verifying: vec![KeyId(1)] });
    let slot = |name: &str, phase, weight: u32, assignment| SlotSnapshot {
        phase,
        weight: Weight::try_from(weight).unwrap(),
        assignment: Some(assignment),
        bundle: Some(BundleRef { id: name.parse().unwrap(), digest: None }),
        ..SlotSnapshot::idle(name.parse().unwrap())
    };
    snapshot.slots = vec![slot("blue", Phase::Draining, 0, BLUE), slot("green", Phase::Live, 10_000, GREEN)];
    snapshot.newest_assignment = Some(GREEN);
    let ring = [(KeyId(1), Secret::new([1; 32]))].into();
    let keys = ServiceKeys { sid: Secret::new([2; 16]), ring, runs: Default::default() };
    Plan::compile(&snapshot, Some(&keys)).unwrap()
}

fn ago(seconds: u64) -> UnixSeconds {
    UnixSeconds(NOW.seconds().0 - seconds)
}

/// What the pin of a session on blue says that began two idle timeouts ago, and was refreshed one ago.
fn idle(kind: Kind) -> Claims {
    Claims { kind, sid: Sid(7), assignment: BLUE, began: ago(2 * IDLE), refreshed: ago(IDLE) }
}

/// The session of [`idle`], as it is remembered where it was seen a minute ago.
fn in_use() -> Remembered {
    Remembered { seen: ago(60), ..memory::of_pin(&idle(Kind::Free)) }
}

/// One step for a request that names no session and shows a pin of these claims, with what was found of its sid.
fn step(plan: &Plan, claims: Claims, known: Option<Remembered>, without: NeedSet) -> Step {
    let (token, mut pins) = (plan.mint(&claims).unwrap(), Pins::default());
    pins.add_cookie(token.as_bytes());
    let view = View { pins: Some(&pins), memory: known, without, ..View::default() };
    decide(plan, &view, NOW, 1)
}

fn looked() -> NeedSet {
    NeedSet::default().with(Need::Memory(Sid(7)))
}

/// Kept: the session of an idle pin is looked for under the pin's sid; one that a stream has kept in use goes on, and its
/// pin is re-issued as it was.
#[test]
fn a_stream_keeps_an_idle_pin() {
    let plan = plan(Asking::Off);
    for kind in [Kind::Free, Kind::Bound] {
        assert_eq!(step(&plan, idle(kind), None, NeedSet::default()), Step::Needs(Need::Memory(Sid(7))));
        let Step::Decided(decision) = step(&plan, idle(kind), Some(in_use()), looked()) else { panic!("no decision") };
        assert_eq!(decision.chosen, Some(Chosen { slot: SLOT_OF_BLUE, reason: Reason::Memory }));
        assert_eq!(decision.pin, PinAction::Issue(Claims { refreshed: NOW.seconds(), ..idle(kind) }));
    }
}

/// The session ends by idleness where nobody has seen it since, where memory has another one under its sid, and where it
/// is broken.
#[test]
fn an_idle_pin_alone_keeps_nothing() {
    let plan = plan(Asking::Off);
    let other = Remembered { sid: Sid(8), ..in_use() };
    let broken = Remembered { assignment: AssignmentId(99), ..in_use() };
    let too_long = Remembered { seen: ago(IDLE), ..in_use() };
    for known in [None, Some(other), Some(broken), Some(too_long)] {
        let Step::Decided(decision) = step(&plan, idle(Kind::Free), known, looked()) else { panic!("no decision") };
        assert_eq!(decision.chosen.map(|chosen| chosen.reason), Some(Reason::Random), "{known:?}");
        assert_ne!(decision.session.map(|session| session.sid), Some(Sid(7)), "{known:?}");
    }
}

/// Kept: another proxy may have the stream. While the fleet is asked, it is asked what it knows of the sid, and told what
/// the pin says.
#[test]
fn the_fleet_is_asked_after_an_idle_pin() {
    let plan = plan(Asking::On);
    let says = memory::of_pin(&idle(Kind::Free));
    let asks = Step::Needs(Need::Fleet(Sid(7), says));
    assert_eq!(step(&plan, idle(Kind::Free), None, looked()), asks);
    assert_eq!(step(&plan, idle(Kind::Free), Some(says), looked()), asks, "what is remembered here is idle, too");
    let heard = step(&plan, idle(Kind::Free), Some(in_use()), looked().with(Need::Fleet(Sid(7), says)));
    let Step::Decided(decision) = heard else { panic!("no decision") };
    assert_eq!(decision.chosen.map(|chosen| chosen.slot), Some(SLOT_OF_BLUE));
}

/// What an open stream comes to: its session is written down as seen, unless that stands there, another session has the
/// name, or it is over: broken, beyond its age, or gone on elsewhere.
#[test]
fn what_a_stream_comes_to() {
    let (plan, now) = (plan(Asking::Off), NOW.seconds());
    let session = Remembered { certainty: Certainty::Guess, visits: Visits::First, ..in_use() };
    let seen = Remembered { seen: now, visits: Visits::Returned, ..session };
    let fact = Remembered { certainty: Certainty::Fact, ..session };
    let writes = |what| InUse::Writes(SLOT_OF_BLUE, what);
    let moved = Remembered { assignment: GREEN, ..session };
    let table = [
        (None, writes(seen)),
        (Some(session), writes(seen)),
        (Some(fact), writes(Remembered { certainty: Certainty::Fact, ..seen })),
        (Some(seen), InUse::Holds(SLOT_OF_BLUE)),
        (Some(Remembered { sid: Sid(8), ..moved }), InUse::Holds(SLOT_OF_BLUE)),
        (Some(moved), InUse::Over),
    ];
    for (known, wanted) in table {
        assert_eq!(super::in_use(&plan, &session, known.as_ref(), now), wanted, "{known:?}");
    }
    for over in [
        Remembered { assignment: AssignmentId(99), ..session },
        Remembered { began: UnixSeconds(now.0 - u64::from(plan.settings.pin.max_age_seconds)), ..session },
    ] {
        assert_eq!(super::in_use(&plan, &over, None, now), InUse::Over, "{over:?}");
    }
}

/// How often a request is decided until it is, with what it needs fetched as the filter does: again once the fleet has
/// answered, on a view of its own.
fn runs(plan: &Plan, session_id: Option<&[u8]>, pins: Option<&Pins<'_>>, known: Option<Remembered>) -> usize {
    let fresh = || View { session_id, pins, ..View::default() };
    let (mut view, mut count, mut asked) = (fresh(), 0, NeedSet::default());
    loop {
        count += 1;
        match decide(plan, &view, NOW, 1) {
            Step::Decided(_) => return count,
            Step::Needs(need @ Need::Memory(_)) => (view.memory, view.without) = (known, view.without.with(need)),
            Step::Needs(need @ Need::Fleet(..)) if asked.contains(need) => view.without = view.without.with(need),
            Step::Needs(need @ Need::Fleet(..)) => (view, asked) = (fresh(), asked.with(need)),
            Step::Needs(need) => panic!("nothing is lacking, yet it needs {need:?}"),
        }
    }
}

/// Cheap: a request that its pin keeps is decided in one run, a remembered one in two, and one that asks the fleet in five.
/// A number that rises here is paid by every request; one that falls is to be written down.
#[test]
fn a_request_is_decided_in_these_runs() {
    let (off, on) = (plan(Asking::Off), plan(Asking::On));
    let sid = on.sid(b"alpha").unwrap();
    let claims = Claims { kind: Kind::Bound, sid, assignment: BLUE, began: ago(60), refreshed: ago(60) };
    let (token, mut pins) = (on.mint(&claims).unwrap(), Pins::default());
    pins.add_header(token.as_bytes());
    let known = Remembered { sid, ..in_use() };
    assert_eq!(runs(&on, Some(b"alpha"), Some(&pins), None), 1, "pin");
    assert_eq!(runs(&on, Some(b"alpha"), None, Some(known)), 2, "memory");
    assert_eq!(runs(&off, Some(b"alpha"), None, None), 2, "hash");
    assert_eq!(runs(&on, Some(b"alpha"), None, None), 5, "hash, once the fleet has been asked");
}
