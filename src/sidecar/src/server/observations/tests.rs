//! What reports tell of slots: added up once, shown, and heeded by verbs.

use colorfast_core::names::{DISCOVERY_PATH, REPORTS_PATH, SNAPSHOT_TYPE_URL};
use serde_json::{Value, json};

use super::*;
use crate::server::rig::Rig;

fn node() -> Value {
    json!({"id": "edge", "metadata": {"process_id": "0000000000000001"}})
}

/// A sidecar with one proxy, which holds the newest snapshot.
async fn scene() -> (Rig, Proxy) {
    let rig = Rig::with_chat().await;
    let poll = json!({"resource_names": ["chat"], "type_url": SNAPSHOT_TYPE_URL, "node": node()});
    let answer = rig.shown(DISCOVERY_PATH, &poll).await.json(200);
    // The acknowledgement is held until there is something newer, which need not be waited for.
    let mut ack = poll;
    ack["version_info"] = answer["version_info"].clone();
    ack["response_nonce"] = answer["nonce"].clone();
    let mut asking = rig.shown(DISCOVERY_PATH, &ack);
    assert!(crate::server::rig::is_held(&mut asking).await);
    (rig, Proxy { sequence: 0, _asking: asking })
}

struct Proxy {
    sequence: u64,
    _asking: crate::server::rig::Asking,
}

impl Proxy {
    /// Reports what it has seen of slots, as a proxy does.
    async fn tells(&mut self, rig: &Rig, slots: Value) {
        self.sequence += 1;
        self.repeats(rig, slots).await;
    }

    async fn repeats(&self, rig: &Rig, slots: Value) {
        let report = json!({
            "node": node(), "instance": "00000000000000aa", "sequence": self.sequence, "slots": slots,
        });
        let acknowledged = rig.shown(REPORTS_PATH, &report).await.json(200)["acknowledged"].clone();
        assert_eq!(acknowledged, self.sequence);
    }
}

async fn slot(rig: &Rig, name: &str) -> crate::api::SlotStatus {
    rig.status().await.slots.into_iter().find(|slot| slot.slot.as_str() == name).unwrap()
}

async fn seen(rig: &Rig, name: &str, rest: Value) -> Value {
    let mut seen = json!({"service": "chat", "slot": name, "assignment": slot(rig, name).await.assignment});
    seen.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    seen
}

/// Reports of a slot are added up, each once, and shown; a restart loses none that was saved.
#[tokio::test]
async fn reports_add_up_once() {
    let (rig, mut proxy) = scene().await;
    assert_eq!(slot(&rig, "blue").await.serving, Some(Serving::default()));
    let told = json!([seen(&rig, "blue", json!({"answered": 5, "matched": 3, "mismatched": 1, "found": "v0"})).await]);
    proxy.tells(&rig, told.clone()).await;
    proxy.repeats(&rig, told).await;
    proxy.tells(&rig, json!([seen(&rig, "blue", json!({"answered": 1, "unavailable": 2})).await])).await;
    let rig = rig.restart().await;
    let shown = slot(&rig, "blue").await.serving.unwrap();
    assert_eq!((shown.answered, shown.unavailable, shown.matched, shown.mismatched), (6, 2, 3, 1));
    assert_eq!(shown.last_minute, Recent { answered: 6, unavailable: 2 });
    assert_eq!(shown.last_mismatch.unwrap().found, "v0");
    assert_eq!(slot(&rig, "green").await.serving, Some(Serving::default()));
}

/// What is kept is bounded by the slots that there are: of other services, slots and assignments nothing is.
#[tokio::test]
async fn only_what_runs_is_kept() {
    let (rig, mut proxy) = scene().await;
    let good = seen(&rig, "blue", json!({"answered": 1})).await;
    let other = |field: &str, value: Value| {
        let mut other = good.clone();
        other[field] = value;
        other
    };
    let strangers = [other("service", json!("code")), other("slot", json!("pink")), other("assignment", json!(1))];
    proxy.tells(&rig, json!(strangers)).await;
    assert_eq!(rig.sidecar.stored("serving/").len(), 0);
    proxy.tells(&rig, json!([good])).await;
    assert_eq!(rig.sidecar.stored("serving/").len(), 1);
}

/// Bad sections are refused with the field named.
#[tokio::test]
async fn bad_sections_are_refused_by_field() {
    let (rig, _proxy) = scene().await;
    let good = seen(&rig, "blue", json!({"answered": 1})).await;
    let mut long = good.clone();
    long["found"] = json!("x".repeat(65));
    let mut spaced = good.clone();
    spaced["found"] = json!("a b");
    let mut negative = good.clone();
    negative["answered"] = json!(-1);
    let cases = [
        (422, "slots[0].found", json!([long])),
        (422, "slots[1].found", json!([good, spaced])),
        (422, "slots", json!(vec![good.clone(); 129])),
        (400, "slots[0].answered", json!([negative])),
    ];
    for (status, field, slots) in cases {
        let report = json!({"node": node(), "instance": "00000000000000aa", "sequence": 1, "slots": slots});
        let problem = rig.shown(REPORTS_PATH, &report).await.problem(status);
        assert_eq!(problem.1.as_deref(), Some(field), "{problem:?}");
    }
}

/// Stamped: a bundle staged over the wrong process is given no sessions; a word of force goes over it and is kept; the
/// same slot staged anew is another thing.
#[tokio::test]
async fn mismatches_refuse_verbs() {
    let (rig, mut proxy) = scene().await;
    let wrong = json!({"answered": 4, "matched": 1, "mismatched": 3, "found": "v9"});
    proxy.tells(&rig, json!([seen(&rig, "green", wrong).await])).await;
    for verb in [json!({"verb": "switch", "slot": "green"}), json!({"verb": "ramp", "slot": "green", "weight": 100})] {
        let (code, _, detail) = rig.try_verb(verb.clone()).await.problem(409);
        assert_eq!(code, "attestation-mismatch");
        assert!(detail.contains("staged with v2") && detail.contains("runs v9 (3 of"), "{detail}");
        let mut forced = verb;
        forced["force"] = json!({"reason": " "});
        assert_eq!(rig.try_verb(forced).await.problem(422).1.as_deref(), Some("force.reason"));
    }
    rig.verb(json!({"verb": "recycle", "slot": "green"})).await;
    rig.verb(json!({"verb": "stage", "slot": "green", "bundle": "v2"})).await;
    assert_eq!(slot(&rig, "green").await.serving, Some(Serving::default()));
    proxy.tells(&rig, json!([seen(&rig, "green", json!({"mismatched": 1, "found": "v9"})).await])).await;
    let forget = rig.control(axum::http::Method::DELETE, "/v1/services/chat/members/edge%2F0000000000000001", "").await;
    assert_eq!(forget.status, 204);
    rig.verb(json!({"verb": "switch", "slot": "green", "force": {"reason": "the header is wrong"}})).await;
    let events = rig.get("/v1/events?service=chat").await.json(200);
    let last = events["entries"].as_array().unwrap().last().unwrap()["event"].clone();
    assert_eq!(
        (last["type"].as_str(), last["force"]["reason"].as_str()),
        (Some("switched"), Some("the header is wrong"))
    );
}

/// Reversible, and no worse than before: a step back goes to no slot that has been down for the last minute, unless it
/// is forced.
#[tokio::test]
async fn slots_that_are_down_refuse_verbs() {
    let (rig, mut proxy) = scene().await;
    rig.verb(json!({"verb": "switch", "slot": "green"})).await;
    proxy.tells(&rig, json!([seen(&rig, "blue", json!({"answered": 1, "unavailable": 9})).await])).await;
    let rollback = json!({"verb": "rollback", "pins": "break"});
    let (code, _, detail) = rig.try_verb(rollback).await.problem(409);
    assert_eq!(code, "cannot-serve");
    assert!(detail.contains("blue cannot serve") && detail.contains("9 of 10 requests"), "{detail}");
    proxy.tells(&rig, json!([seen(&rig, "blue", json!({"answered": 1})).await])).await;
    rig.verb(json!({"verb": "rollback", "pins": "break"})).await;
}

/// What "now" means: the last minute, whatever the clock does, and mismatches for ten minutes.
#[test]
fn the_last_minute_slides() {
    let report = |answered, unavailable, mismatched| SlotReport {
        service: "chat".parse().unwrap(),
        slot: "blue".parse().unwrap(),
        assignment: AssignmentId(1),
        answered,
        unavailable,
        matched: 0,
        mismatched,
        found: Some("v9".to_owned()),
        in_flight: 0,
        held: String::new(),
        issued: String::new(),
        oldest: colorfast_core::time::UnixSeconds(0),
    };
    let at = |seconds: u64| UnixMillis(1_700_000_000_000 + seconds * 1000);
    let mut sums = Sums::default();
    for second in 0..300 {
        sums.add(&report(1, 0, 0), at(second));
        assert!(sums.recent.len() <= 13, "{:?}", sums.recent);
    }
    let (answered, unavailable) = sums.recently(at(299));
    assert!((55..=60).contains(&answered) && unavailable == 0, "{answered}");
    assert_eq!(sums.recently(at(360)), (0, 0));
    // A clock that was set back: what is of the future counts no more.
    sums.add(&report(0, 2, 1), at(100));
    assert_eq!(sums.recently(at(100)), (0, 2));
    assert_eq!(sums.answered, 300);
    assert_eq!(sums.last.unwrap().at, at(100));
}
