//! Can it serve? What a slot's agent says it runs, whether it answers, and what verbs and proxies make of that.

use anyhow::{Context, Result, ensure};
use integration::http::{Call, Line, Protocol};
use integration::mesh::{SLOTS, ask, ask_once, fresh};
use integration::{Envoy, Mesh, names, scenario, wait};
use serde_json::{Value, json};

/// What `colorfast status` says of what proxies have seen of a slot.
async fn serving(mesh: &Mesh, slot: &str) -> Result<Value> {
    let status = mesh.status().await?;
    let slots = status["slots"].as_array().context("status without slots")?;
    let found = slots.iter().find(|found| found["slot"] == slot).context("no such slot")?;
    Ok(found["serving"].clone())
}

/// A session that is pinned to a slot of its own choice.
async fn session_on(envoy: &Envoy, slot: &str) -> Result<Call> {
    let mut line = Line::new(envoy.address(), Protocol::Http1);
    for number in 0..200 {
        let call = fresh(&format!("{slot}-{number}"));
        let (reply, answer) = ask(&mut line, &call).await?;
        if reply.slot == slot {
            return Ok(call.header(names::PIN, &answer.header(names::PIN).context("a new session gets its pin")?));
        }
    }
    anyhow::bail!("no session came to {slot}")
}

/// Stamped: a bundle staged over the wrong process is caught by what the agent says of itself: the switch is refused
/// with 1 and the reason, `status` shows it, and the right process staged anew is given its sessions.
#[test]
fn a_bundle_staged_over_the_wrong_process_is_caught() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let envoy = mesh.envoy("edge-1").await?;
        mesh.agent("blue").attest(Some("b-1"));
        mesh.agent("green").attest(Some("b-1"));
        mesh.does("ramp green 50%").await?;
        session_on(&envoy, "green").await?;
        let (_, answer) = ask_once(&envoy, &fresh("any")).await?;
        ensure!(answer.header(names::ATTESTED).as_deref() == Some("b-1"), "what the agent says reaches the client");

        wait::until_ok("the mismatch to be reported", wait::LIMIT, || async {
            let seen = serving(&mesh, "green").await?;
            ensure!(seen["last_mismatch"]["found"] == "b-1" && seen["mismatched"].as_u64() > Some(0), "{seen}");
            Ok(())
        })
        .await?;
        let blue = serving(&mesh, "blue").await?;
        ensure!(blue["mismatched"] == 0, "{blue}");
        let counted = envoy.stats("attestations").await?;
        ensure!(counted.keys().any(|name| name.ends_with("attestations.slot.green.result.mismatch")), "{counted:?}");

        let refused = mesh.cli("switch green").await?.ended_with(1)?;
        let said = refused.json.context("a problem document")?;
        ensure!(said["type"] == "urn:colorfast:problem:attestation-mismatch", "{said}");
        let detail = said["detail"].as_str().unwrap_or_default();
        ensure!(detail.contains("green is staged with g-1, but its agent says that it runs b-1"), "{detail}");

        mesh.agent("green").attest(Some("g-1"));
        mesh.does("abort green --break-pins").await?;
        mesh.cli("recycle green").await?.ok()?;
        mesh.does("stage green g-1").await?;
        mesh.does("switch green").await?;
        Ok(())
    });
}

/// No worse than before: a slot whose upstream is down is given no sessions; the refusal names the command that forces
/// it, and the reason stays in the log.
#[test]
fn a_slot_that_is_down_is_given_no_sessions() {
    scenario(async {
        let mut mesh = Mesh::start().await?;
        let envoy = mesh.envoy("edge-1").await?;
        let session = session_on(&envoy, "blue").await?;
        mesh.does("switch green").await?;
        mesh.stop_agent("blue");
        wait::until_ok("the outage to be reported", wait::LIMIT, || async {
            let mut line = Line::new(envoy.address(), Protocol::Http1);
            for _ in 0..20 {
                let answer = line.send(&session).await?;
                ensure!(answer.status == 503, "a pinned session stays where it is: {}", answer.status);
            }
            let seen = serving(&mesh, "blue").await?;
            let (answered, unavailable) = (&seen["last_minute"]["answered"], &seen["last_minute"]["unavailable"]);
            ensure!(unavailable.as_u64() > answered.as_u64().map(|answered| answered * 9), "{seen}");
            Ok(())
        })
        .await?;

        let refused = mesh.text("rollback").await?.ended_with(1)?;
        for said in ["blue cannot serve", "colorfast rollback --service chat --force --reason TEXT"] {
            ensure!(refused.stderr.contains(said), "{}", refused.stderr);
        }
        mesh.does("rollback --force --reason drill").await?;
        let events = mesh.text("events").await?.ended_with(0)?;
        ensure!(events.stdout.contains("forced: drill"), "{}", events.stdout);
        Ok(())
    });
}

/// Kept, or not where the operator says so: where an agent is gone its sessions get Envoy's error and stay; with
/// `on_slot_down: reassign` they go on in another slot, and new ones begin there.
#[test]
fn sessions_of_a_slot_that_is_down() {
    scenario(async {
        for (setting, moves) in [("fail", false), ("reassign", true)] {
            let mut mesh = Mesh::with(json!({"on_slot_down": setting}), &SLOTS).await?;
            let envoy = mesh.join(mesh.config("edge-1")?.concurrency(1)).await?;
            mesh.does("ramp green 50%").await?;
            let session = session_on(&envoy, "green").await?;
            mesh.stop_agent("green");
            let mut line = Line::new(envoy.address(), Protocol::Http1);
            let mut statuses = Vec::new();
            for _ in 0..if moves { 3 } else { 10 } {
                statuses.push(line.send(&session).await?.status);
            }
            ensure!(statuses.iter().all(|status| *status == 503), "{setting}: {statuses:?}");
            if moves {
                // Now and then one is let through to find out, which may be this one.
                let (reply, answer) =
                    wait::until_ok("the session to move", wait::LIMIT, || ask_once(&envoy, &session)).await?;
                ensure!(reply.slot == "blue", "{reply:?}");
                let pin = answer.header(names::PIN).context("a session that moves gets its pin")?;
                let moved = Call::get("/who").header(names::PIN, &pin);
                for _ in 0..20 {
                    let (reply, _) = ask(&mut line, &moved).await?;
                    ensure!(reply.slot == "blue" && reply.decision == "pin", "{reply:?}");
                }
                let counted = envoy.stats("tokens_refused.kind.pin.cause.slot_down").await?;
                ensure!(counted.values().any(|count| *count > 0), "{counted:?}");
            }
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}

/// Can it serve? A probe goes through the proxy to the slot that it is about, whatever the others do: a bundle staged over
/// the wrong process is caught before the first session comes to it, and a slot where nobody listens is named.
#[test]
fn a_probe_sees_before_any_session_does() {
    scenario(async {
        let mut mesh = Mesh::start().await?;
        let envoy = mesh.envoy("edge-1").await?;
        mesh.agent("blue").attest(Some("b-1"));
        mesh.agent("green").attest(Some("b-1"));
        let probe = json!({"address": format!("http://{}", envoy.address()), "path": "/healthz"});
        let settings = json!({"service": "chat", "pin": {"cookie": "always"}, "probe": probe});
        mesh.apply(&settings).await?.ok()?;

        let refused = mesh.text("switch green").await?.ended_with(1)?;
        for said in
            ["green is staged with g-1, but its agent says that it runs b-1", "switch green --service chat --force"]
        {
            ensure!(refused.stderr.contains(said), "{}", refused.stderr);
        }
        // Whoever saw the answer pass tells it, too: it is held against the slot until it is staged anew.
        wait::until_ok("the mismatch to be reported", wait::LIMIT, || async {
            let seen = serving(&mesh, "green").await?;
            ensure!(seen["last_mismatch"]["found"] == "b-1", "{seen}");
            Ok(())
        })
        .await?;
        mesh.agent("green").attest(Some("g-1"));
        mesh.cli("recycle green").await?.ok()?;
        mesh.does("stage green g-1").await?;
        mesh.does("switch green").await?;
        let probes = |slot: &str| mesh.agent(slot).latest().into_iter().filter(|seen| seen.path == "/healthz").count();
        ensure!((probes("blue"), probes("green")) == (0, 2), "the slot alone is asked");

        mesh.stop_agent("blue");
        let began = std::time::Instant::now();
        let refused = mesh.text("rollback --keep-pins").await?.ended_with(1)?;
        let said = "blue cannot serve: a probe failed: GET http://";
        ensure!(refused.stderr.contains(said) && refused.stderr.contains("answered with 503"), "{}", refused.stderr);
        ensure!(refused.stderr.contains("rollback --keep-pins --service chat --force"), "{}", refused.stderr);
        println!("the refused rollback took {:?}", began.elapsed());
        mesh.does("rollback --keep-pins --force --reason drill").await?;
        Ok(())
    });
}
