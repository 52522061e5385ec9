use super::*;
use crate::ids::{AssignmentId, Epoch, KeyId};
use crate::keys::{Ring, Secret, ServiceKeys};
use crate::release::Phase;
use crate::snapshot::{BundleRef, SlotSnapshot, Snapshot};
use crate::time::UnixSeconds;
use crate::token::pin::{Claims, Kind};
use crate::token::preview;

const NOW: UnixMillis = UnixMillis(1_767_225_600_000);
const DAY: u64 = 86_400;
/// The fleet remembers no session.
const NOTHING: Recall<'_> = Recall::Fleet(&|_| None);

fn keys() -> ServiceKeys {
    let ring = [(KeyId(1), Secret::new([1; 32]))].into();
    ServiceKeys { sid: Secret::new([2; 16]), ring, runs: [(KeyId(1), Secret::new([3; 32]))].into() }
}

/// Blue is live, green takes part of it, teal runs nothing.
fn plan(green: u32) -> Plan {
    let mut snapshot = Snapshot::empty("chat".parse().unwrap());
    snapshot.epoch = Epoch(UnixMillis(1_767_000_000_000));
    snapshot.version = 7;
    snapshot.flush = Some(6);
    let ring = Ring { signing: KeyId(1), verifying: vec![KeyId(1)] };
    (snapshot.ring, snapshot.run_ring) = (Some(ring.clone()), Some(ring));
    let slot = |name: &str, phase, weight: u32, assignment, bundle: &str| SlotSnapshot {
        phase,
        weight: Weight::try_from(weight).unwrap(),
        assignment: Some(AssignmentId(assignment)),
        bundle: Some(BundleRef { id: bundle.parse().unwrap(), digest: None }),
        ..SlotSnapshot::idle(name.parse().unwrap())
    };
    let phase = if green == 0 { Phase::Draining } else { Phase::Candidate };
    snapshot.slots = vec![
        slot("blue", Phase::Live, 10_000 - green, 101, "v1"),
        slot("green", phase, green, 102, "v2"),
        SlotSnapshot::idle("teal".parse().unwrap()),
    ];
    snapshot.newest_assignment = Some(AssignmentId(102));
    snapshot.settings.slots = snapshot.slots.iter().map(|slot| slot.name.clone()).collect();
    Plan::compile(&snapshot, Some(&keys())).unwrap()
}

fn pin(plan: &Plan, assignment: u64, began: u64, refreshed: u64) -> String {
    let ago = |seconds: u64| UnixSeconds(NOW.seconds().0 - seconds);
    let claims = Claims {
        kind: Kind::Free,
        sid: crate::ids::Sid(7),
        assignment: AssignmentId(assignment),
        began: ago(began),
        refreshed: ago(refreshed),
    };
    plan.mint(&claims).unwrap()
}

fn preview_token(plan: &Plan, slot: &str, ends_in: i64) -> String {
    let expires = UnixSeconds(NOW.seconds().0.saturating_add_signed(ends_in));
    plan.mint_preview(&preview::Claims { expires, slot: slot.parse().unwrap() }).unwrap()
}

fn header(name: &str, value: &str) -> HeaderLine {
    HeaderLine { name: name.to_owned(), value: value.to_owned() }
}

fn said(explained: &Explanation, rule: Reason) -> (Verdict, &str) {
    let of = explained.rules.iter().find(|said| said.rule == rule).unwrap();
    (of.verdict, &of.said)
}

/// Every rule says what it did, in the order of the rules, and those behind the one that chose were not asked.
#[test]
fn every_rule_says_one_thing() {
    let plan = plan(0);
    let request = Request { session: Some("alpha".into()), ..Request::default() };
    let explained = explain(&plan, &request, NOW, &NOTHING);
    let rules: Vec<_> = explained.rules.iter().map(|said| said.rule).collect();
    assert_eq!(rules, Reason::ALL);
    let wanted = [
        (Reason::Preview, Verdict::DidNotApply, "no token in x-agent-preview"),
        (Reason::Run, Verdict::DidNotApply, "no agent.run in the baggage"),
        (Reason::Pin, Verdict::DidNotApply, "no pin in x-agent-pin"),
        (Reason::Memory, Verdict::DidNotApply, "the fleet remembers no session of this id"),
        (Reason::Hash, Verdict::Applied, "the session id is placed by weight: blue 100% alone takes new sessions"),
        (Reason::Random, Verdict::NotAsked, "not asked"),
    ];
    for (rule, verdict, words) in wanted {
        let found = said(&explained, rule);
        assert!(found.0 == verdict && found.1.starts_with(words), "{rule}: {found:?}");
    }
    let (slot, bundle) = ("blue".parse().unwrap(), Some("v1".parse().unwrap()));
    assert_eq!(explained.outcome, Outcome::Slot { slot, bundle, reason: Reason::Hash });
    assert_eq!(explained.version, "1767000000000.7");
    assert_eq!(explained.notes, ["the answer of the agent hands out a pin"]);
}

/// A session whose bundle is gone is refused where the settings say so, by a broken pin alone, and no rule behind is asked.
#[test]
fn gone_sessions_are_refused_where_told_so() {
    let mut plan = plan(0);
    let (broken, old) = (pin(&plan, 99, 60, 60), pin(&plan, 99, 8 * DAY, 60));
    let ask = |plan: &Plan, pins: &[&String]| {
        let pins = pins.iter().map(|pin| (*pin).clone()).collect();
        explain(plan, &Request { session: Some("alpha".into()), pins, ..Request::default() }, NOW, &NOTHING)
    };
    assert_ne!(ask(&plan, &[&broken]).outcome, Outcome::Gone);
    plan.settings.on_bundle_gone = crate::settings::OnBundleGone::Refuse;
    let gone = ask(&plan, &[&broken]);
    assert_eq!(gone.outcome, Outcome::Gone);
    assert!(said(&gone, Reason::Pin).1.contains("which is broken or gone"), "{gone:?}");
    assert_eq!(said(&gone, Reason::Hash), (Verdict::NotAsked, "not asked"));
    for pins in [vec![], vec![&old], vec![&broken, &pin(&plan, 101, 60, 60)]] {
        assert_ne!(ask(&plan, &pins).outcome, Outcome::Gone, "{pins:?}");
    }
}

/// A pin that did not decide says why, with the numbers that a person would look up otherwise.
#[test]
fn refused_pins_say_why() {
    let plan = plan(0);
    let cases = [
        (pin(&plan, 102, 60, 60), "it names assignment 102, which green holds (free, began 1 min ago"),
        (pin(&plan, 102, 8 * DAY, 60), "expired since 1 day: its session began 8 days ago, and a pin holds 7 days"),
        (pin(&plan, 102, 2 * DAY, 2 * DAY), "idle for too long: it was refreshed 2 days ago, and a pin rests 1 day"),
        (pin(&plan, 99, 60, 60), "it names assignment 99, which is broken or gone: blue is at 101, green is at 102"),
        (pin(&plan, 103, 60, 60), "it names assignment 103, newer than any of this version (newest: 102)"),
        ("nonsense".to_owned(), "it is no such token"),
    ];
    for (pin, wanted) in cases {
        let request = Request { pins: vec![pin], ..Request::default() };
        let explained = explain(&plan, &request, NOW, &NOTHING);
        let (_, found) = said(&explained, Reason::Pin);
        assert!(found.contains(wanted), "{found}\nlacks {wanted}");
    }
}

/// A preview token says where it leads, or why it does not.
#[test]
fn previews_say_where_they_lead() {
    let plan = plan(0);
    let cases = [
        ("green", 3_600, Verdict::Applied, "the token names green, and ends in 1 h"),
        ("green", -60, Verdict::DidNotApply, "the token ended 1 min ago"),
        ("teal", 60, Verdict::DidNotApply, "the token names teal, which runs nothing"),
        ("green", 90_000, Verdict::DidNotApply, "the token is good for longer than any that is minted"),
    ];
    for (slot, ends_in, verdict, wanted) in cases {
        let token = preview_token(&plan, slot, ends_in);
        let request = Request { headers: vec![header("X-Agent-Preview", &token)], ..Request::default() };
        assert_eq!(said(&explain(&plan, &request, NOW, &NOTHING), Reason::Preview), (verdict, wanted));
    }
}

/// Chance is told as chance, with the weights; the hash with its scores; what a client makes up as dropped.
#[test]
fn chance_and_scores() {
    let plan = plan(2_500);
    let explained = explain(&plan, &Request::default(), NOW, &NOTHING);
    let Outcome::Chance { shares, reason: Reason::Random } = &explained.outcome else { panic!("{explained:?}") };
    assert_eq!(shares.len(), 2);
    assert_eq!(said(&explained, Reason::Random), (Verdict::Applied, "by chance and weight: blue 75%, green 25%"));
    let request = Request {
        headers: vec![header("x-agent-session", "a"), header("x-agent-slot", "green")],
        ..Request::default()
    };
    let explained = explain(&plan, &request, NOW, &NOTHING);
    let (_, scores) = said(&explained, Reason::Hash);
    assert!(scores.contains("blue scores ") && scores.ends_with("the highest wins"), "{scores}");
    assert!(explained.notes[0].contains("forged_headers"), "{:?}", explained.notes);
}

/// What the fleet remembers decides, and is told with its ages; what is not known is said to be so.
#[test]
fn memory_is_told() {
    let plan = plan(0);
    let ago = |seconds: u64| UnixSeconds(NOW.seconds().0 - seconds);
    let held = |assignment: u64, began: u64, seen: u64| Remembered {
        assignment: AssignmentId(assignment),
        sid: crate::ids::Sid(7),
        began: ago(began),
        seen: ago(seen),
        certainty: crate::memory::Certainty::Fact,
        visits: crate::memory::Visits::Returned,
    };
    let request = Request { session: Some("alpha".into()), ..Request::default() };
    let cases = [
        (
            held(102, 7_200, 60),
            Verdict::Applied,
            "the session holds assignment 102 (began 2 h ago, seen 1 min ago): green is at it",
        ),
        (held(99, 60, 60), Verdict::DidNotApply, "it is broken or gone: blue is at 101, green is at 102"),
        (held(102, 8 * DAY, 60), Verdict::DidNotApply, "it began longer ago than max-age"),
        (held(102, 2 * DAY, 2 * DAY), Verdict::DidNotApply, "it was idle for too long"),
        (held(103, 60, 60), Verdict::DidNotApply, "it is newer than any of this version"),
    ];
    for (session, verdict, words) in cases {
        let explained = explain(&plan, &request, NOW, &Recall::Fleet(&|_| Some(session)));
        let found = said(&explained, Reason::Memory);
        assert!(found.0 == verdict && found.1.ends_with(words), "{found:?}\nlacks {words}");
    }
    let explained = explain(&plan, &request, NOW, &Recall::Unknown);
    assert!(said(&explained, Reason::Memory).1.starts_with("what was remembered then is not known"));
}
