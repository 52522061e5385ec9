//! Idempotency keys: what verbs of the last day came to, so that one that is sent again is answered, not carried out.
//!
//! A key stands in the entry that its verb appended, so that a replay of the log knows it. What changed nothing has no
//! entry: its key is known to this process alone.

use std::collections::{HashMap, VecDeque};

use colorfast_core::ids::{Digest, IdempotencyKey, ServiceName};
use colorfast_core::release::{Entry, RequestKey};
use colorfast_core::time::UnixMillis;
use serde::Serialize;

use super::Effect;
use crate::api::VerbRequest;

/// How long a key is known.
const MEMORY_MILLIS: u64 = 24 * 3600 * 1000;
/// Most keys that are known; the oldest are forgotten first.
const KEYS_MAX: usize = 10_000;

/// Whose key: two principals may draw the same, and neither learns of the other's verbs by it. No service: of all.
type Owner = (Option<ServiceName>, String, IdempotencyKey);

/// What a verb came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The request that had the key.
    pub request: Digest,
    /// The version of the service after it.
    pub version: u64,
    /// Whether it changed anything.
    pub effect: Effect,
    at: UnixMillis,
}

/// The keys of the last day.
#[derive(Debug, Default)]
pub struct Keys {
    known: HashMap<Owner, Known>,
    /// In the order in which they came.
    order: VecDeque<Owner>,
}

impl Keys {
    /// What the key of a verb was used for, where that is still known at `now`.
    pub fn find(
        &self,
        service: Option<&ServiceName>,
        principal: &str,
        id: &IdempotencyKey,
        now: UnixMillis,
    ) -> Option<&Known> {
        let known = self.known.get(&(service.cloned(), principal.to_owned(), id.clone()))?;
        (now.since(known.at) < MEMORY_MILLIS).then_some(known)
    }

    /// Learns the key of an entry.
    pub fn learn(&mut self, entry: &Entry) {
        let Some(RequestKey { id, request }) = &entry.key else { return };
        let known = Known { request: request.clone(), version: entry.seq, effect: Effect::Changed, at: entry.at };
        self.insert((entry.service.clone(), entry.principal.clone(), id.clone()), known);
    }

    /// Learns the key of a verb that changed nothing.
    pub fn learn_idle(
        &mut self,
        service: Option<&ServiceName>,
        principal: &str,
        key: RequestKey,
        version: u64,
        at: UnixMillis,
    ) {
        let known = Known { request: key.request, version, effect: Effect::None, at };
        self.insert((service.cloned(), principal.to_owned(), key.id), known);
    }

    fn insert(&mut self, owner: Owner, known: Known) {
        let at = known.at;
        if self.known.insert(owner.clone(), known).is_some() {
            // One that had been forgotten for its age is used anew: it is the youngest now.
            self.order.retain(|other| *other != owner);
        }
        self.order.push_back(owner);
        while self.order.len() > KEYS_MAX || self.oldest().is_some_and(|oldest| at.since(oldest) >= MEMORY_MILLIS) {
            let Some(oldest) = self.order.pop_front() else { return };
            self.known.remove(&oldest);
        }
    }

    fn oldest(&self) -> Option<UnixMillis> {
        self.known.get(self.order.front()?).map(|known| known.at)
    }
}

/// What tells a request from another under the same key.
///
/// # Errors
/// Where it cannot be written, which no verb that was read can be.
pub fn fingerprint<V: Serialize>(expected_version: Option<u64>, verb: &V) -> Result<Digest, serde_json::Error> {
    let request = VerbRequest { expected_version, verb };
    Ok(Digest::of(serde_json::to_string(&request)?.as_bytes()))
}

#[cfg(test)]
mod tests {
    use colorfast_core::release::{Event, SCHEMA, Verb};

    use super::*;

    fn chat() -> Option<ServiceName> {
        Some("chat".parse().unwrap())
    }

    fn print(expected_version: Option<u64>) -> Digest {
        fingerprint(expected_version, &Verb::Switch { slot: "green".parse().unwrap(), force: None }).unwrap()
    }

    fn key(number: u64) -> IdempotencyKey {
        format!("key {number}").parse().unwrap()
    }

    fn entry(seq: u64, at: u64) -> Entry {
        let key = RequestKey { id: key(seq), request: print(None) };
        let event = Event::SettingsApplied { settings: Default::default(), preset: None };
        let (service, principal) = (chat(), "a".to_owned());
        Entry { seq, schema: SCHEMA, at: UnixMillis(at), service, principal, key: Some(key), event }
    }

    /// A key is known for a day to the one who used it, for what it was used on, and to nobody else.
    #[test]
    fn keys_are_known_for_a_day() {
        let mut keys = Keys::default();
        keys.learn(&entry(7, 1_000));
        let at = |now, service: Option<ServiceName>, principal| {
            keys.find(service.as_ref(), principal, &key(7), UnixMillis(now)).map(|known| known.version)
        };
        assert_eq!(at(1_000 + MEMORY_MILLIS - 1, chat(), "a"), Some(7));
        assert_eq!(at(1_000 + MEMORY_MILLIS, chat(), "a"), None);
        assert_eq!(at(1_000, chat(), "b"), None);
        assert_eq!(at(1_000, None, "a"), None);
    }

    /// Memory is bounded by number and by age, and a key that is used again after a day counts as new.
    #[test]
    fn memory_is_bounded() {
        let mut keys = Keys::default();
        let most = KEYS_MAX as u64;
        (1..=most + 5).for_each(|seq| keys.learn(&entry(seq, seq)));
        assert_eq!((keys.known.len(), keys.order.len()), (KEYS_MAX, KEYS_MAX));
        let find =
            |keys: &Keys, seq, now| keys.find(chat().as_ref(), "a", &key(seq), UnixMillis(now)).map(|known| known.at.0);
        assert_eq!((find(&keys, 5, most), find(&keys, 6, most)), (None, Some(6)));

        keys.learn(&entry(6, MEMORY_MILLIS + 100));
        assert_eq!(find(&keys, 6, MEMORY_MILLIS + 100), Some(MEMORY_MILLIS + 100));
        assert_eq!((keys.known.len(), keys.order.len()), (KEYS_MAX - 94, KEYS_MAX - 94));
    }

    /// What a request expected belongs to it: the same verb with another expectation is another request.
    #[test]
    fn fingerprints_tell_requests_apart() {
        assert_eq!(print(Some(7)), print(Some(7)));
        assert_ne!(print(Some(7)), print(None));
    }
}
