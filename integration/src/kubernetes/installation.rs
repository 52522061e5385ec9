//! colorfast, installed in a mesh as `docs/istio.md` has it.
//!
//! Agents, sidecar and Envoys are processes of their own, and known to the mesh as WorkloadEntries: what istiod
//! generates for them is what it generates for pods.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::manifests::Manifests;
use super::proxy::{Proxy, Role};
use super::{Cluster, Istiod};
use crate::envoy::Envoy;
use crate::mesh::Mesh;
use crate::paths;
use crate::ports::Port;
use crate::wait;

/// The namespaces of everything but the gateway.
const NAMESPACES: [&str; 4] = ["agents", "callers", "colorfast", "observability"];
/// The namespace of the gateway.
const INGRESS: &str = "istio-ingress";

/// A release in a real mesh: the control planes, and the sidecar with its agents.
#[derive(Debug)]
pub struct Installation {
    /// The release.
    pub release: Mesh,
    /// Istio.
    pub istiod: Istiod,
    /// Kubernetes.
    pub cluster: Cluster,
}

impl Installation {
    /// Starts the control planes, and installs a release of the test's own with what is shipped for an ingress gateway.
    ///
    /// # Errors
    /// Where a part does not start, or a manifest is refused.
    pub async fn start(name: &str, release: Mesh) -> Result<Self> {
        let mesh = Self::bare(name, release).await?;
        mesh.cluster.namespaces([INGRESS]).await?;
        Manifests::shipped(&mesh.cluster, "istio/slots").await?.apply(&mesh.cluster).await?;
        mesh.gateway().await?.apply(&mesh.cluster).await?;
        Ok(mesh)
    }

    /// The control planes, and a release that they know; nothing of what is shipped.
    ///
    /// # Errors
    /// Where a part does not start.
    pub async fn bare(name: &str, release: Mesh) -> Result<Self> {
        let cluster = Cluster::start(name).await?;
        cluster.install_crds().await?;
        cluster.namespaces(NAMESPACES).await?;
        let istiod = Istiod::start(&cluster, &mesh_config()?).await?;
        let [blue, green] = ["blue", "green"].map(|slot| {
            let labels = json!({"app": "chat", "slot": slot});
            workload("agents", &format!("chat-{slot}"), &labels, release.agent(slot).address())
        });
        let sidecar = release.sidecar.discovery();
        let sidecar = workload("colorfast", "colorfast", &json!({"app": "colorfast"}), sidecar);
        let services = [service("agents", "chat", 80), service("colorfast", "colorfast", 18000)];
        cluster.apply(&services).await?;
        cluster.apply(&[blue, green, sidecar]).await?;
        Ok(Self { release, istiod, cluster })
    }

    /// What is shipped for an ingress gateway, with the built filter, on loopback.
    ///
    /// # Errors
    /// Where kustomize refuses it.
    pub async fn gateway(&self) -> Result<Manifests> {
        let mut manifests = Manifests::shipped(&self.cluster, "istio/gateway").await?;
        *manifests.at("EnvoyFilter", "colorfast-code", CODE)? = json!({"local": {"filename": paths::filter()?}});
        manifests.at("Gateway", "chat", "/spec/servers/0")?["bind"] = json!("127.0.0.1");
        Ok(manifests)
    }

    /// What is shipped for callers, with the built filter, for a Service of the agents on another port.
    ///
    /// # Errors
    /// Where kustomize refuses it.
    pub async fn callers(&self, port: u16) -> Result<Manifests> {
        let mut manifests = Manifests::shipped(&self.cluster, "istio/callers").await?;
        *manifests.at("EnvoyFilter", "colorfast-code", CODE)? = json!({"local": {"filename": paths::filter()?}});
        for patch in 0..3 {
            let number = format!("/spec/configPatches/{patch}/match/listener/portNumber");
            *manifests.at("EnvoyFilter", "colorfast", &number)? = json!(port);
        }
        Ok(manifests)
    }

    /// Makes a gateway known to the mesh: the proxy, and the port that it is to listen on. `number` tells gateways apart.
    ///
    /// # Errors
    /// Where the API refuses it.
    pub async fn known_ingress(&self, number: u8) -> Result<(Proxy, Port)> {
        let proxy = Proxy {
            role: Role::Gateway,
            name: format!("ingress-{number}"),
            namespace: INGRESS.to_owned(),
            // An address that is nobody's (RFC 5737): it is only what Istio knows this proxy by.
            address: format!("192.0.2.{number}"),
            labels: json!({"app": "ingress", "istio": "ingress"}),
        };
        let port = Port::reserve()?;
        let mut entry = workload(&proxy.namespace, &proxy.name, &proxy.labels, port.addr());
        entry["spec"]["address"] = json!(proxy.address);
        self.cluster.apply(&[service(INGRESS, "ingress", 80), entry]).await?;
        Ok((proxy, port))
    }

    /// Starts a gateway, and waits until it decides by the newest snapshot. `number` tells gateways apart.
    ///
    /// # Errors
    /// Where it does not start or does not get the snapshot.
    pub async fn ingress(&self, number: u8) -> Result<Envoy> {
        let (proxy, port) = self.known_ingress(number).await?;
        self.join(&proxy, port).await
    }

    /// Starts any proxy on its port, with one variable in its environment, and waits until it takes connections.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn start_proxy(&self, proxy: &Proxy, port: Port, variable: (&str, &str)) -> Result<Envoy> {
        let (name, value) = variable;
        let config = proxy.config(self.istiod.discovery()).env(name, value);
        let envoy = Envoy::start_managed(config, port).await?;
        let address = envoy.address();
        wait::until_ok("the listener", wait::LIMIT, || async move { Ok(TcpStream::connect(address).await?) }).await?;
        Ok(envoy)
    }

    /// Starts any proxy that listens on a port, and waits until it decides by the newest snapshot.
    ///
    /// # Errors
    /// As [`Installation::ingress`].
    pub async fn join(&self, proxy: &Proxy, port: Port) -> Result<Envoy> {
        let before = self.release.members().await?.len();
        let token = self.release.sidecar.discovery_token()?;
        let envoy = self.start_proxy(proxy, port, ("COLORFAST_TOKEN", &token)).await?;
        self.release.until_current(before + 1).await?;
        Ok(envoy)
    }
}

/// Where the code stands in the EnvoyFilter `colorfast-code`.
pub const CODE: &str = "/spec/configPatches/0/patch/value/typed_config/config/vm_config/code";

/// What is shipped for the mesh configuration.
fn mesh_config() -> Result<Value> {
    let path = paths::workspace().join("envoy/istio/mesh-config.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is no YAML", path.display()))
}

/// A Service of the workloads that have its name as the label `app`.
#[must_use]
pub fn service(namespace: &str, name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [{"name": PORT, "port": port, "appProtocol": "http"}]},
    })
}

/// A process that the mesh knows as a pod.
#[must_use]
pub fn workload(namespace: &str, name: &str, labels: &Value, address: SocketAddr) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"address": address.ip(), "ports": {PORT: address.port()}, "labels": labels},
    })
}

/// What the only port of each Service is called.
const PORT: &str = "http";
