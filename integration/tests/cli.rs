//! What the command line says when something is wrong, against a real sidecar: the exit code, the reason, the place.

use anyhow::{Context, Result, ensure};
use integration::{Mesh, Outcome, scenario};
use serde_json::{Value, json};

/// The problem document of a command that ended with `code`.
fn problem(outcome: Outcome, code: i32) -> Result<Value> {
    outcome.ended_with(code)?.json.context("a problem document on standard error")
}

fn detail(problem: &Value) -> &str {
    problem["detail"].as_str().unwrap_or_default()
}

/// Two operators cannot both act on what one of them has not seen: the second is told the version of now.
#[test]
fn a_stale_version_is_refused() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let seen = mesh.status().await?["version"].as_u64().context("a version")?;
        mesh.cli(&format!("ramp green 100 --expect-version {seen}")).await?.ended_with(0)?;
        let stale = problem(mesh.cli(&format!("switch green --expect-version {seen}")).await?, 1)?;
        ensure!(stale["type"] == "urn:colorfast:problem:stale-version" && stale["status"] == 409, "{stale:#}");
        ensure!(stale["current_version"] == seen + 1, "{stale:#}");
        ensure!(mesh.status().await?["version"] == seen + 1, "a refused verb changed something");
        let text = mesh.sidecar.cli_text(["switch", "green", "--expect-version", &seen.to_string()]).await?;
        let told = text.ended_with(1)?.stderr;
        ensure!(told.contains("error:") && told.contains(&format!("--expect-version {}", seen + 1)), "{told}");
        Ok(())
    });
}

/// What cannot be done is refused with the reason, and nothing is half done.
#[test]
fn refusals_say_why() {
    scenario(async {
        let mesh = Mesh::with(json!({}), &[("blue", "b-1"), ("green", "g-1"), ("red", "r-1")]).await?;
        let before = mesh.status().await?;
        for (line, code, words) in [
            ("rollback", "no-way-back", "no slot was live before blue"),
            ("rollback --to red", "wrong-phase", "red is idle"),
            ("rollback --to blue", "already-live", "blue is live already"),
            ("switch red", "wrong-phase", "red is idle"),
            ("switch pink", "no-slot", "only blue, green, red"),
            ("stage green b-1", "wrong-phase", "green is staged"),
            ("stage red r-2", "no-bundle", "there is no bundle r-2"),
            ("abort green", "wrong-phase", "needs a candidate"),
            ("migrate blue", "wrong-phase", "blue is live"),
            ("recycle blue", "wrong-phase", "blue is live"),
            ("switch green --service code", "no-service", "there is no service code"),
        ] {
            let told = problem(mesh.cli(line).await?, 1).with_context(|| line.to_owned())?;
            ensure!(told["type"] == format!("urn:colorfast:problem:{code}"), "{line}: {told:#}");
            ensure!(detail(&told).contains(words), "{line}: {told:#}");
        }
        ensure!(mesh.status().await? == before, "a refused verb changed something");

        mesh.cli("switch green").await?.ok()?;
        let told = problem(mesh.cli("recycle blue").await?, 1)?;
        ensure!(told["type"] == "urn:colorfast:problem:quarantine", "{told:#}");
        mesh.sidecar.cli(["recycle", "blue", "--force", "--reason", "the disk is full"]).await?.ok()?;
        let told = problem(mesh.cli("rollback").await?, 1)?;
        ensure!(detail(&told).contains("blue was live before, but it was recycled"), "{told:#}");
        let log = mesh.sidecar.cli_text(["events"]).await?.ended_with(0)?.stdout;
        ensure!(log.contains("recycled blue, forced: the disk is full"), "{log}");
        Ok(())
    });
}

/// A sidecar that is away is an outage, and the message names its address.
#[test]
fn an_outage_names_the_address() {
    scenario(async {
        let mut mesh = Mesh::start().await?;
        mesh.sidecar.kill();
        let address = mesh.sidecar.control().to_string();
        for line in ["status", "switch green", "verify-log"] {
            let told = problem(mesh.cli(line).await?, 3).with_context(|| line.to_owned())?;
            ensure!(detail(&told).contains(&address), "{line}: {told:#}");
        }
        mesh.sidecar.restart().await?;
        let blue = &mesh.status().await?["slots"][0]["phase"];
        ensure!(blue == "live", "blue is {blue}");
        Ok(())
    });
}

/// A wrong token is refused, and the message says where the token came from.
#[test]
fn a_wrong_token_is_refused() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let file = mesh.file("wrong.token", "not-the-token\n")?;
        let told = problem(mesh.sidecar.cli(["status", "--token-file", &file]).await?, 1)?;
        ensure!(told["type"] == "urn:colorfast:problem:unauthenticated", "{told:#}");
        // A proxy's token opens nothing to an operator.
        let proxies = mesh.file("proxy.token", &mesh.sidecar.discovery_token()?)?;
        problem(mesh.sidecar.cli(["switch", "green", "--token-file", &proxies]).await?, 1)?;
        ensure!(mesh.status().await?["slots"][1]["phase"] == "staged");
        Ok(())
    });
}

/// A bad file is named with line, field and rule before anything is sent, and a bad argument with what would be right.
#[test]
fn wrong_use_names_the_place() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let before = mesh.status().await?;
        for (text, field, words) in [
            ("service: chat\npin:\n  max_age: 60\n", "pin.max_age", "unknown field `max_age`"),
            ("service: chat\npin:\n  max_age_seconds: 60\n", "pin.idle_timeout_seconds", "is over pin.max_age_seconds"),
            ("service: chat\nslots: [blue, Green]\n", "slots[1]", "Green"),
            ("service: chat\nbootstrap_wait_ms: soon\n", "bootstrap_wait_ms", "whole number"),
        ] {
            let file = mesh.file("settings.yaml", text)?;
            let told =
                problem(mesh.sidecar.cli(["service", "apply", &file]).await?, 2).with_context(|| text.to_owned())?;
            ensure!(told["field"] == field, "{text}: {told:#}");
            ensure!(detail(&told).contains(words) && detail(&told).contains(&format!("{file}:")), "{text}: {told:#}");
        }
        for line in ["switch", "ramp green 101%", "flip green", "recycle green --force"] {
            mesh.cli(line).await?.ended_with(2)?;
        }
        ensure!(mesh.status().await? == before, "wrong use changed something");
        Ok(())
    });
}

/// A slot that is in use cannot be taken out of the settings.
#[test]
fn settings_keep_slots_in_use() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let told = problem(mesh.apply(&json!({"service": "chat", "slots": ["blue", "red"]})).await?, 1)?;
        ensure!(told["type"] == "urn:colorfast:problem:slot-in-use", "{told:#}");
        ensure!(detail(&told).contains("green, which is staged"), "{told:#}");
        Ok(())
    });
}
