//! The fleet's memory, as proxies fill it and ask it.

use colorfast_core::ids::{AssignmentId, Sid};
use colorfast_core::memory::{Remembered, record};
use colorfast_core::names::{DISCOVERY_PATH, REPORTS_PATH, SESSIONS_PATH, SNAPSHOT_TYPE_URL};
use colorfast_core::time::UnixSeconds;
use colorfast_core::wire::sessions::Records;
use serde_json::{Value, json};

use crate::server::clock;
use crate::server::rig::Rig;

fn node(process: u64) -> Value {
    json!({"id": "edge", "metadata": {"process_id": format!("{process:016x}")}})
}

async fn join(rig: &Rig, process: u64) {
    let poll = json!({"resource_names": ["chat"], "type_url": SNAPSHOT_TYPE_URL, "node": node(process)});
    rig.discovery(DISCOVERY_PATH, &poll).await.json(200);
}

/// A session that holds `assignment`, and began and was seen so many seconds ago.
fn session(id: u64, assignment: u64, began: u64, seen: u64) -> (Sid, Remembered) {
    let now = clock::now().seconds().0;
    let (began, seen) = (UnixSeconds(now - began), UnixSeconds(now - seen));
    (Sid(id), Remembered { assignment: AssignmentId(assignment), sid: Sid(id), began, seen })
}

/// The assignment that the fleet remembers after a proxy has asked with this proposal.
async fn ask(rig: &Rig, process: u64, (id, proposal): (Sid, Remembered)) -> u64 {
    let ask = json!({"node": node(process), "service": "chat", "proposal": Records::one(id, &proposal)});
    let told = rig.shown(SESSIONS_PATH, &ask).await.json(200);
    let records: Records = serde_json::from_value(told["session"].clone()).unwrap();
    let (told, session) = records.only().unwrap();
    assert_eq!(told, id);
    session.assignment.0
}

fn report(process: u64, sequence: u64, sessions: &[(Sid, Remembered)]) -> Value {
    let bytes: Vec<u8> = sessions.iter().flat_map(|(id, session)| record(*id, session)).collect();
    json!({
        "node": node(process), "instance": "00000000000000aa", "sequence": sequence,
        "sessions": [{"service": "chat", "records": Records::of(&bytes)}],
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

/// Kept: the first word on a session stands, whoever gave it and however: by a report or by asking; over a restart too.
#[tokio::test]
async fn the_first_word_stands() {
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

/// Unforgeable: who shows no ticket, or is no member, is told nothing and changes nothing; what is no record is refused
/// with the field.
#[tokio::test]
async fn strangers_are_told_nothing() {
    let rig = Rig::with_chat().await;
    join(&rig, 1).await;
    let [blue, _] = assignments(&rig).await;
    let (id, proposal) = session(7, blue, 0, 0);
    let asked = |process, records: Value| json!({"node": node(process), "service": "chat", "proposal": records});
    let good = asked(1, json!(Records::one(id, &proposal)));
    assert_eq!(rig.discovery(SESSIONS_PATH, &good).await.problem(403).0, "ticket");
    let stranger = asked(2, json!(Records::one(id, &proposal)));
    assert_eq!(rig.shown(SESSIONS_PATH, &stranger).await.problem(409).0, "not-member");
    assert!(rig.sidecar.stored("session/").is_empty());
    for bad in ["", "AAAA", "!"] {
        let (_, field, detail) = rig.shown(SESSIONS_PATH, &asked(1, json!(bad))).await.problem(422);
        assert_eq!(field.as_deref(), Some("proposal"), "{detail}");
    }
    let mut report = report(1, 1, &[(id, proposal)]);
    report["sessions"][0]["records"] = json!("AAAA");
    let (_, field, _) = rig.shown(REPORTS_PATH, &report).await.problem(422);
    assert_eq!(field.as_deref(), Some("sessions[0].records"));
}
