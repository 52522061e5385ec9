//! The sidecar goes away, and comes back.

use std::time::Duration;

use anyhow::ensure;
use integration::{Load, Mesh, Plan, scenario, wait};

/// Requests in each stage of the story.
const STAGE: u64 = 4_000;

/// Last good, Kept: a sidecar that is killed under load, stopped, and started again costs no request and no session;
/// its log is whole, and the proxies follow it again.
#[test]
fn traffic_flows_while_the_sidecar_is_away() {
    scenario(async {
        let mut mesh = Mesh::start().await?;
        let envoys = [mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?];
        mesh.does("ramp green 50%").await?;
        let plan = Plan::new(envoys.iter().map(integration::Envoy::address).collect());
        let load = Load::start(Plan { think: Duration::from_millis(5), ..plan })?;
        load.reach(STAGE, wait::LIMIT).await?;

        mesh.sidecar.kill();
        load.advance(STAGE, wait::LIMIT).await?;
        mesh.sidecar.restart().await?;
        load.advance(STAGE, wait::LIMIT).await?;
        let converged = mesh.does("ramp green 60%").await?;

        mesh.sidecar.pause()?;
        load.advance(STAGE, wait::LIMIT).await?;
        mesh.sidecar.resume()?;
        mesh.until_current(envoys.len()).await?;
        let switched = mesh.does("switch green").await?;
        load.advance(STAGE, wait::LIMIT).await?;
        let report = load.stop().await?;

        report.expect_no_failure()?;
        report.expect_kept()?;
        report.expect_true_stamps()?;
        let began = report.began_since(switched.told);
        ensure!(!began.is_empty() && began.iter().all(|record| record.bundle() == Some("g-1")));
        let log = mesh.sidecar.cli(["verify-log"]).await?.ok()?;
        ensure!(log["error"].is_null() && log["entries"].as_u64() > Some(8), "{log:#}");
        println!(
            "{} requests, none failed, none hopped; after the kill a verb was confirmed in {:?}",
            report.records().len(),
            converged.confirmed_after
        );
        for envoy in &envoys {
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}
