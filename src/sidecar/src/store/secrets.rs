//! Secrets: key material by name.

use std::fmt;

use super::{Answer, Outage};

/// Small values that change rarely and must never be lost; on disk (or replicated) before the answer.
pub trait Secrets: fmt::Debug + Send + Sync {
    /// The value under `name`.
    fn get(&self, name: &str) -> Answer<'_, Option<Versioned>>;

    /// Writes `value` where the version under `name` is still `expected` (0: nothing there), and gives the new version.
    ///
    /// # Errors
    /// [`PutError::Moved`] where it is not: nothing was written.
    fn put_if_version(&self, name: &str, expected: u64, value: Vec<u8>) -> Answer<'_, u64, PutError>;
}

/// A secret and how often it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Versioned {
    /// Counts the writes, from 1.
    pub version: u64,
    /// What was written last.
    pub value: Vec<u8>,
}

impl fmt::Debug for Versioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Versioned").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Why nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// Another has written first.
    #[error("the secret is at version {0}")]
    Moved(u64),
    /// The store failed.
    #[error(transparent)]
    Outage(#[from] Outage),
}
