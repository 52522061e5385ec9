//! A release that istiod pushes, without any sidecar: what `colorfast snapshot render` makes, applied to a real API.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::document::Desk;
use integration::kubernetes::{Installation, tools};
use integration::mesh::obeyed;
use integration::numbers::spread;
use integration::{Envoy, Load, Mesh, Plan, paths, scenario};
use serde_json::{Value, json};

/// How often the slots change places and back.
const FLIPS: usize = 5;
/// Requests between two pushes.
const BETWEEN: u64 = 300;
const LIMIT: Duration = Duration::from_secs(60);
const PUSH: &str =
    "colorfast snapshot render --template code.yaml | kubectl apply --server-side --force-conflicts -f -";

/// Atomic, Kept, Reversible, with a real istiod and no sidecar: two gateways follow what is applied, under load, back and forth;
/// no request fails, no pinned session hops, no listener is changed. How long it takes from `kubectl apply` is printed.
#[test]
fn istiod_pushes_releases_without_a_sidecar() {
    scenario(async {
        let mut mesh = Installation::start("pushed", Mesh::start().await?).await?;
        // Its agents are what is wanted of it; nobody reaches it any more.
        mesh.release.sidecar.stop().await?;
        let desk = desk(&mesh)?;
        for line in [
            "colorfast service apply chat.json",
            "colorfast bundle add b-1.json",
            "colorfast bundle add g-1.json",
            "colorfast stage blue b-1",
            "colorfast switch blue",
            "colorfast stage green g-1",
            PUSH,
        ] {
            desk.run(line)?;
        }
        let keys = desk.shell("colorfast keys export")?.output()?.stdout;
        let keys = String::from_utf8(keys)?;
        let envoys = [ingress(&mesh, 1, keys.trim()).await?, ingress(&mesh, 2, keys.trim()).await?];
        obeyed(&envoys, "b-1", Instant::now()).await?;
        let before = [listeners(&envoys[0]).await?, listeners(&envoys[1]).await?];

        let plan = Plan::new(envoys.iter().map(Envoy::address).collect());
        let load = Load::start(Plan { think: Duration::from_millis(10), clients: 32, ..plan })?;
        let mut times = Vec::new();
        for _ in 0..FLIPS {
            for (verb, bundle) in [("colorfast switch green", "g-1"), ("colorfast rollback --keep-pins", "b-1")] {
                load.advance(BETWEEN, LIMIT).await?;
                desk.run(verb)?;
                desk.run(PUSH)?;
                times.extend(obeyed(&envoys, bundle, Instant::now()).await?);
            }
        }
        load.advance(BETWEEN, LIMIT).await?;
        let report = load.stop().await?;
        report.expect_no_failure()?;
        report.expect_true_stamps()?;
        report.expect_kept()?;
        for (envoy, before) in envoys.iter().zip(before) {
            envoy.expect_no_crash().await?;
            ensure!(listeners(envoy).await? == before, "a listener was changed");
        }
        println!("{} requests, {} sessions: none failed, none hopped", report.records().len(), report.sessions().len());
        println!("obeyed {} after `kubectl apply` had returned", spread(times));
        Ok(())
    });
}

/// Whoever releases by git: a store, the bundles of the agents, and the shipped file with the built filter.
fn desk(mesh: &Installation) -> Result<Desk> {
    let mut desk = Desk::new()?;
    desk.tool("kubectl", &tools::program("kubectl")?)?;
    desk.set("KUBECONFIG", mesh.cluster.kubeconfig());
    desk.set("COLORFAST_STORE", "release");
    fs::write(desk.path("chat.json"), json!({"service": "chat", "pin": {"cookie": "always"}}).to_string())?;
    for id in ["b-1", "g-1"] {
        let bundle = json!({"id": id, "code": id, "prompts": id, "model": id});
        fs::write(desk.path(&format!("{id}.json")), bundle.to_string())?;
    }
    let shipped = fs::read_to_string(paths::workspace().join("envoy/pushed/istio.yaml"))?;
    let place = "/etc/colorfast/colorfast_filter-0.1.0.wasm";
    ensure!(shipped.contains(place), "the shipped file has the filter elsewhere");
    fs::write(desk.path("code.yaml"), shipped.replace(place, &paths::filter()?.display().to_string()))?;
    Ok(desk)
}

/// A gateway that knows no sidecar.
async fn ingress(mesh: &Installation, number: u8, keys: &str) -> Result<Envoy> {
    let (proxy, port) = mesh.known_ingress(number).await?;
    mesh.start_proxy(&proxy, port, ("COLORFAST_KEYS", keys)).await
}

/// What has become of a gateway's listeners so far.
async fn listeners(envoy: &Envoy) -> Result<Value> {
    let stats =
        envoy.stats("listener_manager.(listener_(added|modified|in_place_updated|removed)|total_listeners_draining)$");
    serde_json::to_value(stats.await?).context("statistics")
}
