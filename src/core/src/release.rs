//! The release state: verbs are checked against it, events change it, snapshots show it.
//!
//! ```text
//!  verb + state + circumstances ──check──▶ event ──append──▶ log ──fold──▶ state ──▶ snapshot
//! ```
//!
//! The state is a pure fold over the log. Whatever a fold needs (times, numbers, choices) stands in the event.

mod application;
mod asking;
mod check;
mod entry;
mod event;
mod holding;
mod phase;
mod refusal;
mod restore;
mod ring;
mod serving;
mod state;
mod verb;

pub use application::{ApplicationState, ApplicationVerb};
pub use check::{Acknowledgements, Circumstances};
pub use entry::{Entry, EntryError, GENESIS_HASH, RequestKey, SCHEMA};
pub use event::{Event, Left, Restored};
pub use holding::{Held, Holding, Reach};
pub use phase::Phase;
pub use refusal::Refusal;
pub use restore::LostFuture;
pub use ring::{KeyDuty, KeyState, KeyStep, RingState, Signs, Terms};
pub use serving::{Mismatch, Observed, ProbeOutcome, Serving};
pub use state::{Asking, FoldError, Live, ServiceState, SlotState, State};
pub use verb::{Force, Pins, Verb};

#[cfg(test)]
mod tests;
