//! Log, secrets and ephemera in one SQLite file.
//!
//! Two threads own a connection each: one writes, one reads, so that reading the whole log delays no verb. The journal
//! is a write-ahead log. What must not be lost is synchronised in full; what is saved behind is not, and costs no wait.

mod connection;
mod copies;
mod ephemera;
mod log;
mod secrets;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tokio::sync::watch;

use self::connection::Connection;
pub use self::copies::carry_ephemera;
use super::Head;
use super::leases::Leases;
use super::memory::Memory;

/// The embedded store.
pub struct Sqlite {
    path: PathBuf,
    writer: Connection,
    reader: Connection,
    head: watch::Sender<Head>,
    /// Not written: the lock of the data folder means that every holder lives in this process.
    leases: Leases,
    memory: Mutex<Memory>,
}

impl Sqlite {
    /// Opens the store at `path`, or makes it. Blocks: for the start only.
    ///
    /// The caller holds the [`super::DirLock`] of its folder: that no other process writes is taken for granted.
    ///
    /// # Errors
    /// Where the file is no store of this release, or cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let said = || format!("cannot open {}", path.display());
        let (writer, (head, memory)) =
            Connection::open(path, |db| Ok((log::head(db)?, ephemera::load(db)?))).with_context(said)?;
        let (reader, ()) = Connection::open(path, |_| Ok(())).with_context(said)?;
        Ok(Self {
            path: path.to_owned(),
            writer,
            reader,
            head: watch::Sender::new(head),
            leases: Leases::default(),
            memory: Mutex::new(memory),
        })
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sqlite").field(&self.path).finish()
    }
}

#[cfg(test)]
mod tests;
