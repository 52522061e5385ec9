//! The time, as one worker has read it.

use std::cell::Cell;

use colorfast_core::time::UnixMillis;

use crate::host;

/// The host's clock, and what it showed last.
#[derive(Debug)]
pub struct Clock(Cell<UnixMillis>);

impl Clock {
    /// The clock, which has just shown `now`.
    pub fn at(now: UnixMillis) -> Self {
        Self(Cell::new(now))
    }

    /// The time by the host's clock.
    pub fn read(&self) -> UnixMillis {
        let now = host::now();
        self.0.set(now);
        now
    }

    /// The time as it was read last, a tick ago at most: without a host call.
    pub fn recent(&self) -> UnixMillis {
        self.0.get()
    }
}
