//! The flip test on what istiod generates, while istiod does what it does all day.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::kubernetes::{Api, Installation, Istiod, service, workload};
use integration::mesh::SLOTS;
use integration::{Envoy, Mesh, flip, scenario};
use serde_json::{Value, json};

/// How often something else changes in the mesh.
const EACH: Duration = Duration::from_secs(1);
/// After so many changes istiod is restarted, once.
const BEFORE_RESTART: usize = 3;
/// Fewer pushes than this would not have disturbed anything.
const PUSHES: usize = 8;
/// 64 clients that pause for so long need ten seconds for their 20,000 requests, however fast the machine is.
const THINK: Duration = Duration::from_millis(30);

/// Kept, Confirmed, Reversible, Stamped, on what a real istiod has generated: two gateways over ADS play the flip test of
/// a plain Envoy, while a new VirtualService is pushed to them every second and istiod is restarted under them. Their
/// listener is neither replaced nor drained by any of it.
#[test]
fn a_release_plays_through_what_istiod_generates() {
    scenario(async {
        let release = Mesh::with(json!({"memory": {"ask_wait_ms": 0}}), &SLOTS).await?;
        let mut mesh = Installation::start("flip", release).await?;
        answers_of_envoy(&mesh).await?;
        let envoys = [mesh.ingress(1).await?, mesh.ingress(2).await?];
        let before = [Pushed::to(&envoys[0]).await?, Pushed::to(&envoys[1]).await?];
        let pushed = AtomicUsize::new(0);
        let Installation { release, istiod, cluster } = &mut mesh;
        tokio::select! {
            played = flip::play(release, &envoys, THINK) => played?,
            failed = disturb(cluster.api(), istiod, &pushed) => failed?,
        }
        let pushed = pushed.into_inner();
        println!("{pushed} VirtualServices were pushed meanwhile, and istiod was restarted");
        ensure!(pushed >= PUSHES, "only {pushed} VirtualServices were pushed");
        for (envoy, before) in envoys.iter().zip(before) {
            let after = Pushed::to(envoy).await?;
            ensure!(after.routes >= before.routes + PUSHES as u64 / 2, "{before:?} before, {after:?} after");
            ensure!(after.refused == 0, "{after:?}");
            ensure!((after.added, after.changed) == (before.added, before.changed), "{before:?}, then {after:?}");
        }
        Ok(())
    });
}

/// Routes that the flip test wants: [`flip::BY_ENVOY`].
async fn answers_of_envoy(mesh: &Installation) -> Result<()> {
    let mut manifests = mesh.gateway().await?;
    let routes = manifests.at("VirtualService", "chat", "/spec/http")?.as_array_mut().context("routes are a list")?;
    routes.insert(0, json!({"match": [{"uri": {"exact": "/missing"}}], "directResponse": {"status": 404}}));
    let down = json!({"destination": {"host": "down.agents.svc.cluster.local"}});
    routes.insert(0, json!({"match": [{"uri": {"exact": "/down"}}], "route": [down]}));
    manifests.apply(&mesh.cluster).await?;
    let nobody = workload("agents", "down", &json!({"app": "down"}), ([127, 0, 0, 1], 1).into());
    mesh.cluster.apply(&[service("agents", "down", 80), nobody]).await
}

/// Pushes a new VirtualService of the same gateway every second, for ever, and restarts istiod once.
async fn disturb(api: &Api, istiod: &mut Istiod, pushed: &AtomicUsize) -> Result<()> {
    let mut line = api.line();
    let mut clock = tokio::time::interval(EACH);
    loop {
        clock.tick().await;
        let number = pushed.fetch_add(1, Ordering::Relaxed);
        let path = "/apis/networking.istio.io/v1/namespaces/istio-ingress/virtualservices";
        api.create(&mut line, path, &other(number)).await?;
        if number == BEFORE_RESTART {
            istiod.restart().await?;
        }
    }
}

/// A VirtualService that has nothing to do with the agents, but stands in the same route configuration.
fn other(number: usize) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": format!("other-{number}"), "namespace": "istio-ingress"},
        "spec": {
            "gateways": ["chat"],
            "hosts": [format!("other-{number}.example.com")],
            "http": [{"directResponse": {"status": 204}}],
        },
    })
}

/// What a gateway has been sent so far.
#[derive(Debug)]
struct Pushed {
    routes: u64,
    added: u64,
    changed: u64,
    refused: u64,
}

impl Pushed {
    async fn to(envoy: &Envoy) -> Result<Self> {
        let stats = envoy.stats("config_reload$|listener_(added|modified|in_place_updated)$|update_rejected$").await?;
        let sum = |wanted: &dyn Fn(&str) -> bool| stats.iter().filter(|(name, _)| wanted(name)).map(|(_, n)| n).sum();
        Ok(Self {
            routes: sum(&|name| name.contains(".rds.") && name.ends_with("config_reload")),
            added: sum(&|name| name.ends_with("listener_added")),
            changed: sum(&|name| name.ends_with("listener_modified") || name.ends_with("in_place_updated")),
            refused: sum(&|name| name.ends_with("update_rejected")),
        })
    }
}
