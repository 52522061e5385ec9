//! Who takes part in confirmation, and what a confirmation is worth.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::agent::Reply;
use integration::http::{Call, Line, Protocol};
use integration::mesh::{Member, ask, ask_once, fresh};
use integration::{Envoy, Load, Mesh, Plan, Relay, names, scenario, wait};
use serde_json::{Value, json};

/// Within so much of going on again a stopped proxy has acknowledged the newest snapshot.
const CATCHES_UP: Duration = Duration::from_secs(2);
/// What the sidecar may forget of its members when it is killed.
const FLUSHED: Duration = Duration::from_secs(1);

/// What the JSON of an unconfirmed verb says of each member.
fn progress(answer: &Value) -> Vec<(&str, &str)> {
    let members = answer["confirmation"]["members"].as_array().into_iter().flatten();
    members.filter_map(|of| Some((of["member"].as_str()?, of["progress"]["state"].as_str()?))).collect()
}

async fn member(mesh: &Mesh, node: &str) -> Result<Member> {
    mesh.members().await?.into_iter().find(|member| member.node == node).with_context(|| format!("no {node}"))
}

/// Two proxies of one node id are two members. One that is gone is named, and can be forgotten.
#[test]
fn one_node_id_two_members() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let _first = mesh.envoy("edge").await?;
        let before = member(&mesh, "edge").await?;
        let mut second = mesh.envoy("edge").await?;
        let members = mesh.until_current(2).await?;
        ensure!(members.iter().all(|member| member.node == "edge"), "{members:?}");
        ensure!(members[0].process != members[1].process, "{members:?}");
        mesh.does("switch green").await?;

        second.kill();
        let gone = members.into_iter().find(|member| member.member != before.member).context("two members")?;
        let answer = mesh.cli("rollback --keep-pins --timeout 500ms").await?.ended_with(4)?.json.context("JSON")?;
        let named = progress(&answer);
        ensure!(named.contains(&(&before.member, "acknowledged")), "{named:?}");
        ensure!(named.contains(&(&gone.member, "silent")), "{named:?}");
        mesh.cli(&format!("member forget {}", gone.member)).await?.ended_with(0)?;
        mesh.does("switch green").await?;
        mesh.cli(&format!("member forget {}", gone.member)).await?.ended_with(1)?;
        Ok(())
    });
}

/// Confirmed: a stopped proxy leaves a switch unconfirmed, by name. Once it goes on it acknowledges within 2 s, and
/// from then on decides nothing by an older snapshot.
#[test]
fn a_stopped_proxy_is_named_and_catches_up() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let running = mesh.envoy("edge-1").await?;
        let mut stopped = mesh.envoy("edge-2").await?;
        let names = (member(&mesh, "edge-1").await?.member, member(&mesh, "edge-2").await?.member);
        let plan = Plan::new(vec![stopped.address()]);
        let load = Load::start(Plan { clients: 24, think: Duration::from_millis(5), longest: 5, ..plan })?;
        load.reach(500, wait::LIMIT).await?;

        stopped.pause()?;
        let switched = mesh.cli("switch green --timeout 500ms").await?.ended_with(4)?;
        let answer = switched.json.context("JSON")?;
        ensure!(answer["outcome"] == "unconfirmed", "{answer:#}");
        ensure!(progress(&answer) == [(&*names.0, "acknowledged"), (&*names.1, "silent")], "{answer:#}");
        ensure!(ask_once(&running, &fresh("s-1")).await?.0.slot == "green");

        let resumed = Instant::now();
        stopped.resume()?;
        wait::until_ok("an acknowledgement", CATCHES_UP, || async {
            ensure!(member(&mesh, "edge-2").await?.current, "it lags");
            Ok(())
        })
        .await?;
        let acknowledged = Instant::now();
        println!("a stopped proxy acknowledged {:?} after it went on", acknowledged - resumed);
        load.advance(1_000, wait::LIMIT).await?;
        let report = load.stop().await?;
        report.expect_no_failure()?;
        report.expect_kept()?;
        let began = report.began_since(acknowledged);
        let older = began.iter().filter(|record| record.bundle() != Some("g-1")).count();
        ensure!(!began.is_empty() && older == 0, "{older} of {} sessions began by an older snapshot", began.len());
        Ok(())
    });
}

/// Atomic: a request that is paused while the proxy decides by an older snapshot is decided by the newest.
#[test]
fn a_paused_request_is_decided_by_the_newest() {
    scenario(async {
        let mesh = Mesh::with(json!({}), &[("blue", "b-1"), ("green", "g-1"), ("red", "r-1")]).await?;
        let direct = mesh.envoy("edge-1").await?;
        let relay = Relay::start(mesh.sidecar.discovery()).await?;
        let behind = mesh.join(mesh.config("edge-2")?.sidecar(relay.address())).await?;

        // The second proxy hears nothing more, and nobody waits for it.
        relay.hold();
        mesh.cli(&format!("member forget {}", member(&mesh, "edge-2").await?.member)).await?.ended_with(0)?;
        wait::until("its next poll", wait::LIMIT, || relay.held() == 1).await?;
        mesh.does("stage red r-1").await?;
        mesh.does("switch red").await?;
        let (_, answer) = ask_once(&direct, &fresh("s-1")).await?;
        let pin = answer.header(names::PIN).context("a new session gets its pin")?;
        mesh.does("rollback --to green").await?;

        // A pin that is newer than all it knows makes it ask, and the request wait for the answer. By then the pin is
        // broken; by the older snapshot the session would begin on blue, by the newest on green.
        let newer = fresh("s-1").header(names::PIN, &pin);
        let turn = Call::post("/turn", r#"{"turn":1}"#).header(names::SESSION, "s-1").header(names::PIN, &pin);
        let ask_behind = |call: Call| {
            let mut line = Line::new(behind.address(), Protocol::Http1);
            tokio::spawn(async move { ask(&mut line, &call).await })
        };
        let paused = [ask_behind(newer), ask_behind(turn)];
        behind.until_active(2).await?;
        relay.pass();
        let mut rules = Vec::new();
        for paused in paused {
            let (reply, _) = paused.await??;
            ensure!(reply.slot == "green", "{reply:?}");
            rules.push(reply.decision);
        }
        rules.sort_unstable();
        ensure!(rules == ["hash", "memory"], "one begins the session, the other follows: {rules:?}");
        let waited = behind.stats("waits.need.newer_snapshot").await?;
        let waited: Vec<_> = waited.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        ensure!(waited == [("wasmcustom.colorfast.service.chat.waits.need.newer_snapshot.end.met", 2)], "{waited:?}");
        mesh.until_current(2).await?;
        behind.expect_no_crash().await
    });
}

/// A pin of an assignment that a proxy has not heard of yet is not refused: the proxy asks, and then honours it.
#[test]
fn a_pin_may_be_ahead_of_the_proxy() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let direct = mesh.envoy("edge-1").await?;
        let relay = Relay::start(mesh.sidecar.discovery()).await?;
        let behind = mesh.join(mesh.config("edge-2")?.sidecar(relay.address())).await?;
        mesh.does("recycle green").await?;
        relay.hold();
        mesh.cli(&format!("member forget {}", member(&mesh, "edge-2").await?.member)).await?.ended_with(0)?;
        wait::until("its next poll", wait::LIMIT, || relay.held() == 1).await?;
        mesh.does("stage green g-1").await?;
        mesh.does("switch green").await?;
        let (_, answer) = ask_once(&direct, &fresh("s-1")).await?;
        let pin = answer.header(names::PIN).context("a new session gets its pin")?;

        let held = fresh("s-1").header(names::PIN, &pin);
        // While nothing is to be heard the request is placed as a new one, and the client keeps its pin.
        let (reply, answer) = ask_once(&behind, &held).await?;
        ensure!((&*reply.slot, &*reply.decision) == ("blue", "hash"), "{reply:?}");
        ensure!(answer.header(names::PIN).is_none(), "the newer pin was overwritten");
        relay.pass();
        mesh.until_current(2).await?;
        let (reply, _): (Reply, _) = ask_once(&behind, &held).await?;
        ensure!((&*reply.slot, &*reply.decision) == ("green", "pin"), "{reply:?}");
        Ok(())
    });
}

/// Confirmed: with no member a verb says that it is applied and that nobody has confirmed it.
#[test]
fn with_no_member_a_verb_says_so() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let answer = mesh.cli("switch green").await?.ok()?;
        ensure!(answer["outcome"] == "no_members" && answer["confirmation"]["members"] == json!([]), "{answer:#}");
        let text = mesh.sidecar.cli_text(["rollback", "--keep-pins"]).await?.ended_with(0)?.stdout;
        ensure!(text.contains("applied, unconfirmed (0 members)"), "{text}");
        Ok(())
    });
}

/// A restarted sidecar, a killed one too, still knows its members, and claims no confirmation over one that is silent.
#[test]
fn a_restarted_sidecar_knows_its_members() {
    scenario(async {
        let mut mesh = Mesh::start().await?;
        let running = mesh.envoy("edge-1").await?;
        let mut stopped: Envoy = mesh.envoy("edge-2").await?;
        let joined = Instant::now();
        let names: Vec<String> = mesh.members().await?.into_iter().map(|member| member.member).collect();
        stopped.pause()?;
        wait::until("the members to be on disk", wait::LIMIT, || joined.elapsed() > FLUSHED).await?;
        for (verb, ending) in [("switch green", "SIGKILL"), ("rollback --keep-pins", "SIGTERM")] {
            if ending == "SIGKILL" {
                mesh.sidecar.kill();
            }
            mesh.sidecar.restart().await?;
            let known: Vec<String> = mesh.members().await?.into_iter().map(|member| member.member).collect();
            ensure!(known == names, "after {ending} it knows {known:?} of {names:?}");
            let answer = mesh.cli(&format!("{verb} --timeout 3s")).await?.ended_with(4)?.json.context("JSON")?;
            let wanted = [(&*names[0], "acknowledged"), (&*names[1], "silent")];
            ensure!(progress(&answer) == wanted, "after {ending}: {answer:#}");
        }
        stopped.resume()?;
        mesh.until_current(2).await?;
        mesh.does("switch green").await?;
        ensure!(ask_once(&running, &fresh("s-1")).await?.0.slot == "green");
        ensure!(ask_once(&stopped, &fresh("s-1")).await?.0.slot == "green");
        Ok(())
    });
}
