//! Last good: snapshots that cannot be right, and traffic that does not notice.

use std::time::Duration;

use anyhow::{Context, ensure};
use integration::mesh::{Refused, ask_once, fresh};
use integration::{Load, Mesh, Plan, Relay, scenario, wait};
use serde_json::{Value, json};

/// What is done to a snapshot, and what the refusal names.
type Poison = (&'static str, fn(Vec<u8>) -> Vec<u8>, &'static [&'static str]);

/// Every way to spoil a snapshot that the proxy must see through.
const POISONS: [Poison; 8] = [
    (
        "weights that do not add up",
        |body| edit(&body, |it| it["state"]["slots"][0]["weight"] = json!(0)),
        &["state.slots", "sum to 9999"],
    ),
    (
        "a setting that nobody knows",
        |body| edit(&body, |it| it["state"]["settings"]["colour"] = json!("red")),
        &["state.settings.colour: there is no such field"],
    ),
    (
        "a setting that breaks a rule",
        |body| edit(&body, |it| it["state"]["settings"]["bootstrap_wait_ms"] = json!(90_000)),
        &["state.settings.bootstrap_wait_ms"],
    ),
    ("another format", |body| edit(&body, |it| it["state"]["format"] = json!(2)), &["state.format", "reads 1"]),
    ("another service", |body| edit(&body, |it| it["state"]["service"] = json!("code")), &["state.service", "chat"]),
    ("a missing key", |body| edit(&body, |it| it["keys"]["ring"] = json!({})), &["keys.ring"]),
    ("half an answer", |body| body[..body.len() / 2].to_vec(), &["is not JSON"]),
    ("a megabyte of noise", |_| vec![0xf5; 1 << 20], &["line 1, column 1: is not JSON"]),
];

/// Edits the resource of a discovery answer.
fn edit(body: &[u8], edit: fn(&mut Value)) -> Vec<u8> {
    let mut answer: Value = serde_json::from_slice(body).unwrap_or_default();
    edit(&mut answer["resources"][0]);
    answer.to_string().into_bytes()
}

/// A snapshot that fails validation is refused with the field named, in the answer to the verb and in the status;
/// traffic goes on by the last good one, and the next good one is taken.
#[test]
fn a_poisoned_snapshot_is_refused_by_name() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let relay = Relay::start(mesh.sidecar.discovery()).await?;
        let envoy = mesh.join(mesh.config("edge-1")?.sidecar(relay.address())).await?;
        mesh.does("ramp green 1").await?;
        let load =
            Load::start(Plan { clients: 16, think: Duration::from_millis(5), ..Plan::new(vec![envoy.address()]) })?;
        for (nth, (what, poison, named)) in POISONS.into_iter().enumerate() {
            let polls = relay.polls();
            relay.spoil(move |body| poison(body.to_vec()).into());
            // All of it would go to green, were the poison taken.
            let answer = mesh.cli("ramp green 9999 --timeout 3s").await?.ended_with(4)?.json.context("JSON")?;
            let member = &answer["confirmation"]["members"][0]["progress"];
            let error = member["error"].as_str().unwrap_or_default();
            ensure!(member["state"] == "refused", "{what}: {answer:#}");
            ensure!(named.iter().all(|word| error.contains(word)), "{what}: {error}");
            let refused = mesh.members().await?.remove(0).refused;
            let version = answer["version"].as_u64().context("a version")?;
            ensure!(refused == Some(Refused { version, error: error.to_owned() }), "{what}: {refused:?}");
            let text = mesh.sidecar.cli_text(["status"]).await?.ended_with(0)?.stdout;
            ensure!(text.contains(&format!("refused v{version}")) && text.contains(named[0]), "{what}: {text}");

            load.advance(200, wait::LIMIT).await?;
            for number in 0..10 {
                let (reply, _) = ask_once(&envoy, &fresh(&format!("poison-{nth}-{number}"))).await?;
                ensure!(reply.bundle == "b-1", "{what} was taken: {reply:?}");
            }
            // A refused snapshot is not sent again and again.
            let polls = relay.polls() - polls;
            ensure!(polls < 20, "{what}: {polls} polls");

            relay.pass();
            mesh.does("ramp green 1").await?;
            ensure!(mesh.members().await?.remove(0).refused.is_none());
        }
        let report = load.stop().await?;
        report.expect_no_failure()?;
        report.expect_kept()?;
        report.expect_true_stamps()?;
        let counted = envoy.admin()?.stat("wasmcustom.colorfast.service.chat.snapshots_refused").await?;
        ensure!(counted >= Some(POISONS.len() as u64), "{counted:?}");
        envoy.expect_no_crash().await
    });
}
