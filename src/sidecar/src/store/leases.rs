//! Leases of a store that one process has for itself: nobody else could hold one.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::LeaseError;

/// Who holds which lease, and until when.
#[derive(Debug, Default)]
pub struct Leases(Mutex<BTreeMap<&'static str, Lease>>);

#[derive(Debug)]
struct Lease {
    holder: String,
    until: Instant,
}

impl Leases {
    /// Takes the lease `name` for `holder`, or renews it.
    ///
    /// # Errors
    /// Where another has it.
    pub fn take(&self, name: &'static str, holder: &str, ttl: Duration) -> Result<(), LeaseError> {
        let mut leases = self.0.lock();
        let now = Instant::now();
        match leases.get(name) {
            Some(lease) if lease.holder != holder && lease.until > now => Err(LeaseError::Held(lease.holder.clone())),
            _ => {
                leases.insert(name, Lease { holder: holder.to_owned(), until: now + ttl });
                Ok(())
            }
        }
    }
}
