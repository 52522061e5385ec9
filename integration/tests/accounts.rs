//! What slots hold, counted by two real Envoys of two workers each, and what that keeps from being recycled.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::http::{Call, Line, Protocol};
use integration::mesh::{ask_once, fresh};
use integration::{Envoy, Mesh, names, scenario, wait};
use serde_json::{Value, json};

/// How soon a change of what slots hold is shown.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);
/// Sessions that come back, and those that never do.
const HELD: u64 = 40;
const ONCE: u64 = 60;

/// Accounted: sessions that come back are held, each once whichever proxy it asks; one-shot requests are handed out and
/// hold the slot for `first_return` alone; an open stream counts until it ends. Recycling is refused by each in turn, and
/// goes through when the slot is empty, by itself and unforced. The sidecar is restarted amid.
#[test]
fn a_slot_is_recycled_when_it_is_empty() {
    scenario(async {
        let pin = json!({"cookie": "never", "idle_timeout_seconds": 12, "first_return_seconds": 4});
        let settings = json!({"quarantine_seconds": 0, "pin": pin});
        let mut mesh = Mesh::with(settings, &[("blue", "b-1"), ("green", "g-1")]).await?;
        let envoys = [mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?];
        let mut line = Line::new(envoys[0].address(), Protocol::Http1);
        let mut stream = line.stream(&Call::get("/stream")).await?;
        stream.next().await?.context("the first event")?;
        for once in 0..ONCE {
            ask_once(envoy(&envoys, once), &fresh(&format!("once-{once}"))).await?;
        }
        let mut pins = Vec::new();
        for session in 0..HELD {
            let (_, answer) = ask_once(envoy(&envoys, session), &fresh(&format!("s-{session}"))).await?;
            pins.push(answer.header(names::PIN).context("a new session gets its pin")?);
        }
        come_back(&envoys, &pins).await?;
        wait::until_ok("all to be counted", SHOWN_WITHIN, || async {
            let found = sessions(&mesh, "blue").await?;
            // The stream is a session, too, that has not come back.
            ensure!(is_about(&found["held"], HELD) && is_about(&found["issued"], ONCE + 1), "{found}");
            ensure!(found["in_flight"] == 1, "{found}");
            ensure!(found["oldest"].is_u64() && found["until"].is_u64(), "{found}");
            Ok(())
        })
        .await?;
        mesh.does("switch green").await?;
        mesh.sidecar.restart().await?;
        mesh.until_current(2).await?;

        // One-shot sessions are gone in a few seconds, those that come back are not.
        wait::until_ok("the one-shot sessions to be gone", wait::LIMIT, || async {
            come_back(&envoys, &pins).await?;
            let found = sessions(&mesh, "blue").await?;
            ensure!(is_about(&found["held"], HELD), "who comes back is held on: {found}");
            ensure!(found["issued"] == 0 && found["in_flight"] == 1, "{found}");
            Ok(())
        })
        .await?;
        let refused = mesh.cli("recycle blue").await?.ended_with(1)?;
        let said = refused.stderr.contains(" sessions, 1 request under way until ");
        ensure!(refused.stderr.contains("slot-held") && said, "{refused:?}");

        // Nobody comes back any more; the stream alone is left, a session in use for as long as it is open, then nothing.
        wait::until_ok("the sessions to be idle", wait::LIMIT, || async {
            let found = sessions(&mesh, "blue").await?;
            ensure!(found["held"] == 1 && found["in_flight"] == 1, "{found}");
            Ok(())
        })
        .await?;
        let refused = mesh.cli("recycle blue").await?.ended_with(1)?;
        ensure!(refused.stderr.contains("slot-held"), "{refused:?}");
        drop((stream, line));
        wait::until_ok("the session of the stream to be idle", wait::LIMIT, || async {
            let found = sessions(&mesh, "blue").await?;
            ensure!(found["held"] == 0 && found["in_flight"] == 0, "{found}");
            Ok(())
        })
        .await?;
        mesh.does("recycle blue").await?;
        for envoy in &envoys {
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}

/// Accounted: a slot that has nothing but health checks and requests that never come back is empty when `first_return` has
/// passed, though the idle timeout is a day, and is recycled unforced. Those that come meanwhile hold the slot they reach.
#[test]
fn one_shot_requests_hold_a_slot_for_first_return_alone() {
    const FIRST_RETURN: Duration = Duration::from_secs(3);
    scenario(async {
        let pin = json!({"first_return_seconds": FIRST_RETURN.as_secs()});
        let mesh =
            Mesh::with(json!({"quarantine_seconds": 0, "pin": pin}), &[("blue", "b-1"), ("green", "g-1")]).await?;
        let envoys = [mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?];
        let health = Call::get("/healthz");
        let check = |number| ask_once(envoy(&envoys, number), &health);
        for once in 0..ONCE {
            ask_once(envoy(&envoys, once), &fresh(&format!("once-{once}"))).await?;
            check(once).await?;
        }
        let last = Instant::now();
        wait::until_ok("all to be counted", SHOWN_WITHIN, || async {
            let found = sessions(&mesh, "blue").await?;
            ensure!(found["held"] == 0 && is_about(&found["issued"], 2 * ONCE), "{found}");
            Ok(())
        })
        .await?;
        mesh.does("switch green").await?;
        let refused = mesh.cli("recycle blue").await?.ended_with(1)?;
        ensure!(refused.stderr.contains("slot-held"), "{refused:?}");
        let mut checks = 0;
        wait::until_ok("the slot to be recycled", FIRST_RETURN + FIRST_RETURN / 4 + SHOWN_WITHIN, || {
            checks += 1;
            let check = check(checks);
            async {
                let (reply, _) = check.await?;
                ensure!(reply.slot == "green", "{reply:?}");
                let outcome = mesh.cli("recycle blue").await?;
                let why = outcome.stderr.clone();
                outcome.ok().map(drop).context(why)
            }
        })
        .await?;
        let took = last.elapsed();
        ensure!(took >= FIRST_RETURN, "its last requests held it for {took:?} alone");
        let green = sessions(&mesh, "green").await?;
        ensure!(green["held"] == 0 && green["in_flight"] == 0, "{green}");
        println!("{} one-shot sessions held their slot for {took:?}", 2 * ONCE);
        Ok(())
    });
}

/// Work without traffic: a run that sends nothing outlives the idle timeout of its session by its lease, and blocks the
/// recycling of its slot until it ends.
#[test]
fn a_silent_run_outlives_the_idle_timeout() {
    scenario(async {
        let pin = json!({"idle_timeout_seconds": 1, "first_return_seconds": 1});
        let settings = json!({"quarantine_seconds": 0, "pin": pin});
        let mesh = Mesh::with(settings, &[("blue", "b-1"), ("green", "g-1")]).await?;
        let envoy = mesh.envoy("edge-1").await?;
        let (reply, _) = ask_once(&envoy, &fresh("run")).await?;
        let hold = format!("run hold nightly --ttl 10m --bundle {}", reply.bundle);
        mesh.cli(&hold).await?.ok()?;
        mesh.does("switch green").await?;
        wait::until_ok("the session of the run to be idle", wait::LIMIT, || async {
            let refused = mesh.cli("recycle blue").await?.ended_with(1)?;
            ensure!(refused.stderr.contains("runs-hold"), "{refused:?}");
            let found = sessions(&mesh, "blue").await?;
            ensure!(found["held"] == 0 && found["issued"] == 0, "{found}");
            Ok(())
        })
        .await?;
        let refused = mesh.cli("recycle blue").await?.ended_with(1)?;
        ensure!(refused.stderr.contains("blue is held by a run until"), "{refused:?}");
        mesh.cli("run end nightly").await?.ok()?;
        mesh.does("recycle blue").await?;
        Ok(())
    });
}

/// Whether a sketch has counted right: of so few, two may share a place.
fn is_about(found: &Value, wanted: u64) -> bool {
    found.as_u64().is_some_and(|found| found.abs_diff(wanted) <= 2)
}

fn envoy(envoys: &[Envoy; 2], number: u64) -> &Envoy {
    if number.is_multiple_of(2) { &envoys[0] } else { &envoys[1] }
}

/// Every session asks each proxy once, with its pin.
async fn come_back(envoys: &[Envoy; 2], pins: &[String]) -> Result<()> {
    for (session, pin) in pins.iter().enumerate() {
        for envoy in envoys {
            let (reply, _) = ask_once(envoy, &fresh(&format!("s-{session}")).header(names::PIN, pin)).await?;
            // By its pin, or by memory once that was not refreshed for the idle timeout: the session is in use all the same.
            ensure!(reply.slot == "blue" && ["pin", "memory"].contains(&&*reply.decision), "{reply:?}");
        }
    }
    Ok(())
}

async fn sessions(mesh: &Mesh, slot: &str) -> Result<Value> {
    let status = mesh.status().await?;
    let slots = status["slots"].as_array().context("slots")?;
    let found = slots.iter().find(|found| found["slot"] == slot).context("the slot")?;
    Ok(found["sessions"].clone())
}
