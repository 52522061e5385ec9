//! Keys rotate under traffic: two proxies, sessions that began under every key, and not one pin breaks.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use integration::mesh::{ask_once, fresh};
use integration::{Envoy, Mesh, names, scenario, wait};
use serde_json::{Value, json};

/// Kept: through three rotations, by command and by schedule, with a switch and a restart of the sidecar among them,
/// every session stays where it began, whichever proxy it asks; a key that is retired by force ends its own pins, and
/// no others.
#[test]
fn no_pin_breaks_by_a_rotation() {
    scenario(async {
        let settings = json!({"pin": {"key_rotation_seconds": 0}});
        let mut mesh = Mesh::with(settings, &[("blue", "b-1"), ("green", "g-1")]).await?;
        let (one, other) = (mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?);
        // The pin of each session, and the slot that it holds.
        let mut sessions = BTreeMap::new();
        begin(&mut sessions, "first", "blue", &one).await?;

        mesh.does("keys rotate").await?;
        signs(&mesh, 2).await?;
        begin(&mut sessions, "second", "blue", &other).await?;
        held(&sessions, &[&one, &other]).await?;

        mesh.does("switch green").await?;
        begin(&mut sessions, "third", "green", &one).await?;
        mesh.does("keys rotate").await?;
        mesh.sidecar.restart().await?;
        signs(&mesh, 3).await?;
        begin(&mut sessions, "fourth", "green", &other).await?;
        held(&sessions, &[&one, &other]).await?;

        let often = json!({"service": "chat", "pin": {"cookie": "always", "key_rotation_seconds": 1}});
        mesh.apply(&often).await?.ok()?;
        signs(&mesh, 4).await?;
        let seldom = json!({"service": "chat", "pin": {"cookie": "always", "key_rotation_seconds": 0}});
        mesh.apply(&seldom).await?.ok()?;
        let now = wait::until_ok("the rotation under way to end", wait::LIMIT, || async {
            let keys = keys(&mesh).await?;
            let settled = keys.iter().all(|key| key["duty"] == "signing" || key["duty"] == "former");
            ensure!(settled, "{keys:?}");
            Ok(keys)
        })
        .await?;
        let signing = now.iter().find(|key| key["duty"] == "signing").context("one signs")?;
        ensure!(signing["key"].as_u64() >= Some(4), "{now:?}");
        begin(&mut sessions, "last", "green", &one).await?;
        held(&sessions, &[&one, &other]).await?;

        let refused = mesh.cli("keys retire 2").await?.ended_with(1)?;
        ensure!(refused.stderr.contains("key-in-use"), "{refused:?}");
        mesh.does("keys retire 2 --force --reason leaked").await?;
        for name in ["second", "third"] {
            let (pin, _) = sessions.remove(name).context("it began")?;
            let (reply, _) = ask_once(&one, &fresh(name).header(names::PIN, &pin)).await?;
            ensure!(&*reply.decision != "pin", "its key is gone: {reply:?}");
        }
        held(&sessions, &[&one, &other]).await?;
        one.expect_no_crash().await?;
        other.expect_no_crash().await
    });
}

async fn begin(
    sessions: &mut BTreeMap<&'static str, (String, &'static str)>,
    name: &'static str,
    slot: &'static str,
    envoy: &Envoy,
) -> Result<()> {
    let (reply, answer) = ask_once(envoy, &fresh(name)).await?;
    ensure!(&*reply.slot == slot, "{name}: {reply:?}");
    let pin = answer.header(names::PIN).context("a new session gets its pin")?.to_owned();
    sessions.insert(name, (pin, slot));
    Ok(())
}

/// Every session is where it began, at every proxy, by its pin.
async fn held(sessions: &BTreeMap<&'static str, (String, &'static str)>, envoys: &[&Envoy]) -> Result<()> {
    for (name, (pin, slot)) in sessions {
        for envoy in envoys {
            let (reply, _) = ask_once(envoy, &fresh(name).header(names::PIN, pin)).await?;
            ensure!((&*reply.slot, &*reply.decision) == (*slot, "pin"), "{name}: {reply:?}");
        }
    }
    Ok(())
}

async fn keys(mesh: &Mesh) -> Result<Vec<Value>> {
    let listed = mesh.cli("keys list").await?.ok()?;
    listed.as_array().cloned().context("a list")
}

/// Waits until `key` signs everywhere.
async fn signs(mesh: &Mesh, key: u64) -> Result<()> {
    wait::until_ok("the new key to sign everywhere", wait::LIMIT, || async {
        let keys = keys(mesh).await?;
        let duty = |wanted: u64| keys.iter().find(|key| key["key"] == wanted).map(|key| key["duty"].clone());
        ensure!(duty(key) == Some(json!("signing")) && duty(key - 1) == Some(json!("former")), "{keys:?}");
        Ok(())
    })
    .await
}
