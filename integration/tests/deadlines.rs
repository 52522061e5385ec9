//! Slots that drain, each until its own deadline, in a real Envoy.

use anyhow::{Context, Result, ensure};
use integration::mesh::{ask_once, fresh};
use integration::{Envoy, EnvoyConfig, Mesh, names, scenario, wait};
use serde_json::{Value, json};

/// Rainbow, by the routes that are shipped: three slots, two of them draining at once. The deadline of one comes and its session leaves at its next
/// request; the other, whose deadline was moved, keeps its own. The log says that the sidecar did it.
#[test]
fn each_slot_drains_until_its_own_deadline() {
    scenario(async {
        let settings = json!({"drain_deadline_seconds": 3600});
        let mesh = Mesh::with(settings, &[("blue", "b-1"), ("green", "g-1"), ("red", "r-1")]).await?;
        let mut config = EnvoyConfig::shipped()?.rainbow()?.node_id("edge-1").sidecar(mesh.sidecar.discovery());
        for slot in ["blue", "green", "red"] {
            config = config.agent(slot, mesh.agent(slot).address());
        }
        let envoy = mesh.join(config.env("COLORFAST_TOKEN", &mesh.sidecar.discovery_token()?)).await?;
        let first = begin(&envoy, "first", "blue").await?;
        mesh.does("switch green").await?;
        let second = begin(&envoy, "second", "green").await?;
        mesh.does("stage red r-1").await?;
        mesh.does("switch red").await?;
        let draining = slots(&mesh, "draining").await?;
        ensure!(draining.len() == 2 && draining.iter().all(|slot| slot["drain_until"].is_u64()), "{draining:?}");

        mesh.does("deadline green none").await?;
        mesh.does("deadline blue 1s").await?;
        stays(&envoy, "second", &second, "green").await?;
        wait::until_ok("the deadline of blue", wait::LIMIT, || async {
            let condemned = slots(&mesh, "condemned").await?;
            ensure!(condemned.iter().any(|slot| slot["slot"] == "blue"), "{condemned:?}");
            Ok(())
        })
        .await?;
        mesh.until_current(1).await?;
        let (reply, _) = ask_once(&envoy, &fresh("first").header(names::PIN, &first)).await?;
        ensure!((&*reply.slot, &*reply.decision) == ("red", "hash"), "{reply:?}");
        stays(&envoy, "second", &second, "green").await?;

        let events = mesh.cli("events").await?.ok()?;
        let entries = events["entries"].as_array().context("entries")?;
        let migrated = entries.iter().find(|entry| entry["event"]["type"] == "migrated").context("it is logged")?;
        ensure!(migrated["principal"] == "sidecar", "{migrated}");
        envoy.expect_no_crash().await
    });
}

async fn begin(envoy: &Envoy, session: &str, slot: &str) -> Result<String> {
    let (reply, answer) = ask_once(envoy, &fresh(session)).await?;
    ensure!(&*reply.slot == slot, "{reply:?}");
    Ok(answer.header(names::PIN).context("a new session gets its pin")?.to_owned())
}

async fn stays(envoy: &Envoy, session: &str, pin: &str, slot: &str) -> Result<()> {
    let (reply, _) = ask_once(envoy, &fresh(session).header(names::PIN, pin)).await?;
    ensure!((&*reply.slot, &*reply.decision) == (slot, "pin"), "{reply:?}");
    Ok(())
}

async fn slots(mesh: &Mesh, phase: &str) -> Result<Vec<Value>> {
    let status = mesh.status().await?;
    let slots = status["slots"].as_array().context("slots")?;
    Ok(slots.iter().filter(|slot| slot["phase"] == phase).cloned().collect())
}
