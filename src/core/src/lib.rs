//! The rules of colorfast, pure: no host, no clock, no environment, no I/O, no entropy.
//!
//! ```text
//!  operator ─▶ release (verbs → events → state) ─▶ snapshot ─▶ plan ─▶ decide ─▶ slot, stamps, pin
//!                 sidecar only                     the wire      filter, and `why`
//! ```
//!
//! The sidecar folds events into a [`release::State`] and renders a [`snapshot::Snapshot`] of it.
//! The filter compiles that into a [`plan::Plan`] once, and [`decide::decide`]s every request by it.
//! Both sides share these types over the wire, never each other.

pub mod baggage;
pub mod bundle;
pub mod cookie;
pub mod decide;
pub mod decided;
pub mod envelope;
pub mod error;
pub mod ids;
pub mod json;
pub mod keys;
pub mod memory;
pub mod names;
pub mod path;
pub mod percent;
pub mod plan;
pub mod plugin;
pub mod preset;
pub mod release;
pub mod rendezvous;
pub mod scan;
#[cfg(feature = "schema")]
pub mod schema;
pub mod seen;
pub mod settings;
pub mod sketch;
pub mod snapshot;
pub mod time;
pub mod token;
pub mod weight;
pub mod why;
pub mod wire;
