//! What a worker sees of slots: [`health`] watches whether each can be had and runs what it should, [`sessions`] who holds
//! it, [`open`] whose streams last. None of it costs a host call while all is well.
//!
//! Services keep these watches, requests and responses note what they see in them, and reports take it. This room knows
//! nobody but metrics.

pub mod health;
pub mod open;
pub mod sessions;
