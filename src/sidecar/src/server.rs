//! The sidecar: holds the release state, pushes it to proxies, obeys operators.
//!
//! ```text
//!  control ──verb──▶ authority ──append──▶ Log        discovery ◀──poll── proxies
//!     │                  │ publish                        │  ▲
//!     │                  ▼                                │  │ newest snapshot
//!     │               directory ──────────────────────────┼──┘
//!     └─confirmation─▶ members ◀──held, refused───────────┘
//! ```
//!
//! One task, the authority, writes the log. Everything else reads what it publishes and waits on watches.

mod access;
mod accounts;
mod authority;
mod clock;
mod control;
mod copies;
mod corrections;
mod directory;
mod discovery;
mod ending;
mod errands;
mod files;
mod gate;
mod holdings;
mod http;
mod leases;
mod listening;
mod logging;
mod members;
mod observations;
mod offline;
mod openapi;
mod pods;
mod preparing;
mod probe;
mod problem;
mod reports;
mod run;
mod serving;
mod sessions;
mod sidecar;
mod status;
mod tickets;
mod tls;
mod tokens;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use copies::{Existing, RestoreError, Restored, inspect, restore};
pub use offline::{Missing, Offline, OfflineError};
pub use pods::Scope as PodScope;
pub use run::{MEMBER_TTL_MIN, refuse_in_the_clear, run};
pub use sidecar::Limits;
pub use tls::TlsFiles;

/// The OpenAPI document of each address, by the name of its file.
#[cfg(test)]
pub fn apis() -> [(&'static str, serde_json::Value); 2] {
    [("openapi.json", control::described().1), ("openapi-discovery.json", discovery::described().1)]
}

/// Every kind of problem: its code, its status, what it means and what to do.
#[cfg(test)]
pub fn problems() -> impl Iterator<Item = (&'static str, u16, &'static str, &'static str)> {
    problem::Kind::ALL.iter().map(|kind| (kind.code(), kind.status().as_u16(), kind.title(), kind.remedy()))
}

/// What `colorfast serve` is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where state, tokens and `serve.json` live.
    pub data_dir: PathBuf,
    /// Where proxies ask.
    pub discovery: SocketAddr,
    /// Where operators ask.
    pub control: SocketAddr,
    /// The certificates of both addresses; none where both speak plain HTTP.
    pub tls: Option<TlsFiles>,
    /// What it bears with.
    pub limits: Limits,
    /// The pods that proxies run in; none where they are not watched.
    pub pods: Option<PodScope>,
    /// How logs are written.
    pub log_format: LogFormat,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod rig;
