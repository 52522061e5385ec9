//! The real control plane of Kubernetes, as processes on loopback.
//!
//! ```text
//!   kubectl ──▶ kube-apiserver ──▶ etcd
//!                  ▲  ▲  ▲
//!   controllers ───┘  │  └── kwok: nodes and pods that are ready
//!   scheduler ────────┘
//! ```
//!
//! `make mesh-tools` builds them. Each test has planes of its own; what they log stays in `target/mesh/<name>`.

mod api;
mod cluster;
mod credentials;
mod manifests;
pub mod tools;

pub use api::Api;
pub use cluster::Cluster;
pub use manifests::Manifests;
