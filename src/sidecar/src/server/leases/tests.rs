//! Leases as an agent takes them, and what they keep from being recycled.

use axum::http::Method;
use colorfast_core::time::UnixMillis;
use serde_json::{Value, json};

use super::{LeaseRefusal, Leases};
use crate::api::runs::{HoldRun, RunLease};
use crate::server::clock;
use crate::server::rig::{Answer, Rig};
use crate::store::sqlite::Sqlite;

const RUNS: &str = "/v1/services/chat/runs";

async fn hold(rig: &Rig, run: &str, body: Value) -> Answer {
    rig.control(Method::PUT, &format!("{RUNS}/{run}"), body.to_string()).await
}

async fn held(rig: &Rig, run: &str, body: Value) -> RunLease {
    serde_json::from_value(hold(rig, run, body).await.json(200)).unwrap()
}

/// Work without traffic: a slot that a run holds is not recycled, over a restart of the sidecar too, until the run says
/// that it has ended; status names it.
#[tokio::test]
async fn a_run_holds_its_slot() {
    let rig = Rig::with_chat().await;
    let began = clock::now();
    let lease = held(&rig, "nightly-7", json!({"bundle": "v2", "ttl_seconds": 600})).await;
    assert_eq!((lease.slot.as_str(), lease.phase.as_str()), ("green", "staged"));
    assert!(lease.began >= began && lease.expires == lease.began.plus_millis(600_000));
    assert_eq!(lease.ends, lease.began.plus_millis(7 * 24 * 3_600_000));
    let refused = rig.try_verb(json!({"verb": "recycle", "slot": "green"})).await.problem(409);
    assert_eq!(refused.0, "runs-hold");
    assert!(refused.2.starts_with(&format!("green is held by a run until {}", lease.expires.0)), "{}", refused.2);

    let rig = rig.restart().await;
    let status = rig.status().await;
    let green = status.slots.iter().find(|slot| slot.slot.as_str() == "green").unwrap();
    assert_eq!((green.runs, green.runs_until), (1, Some(lease.expires)));
    assert_eq!(rig.get(RUNS).await.json(200).as_array().unwrap().len(), 1);
    let again = held(&rig, "nightly-7", json!({"bundle": "v2"})).await;
    assert_eq!((again.began, again.slot), (lease.began, lease.slot), "a renewal is no new run");

    // What is broken is still held, and the run is told what its slot is doing.
    rig.verb(json!({"verb": "ramp", "slot": "green", "weight": 100})).await;
    rig.verb(json!({"verb": "rollback", "to": null, "pins": "break"})).await;
    assert_eq!(held(&rig, "nightly-7", json!({"bundle": "v2"})).await.phase.as_str(), "condemned");
    assert_eq!(hold(&rig, "late", json!({"bundle": "v2"})).await.problem(409).0, "bundle-gone", "nobody begins there");
    assert_eq!(rig.try_verb(json!({"verb": "recycle", "slot": "green"})).await.problem(409).0, "runs-hold");
    let ended = rig.control(Method::DELETE, &format!("{RUNS}/nightly-7"), "").await;
    assert_eq!(ended.status, 204);
    assert_eq!(rig.control(Method::DELETE, &format!("{RUNS}/nightly-7"), "").await.problem(404).0, "not-found");
    rig.verb(json!({"verb": "recycle", "slot": "green"})).await;
    let gone = hold(&rig, "nightly-7", json!({"bundle": "v2"})).await.problem(409);
    assert_eq!((gone.0.as_str(), gone.1.as_deref()), ("bundle-gone", Some("bundle")));
}

/// A run prefers the slot that takes most sessions, and stays in the one that it holds when another takes over.
#[tokio::test]
async fn a_run_stays_in_its_slot() {
    let rig = Rig::with_chat().await;
    rig.verb(json!({"verb": "recycle", "slot": "green"})).await;
    rig.verb(json!({"verb": "stage", "slot": "green", "bundle": "v1"})).await;
    let first = held(&rig, "a", json!({"bundle": "v1"})).await;
    assert_eq!(first.slot.as_str(), "blue", "blue is live, green is staged with the same bundle");
    rig.verb(json!({"verb": "switch", "slot": "green"})).await;
    assert_eq!(held(&rig, "a", json!({"bundle": "v1"})).await.slot.as_str(), "blue");
    assert_eq!(held(&rig, "b", json!({"bundle": "v1"})).await.slot.as_str(), "green");
}

/// Bad questions are refused by field, and hold nothing.
#[tokio::test]
async fn bad_leases_are_refused() {
    let rig = Rig::with_chat().await;
    held(&rig, "known", json!({"bundle": "v1"})).await;
    let cases = [
        ("a%2Fb", json!({"bundle": "v1"}), 422, "invalid-field", Some("run")),
        ("known", json!({"bundle": "v2"}), 422, "invalid-field", Some("bundle")),
        ("r", json!({"bundle": "v1", "ttl_seconds": 0}), 422, "invalid-field", Some("ttl_seconds")),
        ("r", json!({"bundle": "v1", "ttl_seconds": 86_401}), 422, "invalid-field", Some("ttl_seconds")),
        ("r", json!({"bundle": "v9"}), 409, "bundle-gone", Some("bundle")),
        ("r", json!({"bundle": "v1", "ttl": 5}), 400, "invalid-body", Some("ttl")),
        ("r", json!({}), 400, "invalid-body", Some("bundle")),
    ];
    for (run, body, status, code, field) in cases {
        let problem = hold(&rig, run, body.clone()).await.problem(status);
        assert_eq!((problem.0.as_str(), problem.1.as_deref()), (code, field), "{run} {body}");
    }
    assert_eq!(rig.get(RUNS).await.json(200).as_array().unwrap().len(), 1);
    let other = rig.control(Method::PUT, "/v1/services/none/runs/r", r#"{"bundle":"v1"}"#).await;
    assert_eq!(other.problem(404).0, "no-service");
}

/// An agent's token holds leases and looks, and can do nothing else.
#[tokio::test]
async fn agents_cannot_release() {
    let rig = Rig::with_chat().await;
    let token = rig.token_of(json!({"name": "workers", "role": "agent"})).await;
    let body = || json!({"bundle": "v1"}).to_string();
    assert_eq!(rig.control_as(&token, Method::PUT, &format!("{RUNS}/r"), body()).await.status, 200);
    assert_eq!(rig.control_as(&token, Method::GET, RUNS, "").await.status, 200);
    let verb = json!({"verb": "rotate_keys"}).to_string();
    let refused = rig.control_as(&token, Method::POST, "/v1/services/chat/verbs", verb).await.problem(403);
    assert!(refused.2.contains("has the role agent, and this needs operator"), "{}", refused.2);
    assert_eq!(rig.control_as(&token, Method::DELETE, &format!("{RUNS}/r"), "").await.status, 204);
    let viewer = rig.token_of(json!({"name": "screen", "role": "viewer"})).await;
    assert_eq!(rig.control_as(&viewer, Method::PUT, &format!("{RUNS}/r"), body()).await.problem(403).0, "forbidden");
}

/// A lease ends with its time and is taken up again where it was; max-age ends it whatever the run does, and no renewal
/// or pause puts that off.
#[tokio::test]
async fn leases_end() {
    let rig = Rig::with_chat().await;
    let published = rig.sidecar.errands.directory.watch(&"chat".parse().unwrap()).unwrap().borrow().clone();
    let folder = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(Sqlite::open(&folder.path().join("store.db")).unwrap());
    let (leases, service) = (Leases::new(store.clone()), "chat".parse().unwrap());
    let run = "r".parse().unwrap();
    let at = |seconds: u64| UnixMillis(1_800_000_000_000 + seconds * 1000);
    let hold = |seconds| {
        let asked = HoldRun { bundle: "v1".parse().unwrap(), ttl_seconds: Some(60) };
        leases.hold(&service, &published.state, &run, &asked, at(seconds))
    };
    let runs = |seconds| {
        let (name, held) = ("blue".parse().unwrap(), leases.of(&service, at(seconds)));
        held.of(&name, &published.state.slots[&name]).0
    };
    assert_eq!(hold(0).unwrap().expires, at(60));
    assert_eq!((runs(59), runs(60)), (1, 0));
    assert_eq!(hold(100).unwrap().began, at(0));
    let max_age = 7 * 24 * 3600;
    assert_eq!(hold(max_age - 10).unwrap().expires, at(max_age), "no longer than max-age");
    assert_eq!(runs(max_age), 0);
    for seconds in [max_age, max_age + 3600] {
        assert_eq!(hold(seconds), Err(LeaseRefusal::OverAge(7 * 24 * 3600)));
    }
    crate::store::Ephemera::expire(store.as_ref(), at(max_age + 24 * 3600 + 1));
    assert_eq!(hold(max_age + 24 * 3600 + 1).unwrap().began, at(max_age + 24 * 3600 + 1), "a name may be used again");
}
