//! The real control planes of Kubernetes and Istio, as processes on loopback.
//!
//! ```text
//!   kubectl ──▶ kube-apiserver ──▶ etcd        istiod ──ADS──▶ envoy, one gateway or caller each
//!                  ▲  ▲  ▲                        │
//!   controllers ───┘  │  └── kwok: nodes and      └──▶ kube-apiserver
//!   scheduler ────────┘      pods that are ready
//! ```
//!
//! `make mesh-tools` builds them. Each test has planes of its own; what they log stays in `target/mesh/<name>`.

mod api;
mod cluster;
pub mod contest;
mod credentials;
mod installation;
mod istiod;
mod manifests;
mod proxy;
pub mod tools;

pub use api::Api;
pub use cluster::Cluster;
pub use installation::{CODE, Installation, service, workload};
pub use istiod::{Istiod, ROOT_NAMESPACE};
pub use manifests::Manifests;
pub use proxy::{Proxy, Role};
