//! The log in SQLite.

use std::time::Duration;

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tokio::sync::watch;

use super::Sqlite;
use super::connection::outage;
use crate::store::{Answer, AppendError, Head, LeaseError, Log, Outage, Record};

/// The last record of the file.
pub(super) fn head(db: &Connection) -> rusqlite::Result<Head> {
    let last = db.prepare_cached("SELECT seq, hash FROM log ORDER BY seq DESC LIMIT 1")?.query_row([], |row| {
        let seq: i64 = row.get(0)?;
        Ok(Head { seq: seq.cast_unsigned(), hash: row.get(1)? })
    });
    Ok(last.optional()?.unwrap_or_else(Head::empty))
}

impl Log for Sqlite {
    fn append(&self, expected: Head, records: Vec<Record>) -> Answer<'_, Head, AppendError> {
        Box::pin(async move {
            let moved = self.head.clone();
            self.writer.run(APPEND, move |db| append(db, &expected, &records, &moved)).await
        })
    }

    fn read(&self, after: u64, limit: usize) -> Answer<'_, Vec<Record>> {
        Box::pin(self.reader.run("read the log", move |db| read(db, after, limit).map_err(outage("read the log"))))
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    fn checkpoint(&self) -> Answer<'_, ()> {
        Box::pin(self.writer.run("checkpoint", |db| {
            let truncated = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            truncated.map_err(outage("checkpoint"))
        }))
    }

    fn lease(&self, name: &'static str, holder: &str, ttl: Duration) -> Answer<'_, (), LeaseError> {
        Box::pin(std::future::ready(self.leases.take(name, holder, ttl)))
    }
}

const APPEND: &str = "append to the log";

fn append(
    db: &mut Connection,
    expected: &Head,
    records: &[Record],
    moved: &watch::Sender<Head>,
) -> Result<Head, AppendError> {
    let failed = |error| AppendError::from(outage(APPEND)(error));
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let found = head(&transaction).map_err(failed)?;
    if found != *expected {
        return Err(AppendError::Moved(found));
    }
    let mut last = found;
    for record in records {
        if record.seq != last.seq + 1 {
            let cause = format!("record {} cannot stand after {}", record.seq, last.seq);
            return Err(Outage { what: APPEND, cause }.into());
        }
        let mut insert = transaction.prepare_cached("INSERT INTO log (seq, text, hash) VALUES (?1, ?2, ?3)");
        let insert = insert.as_mut().map_err(|error| Outage { what: APPEND, cause: error.to_string() })?;
        insert.execute(params![record.seq.cast_signed(), record.text, record.hash]).map_err(failed)?;
        last = record.head();
    }
    transaction.commit().map_err(failed)?;
    moved.send_replace(last.clone());
    Ok(last)
}

fn read(db: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<Record>> {
    let mut select = db.prepare_cached("SELECT seq, text, hash FROM log WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let records = select.query_map(params![after, limit], |row| {
        let seq: i64 = row.get(0)?;
        Ok(Record { seq: seq.cast_unsigned(), text: row.get(1)?, hash: row.get(2)? })
    })?;
    records.collect()
}
