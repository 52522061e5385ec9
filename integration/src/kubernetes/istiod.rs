//! Istio's control plane.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Cluster, tools};
use crate::http::Call;
use crate::ports::Port;
use crate::process::Process;
use crate::wait;

const START_LIMIT: Duration = Duration::from_secs(90);
/// How long it may take to end after SIGTERM before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// The namespace that is its own, and that of what holds for the whole mesh.
pub const ROOT_NAMESPACE: &str = "istio-system";

/// A running istiod: its ports stay the same over every restart.
#[derive(Debug)]
pub struct Istiod {
    http: Port,
    discovery: Port,
    monitoring: Port,
    introspection: Port,
    mesh: PathBuf,
    kubeconfig: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Istiod {
    /// Starts istiod on a cluster, and waits until it is ready. `mesh` is what its mesh configuration says beside the
    /// extension providers: those of `envoy/istio/mesh-config.yaml` mostly.
    ///
    /// # Errors
    /// Where it ends by itself (its log is in the message) or is not ready in time.
    pub async fn start(cluster: &Cluster, mesh: &Value) -> Result<Self> {
        cluster.namespaces([ROOT_NAMESPACE]).await?;
        let mut document = mesh.clone();
        let all = document.as_object_mut().context("a mesh configuration is an object")?;
        all.insert("rootNamespace".to_owned(), json!(ROOT_NAMESPACE));
        // Without an authority there are no certificates, and with them no secrets that an Envoy would wait for.
        all.insert("enableAutoMtls".to_owned(), json!(false));
        let mut istiod = Self {
            http: Port::reserve()?,
            discovery: Port::reserve()?,
            monitoring: Port::reserve()?,
            introspection: Port::reserve()?,
            mesh: cluster.write("mesh.json", &document)?,
            kubeconfig: cluster.kubeconfig().to_owned(),
            log: cluster.logs().join("istiod.log"),
            process: None,
        };
        istiod.launch().await?;
        Ok(istiod)
    }

    /// Where it serves ADS in the clear.
    #[must_use]
    pub fn discovery(&self) -> SocketAddr {
        self.discovery.addr()
    }

    /// What it says under a path of its debug interface, `/debug/syncz` for example.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn debug(&self, path: &str) -> Result<Value> {
        let answer = Call::get(path).send(self.http.addr()).await?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
        answer.json()
    }

    /// What it has logged so far, over all restarts.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = std::fs::read(&self.log).context("cannot read istiod's log")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Starts it again on the same ports.
    ///
    /// # Errors
    /// As [`Istiod::start`].
    pub async fn restart(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(STOP_GRACE).await?;
        }
        self.launch().await
    }

    async fn launch(&mut self) -> Result<()> {
        let mut command = Command::new(tools::program("pilot-discovery")?);
        command.arg("discovery").arg("--kubeconfig").arg(&self.kubeconfig).arg("--meshConfig").arg(&self.mesh);
        command.args(["--httpAddr", &self.http.addr().to_string()]);
        command.args(["--grpcAddr", &self.discovery.addr().to_string()]);
        command.args(["--monitoringAddr", &self.monitoring.addr().to_string()]);
        command.args(["--ctrlz_port", &self.introspection.number().to_string()]);
        command.args(["--httpsAddr=", "--secureGRPCAddr="]);
        command.env("ENABLE_CA_SERVER", "false").env("CLUSTER_ID", "Kubernetes");
        command.env("POD_NAME", "istiod").env("POD_NAMESPACE", ROOT_NAMESPACE);
        // Extensions of Istio's own build of Envoy, which the official one does not have.
        command.env("PILOT_ENABLE_METADATA_EXCHANGE", "false").env("PILOT_ENABLE_ALPN_FILTER", "false");
        let mut process = Process::spawn("istiod", &mut command, &self.log)?;
        let http = self.http.addr();
        wait::until_ok("istiod to be ready", START_LIMIT, || {
            let seen = process.must_run();
            async move {
                seen?;
                let ready = Call::get("/ready").send(http).await?;
                ensure!(ready.status == 200, "/ready answers {}", ready.status);
                Ok(())
            }
        })
        .await?;
        self.process = Some(process);
        Ok(())
    }
}
