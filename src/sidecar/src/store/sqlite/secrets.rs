//! Secrets in SQLite.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::Sqlite;
use super::connection::outage;
use crate::store::{Answer, PutError, Secrets, Versioned};

impl Secrets for Sqlite {
    fn get(&self, name: &str) -> Answer<'_, Option<Versioned>> {
        let name = name.to_owned();
        Box::pin(self.reader.run("read a secret", move |db| get(db, &name).map_err(outage("read a secret"))))
    }

    fn put_if_version(&self, name: &str, expected: u64, value: Vec<u8>) -> Answer<'_, u64, PutError> {
        let name = name.to_owned();
        Box::pin(self.writer.run("write a secret", move |db| put(db, &name, expected, &value)))
    }
}

fn get(db: &Connection, name: &str) -> rusqlite::Result<Option<Versioned>> {
    let mut select = db.prepare_cached("SELECT version, value FROM secrets WHERE name = ?1")?;
    let found = select.query_row([name], |row| {
        let version: i64 = row.get(0)?;
        Ok(Versioned { version: version.cast_unsigned(), value: row.get(1)? })
    });
    found.optional()
}

fn put(db: &mut Connection, name: &str, expected: u64, value: &[u8]) -> Result<u64, PutError> {
    let failed = |error| PutError::from(outage("write a secret")(error));
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let found = get(&transaction, name).map_err(failed)?.map_or(0, |found| found.version);
    if found != expected {
        return Err(PutError::Moved(found));
    }
    let version = found + 1;
    let write = "INSERT OR REPLACE INTO secrets (name, version, value) VALUES (?1, ?2, ?3)";
    transaction.execute(write, params![name, version.cast_signed(), value]).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(version)
}
