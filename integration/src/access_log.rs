//! The JSON access log of an Envoy, as `envoy/bootstrap.yaml` writes it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use crate::wait;

/// One line of the log: one request as Envoy saw it. `None` is Envoy's `null`: there was no such value.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// When the request began (RFC 3339).
    pub time: String,
    /// The whole decision, from filter state: the client cannot write it.
    pub decided: Option<String>,
    /// The bundle that the filter stamped, from filter state.
    #[serde(rename = "agent.bundle.id")]
    pub bundle: Option<String>,
    /// The slot that the filter stamped, from filter state.
    #[serde(rename = "agent.slot")]
    pub slot: Option<String>,
    /// Why that slot: the decision's reason, from filter state.
    #[serde(rename = "agent.decision")]
    pub decision: Option<String>,
    /// The bundle once more, under the name that OpenTelemetry has for the version of an agent.
    #[serde(rename = "gen_ai.agent.version")]
    pub version: Option<String>,
    /// The session id that the request named in the default header.
    #[serde(rename = "gen_ai.conversation.id")]
    pub session: Option<String>,
    /// The request's method.
    pub method: Option<String>,
    /// The host that the client asked for.
    pub authority: Option<String>,
    /// The path without its query.
    pub path: Option<String>,
    /// The protocol the client spoke.
    pub protocol: Option<String>,
    /// The answer's status; 0 where the client went away before one.
    pub status: u16,
    /// Envoy's response flags, `-` for none.
    pub flags: Option<String>,
    /// Where the answer comes from: `via_upstream`, `route_not_found`, `wasm_fail_stream`, ….
    pub details: Option<String>,
    /// The cluster that the route named.
    pub upstream_cluster: Option<String>,
    /// The endpoint that answered.
    pub upstream_host: Option<String>,
    /// The request's id.
    pub request_id: Option<String>,
    /// How long the whole exchange took, in milliseconds.
    pub duration_ms: Option<u64>,
}

/// The access log file of one Envoy, over all its restarts.
#[derive(Clone, Debug)]
pub struct AccessLog {
    path: PathBuf,
}

impl AccessLog {
    /// The log at a path; the file need not exist yet.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// All lines written so far. A last line without its end is still being written and is left out.
    ///
    /// # Errors
    /// Where a line is not what `envoy/bootstrap.yaml` promises; the line is in the message.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.path.display())),
        };
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        bytes[..whole]
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                let line = String::from_utf8_lossy(line);
                serde_json::from_str(&line).with_context(|| format!("not a line of our access log: {line}"))
            })
            .collect()
    }

    /// Waits until the log has at least `count` lines that `wanted` accepts, and answers those. (Envoy writes a
    /// line when the exchange is over, and flushes a little later.)
    ///
    /// # Errors
    /// Where they do not come within `limit`, or a line cannot be read.
    pub async fn wait_for(&self, count: usize, limit: Duration, wanted: impl Fn(&Entry) -> bool) -> Result<Vec<Entry>> {
        wait::until_ok(&format!("{count} lines in the access log"), limit, || {
            let found = self.entries().map(|all| {
                let total = all.len();
                (all.into_iter().filter(|entry| wanted(entry)).collect::<Vec<_>>(), total)
            });
            async move {
                let (found, total) = found.map_err(|error| wait::Never(format!("{error:#}")))?;
                if found.len() >= count {
                    return Ok(found);
                }
                Err(anyhow!("{} of {total} lines match", found.len()))
            }
        })
        .await
    }
}
