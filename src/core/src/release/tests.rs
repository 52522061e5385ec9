//! The table of transitions, case by case, and what holds after any history.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::bundle::Manifest;
use crate::ids::{AssignmentId, Epoch, KeyId, ServiceName, SlotName};
use crate::plan::Plan;
use crate::settings::ServiceSettings;
use crate::time::UnixMillis;
use crate::weight::Weight;

const GENESIS: u64 = 1_700_000_000_000;

fn service() -> ServiceName {
    "chat".parse().unwrap()
}

fn slot(name: &str) -> SlotName {
    name.parse().unwrap()
}

mod asking;
mod deadlines;
mod restored;
mod rotation;
mod runs;

/// Members that have acknowledged everything up to a version.
#[derive(Debug)]
struct Have(u64);

impl Acknowledgements for Have {
    fn lacking(&self, version: u64) -> Vec<String> {
        if version > self.0 { vec!["edge/1".to_owned()] } else { Vec::new() }
    }
}

/// A log and its state, driven by verbs.
#[derive(Debug, Clone)]
struct Story {
    log: Vec<Entry>,
    state: State,
    now: UnixMillis,
    /// Milliseconds from one verb to the next.
    pace: u64,
}

impl Story {
    fn begin() -> Self {
        let mut story = Self { log: Vec::new(), state: State::default(), now: UnixMillis(GENESIS), pace: 1_000 };
        story.append(None, Event::Genesis { epoch: Epoch(story.now), restored: None });
        let slots = ["blue", "green", "red"].map(slot).to_vec();
        let settings = ServiceSettings { slots, ..ServiceSettings::default() };
        story.does(Verb::Apply { settings: Box::new(settings.into()) });
        for id in ["v1", "v2", "v3"] {
            let manifest = format!(r#"{{"code":"{id}","model":"m","prompts":"p"}}"#);
            let manifest: Manifest = serde_json::from_str(&manifest).unwrap();
            story.does(Verb::AddBundle { id: id.parse().unwrap(), manifest });
        }
        story
    }

    /// The usual beginning: blue is live with v1, green is staged with v2.
    fn two_bundles() -> Self {
        let mut story = Self::begin();
        story.does(stage("blue", "v1"));
        story.does(switch("blue"));
        story.does(stage("green", "v2"));
        story
    }

    fn append(&mut self, service: Option<ServiceName>, event: Event) {
        let seq = self.log.len() as u64 + 1;
        let entry =
            Entry { seq, schema: SCHEMA, at: self.now, service, principal: "operator".into(), key: None, event };
        self.state.apply(&entry).unwrap();
        self.log.push(entry);
    }

    fn tries(&mut self, verb: Verb) -> Result<(), Refusal> {
        self.now = self.now.plus_millis(self.pace);
        let at = Circumstances { now: self.now, acknowledgements: &(), serving: &(), holding: &() };
        if let Some(event) = self.state.check(&service(), &verb, &at)? {
            self.append(Some(service()), event);
        }
        Ok(())
    }

    fn does(&mut self, verb: Verb) {
        self.tries(verb).unwrap();
    }

    fn chat(&self) -> &ServiceState {
        &self.state.services[&service()]
    }

    fn chat_mut(&mut self) -> &mut ServiceState {
        self.state.services.get_mut(&service()).unwrap()
    }

    fn slot(&self, name: &str) -> &SlotState {
        &self.chat().slots[&slot(name)]
    }

    fn phases(&self) -> [Phase; 3] {
        ["blue", "green", "red"].map(|name| self.slot(name).phase)
    }

    fn honoured(&self) -> BTreeSet<AssignmentId> {
        let slots = self.chat().slots.values().filter(|slot| slot.phase.honours_pins());
        slots.filter_map(|slot| slot.assignment).collect()
    }
}

fn stage(name: &str, bundle: &str) -> Verb {
    Verb::Stage { slot: slot(name), bundle: bundle.parse().unwrap() }
}

fn ramp(name: &str, parts: u32) -> Verb {
    Verb::Ramp { slot: slot(name), weight: Weight::try_from(parts).unwrap(), force: None }
}

fn switch(name: &str) -> Verb {
    Verb::Switch { slot: slot(name), force: None }
}

fn rollback(to: Option<&str>, pins: Pins) -> Verb {
    Verb::Rollback { to: to.map(slot), pins, force: None }
}

fn recycle(name: &str, reason: Option<&str>) -> Verb {
    Verb::Recycle { slot: slot(name), force: reason.map(|reason| Force { reason: reason.to_owned() }) }
}

/// The design's table of transitions: each verb from each phase, to the phase it says or to a refusal.
#[test]
fn every_verb_from_every_phase() {
    use Phase::*;
    let verbs: [(&str, Verb); 8] = [
        ("stage", stage("green", "v3")),
        ("ramp", ramp("green", 1_000)),
        ("ramp 0", ramp("green", 0)),
        ("abort", Verb::Abort { slot: slot("green"), pins: Pins::Keep }),
        ("switch", switch("green")),
        ("migrate", Verb::Migrate { slot: slot("green") }),
        ("recycle", recycle("green", None)),
        ("recycle --force", recycle("green", Some("drill"))),
    ];
    let rows: [(Phase, [Result<Phase, &str>; 8]); 6] = [
        (Idle, [Ok(Staged), WRONG, WRONG, WRONG, WRONG, WRONG, WRONG, WRONG]),
        (Staged, [WRONG, Ok(Candidate), WRONG, WRONG, Ok(Live), WRONG, Ok(Idle), Ok(Idle)]),
        (Candidate, [WRONG, Ok(Candidate), Ok(Draining), Ok(Draining), Ok(Live), WRONG, WRONG, WRONG]),
        (Live, [WRONG, WRONG, WRONG, WRONG, Err("already-live"), WRONG, WRONG, WRONG]),
        (Draining, [WRONG, WRONG, WRONG, WRONG, Ok(Live), Ok(Condemned), Ok(Idle), Ok(Idle)]),
        (Condemned, [WRONG, WRONG, WRONG, WRONG, WRONG, WRONG, Ok(Idle), Ok(Idle)]),
    ];
    const WRONG: Result<Phase, &str> = Err("wrong-phase");
    for (phase, outcomes) in rows {
        for ((name, verb), outcome) in verbs.iter().zip(outcomes) {
            let mut story = green_in(phase);
            let before = story.state.clone();
            match story.tries(verb.clone()) {
                Ok(()) => assert_eq!(Ok(story.slot("green").phase), outcome, "{name} from {phase}"),
                Err(refusal) => {
                    assert_eq!(Err(refusal.code()), outcome, "{name} from {phase}: {refusal}");
                    assert_eq!(story.state, before, "{name} from {phase} was refused, yet changed something");
                }
            }
        }
    }
}

/// Blue is or was live; green is in `phase`.
fn green_in(phase: Phase) -> Story {
    let mut story = Story::two_bundles();
    match phase {
        Phase::Idle => story.does(recycle("green", None)),
        Phase::Staged => {}
        Phase::Candidate => story.does(ramp("green", 500)),
        Phase::Live => story.does(switch("green")),
        Phase::Draining => {
            story.does(ramp("green", 500));
            story.does(ramp("green", 0));
        }
        Phase::Condemned => {
            story.does(ramp("green", 500));
            story.does(rollback(None, Pins::Break));
        }
    }
    assert_eq!(story.slot("green").phase, phase);
    story
}

/// A ramp splits between live and candidates, never beyond everything, and never without a live slot.
#[test]
fn ramps_share_what_live_takes() {
    let mut story = Story::begin();
    story.does(stage("green", "v2"));
    assert_eq!(story.tries(ramp("green", 1)).unwrap_err().code(), "nothing-live");
    let mut story = Story::two_bundles();
    story.does(ramp("green", 2_500));
    story.does(stage("red", "v3"));
    story.does(ramp("red", 7_500));
    assert_eq!(["blue", "green", "red"].map(|name| story.slot(name).weight.parts()), [0, 2_500, 7_500]);
    assert_eq!(story.tries(ramp("green", 2_501)).unwrap_err().code(), "weight-over-all");
    story.does(ramp("red", 0));
    assert_eq!(["blue", "green", "red"].map(|name| story.slot(name).weight.parts()), [7_500, 2_500, 0]);
}

/// A rollback in a ramp condemns the candidates and leaves live alone; one after a switch steps back by the log.
#[test]
fn rollback_steps_back() {
    use Phase::*;
    let mut story = Story::two_bundles();
    story.does(ramp("green", 1_000));
    story.does(rollback(None, Pins::Break));
    assert_eq!(story.phases(), [Live, Condemned, Idle]);

    let mut story = Story::two_bundles();
    story.does(switch("green"));
    story.does(rollback(None, Pins::Break));
    assert_eq!(story.phases(), [Live, Condemned, Idle]);
    assert_eq!(story.tries(rollback(None, Pins::Break)).unwrap_err().code(), "no-way-back");

    let mut story = Story::two_bundles();
    story.does(switch("green"));
    story.does(stage("red", "v3"));
    story.does(switch("red"));
    assert_eq!(story.phases(), [Draining, Draining, Live]);
    story.does(rollback(None, Pins::Keep));
    assert_eq!(story.phases(), [Draining, Live, Draining]);
    story.does(rollback(None, Pins::Keep));
    assert_eq!(story.phases(), [Live, Draining, Draining]);
    story.does(switch("red"));
    story.does(rollback(Some("green"), Pins::Break));
    assert_eq!(story.phases(), [Draining, Live, Condemned]);
}

/// A rollback out of a ramp does not forget what was live before live.
#[test]
fn ramps_do_not_cut_the_way_back() {
    let mut story = Story::two_bundles();
    story.does(switch("green"));
    story.does(switch("blue"));
    story.does(stage("red", "v3"));
    story.does(ramp("red", 100));
    story.does(rollback(None, Pins::Break));
    story.does(rollback(None, Pins::Keep));
    assert_eq!(story.slot("green").phase, Phase::Live);
}

/// A slot that was staged anew since it was live is another thing: stepping to it leaves the way back as it was.
#[test]
fn the_way_back_is_by_assignment() {
    let mut story = Story::begin();
    for (name, bundle) in [("red", "v1"), ("blue", "v2")] {
        story.does(stage(name, bundle));
        story.does(switch(name));
    }
    story.does(recycle("red", Some("drill")));
    story.does(stage("green", "v3"));
    story.does(switch("green"));
    story.does(stage("red", "v1"));
    story.does(rollback(Some("red"), Pins::Keep));
    story.does(rollback(None, Pins::Keep));
    assert_eq!(story.slot("blue").phase, Phase::Live);
}

/// A way back that is gone is refused with what became of it.
#[test]
fn rollback_refuses_what_cannot_serve() {
    let mut story = Story::two_bundles();
    story.does(switch("green"));
    story.does(Verb::Migrate { slot: slot("blue") });
    assert!(story.tries(rollback(None, Pins::Break)).unwrap_err().to_string().contains("it is condemned"));
    story.does(recycle("blue", None));
    assert!(story.tries(rollback(None, Pins::Break)).unwrap_err().to_string().contains("it was recycled"));
    assert_eq!(story.tries(rollback(Some("blue"), Pins::Break)).unwrap_err().code(), "wrong-phase");
    story.does(stage("blue", "v1"));
    assert!(story.tries(rollback(None, Pins::Break)).unwrap_err().to_string().contains("staged anew"));
    story.does(rollback(Some("blue"), Pins::Break));
    assert_eq!(story.slot("blue").phase, Phase::Live);
}

/// Assignments: a broken one stays broken after recycle and stage of the same bundle, in this slot and in a third.
#[test]
fn broken_assignments_never_come_back() {
    let mut story = Story::two_bundles();
    story.does(switch("green"));
    let broken = story.slot("green").assignment.unwrap();
    story.does(rollback(None, Pins::Break));
    assert!(!story.honoured().contains(&broken));
    story.does(recycle("green", None));
    story.does(stage("green", "v2"));
    story.does(stage("red", "v2"));
    story.does(switch("green"));
    story.does(ramp("red", 5_000));
    assert!(!story.honoured().contains(&broken));
}

/// A slot that was live is a rollback target until its quarantine is over; a word of force is kept in the log.
#[test]
fn quarantine_keeps_the_way_back() {
    let mut story = Story::two_bundles();
    story.does(switch("green"));
    assert_eq!(story.tries(recycle("blue", None)).unwrap_err().code(), "quarantine");
    story.now = story.now.plus_millis(3_600_000);
    assert!(story.clone().tries(recycle("blue", None)).is_ok());
    assert_eq!(story.tries(recycle("blue", Some(" "))).unwrap_err().code(), "invalid-field");
    story.does(recycle("blue", Some("load test ended")));
    let last = &story.log.last().unwrap().event;
    assert!(matches!(last, Event::Recycled { force: Some(force), .. } if force.reason == "load test ended"));
}

/// What holds every slot.
#[derive(Debug)]
struct Holds(Held);

impl Holding for Holds {
    fn of(&self, _: &SlotName, _: &SlotState) -> Held {
        self.0.clone()
    }
}

/// Accounted: a slot is freed only when nothing is in it, each thing named with its end; sessions count while their pins
/// hold, requests and runs in every phase; a word of force goes over all of it.
#[test]
fn slots_that_are_held_are_not_freed() {
    let until = Some(UnixMillis(GENESIS + 1));
    let sessions =
        |sessions, issued, in_flight| Held { sessions, issued, in_flight, sessions_until: until, ..Held::default() };
    let runs = |runs| Held { runs, runs_until: until, ..Held::default() };
    let unheard = Held { unheard: vec!["edge/1".to_owned()], ..Held::default() };
    let ended = "until 1700000000001 (Unix ms): wait";
    let cases = [
        (runs(2), Some(("runs-hold", format!("green is held by 2 runs {ended}"))), true),
        (runs(1), Some(("runs-hold", format!("green is held by a run {ended}"))), true),
        (sessions(0, 0, 2), Some(("slot-held", "green still has 2 requests under way: wait".to_owned())), true),
        (sessions(1, 0, 0), Some(("slot-held", format!("green still has 1 session {ended}"))), false),
        (
            sessions(12, 1, 1),
            Some((
                "slot-held",
                format!(
                    "green still has 12 sessions, 1 session that has not come back yet, 1 request under way {ended}"
                ),
            )),
            true,
        ),
        (unheard, Some(("not-accounted", "green may still hold sessions: edge/1 has not reported".to_owned())), false),
        (Held::default(), None, false),
    ];
    for (held, wanted, in_every_phase) in cases {
        for phase in [Phase::Staged, Phase::Draining, Phase::Condemned] {
            let story = green_in(phase);
            let tries = |reason| {
                let holding = &Holds(held.clone());
                let at = Circumstances { now: story.now, acknowledgements: &(), serving: &(), holding };
                story.state.check(&service(), &recycle("green", reason), &at)
            };
            assert!(tries(Some("they hang")).is_ok());
            // Nobody was ever sent to what was staged alone.
            let is_unheard = !held.unheard.is_empty() && phase != Phase::Staged;
            let counts = in_every_phase || is_unheard || phase == Phase::Draining;
            match (tries(None), wanted.as_ref().filter(|_| counts)) {
                (Ok(Some(_)), None) => {}
                (Err(refusal), Some((code, says))) => {
                    assert_eq!(refusal.code(), *code, "{phase}");
                    let said = refusal.to_string();
                    assert!(phase != Phase::Draining || said.starts_with(says.as_str()), "{said}");
                }
                (found, _) => panic!("{found:?}, but {wanted:?} was wanted of {held:?} in {phase}"),
            }
        }
    }
}

/// Accounted: where nobody tells what a slot holds, none that has had sessions is freed without a word of force.
#[test]
fn offline_slots_are_freed_by_force_alone() {
    let offline = Held { reach: Reach::Offline, ..Held::default() };
    for (phase, is_freed) in [(Phase::Staged, true), (Phase::Draining, false), (Phase::Condemned, false)] {
        let story = green_in(phase);
        let tries = |reason| {
            let holding = &Holds(offline.clone());
            let at = Circumstances { now: story.now, acknowledgements: &(), serving: &(), holding };
            story.state.check(&service(), &recycle("green", reason), &at)
        };
        assert!(tries(Some("its upstream is gone")).is_ok());
        let freed = tries(None);
        assert_eq!(freed.is_ok(), is_freed, "{phase}");
        assert!(freed.err().is_none_or(|refusal| refusal.code() == "not-accounted"), "{phase}");
    }
}

/// Weight goes to no assignment that a member does not know yet; a step back never waits for that.
#[test]
fn weight_waits_for_acknowledgement() {
    #[derive(Debug)]
    struct Behind(u64);
    impl Acknowledgements for Behind {
        fn lacking(&self, version: u64) -> Vec<String> {
            if version > self.0 { vec!["gateway/1".to_owned()] } else { Vec::new() }
        }
    }
    let mut story = Story::two_bundles();
    let staged = story.slot("green").introduced;
    assert_eq!(staged, story.chat().version);
    let check = |story: &Story, verb: Verb, known: u64| {
        let at = Circumstances { now: story.now, acknowledgements: &Behind(known), serving: &(), holding: &() };
        story.state.check(&service(), &verb, &at)
    };
    for verb in [ramp("green", 100), switch("green")] {
        let refusal = check(&story, verb.clone(), staged - 1).unwrap_err();
        assert_eq!(refusal.code(), "not-introduced");
        assert!(refusal.to_string().starts_with("gateway/1 has not acknowledged"), "{refusal}");
        assert!(check(&story, verb, staged).is_ok());
    }
    let to_staged = rollback(Some("green"), Pins::Keep);
    assert_eq!(check(&story, to_staged.clone(), staged - 1).unwrap_err().code(), "not-introduced");
    assert!(check(&story, to_staged, staged).is_ok());
    story.does(switch("green"));
    assert!(check(&story, rollback(None, Pins::Break), 0).is_ok());
}

/// Sessions go to no slot whose agent runs another bundle or does not answer, in whatever way it was found out; what
/// takes sessions away is never held up, and a word of force goes over it and is kept in the log.
#[test]
fn slots_that_cannot_serve_are_given_no_sessions() {
    /// What was seen of one slot, under its assignment alone.
    #[derive(Debug)]
    struct Seen(SlotName, AssignmentId, Observed);
    impl Serving for Seen {
        fn of(&self, slot: &SlotName, assignment: AssignmentId) -> Observed {
            if (slot, assignment) == (&self.0, self.1) { self.2.clone() } else { Observed::default() }
        }
    }
    let lately = |answered, unavailable| Observed { answered, unavailable, ..Observed::default() };
    let runs = |found: &str, times| Some(Mismatch { found: found.to_owned(), times });
    let served = || Some(ProbeOutcome::Served);
    let failed = || Some(ProbeOutcome::Failed("no answer".to_owned()));
    let other = || Some(ProbeOutcome::Mismatched("v9".to_owned()));
    let cases = [
        (lately(0, 0), None),
        (lately(100, 10), None),
        (lately(11, 89), None),
        (lately(10, 90), Some(("cannot-serve", "90 of 100 requests"))),
        (lately(0, 1), Some(("cannot-serve", "1 of 1 requests"))),
        (Observed { probe: served(), ..lately(0, 9) }, None),
        (Observed { probe: failed(), ..lately(9, 0) }, Some(("cannot-serve", "a probe failed: no answer"))),
        (Observed { probe: other(), ..lately(9, 0) }, Some(("attestation-mismatch", "it runs v9 (1 of"))),
        (Observed { mismatch: runs("v7", 3), ..lately(9, 0) }, Some(("attestation-mismatch", "it runs v7 (3 of"))),
        (
            Observed { mismatch: runs("v7", 3), probe: served(), ..lately(9, 0) },
            Some(("attestation-mismatch", "staged with v2, but its agent says that it runs v7")),
        ),
    ];
    let force = || Some(Force { reason: "the probe lies".to_owned() });
    for (observed, wanted) in cases {
        let check = |story: &Story, name: &str, verb: Verb| {
            let assignment = story.slot(name).assignment.unwrap();
            let serving = &Seen(slot(name), assignment, observed.clone());
            story.state.check(
                &service(),
                &verb,
                &Circumstances { now: story.now, acknowledgements: &(), serving, holding: &() },
            )
        };
        let staged = Story::two_bundles();
        let mut switched = staged.clone();
        switched.does(switch("green"));
        switched.does(switch("blue"));
        // Green drains in it, and is the way back.
        let to_green = |force| Verb::Rollback { to: None, pins: Pins::Break, force };
        let ramped = |force| Verb::Ramp { slot: slot("green"), weight: Weight::ALL, force };
        let switched_to = |force| Verb::Switch { slot: slot("green"), force };
        type Forced<'a> = &'a dyn Fn(Option<Force>) -> Verb;
        let verbs: [(&Story, Forced<'_>); 3] = [(&staged, &ramped), (&staged, &switched_to), (&switched, &to_green)];
        for (story, verb) in verbs {
            match (check(story, "green", verb(None)), wanted) {
                (Ok(Some(_)), None) => {}
                (Err(refusal), Some((code, says))) => {
                    assert_eq!(refusal.code(), code, "{refusal}");
                    assert!(refusal.to_string().contains(says), "{refusal}");
                }
                (found, _) => panic!("{found:?}, but {wanted:?} was wanted of {observed:?}"),
            }
            let event = check(story, "green", verb(force())).unwrap().unwrap();
            let kept = serde_json::to_value(&event).unwrap()["force"]["reason"].clone();
            assert_eq!(kept, "the probe lies", "{event:?}");
        }
        // Steps back: less weight, and out of a ramp to what is live already.
        let mut ramping = staged.clone();
        ramping.does(ramp("green", 5_000));
        assert!(check(&ramping, "green", ramp("green", 4_999)).is_ok());
        assert!(check(&ramping, "green", ramp("green", 0)).is_ok());
        assert!(check(&ramping, "blue", rollback(None, Pins::Break)).is_ok());
        assert_eq!(check(&ramping, "green", ramp("green", 5_001)).is_err(), wanted.is_some());
    }
    let nothing = Verb::Switch { slot: slot("green"), force: Some(Force { reason: " ".to_owned() }) };
    assert_eq!(Story::two_bundles().tries(nothing).unwrap_err().code(), "invalid-field");
}

/// Bundles are immutable: the same parts again change nothing, other parts under the id are refused.
#[test]
fn bundles_never_change() {
    let mut story = Story::begin();
    let version = story.chat().version;
    let add = |code: &str| Verb::AddBundle {
        id: "v1".parse().unwrap(),
        manifest: serde_json::from_str(&format!(r#"{{"code":"{code}","model":"m","prompts":"p"}}"#)).unwrap(),
    };
    story.does(add("v1"));
    assert_eq!(story.chat().version, version);
    assert_eq!(story.tries(add("other")).unwrap_err().code(), "bundle-exists");
}

/// Settings cannot drop a slot in use, and a slot that they drop and name again is idle.
#[test]
fn settings_keep_slots_in_use() {
    let mut story = Story::two_bundles();
    let apply = |slots: &[&str]| Verb::Apply {
        settings: Box::new(
            ServiceSettings { slots: slots.iter().map(|name| slot(name)).collect(), ..Default::default() }.into(),
        ),
    };
    let refusal = story.tries(apply(&["blue", "red"])).unwrap_err();
    assert_eq!(refusal.to_string(), "settings.slots: lacks green, which is staged: recycle it first");
    story.does(apply(&["green", "blue"]));
    story.does(apply(&["green", "blue", "red"]));
    assert_eq!(story.phases(), [Phase::Live, Phase::Staged, Phase::Idle]);
    let bad = Verb::Apply { settings: Box::new(ServiceSettings { slots: Vec::new(), ..Default::default() }.into()) };
    assert!(story.tries(bad).unwrap_err().to_string().starts_with("settings.slots: has 0"));
}

/// What enters the log is the expanded settings, and the preset's name and version beside them; proxies are given the
/// settings alone. Another version of the same settings is a change, the same one is none.
#[test]
fn presets_enter_the_log_expanded() {
    let mut story = Story::two_bundles();
    let apply = |json: &str| Verb::Apply { settings: serde_json::from_str(json).unwrap() };
    story.does(apply(r#"{"preset":"mcp","pin":{"cookie":"never"}}"#));
    let event = story.log.last().unwrap().event.clone();
    let written = serde_json::to_value(&event).unwrap();
    assert_eq!(written["preset"], "mcp/1");
    assert_eq!(written["settings"]["session_sources"][0]["header"], "mcp-session-id");
    assert_eq!(written["settings"]["pin"]["cookie"], "never");
    assert_eq!(written["settings"].get("preset"), None);
    assert_eq!(serde_json::from_value::<Event>(written).unwrap(), event);

    let snapshot = serde_json::to_value(story.state.snapshot(&service()).unwrap()).unwrap();
    assert!(!snapshot.to_string().contains("preset"), "{snapshot}");
    assert_eq!(story.chat().preset.as_ref().unwrap().as_str(), "mcp/1");
    let entries = story.log.len();
    story.does(apply(r#"{"preset":"mcp/1","pin":{"cookie":"never"}}"#));
    assert_eq!(story.log.len(), entries);
    let bare = serde_json::to_string(&story.chat().settings).unwrap();
    story.does(apply(&bare));
    assert_eq!(story.chat().preset, None);
}

fn any_verb() -> impl Strategy<Value = Verb> {
    let slot = || prop_oneof![Just("blue"), Just("green"), Just("red")];
    let pins = || prop_oneof![Just(Pins::Keep), Just(Pins::Break)];
    let bundle = prop_oneof![Just("v1"), Just("v2"), Just("v3")];
    prop_oneof![
        3 => (slot(), bundle).prop_map(|(slot, bundle)| stage(slot, bundle)),
        3 => (slot(), 0..=10_000u32).prop_map(|(slot, parts)| ramp(slot, parts)),
        3 => slot().prop_map(switch),
        2 => (proptest::option::of(slot()), pins()).prop_map(|(to, pins)| rollback(to, pins)),
        1 => (slot(), pins()).prop_map(|(name, pins)| Verb::Abort { slot: name.parse().unwrap(), pins }),
        1 => slot().prop_map(|name| Verb::Migrate { slot: name.parse().unwrap() }),
        2 => slot().prop_map(|slot| recycle(slot, Some("any"))),
        1 => slot().prop_map(|slot| recycle(slot, None)),
        1 => Just(Verb::RotateKeys),
        3 => Just(Verb::TurnKeys),
        1 => Just(Verb::Settle),
        1 => (1..9u16).prop_map(|key| Verb::RetireKey { key: KeyId(key), force: None }),
    ]
}

proptest! {
    /// After any history: a snapshot that every proxy takes, one live slot from the first on, assignments that only
    /// count up, and no broken one ever honoured again.
    #[test]
    fn any_history_keeps_the_rules(verbs in proptest::collection::vec(any_verb(), 1..60)) {
        let mut story = Story::begin();
        let mut ever: BTreeSet<AssignmentId> = BTreeSet::new();
        let mut ended: BTreeSet<AssignmentId> = BTreeSet::new();
        let mut was_live = false;
        for verb in verbs {
            let before = story.state.clone();
            let refused = story.tries(verb).is_err();
            prop_assert!(!refused || story.state == before);
            let snapshot = story.state.snapshot(&service()).unwrap();
            prop_assert!(Plan::compile(&snapshot, None).is_ok(), "{:?}", Plan::compile(&snapshot, None));
            was_live |= story.chat().live().is_some();
            prop_assert_eq!(story.chat().live().is_some(), was_live);
            let honoured = story.honoured();
            prop_assert!(honoured.is_disjoint(&ended), "a broken assignment came back");
            let current: BTreeSet<_> = story.chat().slots.values().filter_map(|slot| slot.assignment).collect();
            for fresh in current.difference(&ever) {
                prop_assert!(ever.last().is_none_or(|newest| fresh > newest));
            }
            ended.extend(ever.difference(&current));
            ever.extend(current);
        }
        // The state is a pure fold: the log alone makes it again.
        let mut again = State::default();
        story.log.iter().for_each(|entry| again.apply(entry).unwrap());
        prop_assert_eq!(again, story.state);
    }
}

/// A log that was not written by these rules is refused with the entry, and changes nothing.
#[test]
fn a_fold_refuses_what_cannot_follow() {
    let story = Story::two_bundles();
    let entry = |seq: u64, service: Option<ServiceName>, event: Event| Entry {
        seq,
        schema: SCHEMA,
        at: story.now,
        service,
        principal: "operator".into(),
        key: None,
        event,
    };
    let next = story.state.head + 1;
    let run_key = |key, step| Event::RunKeyMoved { key: KeyId(key), step, force: None };
    let staged = |assignment| Event::Staged {
        slot: slot("red"),
        bundle: "v3".parse().unwrap(),
        assignment: AssignmentId(assignment),
    };
    let cases = [
        (entry(next + 1, Some(service()), staged(u64::MAX)), "its number does not follow"),
        (entry(next, Some("other".parse().unwrap()), staged(u64::MAX)), "there is no such service"),
        (entry(next, Some(service()), staged(1)), "assignments must count up"),
        (entry(next, None, Event::Genesis { epoch: Epoch(story.now), restored: None }), "it has no place here"),
        (entry(next, Some(service()), run_key(2, KeyStep::Added)), "it has no place here"),
        (entry(next, None, run_key(1, KeyStep::Added)), "keys must count up"),
        (entry(next, None, run_key(1, KeyStep::Retired)), "the key does no such thing now"),
        (
            entry(next, Some(service()), Event::Ramped { slot: slot("pink"), weight: Weight::ALL, force: None }),
            "there is no such slot",
        ),
    ];
    for (entry, cause) in cases {
        let mut state = story.state.clone();
        assert_eq!(state.apply(&entry).unwrap_err().cause, cause);
        assert_eq!(state, story.state);
    }
}
