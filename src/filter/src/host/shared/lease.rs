//! Who polls for the process: a lease in shared data, with a fencing term.
//!
//! The root context's id is 1 in every VM, so owners are random numbers. After a configuration change the old and the
//! new roots tick side by side until the old ones are drained; the newer generation takes the lease over.

use colorfast_core::ids::ServiceName;
use colorfast_core::names::shared;
use colorfast_core::time::UnixMillis;

use super::data;

/// How long a lease holds. A leader that is stopped longer finds another when it goes on.
const HOLDS_MS: u64 = 2_000;

/// The VMs of one configuration are made within this time of each other; they do not pre-empt one another.
const SAME_CONFIGURATION_MS: u64 = 1_000;

/// One root's claim to lead one service.
#[derive(Debug)]
pub struct Lease {
    key: String,
    owner: u64,
    generation: u64,
    /// The term that this root leads in.
    term: Option<u64>,
}

/// What stands in shared data: four little-endian numbers.
#[derive(Debug, Clone, Copy)]
struct Record {
    owner: u64,
    generation: u64,
    term: u64,
    expires: UnixMillis,
}

impl Record {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let [owner, generation, term, expires] = *numbers else { return None };
        let number = u64::from_le_bytes;
        let record = Self {
            owner: number(owner),
            generation: number(generation),
            term: number(term),
            expires: UnixMillis(number(expires)),
        };
        rest.is_empty().then_some(record)
    }

    fn bytes(&self) -> Vec<u8> {
        [self.owner, self.generation, self.term, self.expires.0].iter().flat_map(|n| n.to_le_bytes()).collect()
    }
}

impl Lease {
    /// A claim by `owner`, a random number, of the configuration that came at `generation` (Unix milliseconds).
    pub fn new(service: &ServiceName, owner: u64, generation: u64) -> Self {
        Self { key: shared::lease(service), owner, generation, term: None }
    }

    /// Takes or renews the lease where that may be, and tells whether this root leads.
    pub fn hold(&mut self, now: UnixMillis) -> bool {
        let (owner, generation) = (self.owner, self.generation);
        let mut term = None;
        let held = data::update_shared(&self.key, |current| {
            let current = current.and_then(Record::read);
            let free = current.is_none_or(|record| {
                // A clock that stepped back must not leave a lease in the far future.
                let ahead = record.expires > now.plus_millis(HOLDS_MS);
                record.expires <= now || ahead || record.generation.saturating_add(SAME_CONFIGURATION_MS) < generation
            });
            let before = current.map_or(0, |record| record.term);
            let mine = current.is_some_and(|record| record.owner == owner);
            term = match (mine, free) {
                (true, _) => Some(before),
                (false, true) => Some(before.saturating_add(1)),
                (false, false) => None,
            };
            let expires = now.plus_millis(HOLDS_MS);
            term.map(|term| Record { owner, generation, term, expires }.bytes())
        });
        self.term = if held == Ok(true) { term } else { None };
        self.term.is_some()
    }

    /// Whether this root still leads in the term that it was given: asked before anything is published.
    pub fn is_held(&self) -> bool {
        let record = data::shared(&self.key).ok().flatten().and_then(|bytes| Record::read(&bytes));
        record.is_some_and(|record| record.owner == self.owner && Some(record.term) == self.term)
    }
}
