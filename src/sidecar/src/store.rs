//! What the sidecar keeps, behind three traits: [`Log`], [`Secrets`] and [`Ephemera`].
//!
//! SQLite ([`sqlite`]) is the embedded implementation of all three; a replicated store of a fleet goes behind the same
//! traits. One contract, in `contract`, holds every implementation to the same promises.

mod ephemera;
mod lock;
mod log;
mod secrets;
pub mod sqlite;

#[cfg(test)]
mod contract;

use std::future::Future;
use std::pin::Pin;

pub use ephemera::{Ephemera, Merge};
pub use lock::DirLock;
pub use log::{AppendError, Head, LeaseError, Log, Record};
pub use secrets::{PutError, Secrets, Versioned};

/// What a store says in its own time.
pub type Answer<'a, T, E = Outage> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// The store could not do it, and whether it did is for a reader to find out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store failed to {what}: {cause}")]
pub struct Outage {
    /// What it was asked to do.
    pub what: &'static str,
    /// What it said.
    pub cause: String,
}
