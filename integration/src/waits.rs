//! How often proxies have asked the fleet, as their counters say.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use crate::envoy::Envoy;

/// Requests and answers that have waited for the fleet, of any number of proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// They had its word.
    pub met: u64,
    /// They did without it.
    pub in_vain: u64,
    /// They asked a second time, whatever came of it.
    pub again: u64,
    /// Those that did without, by what was waited for and why it did not come.
    pub causes: BTreeMap<String, u64>,
}

impl Waits {
    /// What these proxies have counted since they were started.
    ///
    /// # Errors
    /// Where one of them does not answer.
    pub async fn of(envoys: impl IntoIterator<Item = &Envoy>) -> Result<Self> {
        let mut waits = Self::default();
        for envoy in envoys {
            for (name, times) in envoy.stats(r"waits\.need\.(fleet|tell)").await? {
                let ends = name.rsplit_once(".need.").map_or(name.as_str(), |(_, wait)| wait).to_owned();
                match name.rsplit('.').next() {
                    Some("met") => waits.met += times,
                    Some("again") => waits.again += times,
                    _ => {
                        waits.in_vain += times;
                        *waits.causes.entry(ends).or_default() += times;
                    }
                }
            }
        }
        Ok(waits)
    }
}

/// Settings of the memory by which requests, and answers that hand out an id, wait so long for the fleet.
#[must_use]
pub fn of_ms(millis: u32) -> Value {
    json!({"ask_wait_ms": millis, "tell_wait_ms": millis})
}
