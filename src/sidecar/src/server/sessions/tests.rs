//! The fleet's memory, as proxies fill it and ask it.

mod model;

use std::collections::BTreeMap;

use colorfast_core::ids::AssignmentId;
use colorfast_core::memory::Certainty;
use colorfast_core::names::{DISCOVERY_PATH, REPORTS_PATH, SESSIONS_PATH, SNAPSHOT_TYPE_URL};
use colorfast_core::time::UnixSeconds;
use serde_json::{Value, json};

use super::*;
use crate::server::rig::{Rig, is_held};
use crate::store::Passing;

const INSTANCE: &str = "00000000000000aa";

fn node(process: u64) -> Value {
    json!({"id": "edge", "metadata": {"process_id": format!("{process:016x}")}})
}

fn poll(process: u64, held: &str, corrected: Option<&str>) -> Value {
    json!({
        "version_info": held, "resource_names": ["chat"], "type_url": SNAPSHOT_TYPE_URL, "node": node(process),
        "corrected": corrected,
    })
}

/// A proxy becomes a member; gives what it holds then, and its place among corrections.
async fn join(rig: &Rig, process: u64) -> (String, String) {
    let sent = rig.shown(DISCOVERY_PATH, &poll(process, "", None)).await.json(200);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&sent["version_info"]), text(&sent["corrections"]["cursor"]))
}

/// A session that a hash has placed, that holds `assignment`, and began and was seen so many seconds ago.
fn session(id: u64, assignment: u64, began: u64, seen: u64) -> (Sid, Remembered) {
    let now = clock::now().seconds().0;
    let (began, seen) = (UnixSeconds(now - began), UnixSeconds(now - seen));
    let (certainty, visits) = (Certainty::Guess, Visits::First);
    (Sid(id), Remembered { assignment: AssignmentId(assignment), sid: Sid(id), began, seen, certainty, visits })
}

/// The same, as an answer or a pin says it.
fn fact(id: u64, assignment: u64) -> (Sid, Remembered) {
    let (id, guess) = session(id, assignment, 0, 0);
    (id, Remembered { certainty: Certainty::Fact, ..guess })
}

fn records(sessions: &[(Sid, Remembered)]) -> Records {
    let bytes: Vec<u8> = sessions.iter().flat_map(|(id, session)| record(*id, session)).collect();
    Records::of(&bytes)
}

/// The version of the snapshot that is published.
async fn newest(rig: &Rig) -> String {
    let status = rig.status().await;
    format!("{}.{}", status.epoch.0, status.version)
}

fn question(process: u64, version: &str, proposals: &[(Sid, Remembered)]) -> Value {
    json!({
        "node": node(process), "instance": INSTANCE, "service": "chat", "version_info": version,
        "proposals": records(proposals),
    })
}

/// What is answered to proposals made under a snapshot.
async fn ask_by(rig: &Rig, process: u64, version: &str, proposals: &[(Sid, Remembered)]) -> Vec<(Sid, Remembered)> {
    let told = rig.shown(SESSIONS_PATH, &question(process, version, proposals)).await.json(200);
    let told: Told = serde_json::from_value(told).unwrap();
    assert_eq!(told.version_info, newest(rig).await);
    told.sessions.sessions().unwrap()
}

/// The assignment that the fleet remembers after a proxy has asked with this proposal, by the newest snapshot.
async fn ask(rig: &Rig, process: u64, proposal: (Sid, Remembered)) -> u64 {
    let told = ask_by(rig, process, &newest(rig).await, &[proposal]).await;
    let [(id, session)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(*id, proposal.0);
    session.assignment.0
}

fn report(process: u64, sequence: u64, sessions: &[(Sid, Remembered)]) -> Value {
    json!({
        "node": node(process), "instance": INSTANCE, "sequence": sequence,
        "sessions": [{"service": "chat", "records": records(sessions)}],
    })
}

/// The assignments of blue and green.
async fn assignments(rig: &Rig) -> [u64; 2] {
    let slots = rig.get("/v1/services/chat").await.json(200)["slots"].clone();
    let of = |name: &str| {
        let slot = slots.as_array().unwrap().iter().find(|slot| slot["slot"] == name);
        slot.unwrap()["assignment"].as_u64().unwrap()
    };
    [of("blue"), of("green")]
}

/// Kept: the first guess at a session stands, whoever made it and however: by a report or by asking; over a restart too.
#[tokio::test]
async fn the_first_guess_stands() {
    let rig = Rig::with_chat().await;
    rig.verb(json!({"verb": "ramp", "slot": "green", "weight": 5000})).await;
    join(&rig, 1).await;
    join(&rig, 2).await;
    let [blue, green] = assignments(&rig).await;
    assert_eq!(ask(&rig, 1, session(7, green, 0, 0)).await, green);
    assert_eq!(ask(&rig, 2, session(7, blue, 0, 0)).await, green);
    let learnt = [session(8, blue, 60, 5), session(9, green, 60, 5), session(7, blue, 60, 5)];
    rig.shown(REPORTS_PATH, &report(1, 1, &learnt)).await.json(200);
    for (id, other, wanted) in [(8, green, blue), (9, blue, green), (7, blue, green)] {
        assert_eq!(ask(&rig, 2, session(id, other, 0, 0)).await, wanted, "{id}");
    }
    let rig = rig.restart().await;
    assert_eq!(ask(&rig, 2, session(8, green, 0, 0)).await, blue);
}

/// Reversible: what was broken, and what has ended by age or idleness, makes way for the next proposal.
#[tokio::test]
async fn what_has_ended_makes_way() {
    let rig = Rig::with_chat().await;
    rig.verb(json!({"verb": "ramp", "slot": "green", "weight": 5000})).await;
    join(&rig, 1).await;
    let [blue, green] = assignments(&rig).await;
    let week = 7 * 24 * 3600;
    let learnt = [session(1, green, 0, 0), session(2, green, week, 0), session(3, green, 90_000, 86_400)];
    rig.shown(REPORTS_PATH, &report(1, 1, &learnt)).await.json(200);
    assert_eq!(ask(&rig, 1, session(1, blue, 0, 0)).await, green);
    assert_eq!(ask(&rig, 1, session(2, blue, 0, 0)).await, blue);
    assert_eq!(ask(&rig, 1, session(3, blue, 0, 0)).await, blue);
    rig.verb(json!({"verb": "rollback", "pins": "break"})).await;
    assert_eq!(ask(&rig, 1, session(1, blue, 0, 0)).await, blue);
}

/// Where `on_bundle_gone` answers ids, a session that was broken is kept against proposals, however often they come; a fact
/// overrules it.
#[tokio::test]
async fn what_is_broken_is_kept_where_the_policy_answers_ids() {
    let rig = Rig::with_chat().await;
    rig.verb(json!({"verb": "apply", "settings": {"on_bundle_gone": "refuse"}})).await;
    rig.verb(json!({"verb": "ramp", "slot": "green", "weight": 5000})).await;
    join(&rig, 1).await;
    let [blue, green] = assignments(&rig).await;
    rig.shown(REPORTS_PATH, &report(1, 1, &[session(1, green, 0, 0)])).await.json(200);
    rig.verb(json!({"verb": "rollback", "pins": "break"})).await;
    for _ in 0..2 {
        assert_eq!(ask(&rig, 1, session(1, blue, 0, 0)).await, green);
    }
    assert_eq!(ask(&rig, 1, fact(1, blue)).await, blue);
    assert_eq!(ask(&rig, 1, session(1, blue, 0, 0)).await, blue);
}

/// Kept: a session that its agent has ended makes way, and another one under the same id does not.
#[tokio::test]
async fn what_the_agent_has_ended_makes_way() {
    let rig = Rig::with_chat().await;
    rig.verb(json!({"verb": "ramp", "slot": "green", "weight": 5000})).await;
    join(&rig, 1).await;
    let [blue, green] = assignments(&rig).await;
    let (first, second) = (session(1, green, 60, 0), session(2, green, 60, 0));
    rig.shown(REPORTS_PATH, &report(1, 1, &[first, second])).await.json(200);
    let another = Remembered { sid: Sid(77), ..second.1 };
    rig.shown(REPORTS_PATH, &report(1, 2, &[(first.0, first.1.ended()), (second.0, another.ended())])).await.json(200);
    assert_eq!(ask(&rig, 1, session(1, blue, 0, 0)).await, blue);
    assert_eq!(ask(&rig, 1, session(2, blue, 0, 0)).await, green);
}

/// Unforgeable: who shows no ticket, or is no member, is told nothing and changes nothing; what is no question is refused
/// with the field.
#[tokio::test]
async fn strangers_are_told_nothing() {
    let rig = Rig::with_chat().await;
    join(&rig, 1).await;
    let [blue, _] = assignments(&rig).await;
    let proposal = session(7, blue, 0, 0);
    let version = newest(&rig).await;
    let good = question(1, &version, &[proposal]);
    assert_eq!(rig.discovery(SESSIONS_PATH, &good).await.problem(403).0, "ticket");
    let stranger = question(2, &version, &[proposal]);
    assert_eq!(rig.shown(SESSIONS_PATH, &stranger).await.problem(409).0, "not-member");
    assert!(rig.sidecar.stored("session/").is_empty());
    let many: Vec<_> = (0..257).map(|id| session(id, blue, 0, 0)).collect();
    let cases = [
        ("proposals", json!("")),
        ("proposals", json!("AAAA")),
        ("proposals", json!("!")),
        ("proposals", json!(records(&[proposal, proposal]))),
        ("proposals", json!(records(&many))),
        ("instance", json!("aa")),
        ("version_info", json!("7")),
    ];
    for (field, bad) in cases {
        let mut asked = good.clone();
        asked[field] = bad;
        let (_, found, detail) = rig.shown(SESSIONS_PATH, &asked).await.problem(422);
        assert_eq!(found.as_deref(), Some(field), "{detail}");
    }
    let mut report = report(1, 1, &[proposal]);
    report["sessions"][0]["records"] = json!("AAAA");
    let (_, field, _) = rig.shown(REPORTS_PATH, &report).await.problem(422);
    assert_eq!(field.as_deref(), Some("sessions[0].records"));
}

/// Kept: one call carries as many questions as a flood brings, and each has its answer, in order.
#[tokio::test]
async fn questions_come_in_batches() {
    let rig = Rig::with_chat().await;
    rig.verb(json!({"verb": "ramp", "slot": "green", "weight": 5000})).await;
    join(&rig, 1).await;
    join(&rig, 2).await;
    let [blue, green] = assignments(&rig).await;
    let version = newest(&rig).await;
    let all = |assignment| (0..256).rev().map(|id| session(id * 7919, assignment, 0, 0)).collect::<Vec<_>>();
    assert_eq!(ask_by(&rig, 1, &version, &all(green)).await, all(green));
    let told = ask_by(&rig, 2, &version, &all(blue)).await;
    let placed: Vec<_> = told.iter().map(|(id, session)| (id.0, session.assignment.0)).collect();
    assert_eq!(placed, (0..256).rev().map(|id| (id * 7919, green)).collect::<Vec<_>>());
    assert!(told.iter().all(|(_, session)| session.visits == Visits::Returned), "another proxy knows of it");
}

/// Kept: a fact beats a guess, and whoever holds the loser is told without asking, at once, by a poll that is held; who told
/// of a loser in a report likewise. A fact that stands is moved by nothing.
#[tokio::test]
async fn a_fact_beats_a_guess_and_the_loser_is_told() {
    let rig = Rig::with_chat().await;
    rig.verb(json!({"verb": "ramp", "slot": "green", "weight": 5000})).await;
    let (held, cursor) = join(&rig, 1).await;
    join(&rig, 2).await;
    let [blue, green] = assignments(&rig).await;
    assert_eq!(ask(&rig, 1, session(7, green, 0, 0)).await, green);
    let mut waiting = rig.shown(DISCOVERY_PATH, &poll(1, &held, Some(&cursor)));
    let mut elder = rig.shown(DISCOVERY_PATH, &poll(1, &held, None));
    assert!(is_held(&mut waiting).await && is_held(&mut elder).await);

    assert_eq!(ask(&rig, 2, fact(7, blue)).await, blue);
    let sent = waiting.await.json(200);
    assert_eq!((&sent["resources"], &sent["version_info"]), (&json!([]), &json!(held)));
    assert_eq!(elder.await.json(200)["corrections"], sent["corrections"]);
    let corrected: Records = serde_json::from_value(sent["corrections"]["records"].clone()).unwrap();
    let (id, session_of_7) = corrected.only().unwrap();
    assert_eq!((id, session_of_7.assignment.0, session_of_7.certainty), (Sid(7), blue, Certainty::Fact));
    let cursor = sent["corrections"]["cursor"].as_str().unwrap();
    assert!(is_held(&mut rig.shown(DISCOVERY_PATH, &poll(1, &held, Some(cursor)))).await, "each is told once");

    // What stands now is moved by no guess and by no other fact.
    assert_eq!(ask(&rig, 1, session(7, green, 0, 0)).await, blue);
    assert_eq!(ask(&rig, 1, fact(7, green)).await, blue);
    let mut waiting = rig.shown(DISCOVERY_PATH, &poll(1, &held, Some(cursor)));
    assert!(is_held(&mut waiting).await, "who asks has its answer");
    rig.shown(REPORTS_PATH, &report(1, 1, &[fact(7, green), fact(8, green)])).await.json(200);
    let sent = waiting.await.json(200);
    let corrected: Records = serde_json::from_value(sent["corrections"]["records"].clone()).unwrap();
    assert_eq!(corrected.only().map(|(id, stands)| (id.0, stands.assignment.0)), Some((7, blue)));
}

/// Atomic: no session begins by a snapshot that is not the newest: its id is left out, nothing is remembered, and what the
/// proxy decides anew stands, even over its own older proposal, which it has gone by for no request. Others' stand.
#[tokio::test]
async fn an_older_proposal_begins_nothing() {
    let rig = Rig::with_chat().await;
    rig.verb(json!({"verb": "ramp", "slot": "green", "weight": 5000})).await;
    join(&rig, 1).await;
    join(&rig, 2).await;
    let [blue, green] = assignments(&rig).await;
    let before = newest(&rig).await;
    assert_eq!(ask(&rig, 1, session(1, blue, 0, 0)).await, blue);
    assert_eq!(ask(&rig, 1, session(2, blue, 0, 0)).await, blue);
    rig.shown(REPORTS_PATH, &report(1, 1, &[session(3, blue, 0, 0)])).await.json(200);
    let manifest = json!({"code": "c", "model": "m", "prompts": "p"});
    rig.verb(json!({"verb": "add_bundle", "id": "v3", "manifest": manifest})).await;

    let late = [session(1, blue, 0, 0), session(2, green, 0, 0), session(4, blue, 0, 0), fact(5, blue)];
    let ids = |told: Vec<(Sid, Remembered)>| told.into_iter().map(|(id, _)| id.0).collect::<Vec<_>>();
    assert_eq!(ids(ask_by(&rig, 1, &before, &late).await), [5], "a fact is none the less");
    assert_eq!(rig.sidecar.stored("session/").len(), 4);
    // Another proxy goes by what stands, whatever it was made by; from then on it stays.
    assert_eq!(ask_by(&rig, 2, &before, &[session(2, green, 0, 0)]).await[0].1.assignment.0, blue);
    let anew = [(1, green), (2, blue), (3, blue), (4, green)];
    for (id, wanted) in anew {
        assert_eq!(ask(&rig, 1, session(id, green, 0, 0)).await, wanted, "{id}");
    }
}

/// Kept: what a sidecar was told and lost by its death is told again, and stands before weight moves: a flush that was made
/// for its former life counts for nothing.
#[tokio::test]
async fn a_killed_sidecar_is_told_again() {
    let rig = Rig::with_chat().await;
    let (held, _) = join(&rig, 1).await;
    assert!(is_held(&mut rig.shown(DISCOVERY_PATH, &poll(1, &held, None))).await);
    let [blue, _] = assignments(&rig).await;
    let told = rig.shown(SESSIONS_PATH, &question(1, &newest(&rig).await, &[session(7, blue, 0, 0)])).await.json(200);
    let hello = json!({
        "filter_version": "1", "snapshot_format": 1,
        "services": [{"name": "chat", "version_info": "", "keyed": true}],
    });
    let say = |sequence: u64, incarnation: &Value, flushed: u64, sessions: &[(Sid, Remembered)]| {
        let mut report = report(1, sequence, sessions);
        (report["incarnation"], report["hello"]) = (incarnation.clone(), hello.clone());
        report["sessions"][0]["flushed"] = json!(flushed);
        report
    };
    let heard = rig.shown(REPORTS_PATH, &say(1, &told["incarnation"], 0, &[])).await.json(200)["incarnation"].clone();
    assert_eq!(heard, told["incarnation"]);
    rig.sidecar.save().await.unwrap();
    assert_eq!(ask(&rig, 1, session(8, blue, 0, 0)).await, blue);

    let rig = Rig::start_in(rig.crash().await).await;
    let stored = || rig.sidecar.stored("session/").len();
    assert_eq!(stored(), 1, "the second was not saved yet");
    let before = rig.status().await.version;
    let mut switch = rig.try_verb(json!({"verb": "switch", "slot": "green"}));
    while rig.status().await.version == before {
        assert!(is_held(&mut switch).await);
    }
    let (held, _) = join(&rig, 1).await;
    assert!(is_held(&mut rig.shown(DISCOVERY_PATH, &poll(1, &held, None))).await);
    let flush = before + 1;
    let acknowledged = rig.shown(REPORTS_PATH, &say(2, &heard, flush, &[])).await.json(200);
    assert_ne!(acknowledged["incarnation"], heard);
    assert!(is_held(&mut switch).await, "what was told before the death may be lost");
    let again = say(3, &acknowledged["incarnation"], flush, &[session(7, blue, 1, 0), session(8, blue, 1, 0)]);
    rig.shown(REPORTS_PATH, &again).await.json(200);
    let switched = switch.await.json(200);
    assert!(switched["preparation"].get("laggards").is_none(), "{switched}");
    assert_eq!(stored(), 2);
}

/// A table of its own over what a rig publishes, with room for so many.
fn small(rig: &Rig, room: usize) -> Sessions {
    let Sessions { directory, members, tickets, accounts, corrections, .. } = rig.sidecar.sessions.as_ref();
    let ephemera = Arc::new(Passing::default());
    let shared = (directory.clone(), members.clone(), tickets.clone());
    let mut sessions = Sessions::new(shared.0, shared.1, shared.2, ephemera, accounts.clone(), corrections.clone());
    sessions.room = room;
    sessions
}

/// Kept: where the fleet's memory is full, sessions that never came back make way, and no flood of those moves one that
/// did.
#[tokio::test]
async fn what_came_back_outlives_a_flood() {
    let rig = Rig::with_chat().await;
    let [blue, _] = assignments(&rig).await;
    let sessions = small(&rig, 1_000);
    let published = sessions.published(&"chat".parse().unwrap()).unwrap();
    let teller = Teller::of(&MemberId::of(&serde_json::from_value(node(1)).unwrap()).unwrap(), INSTANCE);
    let hear = |id: u64, visits| {
        let (_, session) = session(id, blue, 0, 0);
        let word = Word { session: Remembered { visits, ..session }, teller, how: How::Reported };
        sessions.hear(&published, Sid(mix(id)), &word, clock::now());
    };
    let known = |ids: std::ops::Range<u64>| ids.filter(|id| sessions.get(&published, Sid(mix(*id))).is_some()).count();
    (0..900).for_each(|id| hear(id, Visits::Returned));
    (900..6_000).for_each(|id| hear(id, Visits::First));
    assert_eq!(known(0..900), 900);
    let new = known(900..6_000);
    assert_eq!((new, sessions.ephemera.count(PREFIX)), (100, 1_000));
    // Who comes back when all others have, too, has a place among them; who does not, has none.
    (6_000..6_200).for_each(|id| hear(id, Visits::Returned));
    // A few look like many from where they are not seen.
    assert!(known(900..6_000) < 40, "{}", known(900..6_000));
    assert!(known(6_000..6_200) > 160, "{}", known(6_000..6_200));
    hear(7_000, Visits::First);
    assert_eq!((known(7_000..7_001), sessions.ephemera.count(PREFIX)), (0, 1_000));
    assert!(sessions.crowded.load(Ordering::Relaxed) > 5_000);
}
