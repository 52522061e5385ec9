//! The harness itself, on a real Envoy: a harness that cannot fail proves nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::client::Manner;
use integration::http::{Call, Fault};
use integration::ports::Port;
use integration::{Agent, Envoy, EnvoyConfig, Load, Plan, scenario, wait};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::json;

/// Two agents, and an Envoy that sends everything to blue.
async fn all_to_blue() -> Result<(Agent, Agent, EnvoyConfig)> {
    let (blue, green) = (Agent::start("b-1").await?, Agent::start("g-1").await?);
    let config = EnvoyConfig::shipped()?.inert_filter();
    let config = config.agent("blue", blue.address()).agent("green", green.address());
    Ok((blue, green, config))
}

fn gone(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None).is_err())
}

/// Every kind of client holds its conversations through two Envoys, and none fails, hops or breaks.
#[test]
fn an_undisturbed_load_is_kept() {
    scenario(async {
        let (blue, green, config) = all_to_blue().await?;
        let first = Envoy::start(config.clone()).await?;
        let second = Envoy::start(config).await?;
        let plan = Plan { manners: Manner::all().collect(), ..Plan::new(vec![first.address(), second.address()]) };
        let load = Load::start(plan)?;
        load.reach(2_000, wait::LIMIT).await?;
        let later = Instant::now();
        load.advance(2_000, wait::LIMIT).await?;
        let report = load.stop().await?;
        report.expect_no_failure()?;
        report.expect_kept()?;
        ensure!(report.by_bundle().into_iter().eq([("b-1".to_owned(), report.records().len())]));
        ensure!(blue.requests() == report.records().len() as u64 && green.requests() == 0);
        ensure!(!report.began_since(later).is_empty(), "no session began in the second half");
        for manner in Manner::all() {
            ensure!(!report.of(|of| *of == manner).records().is_empty(), "nobody behaved as {manner:?}");
        }
        Ok(())
    });
}

/// Sessions that are thrown from bundle to bundle are seen to hop, and their conversations to break.
#[test]
fn hops_are_seen() {
    scenario(async {
        let (_blue, _green, config) = all_to_blue().await?;
        let either = json!({"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
            {"name": "agent_blue", "weight": 50}, {"name": "agent_green", "weight": 50},
        ]}}});
        let envoy = Envoy::start(config.first_route(&either)).await?;
        let load = Load::start(Plan::new(vec![envoy.address()]))?;
        load.reach(1_000, wait::LIMIT).await?;
        let report = load.stop().await?;
        report.expect_no_failure()?;
        let (hops, broken) = (report.hops(), report.broken());
        ensure!(hops.len() > 100 && broken.len() > 100, "{} hops, {} broken", hops.len(), broken.len());
        ensure!(report.expect_kept().is_err() && report.expect_true_stamps().is_err());
        ensure!(hops.iter().all(|hop| hop.from.turn < hop.to.turn), "a session's turns are out of order");
        Ok(())
    });
}

/// An Envoy killed and started again under load is on the same port, and what failed meanwhile is told apart.
#[test]
fn a_killed_envoy_is_seen_and_comes_back() {
    scenario(async {
        let (_blue, _green, config) = all_to_blue().await?;
        let mut envoy = Envoy::start(config).await?;
        let (address, pid) = (envoy.address(), envoy.pid().context("it runs")?);
        let load = Load::start(Plan::new(vec![address]))?;
        load.reach(200, wait::LIMIT).await?;
        envoy.kill();
        ensure!(gone(pid), "it still runs");
        wait::until("refused connections", wait::LIMIT, || load.live().failures > 64).await?;
        envoy.restart().await?;
        ensure!(envoy.address() == address);
        let back = Instant::now();
        load.advance(500, wait::LIMIT).await?;
        let report = load.stop().await?;
        ensure!(report.unconnected() > 0 && report.server_errors() == 0, "{:?}", report.expect_no_failure());
        report.sent_since(back).expect_no_failure()?;
        report.expect_kept()
    });
}

/// A paused Envoy takes connections and answers nothing, until it goes on.
#[test]
fn a_paused_envoy_is_silent() {
    scenario(async {
        let (_blue, _green, config) = all_to_blue().await?;
        let mut envoy = Envoy::start(config).await?;
        envoy.pause()?;
        let short = Call::get("/x").limit(Duration::from_millis(100)).send(envoy.address()).await;
        ensure!(matches!(short, Err(Fault::Cut(_))), "{short:?}");
        envoy.resume()?;
        ensure!(Call::get("/x").send(envoy.address()).await?.status == 200);
        Ok(())
    });
}

/// An Envoy that refuses its configuration is an error at once, with Envoy's own words; one that runs ends with its
/// value.
#[test]
fn a_refused_configuration_is_told() {
    scenario(async {
        let config = EnvoyConfig::shipped()?.without_filter();
        let running = Envoy::start(config.clone()).await?;
        let pid = running.pid().context("it runs")?;
        drop(running);
        ensure!(gone(pid), "it outlived its value");

        let wrong = config.first_route(&json!({"match": {"prefix": "/"}, "rout": {}}));
        let told = Envoy::start(wrong).await.err().map(|error| format!("{error:#}"));
        ensure!(
            told.as_ref().is_some_and(|told| told.contains("unknown fields") && told.contains("'rout'")),
            "{told:?}"
        );
        Ok(())
    });
}

/// A port where nobody listens is no connection, not a broken exchange.
#[test]
fn a_closed_port_is_no_connection() {
    scenario(async {
        let port = Port::reserve()?;
        let fault = Call::get("/").send(port.addr()).await;
        ensure!(matches!(fault, Err(Fault::NoConnection(_))), "{fault:?}");
        Ok(())
    });
}
