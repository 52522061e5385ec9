//! A backup is restored while clients talk: proxies follow a log whose future was lost.

use std::time::Duration;

use anyhow::{Context, ensure};
use integration::mesh::{ask_once, fresh};
use integration::{Load, Mesh, Plan, names, scenario, wait};
use serde_json::json;

/// Requests in each stage of the story.
const STAGE: u64 = 3_000;
const LIMIT: Duration = Duration::from_secs(60);

/// The bundle that is live in the future that gets lost.
const LOST: &str = "r-1";

/// Kept, Confirmed, Last good: a backup is taken under load; a release that it does not know takes sessions; then the
/// backup is restored. Proxies follow it by themselves, no request fails, sessions of assignments that the backup knows
/// stay where they are, and those of the lost release leave it once and for good, without a wait.
#[test]
fn proxies_follow_a_restored_log() {
    scenario(async {
        let slots = [("blue", "b-1"), ("green", "g-1"), ("red", LOST)];
        let mut mesh = Mesh::with(json!({}), &slots).await?;
        let envoys = [mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?];
        mesh.does("ramp green 50%").await?;
        let plan = Plan::new(envoys.iter().map(integration::Envoy::address).collect());
        let load = Load::start(Plan { clients: 32, think: Duration::from_millis(10), ..plan })?;
        load.reach(STAGE, LIMIT).await?;

        let file = mesh.file("backup.db", "")?;
        let backup = mesh.sidecar.cli(["backup", &file]).await?.ok()?;
        mesh.does("stage red r-1").await?;
        mesh.does("switch red").await?;
        let (_, answer) = ask_once(&envoys[0], &fresh("lost-1")).await?;
        let pin = answer.header(names::PIN).context("a new session gets its pin")?;
        load.advance(STAGE, LIMIT).await?;

        let running = mesh.sidecar.cli(["restore", "--force", &file]).await?.ended_with(1)?;
        let pid = std::fs::read_to_string(mesh.sidecar.data_dir().join("lock"))?;
        ensure!(running.stderr.contains(&format!("in use by process {}", pid.trim())), "{}", running.stderr);
        mesh.sidecar.stop().await?;
        let there = mesh.sidecar.cli(["restore", &file]).await?.ended_with(1)?;
        ensure!(there.stderr.contains("there is a store already"), "{}", there.stderr);
        let restored = mesh.sidecar.cli(["restore", "--force", &file]).await?.ok()?;
        ensure!(restored["entries"] == backup["entries"] && restored["from_epoch"] == backup["epoch"], "{restored:#}");
        ensure!(restored["kept"].as_str().is_some_and(|kept| std::path::Path::new(kept).is_file()), "{restored:#}");
        load.advance(STAGE, LIMIT).await?;
        mesh.sidecar.restart().await?;
        mesh.until_current(envoys.len()).await?;
        let followed = std::time::Instant::now();
        let (reply, _) = ask_once(&envoys[0], &fresh("lost-1").header(names::PIN, &pin)).await?;
        ensure!(reply.bundle != LOST && reply.decision == "hash", "a pin of the lost future decided: {reply:?}");
        load.advance(STAGE, LIMIT).await?;
        let switched = mesh.does("switch green").await?;
        load.advance(STAGE, LIMIT).await?;
        let report = load.stop().await?;

        report.expect_no_failure()?;
        report.expect_true_stamps()?;
        let hops = report.hops();
        let lost = hops.iter().filter(|hop| hop.from.bundle() == Some(LOST)).count();
        ensure!(lost > 0 && lost == hops.len(), "{lost} of {} hops were off the lost release", hops.len());
        let late = report.sent_since(followed).by_bundle();
        ensure!(!late.contains_key(LOST), "after the restore: {late:?}");
        for envoy in &envoys {
            let stats = envoy.stats("tokens_refused|waits.need.newer_snapshot").await?;
            ensure!(stats.keys().all(|name| name.ends_with(".cause.broken")), "{stats:?}");
            envoy.expect_no_crash().await?;
        }
        let log = mesh.sidecar.cli(["verify-log"]).await?.ok()?;
        ensure!(log["error"].is_null(), "{log:#}");
        println!(
            "{} requests, none failed; {lost} sessions left the lost release, no other moved; then a switch was confirmed \
             in {:?}",
            report.records().len(),
            switched.confirmed_after
        );
        Ok(())
    });
}

/// A backup on standard output is the same file, and a terminal never gets one.
#[test]
fn a_backup_goes_through_a_pipe() {
    scenario(async {
        let mut mesh = Mesh::start().await?;
        let file = mesh.file("piped.db", "")?;
        let binary = integration::paths::colorfast()?;
        let output = tokio::process::Command::new(binary)
            .args(["backup", "-", "--data-dir"])
            .arg(mesh.sidecar.data_dir())
            .output()
            .await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(&file, &output.stdout)?;
        let before = mesh.status().await?;
        let with_json = mesh.sidecar.cli(["backup", "-"]).await?.ended_with(2)?;
        ensure!(with_json.stderr.contains("name a file"), "{}", with_json.stderr);
        mesh.sidecar.stop().await?;
        std::fs::remove_file(mesh.sidecar.data_dir().join("colorfast.db"))?;
        mesh.sidecar.cli(["restore", &file]).await?.ok()?;
        mesh.sidecar.restart().await?;
        wait::until_ok("the restored service", wait::LIMIT, || async {
            let after = mesh.status().await?;
            let slots = |status: &serde_json::Value| status["slots"].clone();
            ensure!(slots(&after) == slots(&before), "{after:#}");
            Ok(())
        })
        .await
    });
}

/// A file that is no backup is refused by name, and the data directory stays as it is.
#[test]
fn an_unfit_file_is_refused() {
    scenario(async {
        let mut mesh = Mesh::start().await?;
        let before = mesh.status().await?;
        let file = mesh.file("no.db", "no database at all, but long enough to look like one, or nearly so")?;
        mesh.sidecar.stop().await?;
        let told = mesh.sidecar.cli(["restore", "--force", &file]).await?.ended_with(1)?;
        ensure!(told.stderr.contains("no.db cannot be restored"), "{}", told.stderr);
        mesh.sidecar.cli(["restore", "--force", "no/such"]).await?.ended_with(2)?;
        mesh.sidecar.restart().await?;
        ensure!(mesh.status().await? == before);
        Ok(())
    });
}
