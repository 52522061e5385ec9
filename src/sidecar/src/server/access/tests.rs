//! Tokens, from their making to their end.

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::store::sqlite::Sqlite;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

async fn open(folder: &TempDir) -> Access {
    let store = Arc::new(Sqlite::open(&folder.path().join("store.db")).unwrap());
    Access::load(store.clone(), store).await.unwrap()
}

fn asked(name: &str) -> CreateToken {
    serde_json::from_value(json!({"name": name, "role": "operator"})).unwrap()
}

async fn made(access: &Access, asked: serde_json::Value) -> String {
    access.create(serde_json::from_value(asked).unwrap(), "ada", NOW).await.unwrap().token.unwrap()
}

fn name(text: &str) -> TokenName {
    text.parse().unwrap()
}

/// A token lets its holder in with what it grants, over a restart too; no other text does, however near.
#[tokio::test]
async fn tokens_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let access = open(&folder).await;
    let operator = made(&access, json!({"name": "ci", "role": "operator"})).await;
    let edge = made(&access, json!({"name": "edges", "node": "edge-*"})).await;
    drop(access);
    let access = open(&folder).await;
    let caller = access.holder(operator.as_bytes(), NOW).unwrap();
    assert_eq!((&*caller.principal, caller.grant), ("ci", Grant::Control(Role::Operator)));
    let caller = access.holder(edge.as_bytes(), NOW).unwrap();
    assert_eq!(caller.grant, Grant::Discovery("edge-*".parse().unwrap()));
    let secret = |token: &str| token[12..].to_owned();
    let swapped = format!("{}{}", &operator[..12], secret(&edge));
    for wrong in [&operator[1..], &operator[..54], &swapped, &operator.to_uppercase(), "cf_aaaaaaaa_", ""] {
        assert!(access.holder(wrong.as_bytes(), NOW).is_none(), "{wrong}");
    }
}

/// A revoked token is refused at once and its name is free again; one that has expired is refused from that moment.
#[tokio::test]
async fn tokens_end() {
    let folder = tempfile::tempdir().unwrap();
    let access = open(&folder).await;
    let ci = made(&access, json!({"name": "ci", "role": "admin"})).await;
    let brief = made(&access, json!({"name": "brief", "role": "viewer", "expires_in_seconds": 60})).await;
    let admits = |token: &str, at| access.holder(token.as_bytes(), at).is_some();
    assert!(admits(&ci, NOW) && admits(&brief, NOW.plus_millis(59_999)));
    assert!(!admits(&brief, NOW.plus_millis(60_000)));
    access.revoke(&name("ci")).await.unwrap();
    assert!(!admits(&ci, NOW));
    assert!(matches!(access.revoke(&name("ci")).await, Err(TokenError::Unknown(_))));
    let again = made(&access, json!({"name": "ci", "role": "admin"})).await;
    assert!(admits(&again, NOW) && !admits(&ci, NOW));
}

/// What is kept of a token is not enough to be let in, and its text is in nothing that is shown.
#[tokio::test]
async fn secrets_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(&folder.path().join("store.db")).unwrap());
    let access = Access::load(store.clone(), store.clone()).await.unwrap();
    let created = access.create(asked("ci"), "ada", NOW).await.unwrap();
    let text = created.token.clone().unwrap();
    let kept = String::from_utf8(Secrets::get(store.as_ref(), PLACE).await.unwrap().unwrap().value).unwrap();
    let digest = kept.split("sha256:").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(digest.len(), 64);
    for shown in [kept.clone(), format!("{access:?} {created:?}"), serde_json::to_string(&access.list()).unwrap()] {
        assert!(!shown.contains(&text[12..]), "{shown}");
    }
    for wrong in [digest.to_owned(), format!("cf_{}_{}", created.status.id, &digest[..43])] {
        assert!(access.holder(wrong.as_bytes(), NOW).is_none());
    }
}

/// The list tells who made a token, for what, until when, and when it was used last.
#[tokio::test]
async fn tokens_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let access = open(&folder).await;
    let text = made(&access, json!({"name": "b", "role": "viewer", "expires_in_seconds": 3600})).await;
    made(&access, json!({"name": "a", "node": "*"})).await;
    let used = NOW.plus_millis(5_000);
    access.holder(text.as_bytes(), used).unwrap();
    access.holder(text.as_bytes(), used.plus_millis(USE_MS - 1)).unwrap();
    let list = access.list();
    assert_eq!(list.iter().map(|token| token.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((list[0].role, list[0].last_used, list[0].made_by.as_str()), (None, None, "ada"));
    assert_eq!(list[1].expires, Some(NOW.plus_millis(3_600_000)));
    assert_eq!(list[1].last_used, Some(used), "to the minute");
    access.holder(text.as_bytes(), used.plus_millis(USE_MS)).unwrap();
    assert_eq!(access.list()[1].last_used, Some(used.plus_millis(USE_MS)));
}

/// What breaks a rule is refused with its field, and nothing is made.
#[tokio::test]
async fn bad_tokens_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let access = open(&folder).await;
    made(&access, json!({"name": "ci", "role": "viewer"})).await;
    let bound = json!({"name": "ops", "role": "viewer", "certificate": "ops.example.com"});
    let bound = access.create(serde_json::from_value(bound).unwrap(), "ada", NOW).await.unwrap();
    assert!(bound.token.is_none());
    let cases = [
        (json!({"name": "x"}), "role: exactly one of"),
        (json!({"name": "x", "role": "viewer", "node": "*"}), "role: exactly one of"),
        (json!({"name": "local", "role": "viewer"}), "name: local is who holds the data folder"),
        (json!({"name": "x", "role": "viewer", "expires_in_seconds": 0}), "expires_in_seconds: is 0"),
        (
            json!({"name": "x", "role": "viewer", "expires_in_seconds": u64::MAX}),
            "expires_in_seconds: is 18446744073709551615",
        ),
        (
            json!({"name": "x", "role": "admin", "certificate": "ops.example.com"}),
            "certificate: is bound by the token ops",
        ),
        (json!({"name": "ci", "role": "admin"}), "there is a token ci already"),
    ];
    for (asked, wanted) in cases {
        let error = access.create(serde_json::from_value(asked).unwrap(), "ada", NOW).await.unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
    }
    assert_eq!(access.list().len(), 2);
}

/// A certificate stands for a token by any of its names.
#[tokio::test]
async fn certificates_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let access = open(&folder).await;
    let bound = json!({"name": "ops", "role": "admin", "certificate": "spiffe://example.com/ops"});
    access.create(serde_json::from_value(bound).unwrap(), "ada", NOW).await.unwrap();
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<SubjectName>>();
    let caller = access.certified(&names(&["ops.example.com", "spiffe://example.com/ops"]), NOW).unwrap();
    assert_eq!((&*caller.principal, caller.grant), ("ops", Grant::Control(Role::Admin)));
    assert!(access.certified(&names(&["ops.example.com"]), NOW).is_none());
    assert!(access.certified(&[], NOW).is_none());
}

/// What another process has written meanwhile is kept.
#[tokio::test]
async fn changes_of_others_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(&folder.path().join("store.db")).unwrap());
    let first = Access::load(store.clone(), store.clone()).await.unwrap();
    let second = Access::load(store.clone(), store.clone()).await.unwrap();
    made(&first, json!({"name": "one", "role": "viewer"})).await;
    made(&second, json!({"name": "two", "role": "viewer"})).await;
    assert!(matches!(first.create(asked("two"), "ada", NOW).await, Err(TokenError::Exists(_))));
    assert_eq!(second.list().len(), 2);
    assert_eq!(first.list().len(), 2);
}
