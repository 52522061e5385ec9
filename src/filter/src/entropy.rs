//! Random numbers of one worker.

use std::cell::Cell;

use colorfast_core::rendezvous;
use colorfast_core::time::UnixMillis;

use crate::host;

/// SplitMix64 (Steele, Lea and Flood, 2014), seeded by the system: a random number costs no host call.
/// What is drawn places sessions and names them; it guards nothing.
#[derive(Debug)]
pub struct Draws(Cell<u64>);

impl Draws {
    /// Seeded by the system; by the time, where the system gives nothing.
    pub fn seeded(now: UnixMillis) -> Self {
        Self(Cell::new(host::random().unwrap_or(now.0)))
    }

    /// A uniformly random number.
    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        rendezvous::mix(state)
    }
}
