//! The Kubernetes API without a client in between, for what must be done at a known moment.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::Value;

use super::tools;
use crate::http::{Call, Line, Protocol};
use crate::process::Process;
use crate::wait;

const START_LIMIT: Duration = Duration::from_secs(30);
/// What `kubectl proxy` says before its address.
const SERVING: &str = "Starting to serve on ";

/// The API by way of `kubectl proxy`: plain HTTP on loopback, as the administrator.
#[derive(Debug)]
pub struct Api {
    address: SocketAddr,
    _proxy: Process,
}

impl Api {
    pub(super) async fn start(kubeconfig: &Path, log: &Path) -> Result<Self> {
        let mut command = Command::new(tools::program("kubectl")?);
        command.args(["proxy", "--port", "0", "--kubeconfig"]).arg(kubeconfig);
        let mut proxy = Process::spawn("kubectl proxy", &mut command, log)?;
        let address = wait::until_ok("kubectl proxy to listen", START_LIMIT, || {
            let seen = proxy.must_run().map(|()| proxy.tail());
            async move {
                let said = seen?;
                let address = said.lines().find_map(|line| line.strip_prefix(SERVING)).context("no address yet")?;
                Ok(address.parse()?)
            }
        })
        .await?;
        Ok(Self { address, _proxy: proxy })
    }

    /// A connection of one's own.
    #[must_use]
    pub fn line(&self) -> Line {
        Line::new(self.address, Protocol::Http1)
    }

    /// The document at a path.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn get(&self, path: &str) -> Result<Value> {
        Self::send(&mut self.line(), &Call::get(path)).await
    }

    /// Makes a document in the collection at a path.
    ///
    /// # Errors
    /// Where it is refused.
    pub async fn create(&self, line: &mut Line, path: &str, document: &Value) -> Result<Value> {
        let call = Call::post(path, document.to_string()).header("content-type", "application/json");
        Self::send(line, &call).await
    }

    /// Changes a document by a merge patch.
    ///
    /// # Errors
    /// Where it is refused.
    pub async fn merge(&self, line: &mut Line, path: &str, patch: &Value) -> Result<Value> {
        Self::send(line, &Call::new(Method::PATCH, path).body(patch.to_string()).header("content-type", MERGE)).await
    }

    async fn send(line: &mut Line, call: &Call) -> Result<Value> {
        let answer = line.send(call).await?;
        ensure!((200..300).contains(&answer.status), "{call:?}: {} {}", answer.status, answer.text());
        answer.json()
    }
}

const MERGE: &str = "application/merge-patch+json";
