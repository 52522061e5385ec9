//! Both parts of a switch, with a member that is asked.

use std::time::Duration;

use colorfast_core::names::{DISCOVERY_PATH, REPORTS_PATH, SNAPSHOT_TYPE_URL};
use colorfast_core::release::Phase;
use serde_json::{Value, json};

use crate::server::rig::{Rig, is_held};

fn node() -> Value {
    json!({"id": "edge-1", "metadata": {"process_id": "00000000000000aa"}})
}

fn poll(held: &str) -> Value {
    json!({"version_info": held, "resource_names": ["chat"], "type_url": SNAPSHOT_TYPE_URL, "node": node()})
}

/// A sidecar with one member of one instance, and what that member holds.
async fn with_member() -> (Rig, String) {
    let rig = Rig::with_chat().await;
    let sent = rig.shown(DISCOVERY_PATH, &poll("")).await.json(200);
    let held = sent["version_info"].as_str().unwrap().to_owned();
    assert!(is_held(&mut rig.shown(DISCOVERY_PATH, &poll(&held))).await);
    reports(&rig, 1, None).await;
    (rig, held)
}

async fn reports(rig: &Rig, sequence: u64, flushed: Option<u64>) {
    rig.shown(REPORTS_PATH, &report(sequence, flushed)).await.json(200);
}

fn report(sequence: u64, flushed: Option<u64>) -> Value {
    let mut report = json!({
        "node": node(), "instance": "00000000000000aa", "sequence": sequence,
        "hello": {
            "filter_version": "0.1.0", "snapshot_format": 1,
            "services": [{"name": "chat", "version_info": "", "keyed": true}],
        },
    });
    if let Some(flushed) = flushed {
        report["sessions"] = json!([{"service": "chat", "records": "", "flushed": flushed}]);
    }
    report
}

/// Kept: a switch first has its members ask and flush, with no weight moved; it goes on when the last has acknowledged and
/// flushed, and its answer says how long that took.
#[tokio::test]
async fn a_switch_waits_until_everyone_has_flushed() {
    let (rig, held) = with_member().await;
    let before = rig.status().await.version;
    let mut switch = rig.try_verb(json!({"verb": "switch", "slot": "green", "expected_version": before}));
    assert!(is_held(&mut switch).await);
    let sent = rig.shown(DISCOVERY_PATH, &poll(&held)).await.json(200);
    let state = &sent["resources"][0]["state"];
    assert_eq!((&state["flush"], &state["slots"][0]["weight"]), (&json!(before + 1), &json!(10_000)));
    assert!(is_held(&mut rig.shown(DISCOVERY_PATH, &poll(sent["version_info"].as_str().unwrap()))).await);
    assert!(is_held(&mut switch).await, "it has acknowledged, and not flushed");
    reports(&rig, 2, Some(before + 1)).await;
    let answer = switch.await.json(200);
    assert_eq!((&answer["version"], &answer["preparation"]["version"]), (&json!(before + 2), &json!(before + 1)));
    assert!(answer["preparation"].get("laggards").is_none(), "{answer}");
    assert_eq!(answer["status"]["slots"][1]["phase"], "live");
}

/// Who is not ready within a second is named and does not hold the switch up; a rollback out of a ramp meanwhile waits for
/// nobody, and the verb that lost to it is told.
#[tokio::test]
async fn laggards_are_named_and_a_step_back_waits_for_nobody() {
    let (rig, _) = with_member().await;
    let begun = std::time::Instant::now();
    let answer = rig.verb(json!({"verb": "ramp", "slot": "green", "weight": 100})).await;
    let before = answer.preparation.unwrap();
    assert_eq!(before.laggards, ["edge-1/00000000000000aa"]);
    assert!(begun.elapsed() >= Duration::from_secs(1) && before.took_ms.0 >= 1_000_000);

    let expected = rig.status().await.version;
    let mut switch = rig.try_verb(json!({"verb": "switch", "slot": "green", "expected_version": expected}));
    while rig.status().await.version == expected {
        assert!(is_held(&mut switch).await);
    }
    let back = rig.verb(json!({"verb": "rollback", "to": null, "pins": "break"})).await;
    assert!(back.preparation.is_none() && is_held(&mut switch).await);
    assert_eq!(switch.await.problem(409).0, "stale-version");
}

/// Accounted: no slot is freed before every member has told whom it knows: who has not is named, and the slot stays. A word
/// of force waits for nobody, nor does a slot whose sessions are broken.
#[tokio::test]
async fn a_slot_is_freed_once_everyone_has_flushed() {
    let (rig, _) = with_member().await;
    rig.verb(json!({"verb": "apply", "settings": {"quarantine_seconds": 0}})).await;
    rig.verb(json!({"verb": "switch", "slot": "green"})).await;
    let recycle = || rig.try_verb(json!({"verb": "recycle", "slot": "blue"}));
    let refused = recycle().await;
    assert_eq!(refused.json(409)["members"], json!(["edge-1/00000000000000aa"]));
    assert_eq!(
        (refused.problem(409).0, rig.status().await.slots[0].phase),
        ("not-accounted".to_owned(), Phase::Draining)
    );

    for sequence in 2..4 {
        let before = rig.status().await.version;
        let mut freeing = recycle();
        while rig.status().await.version == before {
            assert!(is_held(&mut freeing).await);
        }
        let held = rig.shown(DISCOVERY_PATH, &poll("")).await.json(200)["version_info"].clone();
        assert!(is_held(&mut rig.shown(DISCOVERY_PATH, &poll(held.as_str().unwrap()))).await);
        assert!(is_held(&mut freeing).await, "each has it flushed anew");
        if sequence == 2 {
            // One more has come back by the time that it tells.
            let session = colorfast_core::ids::Sid(7 << 50);
            let mut tally = colorfast_core::sketch::Tally::default();
            tally.note(session);
            let assignment = rig.status().await.slots[0].assignment.unwrap();
            let marks = colorfast_core::sketch::text(&tally.take(1));
            let mut report = report(sequence, Some(before + 1));
            report["slots"] = json!([{"service": "chat", "slot": "blue", "assignment": assignment, "held": marks}]);
            rig.shown(REPORTS_PATH, &report).await.json(200);
            assert_eq!(freeing.await.problem(409).0, "slot-held");
            rig.verb(json!({"verb": "migrate", "slot": "blue"})).await;
            assert_eq!(
                recycle().await.problem(409).0,
                "not-accounted",
                "requests of what is condemned may be under way"
            );
            rig.verb(json!({"verb": "recycle", "slot": "blue", "force": {"reason": "a test"}})).await;
            rig.verb(json!({"verb": "stage", "slot": "blue", "bundle": "v1"})).await;
            let held = rig.shown(DISCOVERY_PATH, &poll("")).await.json(200)["version_info"].clone();
            assert!(is_held(&mut rig.shown(DISCOVERY_PATH, &poll(held.as_str().unwrap()))).await);
            rig.verb(json!({"verb": "ramp", "slot": "blue", "weight": 100})).await;
            rig.verb(json!({"verb": "abort", "slot": "blue", "pins": "keep"})).await;
        } else {
            reports(&rig, sequence, Some(before + 1)).await;
            let answer = freeing.await.json(200);
            assert_eq!(answer["status"]["slots"][0]["phase"], "idle");
            assert_eq!(answer["preparation"]["version"], before + 1);
        }
    }

    rig.verb(json!({"verb": "stage", "slot": "blue", "bundle": "v1"})).await;
    let answer = rig.verb(json!({"verb": "recycle", "slot": "blue"})).await;
    assert!(answer.preparation.is_none(), "it has never had a session");
}
