//! Broken for good: what a rollback broke stays broken, whatever is staged where afterwards.

use anyhow::{Context, Result, ensure};
use integration::mesh::{ask_once, fresh};
use integration::{Envoy, Mesh, names, scenario};
use serde_json::json;

/// A pin that a rollback broke stays refused when the same bundle is staged again, in the same slot and in a third,
/// with weight and without; each refusal is counted.
#[test]
fn a_broken_pin_stays_refused() {
    scenario(async {
        let mesh = Mesh::with(json!({}), &[("blue", "b-1"), ("green", "g-1"), ("red", "g-1")]).await?;
        let envoy = mesh.envoy("edge-1").await?;
        mesh.does("switch green").await?;
        let (_, answer) = ask_once(&envoy, &fresh("s-1")).await?;
        let pin = answer.header(names::PIN).context("a new session gets its pin")?;
        let held = fresh("s-1").header(names::PIN, &pin);
        let (reply, _) = ask_once(&envoy, &held).await?;
        ensure!((&*reply.slot, &*reply.decision) == ("green", "pin"), "{reply:?}");

        let story = [
            ("rollback", "hash"),
            ("recycle green", "memory"),
            ("stage green g-1", "memory"),
            ("stage red g-1", "memory"),
            ("switch green", "memory"),
            ("rollback --keep-pins", "memory"),
            ("switch red", "memory"),
        ];
        for (nth, (verb, rule)) in story.into_iter().enumerate() {
            mesh.does(verb).await?;
            let (reply, answer) = ask_once(&envoy, &held).await?;
            ensure!((&*reply.slot, &*reply.decision) == ("blue", rule), "after {verb}: {reply:?}");
            let fresh_pin = answer.header(names::PIN).context("the session begins anew, with a new pin")?;
            ensure!(fresh_pin != pin);
            ensure!(broken(&envoy).await? == nth as u64 + 1, "after {verb} {} were counted", broken(&envoy).await?);
        }
        envoy.expect_no_crash().await
    });
}

/// Pins refused as broken so far.
async fn broken(envoy: &Envoy) -> Result<u64> {
    let name = "wasmcustom.colorfast.service.chat.tokens_refused.kind.pin.cause.broken";
    Ok(envoy.admin()?.stat(name).await?.unwrap_or(0))
}
