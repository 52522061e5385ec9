//! Metrics. Every definition takes a new id in Envoy, so each name is defined once a VM.

use super::raw;
use super::status::{HostError, check};

/// What a metric does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum MetricKind {
    /// Counts up.
    Counter = 0,
    /// Holds a value.
    Gauge = 1,
}

/// Defines a metric of the process.
pub fn define_metric(kind: MetricKind, name: &str) -> Result<u32, HostError> {
    let mut id = 0;
    // SAFETY: all pointers are valid for the call.
    check(unsafe { raw::proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &mut id) })?;
    Ok(id)
}

/// Counts `by` more; `by` must not be 0, which the host refuses.
pub fn increment(id: u32, by: u32) -> Result<(), HostError> {
    // SAFETY: plain numbers.
    check(unsafe { raw::proxy_increment_metric(id, i64::from(by)) })
}

/// Sets a gauge.
pub fn record(id: u32, value: u64) -> Result<(), HostError> {
    // SAFETY: plain numbers.
    check(unsafe { raw::proxy_record_metric(id, value) })
}
