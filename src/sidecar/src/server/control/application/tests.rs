//! Keys of run tokens, moved by operators and followed to every proxy.

use axum::http::Method;
use colorfast_core::names::SNAPSHOT_TYPE_URL;
use serde_json::{Value, json};

use crate::server::rig::{Answer, Rig, is_held};

const POLLS: &str = colorfast_core::names::DISCOVERY_PATH;

async fn give(rig: &Rig, verb: Value) -> Answer {
    rig.control(Method::POST, "/v1/application/verbs", verb.to_string()).await
}

/// The proxy `edge` asks for a service, holding `held`.
fn poll(service: &str, held: &Value) -> Value {
    json!({
        "version_info": held.as_str().unwrap_or_default(), "resource_names": [service], "type_url": SNAPSHOT_TYPE_URL,
        "node": {"id": "edge", "metadata": {"process_id": "00000000000000aa"}},
    })
}

/// It takes what it is sent, and says so.
async fn takes(rig: &Rig, service: &str, held: &Value) -> Value {
    let sent = rig.shown(POLLS, &poll(service, held)).await.json(200)["version_info"].clone();
    assert!(is_held(&mut rig.shown(POLLS, &poll(service, &sent))).await);
    sent
}

/// Confirmed: a version of the application is confirmed once its proxies have acknowledged it for every service that they
/// ask for; who has not is named once, with the services that it lacks it in.
#[tokio::test]
async fn a_version_of_all_services_is_confirmed_by_all() {
    let rig = Rig::with_chat().await;
    let none = give(&rig, json!({"verb": "rotate_keys"})).await.json(200);
    assert_eq!(none["confirmation"], json!({"version": none["version"], "outcome": "no_members", "members": []}));
    while rig.sidecar.errands.once().await == crate::server::errands::Round::Done
        && rig.get("/v1/application").await.json(200)["keys"][0]["duty"] != "former"
    {}
    rig.control(Method::POST, "/v1/services/code/verbs", r#"{"verb": "apply", "settings": {}}"#).await.json(200);
    let chat = takes(&rig, "chat", &Value::Null).await;
    let code = takes(&rig, "code", &Value::Null).await;

    let added = give(&rig, json!({"verb": "rotate_keys"})).await.json(200);
    let version = added["version"].as_u64().unwrap();
    assert_eq!((&added["changed"], &added["status"]["version"]), (&json!(true), &json!(version)));
    let member = &added["confirmation"]["members"][0];
    assert_eq!((&member["progress"]["state"], &member["services"]), (&json!("silent"), &json!(["chat", "code"])));
    let path = format!("/v1/application/confirmations/{version}");
    takes(&rig, "chat", &chat).await;
    let told = rig.get(&path).await.json(200);
    assert_eq!((&told["outcome"], &told["members"][0]["services"]), (&json!("pending"), &json!(["code"])));

    let mut held = rig.get(&format!("{path}?wait_ms=20000"));
    assert!(is_held(&mut held).await);
    takes(&rig, "code", &code).await;
    let told = held.await.json(200);
    assert_eq!((&told["outcome"], told["members"].as_array().unwrap().len()), (&json!("confirmed"), 1));
    assert!(told["confirmed_after_ms"].as_f64() >= Some(0.0) && told["members"][0].get("services").is_none(), "{told}");
    // It is a version of each service, too, and none that only one service was at.
    let of_chat = rig.get(&format!("/v1/services/chat/confirmations/{version}")).await.json(200);
    assert_eq!(of_chat["outcome"], "confirmed");
    for wrong in [0, 2, version + 9] {
        assert_eq!(rig.get(&format!("/v1/application/confirmations/{wrong}")).await.problem(404).0, "not-found");
    }
    // After a restart the log alone knows when it was appended.
    let rig = rig.restart().await;
    assert_eq!(rig.get(&path).await.json(200)["outcome"], "confirmed");
}

/// Refusals are problems, and tell what happened: to the application where it is of that, and to a service what was done
/// to it, not what became of keys.
#[tokio::test]
async fn refusals_tell_what_happened() {
    let rig = Rig::with_chat().await;
    let acted = rig.status().await.version;
    let version = give(&rig, json!({"verb": "rotate_keys"})).await.json(200)["version"].as_u64().unwrap();
    let again = give(&rig, json!({"verb": "rotate_keys"})).await;
    assert_eq!(again.problem(409).0, "rotation-under-way");
    let change = &again.json(409)["changes"][0];
    assert_eq!((&change["event"], &change["version"]), (&json!("run_key_moved"), &json!(version)));
    let stale = give(&rig, json!({"verb": "retire_key", "key": 2, "expected_version": 1})).await;
    assert_eq!(stale.problem(409).0, "stale-version");
    assert_eq!(stale.json(409)["current_version"], version);

    let refused = rig.try_verb(json!({"verb": "switch", "slot": "blue"})).await;
    assert_eq!(refused.problem(409).0, "already-live");
    let refused = refused.json(409);
    assert_eq!(
        (&refused["changes"][0]["event"], &refused["changes"][0]["version"]),
        (&json!("switched"), &json!(acted))
    );
    assert_eq!(refused["current_version"], version);
    rig.verb(json!({"verb": "ramp", "slot": "green", "weight": 9, "expected_version": acted})).await;

    for (body, code, field) in [
        (json!({"verb": "switch", "slot": "blue"}), "invalid-body", "verb"),
        (json!({"verb": "rotate_keys", "key": 1}), "invalid-body", "key"),
        (json!({"verb": "retire_key"}), "invalid-body", "key"),
    ] {
        let (found, at, _) = give(&rig, body).await.problem(400);
        assert_eq!((found.as_str(), at.as_deref()), (code, Some(field)));
    }
    let forced = json!({"verb": "retire_key", "key": 2, "force": {"reason": " "}});
    assert_eq!(give(&rig, forced).await.problem(422).1.as_deref(), Some("force.reason"));
    assert_eq!(give(&rig, json!({"verb": "retire_key", "key": 9})).await.problem(404).0, "no-key");
}

/// Whoever may only look may look at these, too; moving the keys of all services takes an operator.
#[tokio::test]
async fn roles_are_those_of_verbs() {
    let rig = Rig::with_chat().await;
    let rotate = json!({"verb": "rotate_keys"}).to_string();
    for (role, looks, gives) in [("viewer", 200, 403), ("agent", 200, 403), ("operator", 200, 200)] {
        let token = rig.token_of(json!({"name": role, "role": role})).await;
        let look = rig.control_as(&token, Method::GET, "/v1/application", "").await;
        let give = rig.control_as(&token, Method::POST, "/v1/application/verbs", rotate.clone()).await;
        assert_eq!((look.status.as_u16(), give.status.as_u16()), (looks, gives), "{role}");
    }
}
