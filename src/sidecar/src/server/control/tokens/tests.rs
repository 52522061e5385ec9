//! Who may do what, as programs with tokens see it.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use colorfast_core::names::{DISCOVERY_PATH, REPORTS_PATH, SNAPSHOT_TYPE_URL};
use serde_json::{Value, json};

use crate::server::rig::{Rig, ask};

fn poll(node: &str) -> Value {
    json!({
        "resource_names": ["chat"], "type_url": SNAPSHOT_TYPE_URL,
        "node": {"id": node, "metadata": {"process_id": "00000000000000aa"}},
    })
}

/// Each role may do what its table says, and a refusal says which role it takes; nothing that is refused is done.
#[tokio::test]
async fn roles_bound_what_is_done() {
    let rig = Rig::with_chat().await;
    let mut tokens = Vec::new();
    for role in ["viewer", "operator", "admin"] {
        tokens.push((role, rig.token_of(json!({"name": role, "role": role})).await));
    }
    let verb = json!({"verb": "add_bundle", "id": "v9", "manifest": {"code": "c", "model": "m", "prompts": "p"}});
    let made = json!({"name": "x", "role": "viewer"});
    let cases = [
        (Method::GET, "/v1/services", String::new(), [200, 200, 200]),
        (Method::GET, "/v1/events", String::new(), [200, 200, 200]),
        (Method::POST, "/v1/services/chat/verbs", verb.to_string(), [403, 200, 200]),
        (Method::DELETE, "/v1/services/chat/members/a%2Fb", String::new(), [403, 404, 404]),
        (Method::GET, "/v1/tokens", String::new(), [403, 403, 200]),
        (Method::POST, "/v1/tokens", made.to_string(), [403, 403, 201]),
        (Method::DELETE, "/v1/tokens/x", String::new(), [403, 403, 204]),
    ];
    for (method, path, body, wanted) in cases {
        for ((role, token), wanted) in tokens.iter().zip(wanted) {
            let answer = rig.control_as(token, method.clone(), path, body.clone()).await;
            assert_eq!(answer.status, wanted, "{role} {method} {path}: {}", answer.text);
            if wanted == 403 {
                let (code, _, detail) = answer.problem(403);
                assert_eq!(code, "forbidden");
                assert!(detail.contains(&format!("has the role {role}, and this needs ")), "{detail}");
            }
        }
    }
}

/// Every event names who asked for it.
#[tokio::test]
async fn events_name_the_principal() {
    let rig = Rig::with_chat().await;
    let token = rig.token_of(json!({"name": "ci", "role": "operator"})).await;
    let verb = json!({"verb": "switch", "slot": "green"}).to_string();
    rig.control_as(&token, Method::POST, "/v1/services/chat/verbs", verb).await.json(200);
    let entries = rig.get("/v1/events").await.json(200)["entries"].clone();
    let principals: Vec<_> = entries.as_array().unwrap().iter().map(|entry| entry["principal"].clone()).collect();
    assert_eq!(principals, ["sidecar", "local", "local", "local", "local", "local", "local", "ci"]);
}

/// A revoked token is refused at the next request, over a restart too.
#[tokio::test]
async fn revoked_tokens_are_refused() {
    let rig = Rig::with_chat().await;
    let token = rig.token_of(json!({"name": "ci", "role": "operator"})).await;
    assert_eq!(rig.control_as(&token, Method::GET, "/v1/services", "").await.status, StatusCode::OK);
    let rig = rig.restart().await;
    assert_eq!(rig.control_as(&token, Method::GET, "/v1/services", "").await.status, StatusCode::OK);
    assert!(rig.get("/v1/tokens").await.json(200)[0]["last_used"].is_u64());
    assert_eq!(rig.control(Method::DELETE, "/v1/tokens/ci", "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(rig.control_as(&token, Method::GET, "/v1/services", "").await.problem(401).0, "unauthenticated");
    assert_eq!(rig.control(Method::DELETE, "/v1/tokens/ci", "").await.problem(404).0, "not-found");
    let rig = rig.restart().await;
    assert_eq!(rig.control_as(&token, Method::GET, "/v1/services", "").await.problem(401).0, "unauthenticated");
}

/// A discovery token is for its nodes, in polls and in reports, and for no operator; a control token is for no proxy.
#[tokio::test]
async fn discovery_tokens_are_bound_to_nodes() {
    let rig = Rig::with_chat().await;
    let edges = rig.token_of(json!({"name": "edges", "node": "edge-*"})).await;
    let operator = rig.token_of(json!({"name": "ci", "role": "admin"})).await;
    rig.discovery_as(&edges, DISCOVERY_PATH, &poll("edge-1")).await.json(200);
    let (code, field, detail) = rig.discovery_as(&edges, DISCOVERY_PATH, &poll("gate-1")).await.problem(403);
    assert_eq!((code.as_str(), field.as_deref()), ("other-node", Some("node.id")));
    assert_eq!(detail, "the token edges is for the nodes edge-*, not for gate-1");
    let report = json!({"node": poll("gate-1")["node"], "instance": "00000000000000aa", "sequence": 1});
    assert_eq!(rig.discovery_as(&edges, REPORTS_PATH, &report).await.problem(403).0, "other-node");
    assert_eq!(rig.discovery_as(&operator, DISCOVERY_PATH, &poll("edge-1")).await.problem(403).0, "forbidden");
    assert_eq!(rig.control_as(&edges, Method::GET, "/v1/services", "").await.problem(403).0, "forbidden");
    let members = rig.status().await.members;
    assert_eq!(members.iter().map(|member| member.node.as_str()).collect::<Vec<_>>(), ["edge-1"]);
}

/// Who fails too often is told to wait, and who has a valid token is let in all the same.
#[tokio::test]
async fn failures_lock_out_nobody_valid() {
    let rig = Rig::with_chat().await;
    let get = |token: &str| rig.control_as(token, Method::GET, "/v1/services", "");
    for _ in 0..20 {
        assert_eq!(get("wrong").await.status, StatusCode::UNAUTHORIZED);
    }
    let answer = get("wrong").await;
    assert_eq!(answer.problem(429).0, "too-many-failures");
    let rest: u64 = answer.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=3).contains(&rest));
    let nobody = ask(&rig.sidecar.control, Request::get("/v1/services").body(Body::empty()).unwrap()).await;
    assert_eq!(nobody.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(rig.get("/v1/services").await.status, StatusCode::OK);
    let token = rig.token_of(json!({"name": "ci", "role": "viewer"})).await;
    assert_eq!(get(&token).await.status, StatusCode::OK);
    // The other address has limits of its own.
    assert_eq!(rig.discovery_as("wrong", DISCOVERY_PATH, &poll("edge-1")).await.status, StatusCode::UNAUTHORIZED);
}
