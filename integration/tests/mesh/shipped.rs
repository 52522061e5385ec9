//! What is shipped, at a real API server with the real custom resources.

use anyhow::ensure;
use integration::kubernetes::Cluster;
use integration::{paths, scenario};
use serde_json::json;

/// Everything under `envoy/` that is applied to a cluster, in the order in which it is installed.
const SHIPPED: [&str; 3] = ["istio/slots", "istio/gateway", "istio/callers"];

/// Every shipped manifest is accepted by strict server-side validation, and what the API then has is what the files say:
/// nothing is dropped as unknown, nothing comes back otherwise. The check can fail: what a custom resource does not know
/// is refused.
#[test]
fn manifests_are_accepted_and_kept() {
    scenario(async {
        let cluster = Cluster::start("shipped").await?;
        cluster.install_crds().await?;
        cluster.namespaces(["agents", "callers", "colorfast", "istio-ingress"]).await?;
        let folders = SHIPPED.map(|folder| paths::workspace().join("envoy").join(folder));
        for folder in &folders {
            cluster.validate("-k", folder).await?.ended_with(0)?;
            cluster.apply_files([folder]).await?;
        }
        for folder in &folders {
            cluster.expect_no_diff([folder]).await?;
        }
        let rule = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": "chat", "namespace": "default"},
            "spec": {"host": "chat.agents.svc.cluster.local", "subset": []},
        });
        let refused = cluster.validate("-f", &cluster.write("rule.json", &rule)?).await?.ended_with(1)?;
        ensure!(refused.stderr.contains("subset"), "{refused:?}");
        Ok(())
    });
}
