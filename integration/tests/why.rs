//! What an operator asks of one request: why it went where it went, and how to send one elsewhere.

use anyhow::{Context, Result, ensure};
use integration::mesh::{SLOTS, ask_once, fresh};
use integration::{Envoy, Mesh, names, scenario, wait};
use serde_json::{Value, json};

/// A preview token reaches a staged slot through the real path; it mints no pin, and counts nowhere but in its own
/// counter; an idle slot has none, and the sidecar's log names who asked and never the token.
#[test]
fn a_preview_reaches_a_staged_slot() {
    scenario(async {
        let mesh = Mesh::with(json!({"slots": ["blue", "green", "teal"]}), &SLOTS).await?;
        let envoy = mesh.envoy("edge-1").await?;
        let made = mesh.cli("preview-token green --ttl 10m").await?.ok()?;
        let token = made["token"].as_str().context("a token")?;
        ensure!(made["slot"] == "green" && made["bundle"] == "g-1", "{made}");
        let (reply, answer) = ask_once(&envoy, &fresh("s-1").header(names::PREVIEW, token)).await?;
        ensure!((&*reply.bundle, &*reply.slot, &*reply.decision) == ("g-1", "green", "preview"), "{reply:?}");
        ensure!(answer.header(names::PIN).is_none() && answer.headers("set-cookie").is_empty(), "{answer:?}");
        let counted = counted(&envoy, "requests|previews|pins_issued").await?;
        ensure!(counted == json!({"previews.slot.green": 1}), "{counted}");
        let lines =
            envoy.access_log().wait_for(1, wait::LIMIT, |line| line.decision.as_deref() == Some("preview")).await?;
        ensure!(lines[0].bundle.as_deref() == Some("g-1"), "{lines:?}");
        let seen = mesh.agent("green").latest().pop().context("a request")?;
        ensure!(seen.headers.iter().all(|(name, _)| name != names::PREVIEW), "the token reached the agent");
        // Without it the session goes where new ones go.
        ensure!(ask_once(&envoy, &fresh("s-1")).await?.0.bundle == "b-1");

        let refused = mesh.cli("preview-token teal").await?.ended_with(1)?;
        ensure!(refused.stderr.contains("teal is idle"), "{refused:?}");
        mesh.cli("preview-token mauve").await?.ended_with(1)?;
        mesh.cli("preview-token green --ttl 25h").await?.ended_with(2)?;
        let log = mesh.sidecar.log()?;
        ensure!(log.contains("preview token minted") && !log.contains(token), "{log}");
        envoy.expect_no_crash().await
    });
}

/// `why` and the proxy agree, now and over a switch: a line of the access log is explained by its own version, a pin
/// by what it holds, a session by where it goes now.
#[test]
fn why_agrees_with_the_proxy() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let envoy = mesh.envoy("edge-1").await?;
        let (reply, answer) = ask_once(&envoy, &fresh("s-1")).await?;
        let pin = answer.header(names::PIN).context("a new session gets its pin")?;
        ensure!((&*reply.slot, &*reply.decision) == ("blue", "hash"), "{reply:?}");
        let line = envoy.access_log().wait_for(1, wait::LIMIT, |line| line.session.as_deref() == Some("s-1")).await?;
        let line = serde_json::to_string(&line[0])?;
        mesh.does("switch green").await?;

        let logged = mesh.sidecar.cli(["why", "--from-log", &line]).await?.ok()?;
        ensure!(outcome(&logged) == ["blue", "b-1", "hash"], "{logged:#}");
        ensure!(logged["logged"]["says"][1] == "as computed", "{logged:#}");
        let now = mesh.cli("why --session s-1").await?.ok()?;
        ensure!(outcome(&now) == ["blue", "b-1", "memory"], "{now:#}");
        let new = mesh.cli("why --session s-2").await?.ok()?;
        ensure!(outcome(&new) == ["green", "g-1", "hash"], "{new:#}");
        let pinned = mesh.cli(&format!("why --session s-1 --pin {pin}")).await?.ok()?;
        ensure!(outcome(&pinned) == ["blue", "b-1", "pin"], "{pinned:#}");
        ensure!(pinned["version"] == now["version"] && pinned["version"] != logged["version"], "{pinned:#}");
        let kept = ask_once(&envoy, &fresh("s-1").header(names::PIN, &pin)).await?.0;
        ensure!((&*kept.slot, &*kept.decision) == ("blue", "pin"), "{kept:?}");

        // The same pin, once the rollback's way back is broken for good.
        mesh.does("migrate blue").await?;
        let broken = mesh.cli(&format!("why --session s-1 --pin {pin}")).await?.ok()?;
        ensure!(outcome(&broken) == ["green", "g-1", "hash"], "{broken:#}");
        let said = &broken["rules"][2]["said"];
        ensure!(said.as_str().is_some_and(|said| said.contains("which is broken or gone")), "{said}");
        let line = envoy.access_log().wait_for(1, wait::LIMIT, |line| line.decision.as_deref() == Some("pin")).await?;
        let logged = mesh.sidecar.cli_text(["why", "--from-log", &serde_json::to_string(&line[0])?]).await?;
        ensure!(logged.ended_with(0)?.stdout.contains("pins stand in no log"));
        let never = mesh.cli("why --session s-1 --at 1").await?.ended_with(1)?;
        ensure!(never.stderr.contains("chat never was at version 1"), "{never:?}");
        envoy.expect_no_crash().await
    });
}

/// A run that began on blue goes on there after the switch, by the member of the baggage that blue's agent was handed;
/// what others put into the baggage comes through as it was.
#[test]
fn a_run_goes_on_where_it_began() {
    scenario(async {
        let mesh = Mesh::with(json!({"runs": {"mint": "always"}}), &SLOTS).await?;
        let envoy = mesh.envoy("edge-1").await?;
        ask_once(&envoy, &fresh("s-1").header("baggage", "a=1 ;p , b=2")).await?;
        let [theirs, ours] = baggage(&mesh, "blue")?.try_into().ok().context("two lines of baggage")?;
        ensure!(theirs == "a=1 ;p , b=2" && ours.starts_with("agent.run="), "{theirs} {ours}");
        mesh.does("switch green").await?;
        ensure!(ask_once(&envoy, &fresh("s-2")).await?.0.bundle == "g-1");
        let (reply, _) = ask_once(&envoy, &fresh("s-2").header("baggage", &ours)).await?;
        ensure!((&*reply.bundle, &*reply.decision) == ("b-1", "run"), "{reply:?}");
        ensure!(baggage(&mesh, "blue")? == [ours.clone()], "a true token goes on as it came");
        let forged = format!("{}A", &ours[..ours.len() - 1]);
        let forged = if forged == ours { format!("{}B", &ours[..ours.len() - 1]) } else { forged };
        let (reply, _) = ask_once(&envoy, &fresh("s-3").header("baggage", &forged)).await?;
        ensure!((&*reply.bundle, &*reply.decision) == ("g-1", "hash"), "{reply:?}");
        let handed = baggage(&mesh, "green")?;
        ensure!(handed.len() == 1 && handed[0] != forged, "{handed:?}");
        envoy.expect_no_crash().await
    });
}

/// Slot, bundle and rule of an explanation.
fn outcome(explained: &Value) -> [String; 3] {
    ["slot", "bundle", "reason"].map(|field| explained["outcome"][field].as_str().unwrap_or_default().to_owned())
}

/// The lines of baggage that an agent was handed last.
fn baggage(mesh: &Mesh, slot: &str) -> Result<Vec<String>> {
    let seen = mesh.agent(slot).latest().pop().context("a request")?;
    let lines = seen.headers.into_iter().filter(|(name, _)| name == "baggage");
    Ok(lines.map(|(_, line)| String::from_utf8_lossy(&line).into_owned()).collect())
}

/// Counters that are not 0, by what follows the service's name.
async fn counted(envoy: &Envoy, filter: &str) -> Result<Value> {
    let stats = envoy.stats(filter).await?;
    let ours = stats.into_iter().filter(|(_, count)| *count > 0);
    let ours = ours.filter_map(|(name, count)| {
        Some((name.strip_prefix("wasmcustom.colorfast.service.chat.")?.to_owned(), Value::from(count)))
    });
    Ok(Value::Object(ours.collect()))
}
