use super::*;
use crate::cli::error::{Exit, Told};
use crate::cli::fake::{self, Fake};
use serde_json::json;

fn chat() -> ServiceName {
    "chat".parse().unwrap()
}

async fn told(client: &Client) -> Box<Told> {
    match client.service(&chat()).await {
        Err(Failure::Told(told)) => told,
        other => panic!("{other:?}"),
    }
}

/// Every question goes to its path with the token, and a member's name stays in one segment.
#[tokio::test]
async fn asks_the_right_paths() {
    let fake = Fake::start(|asked| match asked.line.split(['?', ' ']).nth(1) {
        Some("/v1/services") => (200, json!([fake::status(3)])),
        Some("/v1/services/chat") => (200, fake::status(3)),
        Some("/v1/services/chat/bundles") => (200, json!({})),
        Some("/v1/events") => (200, json!({"entries": [], "head": 3})),
        Some("/v1/log/verification") => (200, json!({"entries": 3, "hash": "h"})),
        Some("/v1/services/chat/confirmations/3") => (200, fake::confirmation(3, "no_members", &[])),
        _ => (204, serde_json::Value::Null),
    })
    .await;
    let client = &fake.client;
    client.services().await.unwrap();
    client.service(&chat()).await.unwrap();
    client.watch(&chat()).await.unwrap();
    client.follow(Some(&chat()), 7).await.unwrap();
    client.follow(None, 0).await.unwrap();
    client.confirmation((&chat()).into(), 3, Duration::from_millis(1500)).await.unwrap();
    client.confirmation((&chat()).into(), 3, Duration::ZERO).await.unwrap();
    client.bundles(&chat()).await.unwrap();
    client.events(Some(&chat()), 7, 9).await.unwrap();
    client.events(None, 0, 9).await.unwrap();
    client.verification().await.unwrap();
    client.forget(&chat(), "edge 1/a?b").await.unwrap();
    assert_eq!(
        fake.lines(),
        [
            "GET /v1/services",
            "GET /v1/services/chat",
            "GET /v1/services/chat/watch",
            "GET /v1/events/stream?service=chat&after=7",
            "GET /v1/events/stream?after=0",
            "GET /v1/services/chat/confirmations/3?wait_ms=1500",
            "GET /v1/services/chat/confirmations/3",
            "GET /v1/services/chat/bundles",
            "GET /v1/events?service=chat&after=7&limit=9",
            "GET /v1/events?after=0&limit=9",
            "GET /v1/log/verification",
            "DELETE /v1/services/chat/members/edge%201%2Fa%3Fb",
        ]
    );
    assert!(fake.asked().iter().all(|asked| asked.token == "secret"));
}

/// A refusal keeps the sidecar's words and ends with 1; the sidecar's own failure ends with 3.
#[tokio::test]
async fn problems_become_failures() {
    for (status, code, exit) in [(409, "wrong-phase", Exit::Refused), (503, "outage", Exit::Outage)] {
        let fake = Fake::start(move |_| (status, fake::problem(status, code))).await;
        let told = told(&fake.client).await;
        assert_eq!((told.exit, told.problem.detail.as_str()), (exit, "it is so"));
    }
}

/// A wrong token is told with the address, and with where both were found.
#[tokio::test]
async fn wrong_tokens_are_told() {
    let fake = Fake::start(|_| (401, fake::problem(401, "unauthenticated"))).await;
    let told = told(&fake.client).await;
    assert_eq!(told.exit, Exit::Refused);
    for wanted in ["http://127.0.0.1:", "(from --control)", "does not accept the control token from --token-file t"] {
        assert!(told.problem.detail.contains(wanted), "{}", told.problem.detail);
    }
    assert!(told.next[0].contains("COLORFAST_CONTROL_TOKEN"));
}

/// Something else behind the address is not mistaken for a sidecar.
#[tokio::test]
async fn strangers_are_told() {
    let fake = Fake::start(|_| (404, json!("not here"))).await;
    let stranger = told(&fake.client).await;
    assert_eq!(stranger.exit, Exit::Outage);
    assert!(stranger.problem.detail.contains("something else listens there"), "{}", stranger.problem.detail);
    let fake = Fake::start(|_| (200, json!({"hello": "world"}))).await;
    let stranger = told(&fake.client).await;
    assert_eq!(stranger.exit, Exit::Outage);
    assert!(stranger.problem.detail.contains("cannot be read"), "{}", stranger.problem.detail);
}

/// Where nobody listens, the address, how it was found and the command that starts a sidecar are told.
#[tokio::test]
async fn absence_is_told() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let told = told(&fake::client(&format!("http://127.0.0.1:{port}"))).await;
    assert_eq!(told.exit, Exit::Outage);
    let wanted = format!("cannot reach the sidecar at http://127.0.0.1:{port}/ (from --control): ");
    assert!(told.problem.detail.starts_with(&wanted), "{}", told.problem.detail);
    assert_eq!(told.next, ["colorfast serve   (starts it)"]);
}
