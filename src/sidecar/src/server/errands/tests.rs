//! Errands of a whole sidecar, with a member that is asked.

use axum::http::Method;
use serde_json::{Value, json};

use crate::api::ServiceStatus;
use crate::server::errands::Round;
use crate::server::rig::Rig;

const POLLS: &str = "/v3/discovery:snapshots";

/// What a member asks that holds `held`.
fn poll(held: &str) -> Value {
    json!({
        "version_info": held,
        "resource_names": ["chat"],
        "type_url": colorfast_core::names::SNAPSHOT_TYPE_URL,
        "node": {"id": "edge-1", "metadata": {"process_id": "00000000000000aa"}},
    })
}

/// What a member is sent that asks with what it had before.
async fn sent(rig: &Rig, held: &str) -> Value {
    rig.shown(POLLS, &poll(held)).await.json(200)
}

/// The member tells that it decides by what it was sent.
async fn acknowledges(rig: &Rig, response: &Value) {
    let mut held = rig.shown(POLLS, &poll(response["version_info"].as_str().unwrap()));
    assert!(crate::server::rig::is_held(&mut held).await);
}

fn duties(status: &ServiceStatus) -> Vec<(u16, &'static str)> {
    status.keys.iter().map(|key| (key.key.0, key.duty.as_str())).collect()
}

/// Kept: keys are distributed, sign once every member has them, and are gone from store and answers once retired. The
/// log says that the sidecar did it.
#[tokio::test]
async fn keys_are_rotated_member_by_member() {
    let rig = Rig::with_chat().await;
    let first = sent(&rig, "").await;
    acknowledges(&rig, &first).await;
    rig.verb(json!({"verb": "rotate_keys"})).await;
    assert_eq!(rig.sidecar.errands.once().await, Round::Done);
    assert_eq!(duties(&rig.status().await), [(1, "signing"), (2, "arriving")], "the member has not acknowledged it");

    let second = sent(&rig, first["version_info"].as_str().unwrap()).await;
    assert_eq!(second["resources"][0]["keys"]["ring"].as_object().unwrap().len(), 2);
    assert_eq!(second["resources"][0]["state"]["ring"], json!({"signing": 1, "verifying": [1, 2]}));
    acknowledges(&rig, &second).await;
    assert_eq!(rig.sidecar.errands.once().await, Round::Done);
    assert_eq!(duties(&rig.status().await), [(1, "leaving"), (2, "signing")]);
    assert_eq!(rig.sidecar.errands.once().await, Round::Done);
    assert_eq!(duties(&rig.status().await), [(1, "leaving"), (2, "signing")], "the member signs with the first still");

    let third = sent(&rig, second["version_info"].as_str().unwrap()).await;
    assert_eq!(third["resources"][0]["state"]["ring"]["signing"], 2);
    acknowledges(&rig, &third).await;
    rig.sidecar.errands.once().await;
    let status = rig.status().await;
    assert_eq!(duties(&status), [(1, "former"), (2, "signing")]);
    assert!(status.keys[0].retires.is_some() && status.keys[1].retires.is_none());

    // A restart knows all of it, and both keys.
    let rig = rig.restart().await;
    assert_eq!(duties(&rig.status().await), [(1, "former"), (2, "signing")]);
    let refused = rig.try_verb(json!({"verb": "retire_key", "key": 1})).await.problem(409);
    assert_eq!(refused.0, "key-in-use");
    rig.verb(json!({"verb": "retire_key", "key": 1, "force": {"reason": "it leaked"}})).await;
    let fourth = sent(&rig, third["version_info"].as_str().unwrap()).await;
    let keys = fourth["resources"][0]["keys"]["ring"].as_object().unwrap();
    assert_eq!(keys.keys().collect::<Vec<_>>(), ["2"]);
    let kept = colorfast_store(&rig).await;
    assert_eq!(kept["ring"].as_object().unwrap().keys().collect::<Vec<_>>(), ["2"], "a retired key is kept nowhere");

    let events = rig.get("/v1/events?service=chat&limit=1000").await.json(200);
    let moved: Vec<_> =
        events["entries"].as_array().unwrap().iter().filter(|entry| entry["event"]["type"] == "key_moved").collect();
    let told: Vec<_> =
        moved.iter().map(|entry| (&entry["principal"], &entry["event"]["step"], &entry["event"]["key"])).collect();
    assert_eq!(
        json!(told),
        json!([["local", "added", 2], ["sidecar", "signs", 2], ["sidecar", "unused", 1], ["local", "retired", 1]])
    );
}

/// The keys of `chat` as they are kept.
async fn colorfast_store(rig: &Rig) -> Value {
    let kept = rig.sidecar.secret("service/chat/keys").await;
    serde_json::from_slice(&kept).unwrap()
}

/// Kept: a key of run tokens moves for all services at once, each step only once the member of every one has the step
/// before; a restart goes on where it was, and once retired the key is gone from store and answers.
#[tokio::test]
async fn run_keys_are_rotated_service_by_service() {
    let rig = Rig::with_chat().await;
    rig.control(Method::POST, "/v1/services/code/verbs", r#"{"verb": "apply", "settings": {}}"#).await.json(200);
    let poll = |service: &str, held: &Value| {
        let mut poll = poll(held.as_str().unwrap_or_default());
        poll["resource_names"] = json!([service]);
        poll
    };
    let taken = async |rig: &Rig, service: &str, held: &Value| {
        let sent = rig.shown(POLLS, &poll(service, held)).await.json(200);
        let mut holds = rig.shown(POLLS, &poll(service, &sent["version_info"]));
        assert!(crate::server::rig::is_held(&mut holds).await);
        sent
    };
    let duties = async |rig: &Rig| {
        let application = rig.get("/v1/application").await.json(200);
        let keys = application["keys"].as_array().unwrap().clone();
        keys.iter()
            .map(|key| (key["key"].as_u64().unwrap(), key["duty"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    let are = |all: &[(u64, &str)]| all.iter().map(|(key, duty)| (*key, (*duty).to_owned())).collect::<Vec<_>>();
    let give = |rig: &Rig, verb: Value| rig.control(Method::POST, "/v1/application/verbs", verb.to_string());

    let chat = taken(&rig, "chat", &Value::Null).await;
    let code = taken(&rig, "code", &Value::Null).await;
    assert_eq!(chat["resources"][0]["keys"]["runs"], code["resources"][0]["keys"]["runs"]);
    give(&rig, json!({"verb": "rotate_keys"})).await.json(200);
    let chat = taken(&rig, "chat", &chat["version_info"]).await;
    assert_eq!(chat["resources"][0]["keys"]["runs"].as_object().unwrap().len(), 2);
    assert_eq!(chat["resources"][0]["state"]["run_ring"], json!({"signing": 1, "verifying": [1, 2]}));
    assert_eq!(rig.sidecar.errands.once().await, Round::Done);
    assert_eq!(
        duties(&rig).await,
        are(&[(1, "signing"), (2, "arriving")]),
        "the member of code has not acknowledged it"
    );

    // A restart waits for the same members.
    let rig = rig.restart().await;
    assert_eq!(rig.sidecar.errands.once().await, Round::Done);
    assert_eq!(duties(&rig).await, are(&[(1, "signing"), (2, "arriving")]));
    let code = taken(&rig, "code", &code["version_info"]).await;
    assert_eq!(rig.sidecar.errands.once().await, Round::Done);
    assert_eq!(duties(&rig).await, are(&[(1, "leaving"), (2, "signing")]));
    let code = taken(&rig, "code", &code["version_info"]).await;
    assert_eq!(code["resources"][0]["state"]["run_ring"]["signing"], 2);
    rig.sidecar.errands.once().await;
    assert_eq!(duties(&rig).await, are(&[(1, "leaving"), (2, "signing")]), "chat may mint with the first still");
    let chat = taken(&rig, "chat", &chat["version_info"]).await;
    rig.sidecar.errands.once().await;
    assert_eq!(duties(&rig).await, are(&[(1, "former"), (2, "signing")]));

    assert_eq!(give(&rig, json!({"verb": "retire_key", "key": 1})).await.problem(409).0, "key-in-use");
    give(&rig, json!({"verb": "retire_key", "key": 1, "force": {"reason": "it leaked"}})).await.json(200);
    for (service, held) in [("chat", &chat), ("code", &code)] {
        let sent = taken(&rig, service, &held["version_info"]).await;
        let keys = sent["resources"][0]["keys"]["runs"].as_object().unwrap();
        assert_eq!(keys.keys().collect::<Vec<_>>(), ["2"]);
    }
    let kept: Value = serde_json::from_slice(&rig.sidecar.secret("application/run-keys").await).unwrap();
    assert_eq!(kept["keys"].as_object().unwrap().keys().collect::<Vec<_>>(), ["2"], "a retired key is kept nowhere");
    let events = rig.get("/v1/events?limit=1000").await.json(200);
    let moved = events["entries"].as_array().unwrap().iter().filter(|entry| entry["event"]["type"] == "run_key_moved");
    let told: Vec<_> =
        moved.map(|entry| (&entry["principal"], &entry["event"]["step"], &entry["event"]["key"])).collect();
    assert_eq!(
        json!(told),
        json!([["local", "added", 2], ["sidecar", "signs", 2], ["sidecar", "unused", 1], ["local", "retired", 1]])
    );
}

/// The sidecar's own step is no verb for others.
#[tokio::test]
async fn nobody_else_turns_keys() {
    let rig = Rig::with_chat().await;
    let refused = rig.try_verb(json!({"verb": "turn_keys"})).await.problem(400);
    assert_eq!((refused.0.as_str(), refused.1.as_deref()), ("invalid-body", Some("verb")));
    let of_all = rig.control(Method::POST, "/v1/application/verbs", json!({"verb": "turn_keys"}).to_string()).await;
    let refused = of_all.problem(400);
    assert_eq!(refused.2, "verb: \"turn_keys\" is none of rotate_keys, retire_key");
}
