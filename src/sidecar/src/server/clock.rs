//! What time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use colorfast_core::time::UnixMillis;

/// Now, by the system's clock. Spans of time are measured by a monotonic one instead.
pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
