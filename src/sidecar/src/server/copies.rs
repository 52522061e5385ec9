//! Copies of the store: made for a backup while verbs go on, and taken in by a restore while no sidecar runs.

mod backup;
mod restore;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use colorfast_core::ids::Epoch;

pub use self::backup::{Backups, describe_download, download};
pub use self::restore::{Existing, RestoreError, Restored, restore};
use super::authority::{self, Opened};
use crate::data_dir::STORE_FILE;
use crate::store::sqlite::Sqlite;

/// What the name of an unfinished copy ends with.
const SUFFIX: &str = "copy";
/// What SQLite puts beside a file.
const JOURNALS: [&str; 2] = ["-wal", "-shm"];

/// An unfinished copy of the store in a data folder: gone when it is dropped, unless it was put in its place.
#[derive(Debug)]
struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    /// An empty file that nobody else can read.
    fn make(folder: &Path) -> io::Result<(Self, File)> {
        let path = folder.join(format!("{STORE_FILE}.{}.{SUFFIX}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok((Self { path }, file))
    }

    /// Removes what processes that were killed have left behind.
    fn sweep(folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = JOURNALS.iter().find_map(|journal| name.strip_suffix(journal)).unwrap_or(&name);
            let copy = name.strip_prefix(STORE_FILE).and_then(|rest| rest.strip_suffix(SUFFIX));
            if copy.is_some_and(|pid| pid.trim_matches('.').bytes().all(|b| b.is_ascii_digit())) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        for path in std::iter::once(self.path.clone()).chain(JOURNALS.map(|journal| beside(&self.path, journal))) {
            // What was put in its place, or never made, is not there.
            fs::remove_file(path).ok();
        }
    }
}

/// The journal of a SQLite file.
fn beside(file: &Path, journal: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(journal);
    name.into()
}

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The entries of its log, all in order.
    pub entries: u64,
    /// The hash of the last.
    pub hash: String,
    /// Its epoch.
    pub epoch: Epoch,
    /// How many services it has.
    pub services: usize,
}

/// Reads a copy to its end. It may gain a journal meanwhile, so it must be the caller's own.
///
/// # Errors
/// Where it is no store, its log is not in order, or keys of a service are gone.
pub async fn inspect(file: &Path) -> Result<Contents> {
    let (opened, _) = open(file).await?;
    Ok(contents(&opened))
}

fn contents(opened: &Opened) -> Contents {
    let (head, state) = (opened.head(), opened.state());
    Contents { entries: head.seq, hash: head.hash.clone(), epoch: state.epoch, services: state.services.len() }
}

/// Opens a store that must be whole.
async fn open(file: &Path) -> Result<(Opened, Arc<Sqlite>)> {
    // SQLite takes an empty file for an empty database, and would make a store of it.
    let size = fs::metadata(file).with_context(|| format!("cannot look at {}", file.display()))?.len();
    ensure!(size > 0, "it is empty");
    let path = file.to_owned();
    let store = Arc::new(tokio::task::spawn_blocking(move || Sqlite::open(&path)).await??);
    let opened = Opened::read(store.clone()).await?;
    ensure!(opened.head().seq > 0, "its log has no entry");
    for service in opened.state().services.keys() {
        authority::load_known_keys(store.as_ref(), service).await?;
    }
    Ok((opened, store))
}

fn exists(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

#[cfg(test)]
mod tests;
