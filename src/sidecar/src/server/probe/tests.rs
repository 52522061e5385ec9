//! Probes, against a proxy that answers what it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response as Answer;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::server::rig::{LIMIT, Rig, is_held};

use super::*;

/// A proxy, which books what it is asked.
struct Edge {
    address: String,
    asked: Arc<Mutex<Vec<Request<()>>>>,
    /// Answers go out while there is a permit.
    gate: Arc<Semaphore>,
    count: Arc<AtomicUsize>,
}

impl Edge {
    async fn start(status: u16, headers: &'static [(&'static str, &'static str)]) -> Self {
        let asked: Arc<Mutex<Vec<Request<()>>>> = Arc::default();
        let (gate, count) = (Arc::new(Semaphore::new(1)), Arc::<AtomicUsize>::default());
        let (book, open, counter) = (asked.clone(), gate.clone(), count.clone());
        let handler = move |request: Request| {
            let (parts, _) = request.into_parts();
            book.lock().push(Request::from_parts(parts, ()));
            counter.fetch_add(1, Ordering::SeqCst);
            let open = open.clone();
            async move {
                let _permit = open.acquire().await;
                let answer = headers
                    .iter()
                    .fold(Answer::builder().status(status), |answer, (name, value)| answer.header(*name, *value));
                answer.body(Body::from("x")).unwrap()
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handler)).await });
        Self { address, asked, gate, count }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// Blue is live and green staged, with this probe.
async fn scene(probe: Value) -> Rig {
    let rig = Rig::with_chat().await;
    rig.verb(json!({"verb": "apply", "settings": {"probe": probe}})).await;
    rig
}

fn switch() -> Value {
    json!({"verb": "switch", "slot": "green"})
}

/// What is wrong with the answer, of each kind, refuses the verb and is said; nothing is changed.
#[tokio::test]
async fn bad_answers_refuse_the_verb() {
    type Case = (u16, &'static [(&'static str, &'static str)], &'static str, &'static str);
    let cases: [Case; 6] = [
        (503, &[], "cannot-serve", "was answered with 503, not 200 to 299"),
        (404, &[], "cannot-serve", "was answered with 404"),
        // Not followed, wherever it leads.
        (302, &[("location", "http://127.0.0.1:1/")], "cannot-serve", "was answered with 302"),
        (
            200,
            &[("x-agent-bundle-id", "v1")],
            "attestation-mismatch",
            "staged with v2, but its agent says that it runs v1",
        ),
        (200, &[("x-agent-bundle-id", "v 1")], "attestation-mismatch", "it runs v?1"),
        (200, &[("x-agent-pin", "p")], "cannot-serve", "took no notice of the token in x-agent-preview"),
    ];
    for (status, headers, code, says) in cases {
        let edge = Edge::start(status, headers).await;
        let rig = scene(json!({"address": edge.address})).await;
        let before = rig.status().await.version;
        for verb in [switch(), json!({"verb": "ramp", "slot": "green", "weight": 1})] {
            let (found, _, detail) = rig.try_verb(verb).await.problem(409);
            assert_eq!(found, code, "{detail}");
            assert!(detail.contains(says), "{detail}");
        }
        assert_eq!(rig.status().await.version, before);
    }
}

/// A good answer lets the verb through, and the probe is asked as it was configured, for the slot alone.
#[tokio::test]
async fn good_answers_let_the_verb_through() {
    let edge = Edge::start(418, &[("x-agent-bundle-id", "v2")]).await;
    let probe =
        json!({"address": edge.address, "host": "chat.example.com", "path": "/healthz?deep=1", "expect_status": 418});
    let rig = scene(probe).await;
    rig.verb(json!({"verb": "ramp", "slot": "green", "weight": 100})).await;
    let asked = edge.asked.lock().remove(0);
    assert_eq!((asked.method(), asked.uri().to_string().as_str()), (&Method::GET, "/healthz?deep=1"));
    assert_eq!(asked.headers()["host"], "chat.example.com");
    assert!(!asked.headers()["x-agent-preview"].is_empty());

    rig.verb(json!({"verb": "ramp", "slot": "green", "weight": 50})).await;
    rig.verb(json!({"verb": "rollback", "pins": "keep"})).await;
    assert_eq!(edge.count(), 1, "what takes sessions away is not probed");
}

/// A word of force is not kept waiting by a probe; a proxy that cannot be reached is named.
#[tokio::test]
async fn force_goes_without_a_probe() {
    let rig = scene(json!({"address": "http://127.0.0.1:1"})).await;
    let (code, _, detail) = rig.try_verb(switch()).await.problem(409);
    assert_eq!(code, "cannot-serve");
    assert!(detail.contains("green cannot serve: a probe failed: GET http://127.0.0.1:1/"), "{detail}");
    rig.verb(json!({"verb": "switch", "slot": "green", "force": {"reason": "the proxy is elsewhere"}})).await;
}

/// A proxy that does not answer costs as long as it was given, and a rollback a second at most; other verbs do not wait
/// for it.
#[tokio::test]
async fn probes_hold_nobody_up() {
    let edge = Edge::start(200, &[]).await;
    let rig = scene(json!({"address": edge.address, "timeout_ms": 8000})).await;
    rig.verb(switch()).await;
    let held = edge.gate.clone().acquire_owned().await.unwrap();
    let began = std::time::Instant::now();
    let (code, _, detail) = rig.try_verb(json!({"verb": "rollback", "pins": "keep"})).await.problem(409);
    assert_eq!(code, "cannot-serve");
    assert!(detail.contains("was not answered within 1s") && began.elapsed() < LIMIT / 4, "{detail}");

    let mut switching = rig.try_verb(json!({"verb": "switch", "slot": "blue"}));
    let before = edge.count();
    while edge.count() == before {
        assert!(is_held(&mut switching).await);
        tokio::task::yield_now().await;
    }
    let manifest = json!({"code": "c", "model": "m", "prompts": "p"});
    rig.verb(json!({"verb": "add_bundle", "id": "v3", "manifest": manifest})).await;
    drop(held);
    switching.await.json(200);
}

/// A probe tells of the assignment that it asked for: of one that was staged meanwhile nothing is known.
#[tokio::test]
async fn probes_tell_of_one_assignment() {
    let edge = Edge::start(200, &[]).await;
    let rig = scene(json!({"address": edge.address})).await;
    let held = edge.gate.clone().acquire_owned().await.unwrap();
    let mut switching = rig.try_verb(switch());
    while edge.count() == 0 {
        assert!(is_held(&mut switching).await);
        tokio::task::yield_now().await;
    }
    rig.verb(json!({"verb": "recycle", "slot": "green"})).await;
    rig.verb(json!({"verb": "stage", "slot": "green", "bundle": "v1"})).await;
    drop(held);
    let (code, _, detail) = switching.await.problem(409);
    assert_eq!(code, "cannot-serve");
    assert!(detail.contains("it was staged anew meanwhile"), "{detail}");
}
