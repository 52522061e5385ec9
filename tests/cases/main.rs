//! The built filter under a small host: what each promise comes to, case by case.
//!
//! A case speaks of a [`proxy::Proxy`], its workers, the [`sidecar`] that the case plays, and [`request`]s; a worker
//! that makes a host call which Envoy would refuse fails its case.

mod accounts;
mod atomic;
mod bodies;
mod configuration;
mod cost;
mod decisions;
mod discovery;
mod doubled;
mod ends;
mod endurance;
mod envelopes;
mod fleet;
mod forged;
mod garbage;
mod golden;
mod gone;
mod leadership;
mod learning;
mod memory;
mod open_streams;
mod part_headers;
mod poison;
mod preflights;
mod pushed;
mod rebuilds;
mod redirects;
mod reports;
mod responses;
mod services;
mod serving;
mod side_by_side;
mod skew;
mod sources;
mod start;
mod telling;
mod tickets;
mod told;

#[path = "../forgery/mod.rs"]
mod forgery;
mod proxy;
mod releases;
mod request;
mod rng;
mod sidecar;
