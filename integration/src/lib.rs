//! Real Envoy, real sidecar, real load over loopback: what tests, demo and benchmark stand on.
//!
//! ```text
//!   load ─ client ─ http ──▶ envoy (bootstrap.yaml, edited) ──▶ agent    one per bundle
//!    │                        │  │                               │
//!  report                     │  ├──────▶ sidecar (+ its CLI)    └─ what came, with which stamps
//!                             │  └──────▶ collector, for spans
//!                             └─ access_log, stats
//! ```
//!
//! Whatever is started is stopped: by its value's drop, and by a watchdog where the test process dies. Ports are
//! chosen at run time; every wait is for a condition, with a deadline ([`wait`]). A test's body runs in
//! [`scenario()`], which shows the logs of all processes where it fails.

pub mod access_log;
pub mod agent;
pub mod artifacts;
pub mod balancer;
pub mod bench;
pub mod client;
pub mod collector;
pub mod command;
pub mod demo;
pub mod document;
pub mod envoy;
pub mod flip;
pub mod http;
pub mod kubernetes;
pub mod load;
pub mod lone;
pub mod mesh;
pub mod mirror;
pub mod names;
pub mod node;
pub mod numbers;
pub mod packages;
pub mod paths;
pub mod ports;
pub mod process;
pub mod python;
pub mod relay;
pub mod report;
mod scenario;
pub mod sdk;
mod server;
pub mod sidecar;
pub mod volley;
pub mod wait;
pub mod waits;
pub mod ways;

pub use agent::Agent;
pub use artifacts::Artifacts;
pub use balancer::Balancer;
pub use collector::Collector;
pub use command::Outcome;
pub use envoy::{Envoy, EnvoyConfig};
pub use load::{Load, Plan};
pub use mesh::Mesh;
pub use mirror::Mirror;
pub use relay::Relay;
pub use report::Report;
pub use scenario::scenario;
pub use sdk::Sdk;
pub use sidecar::Sidecar;
pub use waits::Waits;
pub use ways::{Kind, Talk, Way};
