//! The built filter under a small host: what each promise comes to, case by case.

mod decisions;
mod golden;
mod proxy;
mod releases;
mod request;
mod rng;
mod sidecar;
