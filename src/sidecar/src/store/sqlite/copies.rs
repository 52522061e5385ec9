//! Copies of the whole store, made while it is written to.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::Sqlite;
use super::connection::outage;
use crate::store::{Answer, Copies, Outage};

const COPY: &str = "copy the store";

impl Copies for Sqlite {
    fn copy_to(&self, file: PathBuf) -> Answer<'_, ()> {
        let (from, to) = (self.path.clone(), file.to_string_lossy().into_owned());
        Box::pin(async move {
            // A connection of its own: a long copy keeps neither the writer nor the reader from their work.
            let copied = tokio::task::spawn_blocking(move || {
                Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?.execute("VACUUM INTO ?1", [to])
            });
            let copied = copied.await.map_err(|error| Outage { what: COPY, cause: error.to_string() })?;
            copied.map(drop).map_err(outage(COPY))
        })
    }
}

/// Puts the members and reports of the store `from` in the place of those of the store `to`. Neither is open.
///
/// # Errors
/// Where either is no store; `to` is then as it was.
pub fn carry_ephemera(from: &Path, to: &Path) -> rusqlite::Result<()> {
    let mut db = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    db.execute("ATTACH ?1 AS lost", [from.to_string_lossy()])?;
    let carrying = db.transaction()?;
    carrying.execute("DELETE FROM main.ephemera", [])?;
    let columns = "key, value, expires";
    carrying.execute(&format!("INSERT INTO main.ephemera ({columns}) SELECT {columns} FROM lost.ephemera"), [])?;
    carrying.commit()
}
