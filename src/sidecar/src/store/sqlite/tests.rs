//! The contract of stores, kept by SQLite, and what is of SQLite alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use super::Sqlite;
use crate::store::contract::{self, Place};
use crate::store::{Ephemera, Head, Log, Record, Stores};

struct Folder(TempDir);

impl Folder {
    fn file(&self) -> PathBuf {
        self.0.path().join("store.db")
    }

    fn error(&self) -> String {
        format!("{:#}", Sqlite::open(&self.file()).unwrap_err())
    }
}

impl Place for Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Stores {
        let store = Arc::new(Sqlite::open(&self.file()).unwrap());
        Stores { log: store.clone(), secrets: store.clone(), ephemera: store }
    }
}

contract::holds_in!(Folder);

/// Members and reports survive a restart.
#[tokio::test]
async fn ephemera_survive_by_flush() {
    contract::ephemera_survive_by_flush::<Folder>().await;
}

/// Reports of instances that are gone do not pile up.
#[tokio::test]
async fn ephemera_expire() {
    contract::ephemera_expire::<Folder>().await;
}

/// Bounded: a large memory is gone through in steps, and nothing is passed over.
#[tokio::test]
async fn many_ephemera() {
    contract::many_ephemera::<Folder>().await;
}

/// Keys stand in the file: neither it nor its journal is ever readable to others.
#[tokio::test]
async fn files_are_private() {
    let folder = Folder::new();
    let store = Sqlite::open(&folder.file()).unwrap();
    store.put("k", b"v".to_vec(), None);
    store.flush().await.unwrap();
    let record = Record { seq: 1, text: "t".to_owned(), hash: "h".to_owned() };
    store.append(Head::empty(), vec![record]).await.unwrap();
    let files: Vec<_> = fs::read_dir(folder.0.path()).unwrap().map(Result::unwrap).collect();
    assert!(files.len() >= 2, "the journal is missing: {files:?}");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}

/// A file of something else, or of a later release, is refused and stays as it is.
#[test]
fn foreign_files_are_refused() {
    let folder = Folder::new();
    fs::write(folder.file(), "no database at all, but long enough to look like one").unwrap();
    assert!(folder.error().contains("not a database"), "{}", folder.error());
    fs::remove_file(folder.file()).unwrap();

    let foreign = rusqlite::Connection::open(folder.file()).unwrap();
    foreign.execute_batch("CREATE TABLE log (x); PRAGMA user_version = 1").unwrap();
    drop(foreign);
    let before = fs::read(folder.file()).unwrap();
    assert!(folder.error().contains("none of colorfast"), "{}", folder.error());
    assert_eq!(fs::read(folder.file()).unwrap(), before);
    fs::remove_file(folder.file()).unwrap();

    drop(folder.open());
    rusqlite::Connection::open(folder.file()).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
    assert!(folder.error().contains("start a newer one"), "{}", folder.error());
}
