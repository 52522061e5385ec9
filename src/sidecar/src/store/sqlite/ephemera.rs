//! Ephemera: a map in memory, saved behind to SQLite.

use std::collections::{BTreeMap, BTreeSet};

use colorfast_core::time::UnixMillis;
use rusqlite::{Connection, params};

use super::Sqlite;
use super::connection::outage;
use crate::store::{Answer, Ephemera, Merge};

/// What is known, and which keys the file does not know yet.
#[derive(Debug, Default)]
pub(super) struct Memory {
    values: BTreeMap<String, Value>,
    unsaved: BTreeSet<String>,
}

#[derive(Debug, Clone)]
struct Value {
    bytes: Vec<u8>,
    expires: Option<UnixMillis>,
}

impl Memory {
    fn put(&mut self, key: &str, bytes: Vec<u8>, expires: Option<UnixMillis>) {
        self.values.insert(key.to_owned(), Value { bytes, expires });
        self.unsaved.insert(key.to_owned());
    }

    /// What the file must be told, each key with its value now.
    fn take_unsaved(&mut self) -> Vec<(String, Option<Value>)> {
        let keys = std::mem::take(&mut self.unsaved).into_iter();
        keys.map(|key| (self.values.get(&key).cloned(), key)).map(|(value, key)| (key, value)).collect()
    }
}

/// All that the file holds.
pub(super) fn load(db: &Connection) -> rusqlite::Result<Memory> {
    let mut select = db.prepare("SELECT key, value, expires FROM ephemera")?;
    let rows = select.query_map([], |row| {
        let expires: Option<i64> = row.get(2)?;
        let expires = expires.map(|millis| UnixMillis(millis.cast_unsigned()));
        Ok((row.get(0)?, Value { bytes: row.get(1)?, expires }))
    })?;
    Ok(Memory { values: rows.collect::<rusqlite::Result<_>>()?, unsaved: BTreeSet::new() })
}

impl Ephemera for Sqlite {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.memory.lock().values.get(key).map(|value| value.bytes.clone())
    }

    fn put(&self, key: &str, value: Vec<u8>, expires: Option<UnixMillis>) {
        self.memory.lock().put(key, value, expires);
    }

    fn put_if_absent(&self, key: &str, value: Vec<u8>, expires: Option<UnixMillis>) -> Option<Vec<u8>> {
        let mut memory = self.memory.lock();
        let there = memory.values.get(key).map(|value| value.bytes.clone());
        if there.is_none() {
            memory.put(key, value, expires);
        }
        there
    }

    fn merge(&self, key: &str, expires: Option<UnixMillis>, merge: &mut Merge<'_>) {
        let mut memory = self.memory.lock();
        if let Some(merged) = merge(memory.values.get(key).map(|value| value.bytes.as_slice())) {
            memory.put(key, merged, expires);
        }
    }

    fn remove(&self, key: &str) {
        let mut memory = self.memory.lock();
        if memory.values.remove(key).is_some() {
            memory.unsaved.insert(key.to_owned());
        }
    }

    fn scan(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let memory = self.memory.lock();
        let from = memory.values.range(prefix.to_owned()..);
        let found = from.take_while(|(key, _)| key.starts_with(prefix));
        found.map(|(key, value)| (key.clone(), value.bytes.clone())).collect()
    }

    fn count(&self, prefix: &str) -> usize {
        let memory = self.memory.lock();
        memory.values.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix)).count()
    }

    fn expire(&self, now: UnixMillis) {
        let mut memory = self.memory.lock();
        let Memory { values, unsaved } = &mut *memory;
        values.retain(|key, value| {
            let stays = value.expires.is_none_or(|expires| expires > now);
            if !stays {
                unsaved.insert(key.clone());
            }
            stays
        });
    }

    fn flush(&self) -> Answer<'_, ()> {
        Box::pin(async {
            let unsaved = self.memory.lock().take_unsaved();
            if unsaved.is_empty() {
                return Ok(());
            }
            let keys: Vec<_> = unsaved.iter().map(|(key, _)| key.clone()).collect();
            let saved = self.writer.run(FLUSH, move |db| save(db, &unsaved).map_err(outage(FLUSH))).await;
            if saved.is_err() {
                self.memory.lock().unsaved.extend(keys);
            }
            saved
        })
    }
}

const FLUSH: &str = "save ephemera";

/// Writes without waiting for the disk: the next full synchronisation takes it along.
fn save(db: &mut Connection, unsaved: &[(String, Option<Value>)]) -> rusqlite::Result<()> {
    db.pragma_update(None, "synchronous", "NORMAL")?;
    let saved = save_all(db, unsaved);
    db.pragma_update(None, "synchronous", "FULL")?;
    saved
}

fn save_all(db: &mut Connection, unsaved: &[(String, Option<Value>)]) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    {
        let mut write =
            transaction.prepare_cached("INSERT OR REPLACE INTO ephemera (key, value, expires) VALUES (?1, ?2, ?3)")?;
        let mut remove = transaction.prepare_cached("DELETE FROM ephemera WHERE key = ?1")?;
        for (key, value) in unsaved {
            match value {
                Some(value) => {
                    let expires = value.expires.map(|millis| millis.0.cast_signed());
                    write.execute(params![key, value.bytes, expires])?
                }
                None => remove.execute([key])?,
            };
        }
    }
    transaction.commit()
}
