//! The log: entries in one line of history.

use std::fmt;
use std::time::Duration;

use colorfast_core::release::GENESIS_HASH;
use tokio::sync::watch;

use super::{Answer, Outage};

/// One line of history, appended under compare-and-swap and on disk (or replicated) before the answer.
pub trait Log: fmt::Debug + Send + Sync {
    /// Appends `records` where `expected` is still the head; all of them or none.
    ///
    /// # Errors
    /// [`AppendError::Moved`] where somebody else appended first: nothing was written.
    /// After an [`AppendError::Outage`] only reading tells whether it was.
    fn append(&self, expected: Head, records: Vec<Record>) -> Answer<'_, Head, AppendError>;

    /// At most `limit` records after the sequence number `after`, oldest first.
    fn read(&self, after: u64, limit: usize) -> Answer<'_, Vec<Record>>;

    /// The head, now and whenever it moves.
    fn watch(&self) -> watch::Receiver<Head>;

    /// Moves what was appended from the journal to its final place, so that the store is one tidy file.
    fn checkpoint(&self) -> Answer<'_, ()>;

    /// Takes the lease `name` for `holder`, or renews it. It lapses `ttl` after the last call.
    ///
    /// # Errors
    /// [`LeaseError::Held`] where another has it.
    fn lease(&self, name: &'static str, holder: &str, ttl: Duration) -> Answer<'_, (), LeaseError>;
}

/// The last record of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its sequence number; 0 before the first.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

impl Head {
    /// The head of a log without a record.
    pub fn empty() -> Self {
        Self { seq: 0, hash: GENESIS_HASH.to_owned() }
    }
}

/// A sealed entry. The log knows nothing of what stands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place, from 1.
    pub seq: u64,
    /// Its text, as written.
    pub text: String,
    /// Its hash, which covers the hash before it.
    pub hash: String,
}

impl Record {
    /// The head of a log that ends with this record.
    pub fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash.clone() }
    }
}

/// Why nothing was appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The log has another head.
    #[error("the log has moved to entry {}", .0.seq)]
    Moved(Head),
    /// The store failed.
    #[error(transparent)]
    Outage(#[from] Outage),
}

/// Why a lease was not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Another has it.
    #[error("{0} holds the lease")]
    Held(String),
    /// The store failed.
    #[error(transparent)]
    #[allow(dead_code, reason = "a lease in this process cannot fail to be reached, one of a fleet can")]
    Outage(#[from] Outage),
}
