//! An upgrade of the filter itself, under load.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::http::{Call, Line, Protocol, Stream};
use integration::kubernetes::{CODE, Installation};
use integration::{Envoy, Load, Mesh, Plan, names, paths, scenario, wait};
use serde_json::json;

/// How long the event stream lasts, in events of one second: `COLORFAST_STREAM_SECONDS` for longer.
const SECONDS: usize = 60;
/// Events between two upgrades.
const BETWEEN: usize = 10;

/// Kept: the filter moves to another build and back, six times in a minute, under load and under an event stream that
/// lasts all the while. No request fails, no session hops, the stream comes whole, no listener drains. A build that is not
/// there is refused, and the last one goes on; a switch after all that is confirmed by both.
#[test]
fn the_filter_is_replaced_under_load() {
    scenario(async {
        let mesh = Installation::start("upgrade", Mesh::start().await?).await?;
        let builds = [paths::crashing_filter()?, paths::filter()?];
        let envoys = [mesh.ingress(1).await?, mesh.ingress(2).await?];
        let targets = envoys.iter().map(Envoy::address).collect();
        let load = Load::start(Plan { think: Duration::from_millis(50), ..Plan::new(targets) })?;
        let seconds = std::env::var("COLORFAST_STREAM_SECONDS").map_or(Ok(SECONDS), |text| text.parse())?;
        let mut line = Line::new(envoys[0].address(), Protocol::Http1);
        let call = Call::get(&format!("/stream?events={seconds}")).header(names::SESSION, "stream");
        let mut stream = line.stream(&call).await?;
        expect_event(&mut stream, 1).await?;

        let mut upgrades = 0;
        for event in 2..=seconds {
            if event % BETWEEN == 2 {
                upgrade(&mesh, &envoys, &builds[upgrades % builds.len()]).await?;
                upgrades += 1;
            }
            // The pace of an agent that says something every second; what is waited for is the event.
            tokio::time::sleep(Duration::from_secs(1)).await;
            wait::until("the stream to wait", wait::LIMIT, || mesh.release.agent("blue").waiting() > 0).await?;
            mesh.release.agent("blue").release();
            expect_event(&mut stream, event).await?;
        }
        ensure!(stream.next().await?.is_none(), "the stream goes on after its last event");

        for envoy in &envoys {
            let drained = envoy.stats("listener_(modified|in_place_updated|removed)$|update_rejected$").await?;
            ensure!(drained.values().all(|count| *count == 0), "{drained:?}");
        }
        name(&mesh, Path::new("/nowhere/colorfast_filter.wasm")).await?;
        wait::until_ok("both gateways to refuse it", wait::LIMIT, || async {
            for envoy in &envoys {
                let refused = envoy.stats("extension_config_discovery.*update_rejected$").await?;
                ensure!(refused.values().any(|count| *count > 0), "{refused:?}");
            }
            Ok(())
        })
        .await?;
        mesh.release.does("switch green").await?;
        load.advance(500, wait::LIMIT).await?;
        let report = load.stop().await?;
        report.expect_no_failure()?;
        report.expect_kept()?;
        report.expect_true_stamps()?;
        for envoy in &envoys {
            let retreats = envoy.stats("retreats").await?;
            ensure!(retreats.values().all(|count| *count == 0), "an upgrade was taken for a crash: {retreats:?}");
            ensure!(!envoy.log()?.contains("dies again"), "an upgrade was taken for a crash");
        }
        println!("{upgrades} upgrades, {} requests, a stream of {seconds} events", report.records().len());
        Ok(())
    });
}

async fn expect_event(stream: &mut Stream, number: usize) -> Result<()> {
    let piece = stream.next().await?.with_context(|| format!("the stream ended before event {number}"))?;
    let text = String::from_utf8_lossy(&piece).into_owned();
    ensure!(text.starts_with(&format!("id: {number}\n")), "event {number} came as {text:?}");
    Ok(())
}

/// Moves both gateways to another build.
async fn upgrade(mesh: &Installation, envoys: &[Envoy], build: &Path) -> Result<()> {
    name(mesh, build).await?;
    let path = build.to_str().context("a path is text")?;
    wait::until_ok("both gateways to have it", wait::LIMIT, || async {
        for envoy in envoys {
            let dump = envoy.admin()?.get("/config_dump?resource=ecds_filters").await?.text();
            ensure!(dump.contains(path), "{dump}");
        }
        Ok(())
    })
    .await
}

/// Applies the one manifest that names the build.
async fn name(mesh: &Installation, build: &Path) -> Result<()> {
    let mut manifests = mesh.gateway().await?;
    *manifests.at("EnvoyFilter", "colorfast-code", CODE)? = json!({"local": {"filename": build}});
    manifests.apply(&mesh.cluster).await
}
