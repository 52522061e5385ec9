use std::os::unix::fs::PermissionsExt;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::*;
use crate::server::copies::{Existing, restore};
use crate::server::rig::{Answer, Rig, ask};

async fn open(folder: &TempDir) -> Offline {
    Offline::open(folder.path(), Missing::Make, "user:ada".to_owned()).await.unwrap()
}

async fn refusal(folder: &Path, missing: Missing) -> String {
    Offline::open(folder, missing, "user:ada".to_owned()).await.unwrap_err().to_string()
}

async fn send(offline: &Offline, method: Method, path: &str, body: Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    ask(&offline.control(), Request::builder().method(method).uri(path).body(body.into()).unwrap()).await
}

async fn verb(offline: &Offline, verb: Value) -> Answer {
    send(offline, Method::POST, "/v1/services/chat/verbs", verb).await
}

async fn does(offline: &Offline, given: Value) -> Value {
    verb(offline, given).await.json(200)
}

/// `v1` is live in blue, `v2` staged in green.
async fn with_chat(folder: &TempDir) -> Offline {
    let offline = open(folder).await;
    does(&offline, json!({"verb": "apply", "settings": {}})).await;
    for (id, slot) in [("v1", "blue"), ("v2", "green")] {
        let manifest = json!({"code": id, "model": "m", "prompts": "p"});
        does(&offline, json!({"verb": "add_bundle", "id": id, "manifest": manifest})).await;
        does(&offline, json!({"verb": "stage", "slot": slot, "bundle": id})).await;
    }
    does(&offline, json!({"verb": "switch", "slot": "blue"})).await;
    offline
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Reversible: verbs are carried out by the same rules from one command to the next, each in the name of whoever gave it, and
/// the snapshot of each is above the one before; keys stay the same.
#[tokio::test]
async fn verbs_outlast_their_command() {
    let folder = folder();
    let offline = with_chat(&folder).await;
    let (before, keys) = (offline.snapshots(), offline.keys());
    drop(offline);
    let offline = open(&folder).await;
    assert_eq!((offline.snapshots(), offline.keys()), (before.clone(), keys));
    let done = does(&offline, json!({"verb": "switch", "slot": "green"})).await;
    assert_eq!(done["confirmation"]["outcome"], "no_members");
    assert!(done.get("preparation").is_none_or(Value::is_null), "{done}");
    drop(offline);
    let offline = open(&folder).await;
    does(&offline, json!({"verb": "rollback", "pins": "break"})).await;
    assert!(offline.snapshots()[0].version() > before[0].version());
    let events = send(&offline, Method::GET, "/v1/events", Value::Null).await.json(200);
    let last = events["entries"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["principal"], &last["event"]["type"]), (&json!("user:ada"), &json!("rolled_back")));
    let verified = send(&offline, Method::GET, "/v1/log/verification", Value::Null).await.json(200);
    assert!(verified.get("error").is_none_or(Value::is_null), "{verified}");
}

/// Accounted: what a slot holds is not known, so it is neither shown nor taken for nothing: a slot that has had sessions is
/// recycled by a word of force alone, which the log keeps.
#[tokio::test]
async fn what_cannot_be_known_is_not_claimed() {
    let folder = folder();
    let offline = with_chat(&folder).await;
    does(&offline, json!({"verb": "switch", "slot": "green"})).await;
    does(&offline, json!({"verb": "migrate", "slot": "blue"})).await;
    let status = send(&offline, Method::GET, "/v1/services/chat", Value::Null).await.json(200);
    assert!(status["slots"][0].get("sessions").is_none_or(Value::is_null), "{status}");
    assert!(status["slots"][0].get("serving").is_none_or(Value::is_null), "{status}");
    let recycle = |force: Value| verb(&offline, json!({"verb": "recycle", "slot": "blue", "force": force}));
    let (code, _, detail) = recycle(Value::Null).await.problem(409);
    assert!(code == "not-accounted" && detail.contains("not known offline"), "{code}: {detail}");
    recycle(json!({"reason": "no request for a day"})).await.json(200);
}

/// Two copies of a log that have parted make snapshots of one version, and say so.
#[tokio::test]
async fn copies_that_have_parted_are_told_apart() {
    let (one, other) = (folder(), folder());
    drop(with_chat(&one).await);
    for name in [LOG_FILE, SECRETS_FILE] {
        fs::copy(one.path().join(name), other.path().join(name)).unwrap();
    }
    let (one, other) = (open(&one).await, open(&other).await);
    assert_eq!(one.snapshots(), other.snapshots());
    does(&one, json!({"verb": "switch", "slot": "green"})).await;
    does(&other, json!({"verb": "ramp", "slot": "green", "weight": 100})).await;
    let (one, other) = (one.snapshots().remove(0), other.snapshots().remove(0));
    assert_eq!(one.version(), other.version());
    assert!(one.lineage.is_some() && one.lineage != other.lineage);
}

/// A probe would ask a proxy from wherever the command runs: none is made.
#[tokio::test]
async fn nothing_is_probed() {
    let folder = folder();
    let offline = with_chat(&folder).await;
    let probe = json!({"address": "http://127.0.0.1:1", "host": "chat"});
    does(&offline, json!({"verb": "apply", "settings": {"probe": probe}})).await;
    does(&offline, json!({"verb": "switch", "slot": "green"})).await;
}

/// One command at a time, and never a sidecar's folder.
#[tokio::test]
async fn a_store_has_one_user() {
    let folder = folder();
    assert!(refusal(folder.path(), Missing::Refuse).await.starts_with("there is no offline store in "));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a look leaves nothing behind");
    let held = with_chat(&folder).await;
    assert!(refusal(folder.path(), Missing::Make).await.contains("is in use by process"));
    drop(held);
    let sidecar = Rig::with_chat().await;
    assert!(refusal(sidecar.folder.path(), Missing::Make).await.contains("is the data directory of a sidecar"));
}

/// Unforgeable: without its keys a store is not opened, and none are drawn in their place; nor where others can read them.
#[tokio::test]
async fn keys_are_never_drawn_anew() {
    let folder = folder();
    let secrets = folder.path().join(SECRETS_FILE);
    drop(with_chat(&folder).await);
    let log = fs::read(folder.path().join(LOG_FILE)).unwrap();
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refusal(folder.path(), Missing::Refuse).await.contains("run `chmod 600 "));
    fs::remove_file(&secrets).unwrap();
    assert!(refusal(folder.path(), Missing::Make).await.contains("secrets.json is missing"));
    assert!(!secrets.exists());
    assert_eq!(fs::read(folder.path().join(LOG_FILE)).unwrap(), log);
}

/// Kept: a log whose line was altered is not decided by.
#[tokio::test]
async fn altered_logs_are_refused() {
    let folder = folder();
    drop(with_chat(&folder).await);
    let path = folder.path().join(LOG_FILE);
    let log = fs::read_to_string(&path).unwrap();
    fs::write(&path, log.replacen("\"v1\"", "\"v9\"", 1)).unwrap();
    let said = refusal(folder.path(), Missing::Refuse).await;
    assert!(said.contains("not in order"), "{said}");
}

/// Kept: a copy goes on as the store of a sidecar, with the same keys and assignments, above all that was pushed.
#[tokio::test]
async fn a_copy_goes_on_as_a_sidecar() {
    let (folder, data, elsewhere) = (folder(), folder(), folder());
    let offline = with_chat(&folder).await;
    let (snapshot, keys) = (offline.snapshots().remove(0), offline.keys().remove(0).1);
    let response = offline.control().oneshot(Request::get("/v1/backup").body(Body::empty()).unwrap()).await.unwrap();
    let file = elsewhere.path().join("copy");
    fs::write(&file, to_bytes(response.into_body(), usize::MAX).await.unwrap()).unwrap();
    restore(&file, data.path(), Existing::Leave, "user:ada").await.unwrap();
    let sidecar = Rig::start_in(data).await;
    let status = sidecar.status().await;
    assert!(status.epoch > snapshot.epoch.0);
    let assignments: Vec<_> = status.slots.iter().map(|slot| slot.assignment).collect();
    assert_eq!(assignments, snapshot.slots.iter().map(|slot| slot.assignment).collect::<Vec<_>>());
    let kept: ServiceKeys = serde_json::from_slice(&sidecar.sidecar.secret("service/chat/keys").await).unwrap();
    assert_eq!((kept.sid, kept.ring), (keys.sid, keys.ring));
}
