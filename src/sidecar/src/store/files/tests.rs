//! The contract of stores, kept by files, and what is of files alone.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::store::contract::{self, Place};
use crate::store::{Ephemera, Passing, Stores};

struct Folder(TempDir);

impl Folder {
    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn error(&self) -> String {
        format!("{:#}", Files::open(self.0.path()).unwrap_err())
    }
}

impl Place for Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Stores {
        let store = Arc::new(Files::open(self.0.path()).unwrap());
        Stores { log: store.clone(), secrets: store, ephemera: Arc::new(Passing::default()) }
    }
}

contract::holds_in!(Folder);

fn record(seq: u64) -> Record {
    Record { seq, text: format!("{{\"seq\":{seq}}}"), hash: format!("h{seq}") }
}

/// A diff of the log shows what was done: one line more, valid JSON, and nothing before it moved. Secrets are readable to
/// their owner alone, and git is told to leave them out.
#[tokio::test]
async fn the_log_goes_with_git() {
    let folder = Folder::new();
    let store = Files::open(folder.0.path()).unwrap();
    store.append(Head::empty(), vec![record(1)]).await.unwrap();
    let before = fs::read_to_string(folder.file(LOG_FILE)).unwrap();
    store.append(record(1).head(), vec![record(2)]).await.unwrap();
    let after = fs::read_to_string(folder.file(LOG_FILE)).unwrap();
    let added = after.strip_prefix(&before).unwrap();
    let line: serde_json::Value = serde_json::from_str(added.strip_suffix('\n').unwrap()).unwrap();
    assert_eq!((&line["hash"], &line["entry"]["seq"]), (&"h2".into(), &2.into()));

    store.put_if_version("k", 0, b"value".to_vec()).await.unwrap();
    let mode = |name| fs::metadata(folder.file(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(SECRETS_FILE), 0o600);
    let ignored = fs::read_to_string(folder.file(".gitignore")).unwrap();
    assert!(ignored.lines().any(|line| line == "/secrets.json") && ignored.lines().any(|line| line == "/lock"));
}

/// A file without its last line end is whole all the same; one that somebody merged by hand is refused by its line.
#[test]
fn lines_are_entries() {
    let folder = Folder::new();
    let line = |seq: u64| format!("{{\"hash\":\"h{seq}\",\"entry\":{{\"seq\":{seq}}}}}");
    fs::write(folder.file(LOG_FILE), format!("{}\n{}", line(1), line(2))).unwrap();
    assert_eq!(*Files::open(folder.0.path()).unwrap().watch().borrow(), record(2).head());
    let cases = [
        (format!("{}\n<<<<<<< HEAD\n{}\n=======\n{}\n", line(1), line(2), line(2)), "a merge conflict in line 2"),
        (format!("{}\n\n{}\n", line(1), line(2)), "line 2 of "),
        ("nothing of ours".to_owned(), "line 1 of "),
    ];
    for (text, wanted) in cases {
        fs::write(folder.file(LOG_FILE), text).unwrap();
        assert!(folder.error().contains(wanted), "{}", folder.error());
    }
}

/// Secrets that cannot be read are refused without a word of them.
#[test]
fn damaged_secrets_stay_silent() {
    let folder = Folder::new();
    for text in [r#"{"a":{"version":1,"value":"SECRET!"}}"#, r#"{"SECRET":1}"#, "SECRET"] {
        fs::write(folder.file(SECRETS_FILE), text).unwrap();
        let error = folder.error();
        assert!(error.contains("secrets.json cannot be read") && !error.contains("SECRET"), "{error}");
    }
}

/// A copy is a SQLite store with the same log and the same secrets.
#[tokio::test]
async fn copies_are_stores() {
    let folder = Folder::new();
    let store = Files::open(folder.0.path()).unwrap();
    store.append(Head::empty(), vec![record(1), record(2)]).await.unwrap();
    store.put_if_version("k", 0, b"value".to_vec()).await.unwrap();
    store.copy_to(folder.file("copy")).await.unwrap();
    let copy = Sqlite::open(&folder.file("copy")).unwrap();
    assert_eq!(Log::read(&copy, 0, 10).await.unwrap(), [record(1), record(2)]);
    assert_eq!(Secrets::get(&copy, "k").await.unwrap().map(|found| found.value), Some(b"value".to_vec()));
    assert!(Ephemera::scan(&copy, "").is_empty());
}
