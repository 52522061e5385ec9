//! Values by key in memory: what ephemera answer from, wherever they are saved.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use colorfast_core::time::UnixMillis;
use parking_lot::{Mutex, MutexGuard};

use super::{Answer, Ephemera, Merge};

/// Most entries that are gone through while all others wait.
const STEP: usize = 512;
/// Most values that are taken to be saved while all others wait: some are long.
const TAKEN: usize = 32;

/// What is known, and which keys have changed since they were saved.
#[derive(Debug, Default)]
pub struct Memory {
    values: BTreeMap<String, Value>,
    unsaved: BTreeSet<String>,
}

/// A value, and when it may go.
#[derive(Debug, Clone)]
pub struct Value {
    /// What was written last.
    pub bytes: Vec<u8>,
    /// When it may go; none where it stays until it is removed.
    pub expires: Option<UnixMillis>,
}

impl Memory {
    /// What was saved.
    pub fn of(values: BTreeMap<String, Value>) -> Self {
        Self { values, unsaved: BTreeSet::new() }
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.values.get(key).map(|value| value.bytes.clone())
    }

    /// Writes a value, whatever was there.
    pub fn put(&mut self, key: &str, bytes: Vec<u8>, expires: Option<UnixMillis>) {
        self.values.insert(key.to_owned(), Value { bytes, expires });
        self.unsaved.insert(key.to_owned());
    }

    /// Writes a value where there is none, else gives the one that is there.
    pub fn put_if_absent(&mut self, key: &str, bytes: Vec<u8>, expires: Option<UnixMillis>) -> Option<Vec<u8>> {
        let there = self.get(key);
        if there.is_none() {
            self.put(key, bytes, expires);
        }
        there
    }

    /// Writes what `merge` makes of the value that is there.
    pub fn merge(&mut self, key: &str, expires: Option<UnixMillis>, merge: &mut Merge<'_>) {
        if let Some(merged) = merge(self.values.get(key).map(|value| value.bytes.as_slice())) {
            self.put(key, merged, expires);
        }
    }

    /// Removes the value under `key`.
    pub fn remove(&mut self, key: &str) {
        if self.values.remove(key).is_some() {
            self.unsaved.insert(key.to_owned());
        }
    }

    /// Every key that starts with `prefix`, with its value, in order of key.
    pub fn scan(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let from = self.values.range(prefix.to_owned()..);
        let found = from.take_while(|(key, _)| key.starts_with(prefix));
        found.map(|(key, value)| (key.clone(), value.bytes.clone())).collect()
    }

    /// The next `most` keys from `from` on that start with `prefix`, with their values; behind the last comes the first.
    pub fn sample(&self, prefix: &str, from: &str, most: usize) -> Vec<(String, Vec<u8>)> {
        let from = from.max(prefix);
        let after = self.values.range::<str, _>((Bound::Included(from), Bound::Unbounded));
        let before = self.values.range::<str, _>((Bound::Included(prefix), Bound::Excluded(from)));
        let within = |(key, _): &(&String, &Value)| key.starts_with(prefix);
        let all = after.take_while(within).chain(before.take_while(within));
        all.take(most).map(|(key, value)| (key.clone(), value.bytes.clone())).collect()
    }

    /// How many keys start with `prefix`, counted in steps: others come in between.
    pub fn count(shared: &Mutex<Self>, prefix: &str) -> usize {
        let mut memory = shared.lock();
        let (mut count, mut last) = memory.count_after(prefix, None);
        while let Some(key) = last {
            MutexGuard::bump(&mut memory);
            let (more, next) = memory.count_after(prefix, Some(&key));
            (count, last) = (count + more, next);
        }
        count
    }

    /// How many of the next keys after `key` start with `prefix`, and the last that does; none where there are no more.
    fn count_after(&self, prefix: &str, key: Option<&str>) -> (usize, Option<String>) {
        let from = key.map_or(Bound::Included(prefix), Bound::Excluded);
        let keys = self.values.range::<str, _>((from, Bound::Unbounded)).map(|(key, _)| key).take(STEP);
        let (mut count, mut last) = (0, None);
        for key in keys.take_while(|key| key.starts_with(prefix)) {
            (count, last) = (count + 1, Some(key));
        }
        (count, last.cloned())
    }

    /// Removes what has expired by `now`, in steps: others come in between.
    pub fn expire(shared: &Mutex<Self>, now: UnixMillis) {
        let mut memory = shared.lock();
        let mut last = memory.expire_after(None, now);
        while let Some(key) = last {
            MutexGuard::bump(&mut memory);
            last = memory.expire_after(Some(&key), now);
        }
    }

    /// Removes what has expired among the next entries after `key`. Returns the last of them; none where all are done.
    fn expire_after(&mut self, key: Option<&str>, now: UnixMillis) -> Option<String> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let mut expired = Vec::new();
        let mut last = None;
        for (key, value) in self.values.range::<str, _>((from, Bound::Unbounded)).take(STEP) {
            last = Some(key);
            if value.expires.is_some_and(|expires| expires <= now) {
                expired.push(key.clone());
            }
        }
        let last = last.cloned();
        expired.iter().for_each(|key| self.remove(key));
        last
    }

    /// What is to be saved, each key with its value as it is found, in steps: others come in between. It counts as saved from
    /// here on, unless it changes again.
    pub fn take_unsaved(shared: &Mutex<Self>) -> Vec<(String, Option<Value>)> {
        let mut memory = shared.lock();
        let keys: Vec<_> = std::mem::take(&mut memory.unsaved).into_iter().collect();
        let mut unsaved = Vec::with_capacity(keys.len());
        for (number, key) in keys.into_iter().enumerate() {
            if number % TAKEN == TAKEN - 1 {
                MutexGuard::bump(&mut memory);
            }
            let value = memory.values.get(&key).cloned();
            unsaved.push((key, value));
        }
        unsaved
    }

    /// These could not be saved after all.
    pub fn save_again(&mut self, keys: Vec<String>) {
        self.unsaved.extend(keys);
    }
}

/// Ephemera of a process that keeps none: it ends before anybody could ask for them again.
#[derive(Debug, Default)]
pub struct Passing(Mutex<Memory>);

impl Ephemera for Passing {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.0.lock().get(key)
    }

    fn put(&self, key: &str, value: Vec<u8>, expires: Option<UnixMillis>) {
        self.0.lock().put(key, value, expires);
    }

    fn put_if_absent(&self, key: &str, value: Vec<u8>, expires: Option<UnixMillis>) -> Option<Vec<u8>> {
        self.0.lock().put_if_absent(key, value, expires)
    }

    fn merge(&self, key: &str, expires: Option<UnixMillis>, merge: &mut Merge<'_>) {
        self.0.lock().merge(key, expires, merge);
    }

    fn remove(&self, key: &str) {
        self.0.lock().remove(key);
    }

    fn scan(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        self.0.lock().scan(prefix)
    }

    fn sample(&self, prefix: &str, from: &str, most: usize) -> Vec<(String, Vec<u8>)> {
        self.0.lock().sample(prefix, from, most)
    }

    fn count(&self, prefix: &str) -> usize {
        Memory::count(&self.0, prefix)
    }

    fn expire(&self, now: UnixMillis) {
        Memory::expire(&self.0, now);
    }

    fn flush(&self) -> Answer<'_, ()> {
        Memory::take_unsaved(&self.0);
        Box::pin(std::future::ready(Ok(())))
    }
}
