//! schemathesis over the OpenAPI documents as they are served: thousands of requests, right ones and wrong ones, and
//! every answer held against what the document says.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integration::http::{Call, Line, Protocol};
use integration::{Sidecar, names, python, scenario};
use serde_json::{Value, json};

/// How long one run may take; what it may take of that is in its own arguments.
const LIMIT: Duration = Duration::from_secs(240);
/// Test cases for each operation, in each phase.
const EXAMPLES: &str = "20";
/// `ignored_auth` fails to authenticate on purpose, many times in a row, and takes the 429 of that for a fault.
const FLAGS: &[&str] = &["--auth-failures", "1000000"];

/// The control API is what its document says: no check finds anything.
#[test]
fn the_control_api_is_as_described() {
    scenario(async {
        let sidecar = prepared(FLAGS).await?;
        check(sidecar.control(), &sidecar.control_token()?, "/v1/openapi.json").await?;
        ensure!(sidecar.cli(["verify-log"]).await?.ok()?.get("error").is_none());
        Ok(())
    });
}

/// So is discovery: whatever a proxy may send.
#[test]
fn discovery_is_as_described() {
    scenario(async {
        // A poll is held for half of this: a run has no time to sit out more.
        let sidecar = prepared(&[FLAGS, &["--member-ttl", "1s"]].concat()).await?;
        check(sidecar.discovery(), &sidecar.discovery_token()?, "/v3/openapi.json").await
    });
}

/// A sidecar with a service, bundles, a live slot and a candidate, and a member.
async fn prepared(flags: &[&str]) -> Result<Sidecar> {
    let flags: Vec<_> = flags.iter().map(ToString::to_string).collect();
    let sidecar = Sidecar::start_with(&flags, &[], &[]).await?;
    let manifest = |code: &str| json!({"code": code, "model": "m", "prompts": "p", "tools": {"search": "1"}});
    let verbs = [
        json!({"verb": "apply", "settings": {"quarantine_seconds": 0}}),
        json!({"verb": "add_bundle", "id": "v1", "manifest": manifest("1")}),
        json!({"verb": "add_bundle", "id": "v2", "manifest": manifest("2")}),
        json!({"verb": "stage", "slot": "blue", "bundle": "v1"}),
        json!({"verb": "switch", "slot": "blue"}),
        json!({"verb": "stage", "slot": "green", "bundle": "v2"}),
        json!({"verb": "ramp", "slot": "green", "weight": 100}),
    ];
    let mut line = Line::new(sidecar.control(), Protocol::Http1);
    for verb in verbs {
        let call = Call::post("/v1/services/chat/verbs", verb.to_string());
        let answer = line.send(&call.header("authorization", format!("Bearer {}", sidecar.control_token()?))).await?;
        ensure!(answer.status == 200, "{verb}: {}", answer.text());
    }
    let poll = json!({
        "version_info": "", "resource_names": ["chat"], "type_url": "type.googleapis.com/colorfast.v1.Snapshot",
        "node": {"id": "edge", "metadata": {"process_id": "00000000000000aa"}},
    });
    let call = Call::post(names::DISCOVERY_PATH, poll.to_string());
    let call = call.header("authorization", format!("Bearer {}", sidecar.discovery_token()?));
    let answer = Line::new(sidecar.discovery(), Protocol::Http1).send(&call).await?;
    ensure!(answer.json::<Value>()?["resources"][0]["state"]["service"] == "chat", "{}", answer.text());
    Ok(sidecar)
}

/// Runs every check of schemathesis on every operation of a document.
async fn check(address: SocketAddr, token: &str, document: &str) -> Result<()> {
    let packages = tokio::task::spawn_blocking(|| python::packages("schemathesis.txt")).await??;
    let folder = tempfile::Builder::new().prefix("colorfast-schemathesis-").tempdir()?;
    let mut command = tokio::process::Command::from(python::python(&packages));
    command.args(["-m", "schemathesis.cli", "--no-color", "--config-file"]);
    command.arg(python::scripts().join("schemathesis.toml"));
    command.args(["run", &format!("http://{address}{document}")]);
    command.args(["--header", &format!("Authorization: Bearer {token}")]);
    command.args(["--checks", "all", "--max-examples", EXAMPLES]);
    // With more than one, Python 3.11 loses count of the depth of its stack now and then.
    command.args(["--workers", "1"]);
    // It keeps caches and reports where it is started.
    command.current_dir(folder.path()).env("HOME", folder.path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.with_context(|| format!("schemathesis has not ended within {LIMIT:?}"))??;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = text.replace(token, "TOKEN");
    if !output.status.success() {
        bail!("{}:\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    // A run that looked at nothing would find nothing.
    let selected = said.lines().find(|line| line.contains("Selected:")).context("it does not say what it looked at")?;
    let (looked_at, all) =
        selected.split_once(':').and_then(|(_, of)| of.trim().split_once('/')).context("no numbers")?;
    ensure!(looked_at.trim() == all.trim(), "not every operation was looked at: {selected}");
    eprintln!(
        "schemathesis {document}: {}",
        said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default()
    );
    Ok(())
}
