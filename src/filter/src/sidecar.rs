//! The way to the sidecar: what one root asks it, tells it, and hears from it.
//!
//! | file | is about |
//! | --- | --- |
//! | [`link`] | the cluster, the token and the ticket that every call goes out with |
//! | [`identity`] | who speaks: the proxy, and the VM instance in it |
//! | [`membership`] | the root's part in the fleet: its leaders and its reports |
//! | [`leader`] | polls for snapshots, validates and publishes them |
//! | [`discovery_answer`] | an answer to a poll, before it is parsed |
//! | [`questions`] | questions after sessions that this proxy does not know, and words of ids that answers hand out |
//! | [`report`] | what this VM instance tells of itself and of slots |
//!
//! Requests ask through here; nothing here knows of requests: whose answer has come is handed back to the caller.

pub mod discovery_answer;
pub mod identity;
pub mod leader;
pub mod link;
pub mod membership;
pub mod questions;
pub mod report;
