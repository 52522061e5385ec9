//! What the sidecar keeps, behind three traits: [`Log`], [`Secrets`] and [`Ephemera`].
//!
//! SQLite ([`sqlite`]) is the embedded implementation of all three. An offline store ([`files`]) keeps log and secrets in
//! files of which the log goes with git; a replicated store of a fleet goes behind the same traits. One contract, in
//! `contract`, holds every implementation to the same promises.

mod copies;
mod ephemera;
pub mod files;
mod leases;
mod lock;
mod log;
mod memory;
mod secrets;
pub mod sqlite;

#[cfg(test)]
mod contract;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use copies::Copies;
pub use ephemera::{Ephemera, Merge};
pub use lock::DirLock;
pub use log::{AppendError, Head, LeaseError, Log, Record};
pub use memory::Passing;
pub use secrets::{PutError, Secrets, Versioned};

/// One store behind its three traits.
#[derive(Debug, Clone)]
pub struct Stores {
    /// What happened.
    pub log: Arc<dyn Log>,
    /// What must never be lost or shown.
    pub secrets: Arc<dyn Secrets>,
    /// What may be lost.
    pub ephemera: Arc<dyn Ephemera>,
}

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
