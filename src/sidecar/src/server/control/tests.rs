//! The control API, as an operator's program sees it.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::*;
use crate::server::rig::{LIMIT, Rig, ask, is_held};

/// Only the token of an API opens it, and only in the form that the standard gives it; health needs none.
#[tokio::test]
async fn tokens_are_asked_for() {
    let rig = Rig::with_chat().await;
    let (control, discovery) = (rig.token("control"), rig.token("discovery"));
    assert_ne!(control, discovery);
    assert_eq!(control.len(), 43);
    let cases = [
        (None, 401),
        (Some(String::new()), 401),
        (Some("Bearer".to_owned()), 401),
        (Some("Bearer ".to_owned()), 401),
        (Some(control.clone()), 401),
        (Some(format!("Basic {control}")), 401),
        (Some(format!("Bearer {discovery}")), 401),
        (Some(format!("Bearer {control}x")), 401),
        (Some(format!("Bearer {}", &control[..42])), 401),
        (Some(format!("Bearer {}", control.to_uppercase())), 401),
        (Some(format!("Bearer {control}")), 200),
        (Some(format!("bearer {control}")), 200),
    ];
    for (authorization, status) in cases {
        let mut request = Request::get("/v1/services");
        if let Some(authorization) = &authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let answer = ask(&rig.sidecar.control, request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status, "{authorization:?}");
        if status == 401 {
            assert_eq!(answer.problem(401).0, "unauthenticated");
            assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
            assert!(!answer.text.contains(&control));
            assert!(answer.problem(401).2.contains("the token of control.token"), "{}", answer.text);
        }
    }
    for routes in [&rig.sidecar.control, &rig.sidecar.discovery] {
        let answer = ask(routes, Request::get("/healthz").body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, "ok"));
        let wrong = ask(routes, Request::post("/healthz").body(Body::empty()).unwrap()).await;
        assert_eq!(wrong.problem(405).0, "method-not-allowed");
        let unknown = ask(routes, Request::get("/v1/other").body(Body::empty()).unwrap()).await;
        assert_eq!(unknown.problem(401).0, "unauthenticated");
    }
}

/// Every error is a problem document that names what was wrong, axum's own refusals included.
#[tokio::test]
async fn errors_are_problem_documents() {
    let rig = Rig::with_chat().await;
    let get = Method::GET;
    let cases = [
        (get.clone(), "/", 404, "not-found", None),
        (get.clone(), "/v2/services", 404, "not-found", None),
        (get.clone(), "/v1/services/", 404, "not-found", None),
        (Method::PUT, "/v1/services", 405, "method-not-allowed", None),
        (Method::DELETE, "/v1/services/chat", 405, "method-not-allowed", None),
        (get.clone(), "/v1/services/code", 404, "no-service", None),
        (get.clone(), "/v1/services/Chat", 422, "invalid-field", Some("service")),
        (get.clone(), "/v1/services/%ff", 404, "not-found", None),
        (get.clone(), "/v1/services/code/bundles", 404, "no-service", None),
        (get.clone(), "/v1/services/chat?wait_ms=30001", 422, "invalid-field", Some("wait_ms")),
        (get.clone(), "/v1/services/chat?wait_ms=x", 400, "invalid-query", Some("wait_ms")),
        (get.clone(), "/v1/services/chat?wait=1", 400, "invalid-query", Some("wait")),
        (get.clone(), "/v1/services/chat/confirmations/x", 422, "invalid-field", Some("version")),
        (get.clone(), "/v1/services/chat/confirmations/0", 404, "not-found", None),
        (get.clone(), "/v1/services/chat/confirmations/1", 404, "not-found", None),
        (get.clone(), "/v1/services/chat/confirmations/99", 404, "not-found", None),
        (get.clone(), "/v1/services/code/confirmations/2", 404, "no-service", None),
        (Method::DELETE, "/v1/services/chat/members/a%2Fb", 404, "not-found", None),
        (Method::DELETE, "/v1/services/code/members/a", 404, "no-service", None),
        (get.clone(), "/v1/events?limit=0", 422, "invalid-field", Some("limit")),
        (get.clone(), "/v1/events?limit=1001", 422, "invalid-field", Some("limit")),
        (get.clone(), "/v1/events?after=-1", 400, "invalid-query", Some("after")),
        (get, "/v1/events?service=Chat", 400, "invalid-query", Some("service")),
    ];
    for (method, path, status, code, field) in cases {
        let problem = rig.control(method.clone(), path, "").await.problem(status);
        assert_eq!((problem.0.as_str(), problem.1.as_deref()), (code, field), "{method} {path}: {}", problem.2);
    }
}

/// Who asks in the wrong way is told which ways there are; HEAD is answered as GET is, without the body.
#[tokio::test]
async fn wrong_methods_name_the_right_ones() {
    let rig = Rig::with_chat().await;
    let cases = [
        (Method::OPTIONS, "/v1/services", "GET,HEAD"),
        (Method::POST, "/v1/services/chat", "GET,HEAD"),
        (Method::GET, "/v1/services/chat/verbs", "POST"),
        (Method::HEAD, "/v1/services/chat/verbs", "POST"),
        (Method::PATCH, "/v1/services/chat/members/a%2Fb", "DELETE"),
        (Method::TRACE, "/v1/openapi.json", "GET,HEAD"),
    ];
    for (method, path, allowed) in cases {
        let answer = rig.control(method.clone(), path, "").await;
        assert_eq!((answer.status.as_u16(), answer.headers[header::ALLOW].to_str().unwrap()), (405, allowed), "{path}");
        assert_eq!(answer.headers[header::CONTENT_TYPE], "application/problem+json");
        assert!(method == Method::HEAD || answer.problem(405).0 == "method-not-allowed", "{}", answer.text);
    }
    let head = rig.control(Method::HEAD, "/v1/services/chat", "").await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    assert_eq!(rig.control(Method::HEAD, "/v1/services/code", "").await.status, 404);
}

/// A bad verb is refused with the field and the rule, a misspelt field is not passed over, and nothing is appended.
#[tokio::test]
async fn bad_verbs_are_refused_by_field() {
    let rig = Rig::with_chat().await;
    let head = rig.get("/v1/events").await.json(200)["head"].clone();
    let manifest = json!({"code": "c", "model": "", "prompts": "p"});
    let cases = [
        (json!({"verb": "apply"}), 400, "invalid-body", Some("settings"), "missing"),
        (
            json!({"verb": "add_bundle", "id": "v3", "manifest": {"code": "c", "model": "m"}}),
            400,
            "invalid-body",
            Some("manifest.prompts"),
            "missing",
        ),
        (json!({"verb": "apply", "settings": {"colour": 1}}), 400, "invalid-body", Some("settings.colour"), "colour"),
        (
            json!({"verb": "apply", "settings": {"pin": {"max_age": 1}}}),
            400,
            "invalid-body",
            Some("settings.pin.max_age"),
            "max_age_seconds",
        ),
        (
            json!({"verb": "apply", "settings": {"preset": "mcp", "pin": {"cokie": 1}}}),
            400,
            "invalid-body",
            Some("settings.pin.cokie"),
            "unknown field",
        ),
        (
            json!({"verb": "apply", "settings": {"preset": "mpc"}}),
            400,
            "invalid-body",
            Some("settings.preset"),
            "there are: mcp/1, a2a/1",
        ),
        (json!({"verb": "apply", "settings": {"preset": 1}}), 400, "invalid-body", Some("settings.preset"), "a preset"),
        (json!({"verb": "apply", "settings": {"slots": []}}), 422, "invalid-field", Some("settings.slots"), "1 to 8"),
        (
            json!({"verb": "apply", "settings": {"slots": ["blue", "Red"]}}),
            400,
            "invalid-body",
            Some("settings.slots[1]"),
            "a slot name",
        ),
        (
            json!({"verb": "apply", "settings": {"slots": ["green"]}}),
            409,
            "slot-in-use",
            Some("settings.slots"),
            "blue",
        ),
        (
            json!({"verb": "add_bundle", "id": "v3", "manifest": manifest}),
            422,
            "invalid-field",
            Some("manifest.model"),
            "is empty",
        ),
        (json!({"verb": "ramp", "slot": "green", "weight": 10_001}), 400, "invalid-body", Some("weight"), "10,000"),
        (json!({"verb": "switch", "slot": "Green"}), 400, "invalid-body", Some("slot"), "a slot name"),
        (json!({"verb": "rollback", "pins": "hold"}), 400, "invalid-body", Some("pins"), "keep"),
        (json!({"verb": "rollback", "pins": "keep", "too": "blue"}), 400, "invalid-body", Some("too"), "unknown"),
        (json!({"verb": "swich", "slot": "green"}), 400, "invalid-body", Some("verb"), "switch"),
        (json!({"slot": "green"}), 400, "invalid-body", Some("verb"), "missing"),
        (json!({"verb": 7}), 400, "invalid-body", Some("verb"), "string"),
        (json!({"verb": "switch", "slot": "red"}), 404, "no-slot", None, "blue, green"),
        (json!({"verb": "switch", "slot": "blue"}), 409, "already-live", None, "live already"),
        (json!({"verb": "stage", "slot": "blue", "bundle": "v1"}), 409, "wrong-phase", None, "idle"),
        (
            json!({"expected_version": 1, "verb": "switch", "slot": "green"}),
            409,
            "stale-version",
            None,
            "at version 7, not at 1",
        ),
        (
            json!({"expected_version": "x", "verb": "switch", "slot": "green"}),
            400,
            "invalid-body",
            Some("expected_version"),
            "u64",
        ),
        (
            json!({"verb": "recycle", "slot": "green", "force": {"reason": " "}}),
            422,
            "invalid-field",
            Some("force.reason"),
            "say why",
        ),
        (json!([]), 400, "invalid-body", None, "map"),
    ];
    for (verb, status, code, field, said) in cases {
        let problem = rig.try_verb(verb.clone()).await.problem(status);
        assert_eq!((problem.0.as_str(), problem.1.as_deref()), (code, field), "{verb}: {}", problem.2);
        assert!(problem.2.contains(said), "{verb}: {}", problem.2);
    }
    let raw = |body: &str| rig.control(Method::POST, "/v1/services/chat/verbs", body.to_owned());
    let broken = raw("{\"verb\":\n \"switch\",,}").await.problem(400);
    assert!(broken.2.contains("line 2 column 11"), "{}", broken.2);
    assert!(raw("{\"verb\":\"switch\",\"slot\":\"green\"} x").await.problem(400).2.contains("after the document"));
    assert_eq!(raw(&" ".repeat(BODY_MAX + 1)).await.problem(413).0, "too-large");
    assert_eq!(rig.get("/v1/events").await.json(200)["head"], head);
}

/// Every verb of core has its place in the API.
#[test]
fn every_verb_is_read_as_it_is_written() {
    let manifest = json!({"code": "c", "model": "m", "prompts": "p", "retrieval_index": "", "tools": {"t": "1"}});
    let verbs = [
        json!({"verb": "apply", "settings": {"slots": ["a", "b"]}}),
        json!({"verb": "apply", "settings": {"preset": "mcp/1", "pin": {"cookie": "sessionless"}}}),
        json!({"verb": "add_bundle", "id": "v1", "manifest": manifest}),
        json!({"verb": "stage", "slot": "blue", "bundle": "v1"}),
        json!({"verb": "ramp", "slot": "blue", "weight": 250}),
        json!({"verb": "abort", "slot": "blue", "pins": "break"}),
        json!({"verb": "switch", "slot": "blue"}),
        json!({"verb": "rollback", "to": "blue", "pins": "keep"}),
        json!({"verb": "rollback", "to": null, "pins": "break"}),
        json!({"verb": "migrate", "slot": "blue"}),
        json!({"verb": "recycle", "slot": "blue", "force": {"reason": "r"}}),
        json!({"verb": "recycle", "slot": "blue", "force": null}),
    ];
    for mut verb in verbs {
        verb["expected_version"] = json!(7);
        let derived: crate::api::VerbRequest = serde_json::from_value(verb.clone()).unwrap();
        let written = serde_json::to_vec(&derived).unwrap();
        let read = super::verbs::parse(&written).unwrap();
        assert_eq!((read.expected_version, &read.verb), (Some(7), &derived.verb));
        assert_eq!(serde_json::to_value(&read).unwrap(), verb);
    }
}

/// The document of a stale verb has the version that is now, and that of one too early the members that hold it up.
#[tokio::test]
async fn conflicts_say_what_to_wait_for() {
    let rig = Rig::with_chat().await;
    let version = rig.status().await.version;
    let stale = rig.try_verb(json!({"expected_version": 2, "verb": "switch", "slot": "green"})).await.json(409);
    assert_eq!(stale["current_version"], version);
    let seen: Vec<_> = stale["changes"].as_array().unwrap().iter().map(|change| change["event"].as_str()).collect();
    assert_eq!(seen, ["bundle_added", "staged", "bundle_added", "staged", "switched"].map(Some));
    let last = stale["changes"][4].clone();
    assert_eq!((&last["version"], &last["principal"]), (&json!(version), &json!("local")));
    assert!(stale["changes"][0]["at"].as_u64().unwrap() <= last["at"].as_u64().unwrap());
    let detail = stale["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("the last change was switched (v{version}) by local at 20")), "{detail}");
    // Who expected nothing is told what the other did, too.
    let late = rig.try_verb(json!({"verb": "switch", "slot": "blue"})).await.json(409);
    assert_eq!((&late["changes"], &late["current_version"]), (&json!([last]), &json!(version)));

    let poll = json!({
        "version_info": "", "resource_names": ["chat"], "type_url": colorfast_core::names::SNAPSHOT_TYPE_URL,
        "node": {"id": "edge", "metadata": {"process_id": "00000000000000aa"}},
    });
    rig.discovery(colorfast_core::names::DISCOVERY_PATH, &poll).await.json(200);
    let early = rig.try_verb(json!({"verb": "switch", "slot": "green"})).await.json(409);
    assert_eq!(early["type"], format!("{}not-introduced", crate::api::PROBLEM_PREFIX));
    assert_eq!(early["members"], json!(["edge/00000000000000aa"]));
    assert!(early["awaited_version"].as_u64().unwrap() < version);

    let path = "/v1/services/chat/members/edge%2F00000000000000aa";
    assert_eq!(rig.control(Method::DELETE, path, "").await.status, StatusCode::NO_CONTENT);
    let switched = rig.verb(json!({"verb": "switch", "slot": "green"})).await;
    assert_eq!(switched.confirmation.outcome, crate::api::Outcome::NoMembers);
}

/// A whole number is one however it is written: `250.0` is the integer 250, as JSON Schema has it.
#[tokio::test]
async fn whole_numbers_are_integers() {
    let rig = Rig::with_chat().await;
    let version = rig.status().await.version;
    let ramp = |weight: &str, expected: &str| {
        let body = format!(r#"{{"verb":"ramp","slot":"green","weight":{weight},"expected_version":{expected}}}"#);
        rig.control(Method::POST, "/v1/services/chat/verbs", body)
    };
    let done = ramp("250.0", &format!("{version}.0")).await.json(200);
    assert_eq!(done["status"]["slots"][1]["weight"], 250);
    for wrong in ["250.5", "1e300", "-1.0"] {
        assert_eq!(ramp(wrong, "null").await.problem(400).1.as_deref(), Some("weight"), "{wrong}");
    }
}

/// A key may stand bare or quoted, and means the same; what is no key is refused, and nothing is carried out.
#[tokio::test]
async fn idempotency_keys_are_read() {
    let rig = Rig::with_chat().await;
    let switch = |keys: &[&[u8]]| {
        let request = Request::post("/v1/services/chat/verbs");
        let request = request.header(header::AUTHORIZATION, format!("Bearer {}", rig.token("control")));
        let request = keys.iter().fold(request, |request, key| request.header("Idempotency-Key", *key));
        ask(&rig.sidecar.control, request.body(r#"{"verb":"switch","slot":"green"}"#.into()).unwrap())
    };
    let version = rig.status().await.version;
    let long = [b'x'; 129];
    let wrong: [&[&[u8]]; 9] = [
        &[b""],
        &[&long],
        &[b"\"a"],
        &[b"\"a\"b"],
        &[b"\"\""],
        &[b"\"a\\b\""],
        &[b"\xc3\xa4"],
        &[b"a\tb"],
        &[b"a", b"a"],
    ];
    for keys in wrong {
        assert_eq!(switch(keys).await.problem(400).0, "invalid-idempotency-key", "{keys:?}");
    }
    assert_eq!(rig.status().await.version, version);
    let first = switch(&[b"a\"b"]).await.json(200);
    let again = switch(&[b"\"a\\\"b\""]).await.json(200);
    assert_eq!(
        (&first["version"], &first["changed"], first.get("repeated")),
        (&json!(version + 1), &json!(true), None)
    );
    assert_eq!(
        (&again["version"], &again["changed"], &again["repeated"]),
        (&json!(version + 1), &json!(true), &json!(true))
    );
    assert_eq!(switch(&[]).await.problem(409).0, "already-live");

    // The key is in the entry, so it is known after a crash.
    let rig = Rig::start_in(rig.crash().await).await;
    let request = Request::post("/v1/services/chat/verbs").header("Idempotency-Key", "a\"b");
    let request = request.header(header::AUTHORIZATION, format!("Bearer {}", rig.token("control")));
    let other = request.body(r#"{"verb":"switch","slot":"blue"}"#.into()).unwrap();
    assert_eq!(ask(&rig.sidecar.control, other).await.problem(422).0, "idempotency-key-reused");
    let entry = &rig.get(&format!("/v1/events?after={version}")).await.json(200)["entries"][0];
    assert_eq!(entry["key"]["id"], "a\"b");
}

/// The status shows slots in their order, the way back, and every bundle; events are paged and sorted by service.
#[tokio::test]
async fn services_are_shown_whole() {
    let rig = Rig::with_chat().await;
    let status = rig.verb(json!({"verb": "switch", "slot": "green"})).await.status;
    assert_eq!(status.slots.iter().map(|slot| slot.slot.as_str()).collect::<Vec<_>>(), ["blue", "green"]);
    assert_eq!(status.way_back, Some("blue".parse().unwrap()));
    assert_eq!(rig.get("/v1/services").await.json(200).as_array().unwrap().len(), 1);
    let bundles = rig.get("/v1/services/chat/bundles").await.json(200);
    assert_eq!(bundles.as_object().unwrap().keys().collect::<Vec<_>>(), ["v1", "v2"]);
    let back = rig.verb(json!({"verb": "rollback", "to": null, "pins": "break"})).await.status;
    assert_eq!(back.way_back, None);

    rig.control(Method::POST, "/v1/services/code/verbs", json!({"verb": "apply", "settings": {}}).to_string())
        .await
        .json(200);
    let events = |query: &str| {
        let asked = rig.get(&format!("/v1/events?{query}"));
        async move {
            let events = asked.await.json(200);
            let entries = events["entries"].as_array().unwrap();
            (entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect::<Vec<_>>(), events["head"].clone())
        }
    };
    assert_eq!(events("").await, ((1..=10).collect(), json!(10)));
    assert_eq!(events("after=2&limit=2").await, (vec![3, 4], json!(10)));
    assert_eq!(events("service=chat&after=8").await, (vec![9], json!(10)));
    assert_eq!(events("service=code").await, (vec![10], json!(10)));
    assert_eq!(events("after=10").await, (vec![], json!(10)));
    let verified = rig.get("/v1/log/verification").await.json(200);
    assert_eq!((&verified["entries"], verified.get("error")), (&json!(10), None::<&Value>));
}

/// A status is held until the service changes or its members do, and no longer than asked.
#[tokio::test]
async fn status_waits_for_news() {
    let rig = Rig::with_chat().await;
    let version = rig.status().await.version;
    let path = format!("/v1/services/chat?after_version={version}&wait_ms=30000");
    let mut waiting = rig.get(&path);
    assert!(is_held(&mut waiting).await);
    rig.verb(json!({"verb": "switch", "slot": "green"})).await;
    let newer = timeout(LIMIT, waiting).await.unwrap().json(200);
    assert_eq!(newer["version"], version + 1);

    // What is newer already is told at once.
    assert_eq!(timeout(LIMIT, rig.get(&path)).await.unwrap().json(200)["version"], version + 1);

    tokio::time::pause();
    let asked = Instant::now();
    rig.get(&format!("/v1/services/chat?after_version={}&wait_ms=1000", version + 1)).await.json(200);
    assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&asked.elapsed()));
    let mut waiting = rig.get(&format!("/v1/services/chat?after_version={}&wait_ms=30000", version + 1));
    assert!(is_held(&mut waiting).await);
    rig.sidecar.ending.begin();
    waiting.await.json(200);
    assert!(asked.elapsed() < Duration::from_secs(2), "the end of the process is waited out");
}

/// A preset is expanded as it enters the log, by the newest version where the request names none; the service shows the
/// settings and where they came from. Proxies are given the settings alone.
#[tokio::test]
async fn presets_are_expanded_as_they_enter_the_log() {
    let rig = Rig::with_chat().await;
    let apply = json!({"verb": "apply", "settings": {"preset": "langgraph", "pin": {"cookie": "always"}}});
    let status = rig.try_verb(apply).await.json(200)["status"].clone();
    let settings = json!({
        "session_sources": [{"path": "/**/threads/{session!search!count!prune}"}, {"body": "/thread_id"}],
        "learn_from": [{"body": "/thread_id"}],
        "pin": {"header": "never", "cookie": "always", "max_age_seconds": 2_592_000, "idle_timeout_seconds": 604_800},
    });
    assert_eq!((&status["preset"], &status["settings"]), (&json!("langgraph/1"), &settings));
    let events = rig.get("/v1/events").await.json(200);
    let event = &events["entries"].as_array().unwrap().last().unwrap()["event"];
    assert_eq!(*event, json!({"type": "settings_applied", "settings": settings, "preset": "langgraph/1"}));
    let again = json!({"verb": "apply", "settings": {"preset": "langgraph/1", "pin": {"cookie": "always"}}});
    assert_eq!(rig.try_verb(again).await.json(200)["changed"], false);
}
