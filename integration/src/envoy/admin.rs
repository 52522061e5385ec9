//! What an Envoy's admin interface says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use prometheus_parse::{Sample, Scrape};
use serde::Deserialize;
use serde_json::Value;

use crate::http::{Answer, Call};

/// A paused Envoy does not answer; then the caller wants to know soon.
const LIMIT: Duration = Duration::from_secs(5);

/// The admin interface of one running Envoy.
#[derive(Clone, Copy, Debug)]
pub struct Admin {
    address: SocketAddr,
}

impl Admin {
    /// The interface whose address Envoy has written into a file.
    pub(super) fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).context("Envoy has not written its admin address yet")?;
        let address = text.trim().parse().with_context(|| format!("{text:?} is no address"))?;
        Ok(Self { address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Fails unless Envoy is live and its workers accept connections.
    ///
    /// # Errors
    /// Says what is missing.
    pub async fn must_be_ready(&self) -> Result<()> {
        let ready = Call::get("/ready").limit(LIMIT).send(self.address).await?;
        if ready.text().trim() != "LIVE" {
            bail!("/ready says {}", ready.text().trim());
        }
        match self.stat("listener_manager.workers_started").await? {
            Some(1) => Ok(()),
            _ => bail!("its workers have not started"),
        }
    }

    /// The answer to any GET on the interface.
    ///
    /// # Errors
    /// Where it answers anything but 200.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        Self::good(path, Call::get(path).limit(LIMIT).send(self.address).await?)
    }

    /// The answer to any POST on the interface.
    ///
    /// # Errors
    /// Where it answers anything but 200.
    pub async fn post(&self, path: &str) -> Result<Answer> {
        Self::good(path, Call::post(path, "").limit(LIMIT).send(self.address).await?)
    }

    fn good(path: &str, answer: Answer) -> Result<Answer> {
        match answer.status {
            200 => Ok(answer),
            status => bail!("the admin interface answered {status} to {path}: {}", answer.text()),
        }
    }

    /// Counters and gauges whose name matches a regular expression, by name.
    ///
    /// # Errors
    /// Where the interface does not answer, a paused Envoy's for example.
    pub async fn stats(&self, filter: &str) -> Result<BTreeMap<String, u64>> {
        #[derive(Deserialize)]
        struct Stats {
            stats: Vec<Value>,
        }
        let answer = self.get(&format!("/stats?format=json&filter={}", percent_encoded(filter))).await?;
        let found: Stats = answer.json()?;
        // Histograms stand among them without name and value, text readouts with a text.
        let numbers = found.stats.iter().filter_map(|stat| Some((stat["name"].as_str()?, stat["value"].as_u64()?)));
        Ok(numbers.map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// What Prometheus is shown of the filter's metrics.
    ///
    /// # Errors
    /// Where the interface does not answer, or with something else than Prometheus' text.
    pub async fn prometheus(&self) -> Result<Vec<Sample>> {
        let text = self.get("/stats/prometheus?filter=wasmcustom").await?.text();
        let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned())))?;
        Ok(scrape.samples)
    }

    /// One counter or gauge by its exact name; `None` where Envoy has none of it (yet).
    ///
    /// # Errors
    /// Where the interface does not answer.
    pub async fn stat(&self, name: &str) -> Result<Option<u64>> {
        let exact = format!("^{}$", name.replace('.', "\\."));
        Ok(self.stats(&exact).await?.remove(name))
    }
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
