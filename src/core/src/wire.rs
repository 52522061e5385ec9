//! What filter and sidecar say to each other.

pub mod discovery;
pub mod incarnation;
pub mod reports;
pub mod sessions;
pub mod ticket;
