//! Errands of a whole sidecar, with a member that is asked.

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

/// The sidecar's own step is no verb for others.
#[tokio::test]
async fn nobody_else_turns_keys() {
    let rig = Rig::with_chat().await;
    let refused = rig.try_verb(json!({"verb": "turn_keys"})).await.problem(400);
    assert_eq!((refused.0.as_str(), refused.1.as_deref()), ("invalid-body", Some("verb")));
}
