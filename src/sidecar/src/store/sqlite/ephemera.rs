//! Ephemera: a map in memory, saved behind to SQLite.

use colorfast_core::time::UnixMillis;
use rusqlite::{Connection, params};

use super::Sqlite;
use super::connection::outage;
use crate::store::memory::{Memory, Value};
use crate::store::{Answer, Ephemera, Merge};

/// All that the file holds.
pub(super) fn load(db: &Connection) -> rusqlite::Result<Memory> {
    let mut select = db.prepare("SELECT key, value, expires FROM ephemera")?;
    let rows = select.query_map([], |row| {
        let expires: Option<i64> = row.get(2)?;
        let expires = expires.map(|millis| UnixMillis(millis.cast_unsigned()));
        Ok((row.get(0)?, Value { bytes: row.get(1)?, expires }))
    })?;
    Ok(Memory::of(rows.collect::<rusqlite::Result<_>>()?))
}

impl Ephemera for Sqlite {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.memory.lock().get(key)
    }

    fn put(&self, key: &str, value: Vec<u8>, expires: Option<UnixMillis>) {
        self.memory.lock().put(key, value, expires);
    }

    fn put_if_absent(&self, key: &str, value: Vec<u8>, expires: Option<UnixMillis>) -> Option<Vec<u8>> {
        self.memory.lock().put_if_absent(key, value, expires)
    }

    fn merge(&self, key: &str, expires: Option<UnixMillis>, merge: &mut Merge<'_>) {
        self.memory.lock().merge(key, expires, merge);
    }

    fn remove(&self, key: &str) {
        self.memory.lock().remove(key);
    }

    fn scan(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        self.memory.lock().scan(prefix)
    }

    fn sample(&self, prefix: &str, from: &str, most: usize) -> Vec<(String, Vec<u8>)> {
        self.memory.lock().sample(prefix, from, most)
    }

    fn count(&self, prefix: &str) -> usize {
        Memory::count(&self.memory, prefix)
    }

    fn expire(&self, now: UnixMillis) {
        Memory::expire(&self.memory, now);
    }

    fn flush(&self) -> Answer<'_, ()> {
        Box::pin(async {
            let unsaved = Memory::take_unsaved(&self.memory);
            if unsaved.is_empty() {
                return Ok(());
            }
            let keys: Vec<_> = unsaved.iter().map(|(key, _)| key.clone()).collect();
            let saved = self.writer.run(FLUSH, move |db| save(db, &unsaved).map_err(outage(FLUSH))).await;
            if saved.is_err() {
                self.memory.lock().save_again(keys);
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
