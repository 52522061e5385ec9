//! What the process keeps in shared data, for all its workers, and the copies that a worker makes of it.
//!
//! | file | keeps |
//! | --- | --- |
//! | [`data`] | nothing: the calls, and compare-and-swap over them |
//! | [`published`] | the snapshot of each service, its version, and the way back |
//! | [`rebuilds`] | which VMs died under which snapshot |
//! | [`lease`] | who polls for the process |
//! | [`memory`] | the sessions, by the keyed hashes of their ids |
//! | [`recent`] | a worker's copies of sessions that it met of late |
//! | [`ticket`] | what proves to the sidecar which process this is |
//!
//! None of these files counts a metric or logs a line: they say what came of a call, and their users tell.

pub mod data;
pub mod lease;
pub mod memory;
pub mod published;
pub mod rebuilds;
pub mod recent;
pub mod ticket;
