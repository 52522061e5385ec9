//! How a proxy starts: without a sidecar, before its snapshot has come, and again under load.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::agent::Reply;
use integration::http::{Answer, Call, Line, Protocol};
use integration::mesh::{ask, ask_once, fresh};
use integration::{Envoy, EnvoyConfig, Load, Mesh, Plan, Relay, lone, names, scenario, wait};
use serde_json::json;
use tokio::task::JoinHandle;

/// Last good: without a sidecar a proxy decides by the snapshot of its configuration, pins included; when the sidecar
/// appears it takes over what that says, under load and without a failed request.
#[test]
fn a_proxy_serves_before_the_sidecar_appears() {
    scenario(async {
        let mut mesh = Mesh::start().await?;
        mesh.cli("switch green").await?.ok()?;
        mesh.sidecar.kill();
        let config = lone::config(mesh.agent("blue"), mesh.agent("green"))?;
        let token = mesh.sidecar.discovery_token()?;
        let config = config.sidecar(mesh.sidecar.discovery()).env("COLORFAST_TOKEN", &token);
        let envoy = Envoy::start(config).await?;

        let (reply, answer) = ask_once(&envoy, &fresh("s-1")).await?;
        ensure!((&*reply.bundle, &*reply.stamped, &*reply.decision) == ("b-1", "b-1", "hash"), "{reply:?}");
        let pin = answer.header(names::PIN).context("there are keys, so there is a pin")?;
        let (reply, _) = ask_once(&envoy, &fresh("s-1").header(names::PIN, &pin)).await?;
        ensure!(reply.decision == "pin", "{reply:?}");

        let load = Load::start(Plan { clients: 24, ..Plan::new(vec![envoy.address()]) })?;
        load.reach(500, wait::LIMIT).await?;
        let before = load.report();
        before.expect_kept()?;
        ensure!(before.by_bundle().keys().eq(["b-1"]), "{:?}", before.by_bundle());
        mesh.sidecar.restart().await?;
        mesh.until_current(1).await?;
        let taken_over = Instant::now();
        load.advance(500, wait::LIMIT).await?;
        let report = load.stop().await?;
        report.expect_no_failure()?;
        report.expect_true_stamps()?;
        let began = report.began_since(taken_over);
        ensure!(!began.is_empty() && began.iter().all(|record| record.bundle() == Some("g-1")));
        envoy.expect_no_crash().await
    });
}

/// A cold proxy that has neither sidecar nor snapshot answers by the default route, without a stamp, once it has
/// waited for a snapshot.
#[test]
fn a_proxy_without_anything_takes_the_default_route() {
    scenario(async {
        let mut mesh = Mesh::start().await?;
        mesh.sidecar.kill();
        let envoy = Envoy::start(mesh.config("edge-1")?).await?;
        let (reply, answer) = ask_once(&envoy, &fresh("s-1")).await?;
        ensure!((&*reply.bundle, &*reply.slot, &*reply.stamped) == ("b-1", "", ""), "{reply:?}");
        ensure!(answer.header(names::PIN).is_none());
        let unrouted = envoy.admin()?.stat("wasmcustom.colorfast.service.chat.requests_unrouted").await?;
        ensure!(unrouted == Some(1), "{unrouted:?}");
        let line = envoy.access_log().wait_for(1, wait::LIMIT, |_| true).await?.remove(0);
        ensure!(line.bundle.is_none() && line.decision.is_none(), "{line:?}");
        Ok(())
    });
}

/// Kept: the first requests of a fresh proxy wait for its snapshot, with a body and without, whether or not the
/// plugin may stop iteration at headers, and are then decided by it.
#[test]
fn first_requests_wait_for_the_snapshot() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let direct = mesh.envoy("edge-1").await?;
        mesh.does("ramp green 50%").await?;
        let pin = loop_until_green(&direct).await?;
        mesh.does("rollback --to blue --keep-pins").await?;
        let relay = Relay::start(mesh.sidecar.discovery()).await?;
        for flag in [true, false] {
            relay.hold();
            let config = patient(mesh.config("edge-2")?.sidecar(relay.address()), flag);
            let envoy = Envoy::start(config).await?;
            let mut waiting = Vec::new();
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let pinned = |call: Call| call.header(names::SESSION, &pin.0).header(names::PIN, &pin.1);
                waiting.push(asks(&envoy, protocol, pinned(Call::get("/who"))));
                waiting.push(asks(&envoy, protocol, pinned(Call::post("/turn", r#"{"turn":1}"#))));
            }
            if !flag {
                // Over Envoy's buffer limit: without the flag its client is made to wait, not refused.
                let upload = Call::post("/who", "x".repeat(3 << 20));
                let upload = upload.header(names::SESSION, &pin.0).header(names::PIN, &pin.1);
                waiting.push(asks(&envoy, Protocol::Http1, upload));
            }
            envoy.until_active(waiting.len() as u64).await?;
            ensure!(waiting.iter().all(|asked| !asked.is_finished()), "a first request did not wait");
            let count = waiting.len() as u64;
            relay.pass();
            for asked in waiting {
                let (reply, _) = asked.await??;
                ensure!((&*reply.bundle, &*reply.decision) == ("g-1", "pin"), "flag {flag}: {reply:?}");
            }
            let met = envoy.admin()?.stat("wasmcustom.colorfast.service.chat.waits.need.bootstrap.end.met").await?;
            ensure!(met == Some(count), "flag {flag}: {met:?} of {count} waits were met");
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}

/// A proxy that waits for its first snapshot for as long as a test may take.
fn patient(config: EnvoyConfig, stops_iteration: bool) -> EnvoyConfig {
    let slots = json!([{"name": "blue", "phase": "idle"}, {"name": "green", "phase": "idle"}]);
    let bootstrap = json!({"format": 1, "service": "chat", "settings": {"bootstrap_wait_ms": 30_000}, "slots": slots});
    let services = json!([{"name": "chat", "bootstrap": bootstrap}]);
    let config = config.plugin(&json!({"sidecar_cluster": "colorfast_sidecar", "services": services}));
    config.edit_wasm(move |wasm| {
        wasm["allow_on_headers_stop_iteration"] = json!(stops_iteration);
        Ok(())
    })
}

/// A session on green, and its pin.
async fn loop_until_green(envoy: &Envoy) -> Result<(String, String)> {
    for number in 0..100 {
        let session = format!("s-{number}");
        let (reply, answer) = ask_once(envoy, &fresh(&session)).await?;
        if reply.slot == "green" {
            return Ok((session, answer.header(names::PIN).context("a new session gets its pin")?));
        }
    }
    anyhow::bail!("none of 100 sessions went to green at 50%")
}

fn asks(envoy: &Envoy, protocol: Protocol, call: Call) -> JoinHandle<Result<(Reply, Answer)>> {
    let mut line = Line::new(envoy.address(), protocol);
    tokio::spawn(async move { ask(&mut line, &call).await })
}

/// Kept: a proxy that is killed and started again under load sends no session elsewhere, though it comes back without
/// a snapshot.
#[test]
fn a_restarted_proxy_sends_no_session_elsewhere() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let steady = mesh.envoy("edge-1").await?;
        let mut killed = mesh.envoy("edge-2").await?;
        mesh.does("ramp green 50%").await?;
        let plan = Plan::new(vec![steady.address(), killed.address()]);
        let load = Load::start(Plan { think: Duration::from_millis(5), ..plan })?;
        load.reach(1_000, wait::LIMIT).await?;
        for _ in 0..2 {
            let failed = load.live().failures;
            killed.kill();
            wait::until("refused connections", wait::LIMIT, || load.live().failures > failed + 64).await?;
            killed.restart().await?;
            load.advance(1_000, wait::LIMIT).await?;
        }
        let back = Instant::now();
        load.advance(1_000, wait::LIMIT).await?;
        let report = load.stop().await?;
        report.expect_kept()?;
        report.expect_true_stamps()?;
        ensure!(report.by_bundle().len() == 2, "{:?}", report.by_bundle());
        report.sent_since(back).expect_no_failure()?;
        // What failed was cut off by the kill or found no listener; the proxy itself refused nothing.
        ensure!(report.server_errors() == 0, "{:?}", report.expect_no_failure());
        report.part(|record| record.target == 0).expect_no_failure()?;
        let log = killed.access_log().entries()?;
        let unstamped = log.iter().filter(|entry| entry.bundle.is_none()).count();
        ensure!(unstamped == 0, "{unstamped} of {} requests were served without a decision", log.len());
        Ok(())
    });
}
