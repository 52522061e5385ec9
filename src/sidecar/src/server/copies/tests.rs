//! Copies made while verbs go on, and logs that go on from them.

use std::os::unix::fs::PermissionsExt as _;

use axum::body::Body;
use axum::http::{Method, Request, header};
use colorfast_core::ids::AssignmentId;
use colorfast_core::names::{DISCOVERY_PATH, SNAPSHOT_TYPE_URL};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::*;
use crate::api::{Outcome, Progress};
use crate::server::rig::Rig;
use crate::store::DirLock;

/// A file with what the control API gives as a backup.
async fn backup(rig: &Rig, folder: &TempDir) -> PathBuf {
    let request = Request::get("/v1/backup").header(header::AUTHORIZATION, format!("Bearer {}", rig.token("control")));
    let response = rig.sidecar.control.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let length: usize = response.headers()[header::CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(bytes.len(), length);
    let path = folder.path().join("backup.db");
    fs::write(&path, bytes).unwrap();
    path
}

async fn bundle(rig: &Rig, id: &str) {
    let manifest = json!({"code": id, "model": "m", "prompts": "p"});
    rig.verb(json!({"verb": "add_bundle", "id": id, "manifest": manifest})).await;
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// What a proxy says that decides by `held`.
fn poll(held: &str) -> Value {
    json!({
        "version_info": held, "resource_names": ["chat"], "type_url": SNAPSHOT_TYPE_URL,
        "node": {"id": "edge", "metadata": {"process_id": "00000000000000aa"}},
    })
}

/// A copy is the store as it was at one moment: its log is whole, though verbs went on while it was made, and nothing of
/// it is left in the data folder.
#[tokio::test(flavor = "multi_thread")]
async fn copies_are_whole_while_verbs_go_on() {
    let (rig, elsewhere) = (Rig::with_chat().await, tempfile::tempdir().unwrap());
    let before = names(rig.folder.path());
    let (file, ()) = tokio::join!(backup(&rig, &elsewhere), async {
        for id in 3..30 {
            bundle(&rig, &format!("v{id}")).await;
        }
    });
    assert_eq!(names(rig.folder.path()), before);
    let contents = inspect(&file).await.unwrap();
    assert!((7..=34).contains(&contents.entries), "{contents:?}");
    let entries: Value = rig.get("/v1/events?limit=1000").await.json(200);
    let last = &entries["entries"][usize::try_from(contents.entries).unwrap() - 1];
    assert_eq!(last["seq"], contents.entries);
    assert_eq!((contents.epoch.0, contents.services), (rig.status().await.epoch, 1));
}

/// Kept: a copy that was made while the keys of run tokens rotate has both of them, and its log goes on with the rotation,
/// whatever became of it in the lost future.
#[tokio::test]
async fn a_copy_goes_on_with_its_run_keys() {
    async fn keys(rig: &Rig) -> Vec<Value> {
        let application = rig.get("/v1/application").await.json(200);
        application["keys"].as_array().unwrap().iter().map(|key| json!([key["key"], key["duty"]])).collect()
    }
    async fn secrets(rig: &Rig) -> Value {
        serde_json::from_slice(&rig.sidecar.secret("application/run-keys").await).unwrap()
    }
    async fn give(rig: &Rig, verb: Value) {
        rig.control(Method::POST, "/v1/application/verbs", verb.to_string()).await.json(200);
    }
    let (rig, elsewhere) = (Rig::with_chat().await, tempfile::tempdir().unwrap());
    give(&rig, json!({"verb": "rotate_keys"})).await;
    let (file, kept) = (backup(&rig, &elsewhere).await, secrets(&rig).await);
    give(&rig, json!({"verb": "retire_key", "key": 2, "force": {"reason": "a mistake"}})).await;
    assert_ne!(secrets(&rig).await, kept);

    let folder = tempfile::tempdir().unwrap();
    restore(&file, folder.path(), Existing::Leave, "user:ada").await.unwrap();
    let copy = Rig::start_in(folder).await;
    assert_eq!((keys(&copy).await, secrets(&copy).await), (vec![json!([1, "signing"]), json!([2, "arriving"])], kept));
    copy.sidecar.errands.once().await;
    copy.sidecar.errands.once().await;
    assert_eq!(keys(&copy).await, [json!([1, "former"]), json!([2, "signing"])]);
    assert!(copy.get("/v1/log/verification").await.json(200).get("error").is_none());
}

/// A restored log is one line of history with the one it was copied from, under an epoch above it; services, keys and
/// assignments are those of the copy, and numbers of the lost future are not given again.
#[tokio::test]
async fn a_copy_goes_on_under_an_epoch_of_its_own() {
    let (rig, elsewhere) = (Rig::with_chat().await, tempfile::tempdir().unwrap());
    let file = backup(&rig, &elsewhere).await;
    let copied = rig.status().await;
    rig.verb(json!({"verb": "switch", "slot": "green"})).await;
    let lost = rig.verb(json!({"verb": "rollback", "to": null, "pins": "break"})).await.status;
    let broken_by = lost.slots[1].assignment.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let restored = restore(&file, folder.path(), Existing::Leave, "user:ada").await.unwrap();
    assert_eq!((restored.copy.entries, restored.entry, restored.kept), (copied.version, copied.version + 1, None));
    assert!(restored.epoch > Epoch(copied.epoch) && restored.given >= broken_by);
    assert_eq!(names(folder.path()), [STORE_FILE, "lock"]);
    let mode = fs::metadata(folder.path().join(STORE_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let again = Rig::start_in(folder).await;
    let status = again.status().await;
    assert_eq!((status.epoch, status.version), (restored.epoch.0, restored.entry));
    let assignments = |status: &crate::api::ServiceStatus| {
        status.slots.iter().map(|slot| (slot.phase, slot.assignment)).collect::<Vec<_>>()
    };
    assert_eq!(assignments(&status), assignments(&copied));
    let verified = again.get("/v1/log/verification").await.json(200);
    assert_eq!((&verified["entries"], verified.get("error")), (&json!(restored.entry), None));
    let events = again.get(&format!("/v1/events?after={}", copied.version)).await.json(200);
    assert_eq!(events["entries"][0]["principal"], "user:ada");
    assert_eq!(events["entries"][0]["event"]["restored"]["from"], copied.epoch.0);
    assert_eq!(again.confirmation(restored.entry).await.outcome, Outcome::NoMembers);
    again.verb(json!({"verb": "recycle", "slot": "green"})).await;
    let staged = again.verb(json!({"verb": "stage", "slot": "green", "bundle": "v2"})).await.status;
    assert!(staged.slots[1].assignment > Some(restored.given.max(broken_by)));
    let (before, after) = (rig.end().await, again.end().await);
    let keys = |folder: &TempDir| {
        let db = rusqlite::Connection::open(folder.path().join(STORE_FILE)).unwrap();
        db.query_row("SELECT value FROM secrets WHERE name = 'service/chat/keys'", [], |row| row.get::<_, Vec<u8>>(0))
            .unwrap()
    };
    assert_eq!(keys(&before), keys(&after));
}

/// Confirmed: over the store that it replaces, which is kept, a restore knows the proxies of that one. None of them has
/// obeyed before it says so, whatever version of the lost future it holds.
#[tokio::test]
async fn members_are_waited_for_after_a_restore() {
    let (rig, elsewhere) = (Rig::with_chat().await, tempfile::tempdir().unwrap());
    let file = backup(&rig, &elsewhere).await;
    for id in ["v3", "v4", "v5"] {
        bundle(&rig, id).await;
    }
    let first = rig.shown(DISCOVERY_PATH, &poll("")).await.json(200);
    let held = first["version_info"].as_str().unwrap().to_owned();
    let lost_epoch = rig.status().await.epoch;
    let folder = rig.end().await;
    let refused = restore(&file, folder.path(), Existing::Leave, "user:ada").await.unwrap_err();
    assert!(matches!(refused, RestoreError::Exists(_)), "{refused}");
    let restored = restore(&file, folder.path(), Existing::Replace, "user:ada").await.unwrap();
    let kept = inspect(&restored.kept.unwrap()).await.unwrap();
    assert_eq!((kept.epoch.0, kept.entries), (lost_epoch, 10));

    let rig = Rig::start_in(folder).await;
    let version = rig.status().await.version;
    let silent = rig.confirmation(version).await;
    assert_eq!((silent.outcome, &silent.members[0].progress), (Outcome::Pending, &Progress::Silent));
    // It holds a version of the lost future that is above every one of this log: still it is sent the newest.
    let sent = rig.shown(DISCOVERY_PATH, &poll(&held)).await.json(200);
    let newer = sent["version_info"].as_str().unwrap().to_owned();
    assert_eq!(newer, format!("{}.{version}", restored.epoch.0.0));
    assert_eq!(rig.confirmation(version).await.members[0].progress, Progress::Lagging);
    let mut waiting = rig.shown(DISCOVERY_PATH, &poll(&newer));
    assert!(crate::server::rig::is_held(&mut waiting).await);
    assert_eq!(rig.confirmation(version).await.outcome, Outcome::Confirmed);
}

/// What cannot be restored is refused with the reason, and the data folder stays as it is.
#[tokio::test]
async fn unfit_copies_change_nothing() {
    let (rig, elsewhere) = (Rig::with_chat().await, tempfile::tempdir().unwrap());
    let file = backup(&rig, &elsewhere).await;
    let whole = fs::read(&file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tries = || async { restore(&file, folder.path(), Existing::Leave, "user:ada").await };
    let altered = |sql: &str| {
        fs::write(&file, &whole).unwrap();
        rusqlite::Connection::open(&file).unwrap().execute_batch(sql).unwrap();
    };
    let refusal = |tried: Result<Restored, RestoreError>| {
        let refused = tried.unwrap_err();
        assert!(matches!(refused, RestoreError::Unfit { .. }), "{refused}");
        assert_eq!(names(folder.path()), ["lock"]);
        refused.to_string()
    };
    altered("UPDATE log SET text = replace(text, '\"v1\"', '\"v2\"') WHERE seq = 4");
    assert!(refusal(tries().await).contains("entry 4 does not match its hash"));
    altered("DELETE FROM secrets WHERE name LIKE 'service/%'");
    assert!(refusal(tries().await).contains("the keys of chat are gone"));
    altered("DELETE FROM log");
    assert!(refusal(tries().await).contains("its log has no entry"));
    altered("PRAGMA application_id = 1");
    assert!(refusal(tries().await).contains("none of colorfast"));
    for (bytes, words) in
        [(&b""[..], "it is empty"), (&b"SQLite it is not, but long enough to look like it"[..], "not a database")]
    {
        fs::write(&file, bytes).unwrap();
        assert!(refusal(tries().await).contains(words));
    }
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    refusal(tries().await);
    fs::write(&file, &whole).unwrap();
    let lock = DirLock::take(folder.path()).unwrap();
    let in_use = tries().await.unwrap_err();
    assert!(matches!(in_use, RestoreError::InUse(_)), "{in_use}");
    assert!(in_use.to_string().contains(&format!("in use by process {}", std::process::id())), "{in_use}");
    drop(lock);
    assert!(matches!(
        restore(Path::new("no/such"), folder.path(), Existing::Leave, "x").await.unwrap_err(),
        RestoreError::Unreadable { .. }
    ));
    assert!(tries().await.is_ok_and(|restored| restored.given > AssignmentId(0)));
}

/// What a killed process leaves of a copy is removed at the next start, and nothing else.
#[test]
fn leftovers_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    let stays = ["colorfast.db", "colorfast.db-wal", "colorfast.db.before-17", "control.token", "my.copy"];
    let goes = ["colorfast.db.17.copy", "colorfast.db.17.copy-wal", "colorfast.db.17.copy-shm"];
    for name in stays.iter().chain(&goes) {
        fs::write(folder.path().join(name), "").unwrap();
    }
    Unfinished::sweep(folder.path()).unwrap();
    assert_eq!(names(folder.path()), stays);
}
