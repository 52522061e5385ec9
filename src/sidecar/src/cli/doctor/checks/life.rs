//! What shows that the parts know each other.

use colorfast_core::ids::{Epoch, ServiceName, SnapshotVersion};
use colorfast_core::names::metric;
use colorfast_core::plugin::ServiceConfig;
use colorfast_core::time::UnixMillis;

use crate::cli::doctor::evidence::{Evidence, Site};
use crate::cli::doctor::finding::Finding;

/// Findings that say why there is no snapshot.
pub const CAUSES: [&str; 3] = ["plugin-configuration", "host-env-keys", "sidecar-cluster"];

/// The way to the sidecar.
pub fn sidecar_cluster(site: &Site<'_>, evidence: &Evidence) -> Vec<Finding> {
    let Ok(config) = &site.config else { return Vec::new() };
    if !config.has_sidecar() {
        return Vec::new();
    }
    let name = &config.sidecar_cluster;
    let what = match evidence.proxy.clusters.get(name) {
        None => format!("there is no cluster {name}"),
        Some(cluster) if cluster.is_empty() => format!("the cluster {name} has no endpoint"),
        Some(_) => return Vec::new(),
    };
    vec![Finding::problem(
        "sidecar-cluster",
        what,
        "no snapshot comes: the proxy decides by its bootstrap snapshot, or not at all",
        format!("part (5) of envoy/bootstrap.yaml: a cluster {name} with the sidecar's discovery address"),
    )]
}

/// A snapshot has come, and the sidecar knows of it.
pub fn snapshot(site: &Site<'_>, evidence: &Evidence) -> Vec<Finding> {
    let Ok(config) = &site.config else { return Vec::new() };
    let of_sidecar = config.services.iter().filter(|_| config.has_sidecar());
    let of_sidecar = of_sidecar.filter_map(|service| of_service(&service.name, evidence));
    of_sidecar.chain(config.services.iter().filter_map(|service| pushed(service, evidence))).collect()
}

/// What the configuration pushes is what the proxy decides by, or older than that.
fn pushed(service: &ServiceConfig, evidence: &Evidence) -> Option<Finding> {
    let pushed = service.snapshot.as_ref()?.version();
    let stat = |name: String| evidence.stats.as_ref()?.get(&format!("wasmcustom.{name}")).copied();
    let (epoch, version) =
        (stat(metric::snapshot_epoch(&service.name))?, stat(metric::snapshot_version(&service.name))?);
    let held = SnapshotVersion { epoch: Epoch(UnixMillis(epoch)), version };
    (pushed < held).then(|| {
        Finding::problem(
            "older-snapshot",
            format!("the configuration pushes snapshot {pushed} of {}, and the proxy holds {held}", service.name),
            "it is refused: what is pushed is taken upward only, so the proxy goes on by what it holds",
            "to go back, `colorfast rollback`, then `colorfast snapshot render`, and push that",
        )
    })
}

fn of_service(service: &ServiceName, evidence: &Evidence) -> Option<Finding> {
    let stats = evidence.stats.as_ref()?;
    let stat = |name: String| stats.get(&format!("wasmcustom.{name}")).copied().unwrap_or_default();
    let failed = stat(metric::polls_failed(service));
    if stat(metric::snapshot_version(service)) == 0 && failed > 0 {
        return Some(Finding::problem(
            "no-snapshot",
            format!("{service} has no snapshot: {failed} polls of the sidecar came to nothing"),
            "the proxy decides by its bootstrap snapshot, or not at all; Envoy's log says what the sidecar answered",
            "COLORFAST_TOKEN in Envoy's environment (what discovery.token holds), and a sidecar that runs and has the service",
        ));
    }
    let node = &evidence.proxy.node;
    match &evidence.services {
        Some(services) if !services.contains_key(service) => Some(Finding::problem(
            "unknown-service",
            format!("the sidecar has no service {service}"),
            "the filter asks for it in vain",
            format!(
                "colorfast service apply, with `service: {service}`; or the right name in the plugin's configuration"
            ),
        )),
        Some(services)
            if !node.is_empty() && !services.get(service).is_some_and(|known| known.nodes.contains(node)) =>
        {
            Some(Finding::problem(
                "not-member",
                format!("{node} is no member of {service} at the sidecar"),
                "a switch is confirmed without it: it follows another sidecar, or has not been heard for a while",
                "the address of this sidecar in the cluster of the plugin's sidecar_cluster",
            ))
        }
        _ => None,
    }
}

/// The proxy has a name.
pub fn node(evidence: &Evidence) -> Option<Finding> {
    evidence.proxy.node.is_empty().then(|| {
        Finding::problem(
            "node-id",
            "the proxy has no node id",
            "the sidecar cannot tell who it is, and gives it no snapshot",
            "node: { id: envoy-1 }, or --service-node",
        )
    })
}

/// Metrics have labels.
pub fn stats_tags(evidence: &Evidence) -> Option<Finding> {
    let cut = |word: &str| {
        let ours = evidence.proxy.stats_tags.iter().filter(|tag| tag.regex.contains("colorfast"));
        ours.into_iter().any(|tag| tag.regex.contains(word))
    };
    let missing: Vec<_> = ["service", "slot", "decision"].into_iter().filter(|word| !cut(word)).collect();
    (!missing.is_empty()).then(|| {
        Finding::problem(
            "stats-tags",
            format!("no stats_tags cut {} out of the names of metrics", missing.join(", ")),
            "in Prometheus every slot and decision is a metric of its own, without labels",
            "stats_config of envoy/bootstrap.yaml",
        )
    })
}
