//! The demo: it proves what it shows, it can fail, and what it invites to works.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integration::http::{Call, Fault};
use integration::process::Process;
use integration::{scenario, wait};
use serde_json::Value;

const DEMO: &str = env!("CARGO_BIN_EXE_demo");
/// How long a short demo may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Plays a short demo, and answers its exit code and its verdict.
async fn play(options: &[&str]) -> Result<(Option<i32>, Value)> {
    let mut demo = tokio::process::Command::new(DEMO);
    demo.args(["--quick", "--json"]).args(options).stdin(Stdio::null()).kill_on_drop(true);
    let Output { status, stdout, stderr } = tokio::time::timeout(LIMIT, demo.output()).await??;
    let story = String::from_utf8_lossy(&stderr).into_owned();
    let verdict = serde_json::from_slice(&stdout).with_context(|| format!("no verdict ({status}): {story}"))?;
    Ok((status.code(), verdict))
}

/// Every conversation is kept through stage, ramp and switch, and the rollback moves those of its slot alone: what
/// the demo shows a newcomer.
#[test]
fn the_demo_keeps_every_conversation() {
    scenario(async {
        let (code, verdict) = play(&[]).await?;
        ensure!((code, &verdict["outcome"]) == (Some(0), &"kept".into()), "{code:?} {verdict:#}");
        for nothing in ["broken", "newcomers_on_old_slot", "requests_failed"] {
            ensure!(verdict[nothing] == 0, "{nothing}: {verdict:#}");
        }
        for some in ["kept", "kept_through_switch", "moved_on_purpose", "requests"] {
            ensure!(verdict[some].as_u64().is_some_and(|count| count > 0), "{some}: {verdict:#}");
        }
        for time in ["switch_confirmed_ms", "rollback_confirmed_ms"] {
            ensure!(verdict[time].as_f64().is_some_and(|millis| millis > 0.0), "{time}: {verdict:#}");
        }
        Ok(())
    });
}

/// The demo can fail: without colorfast the same release breaks conversations, and the exit code says so.
#[test]
fn without_colorfast_conversations_break() {
    scenario(async {
        let (code, verdict) = play(&["--without-filter"]).await?;
        ensure!((code, &verdict["outcome"]) == (Some(1), &"broken".into()), "{code:?} {verdict:#}");
        ensure!(verdict["broken"].as_u64().is_some_and(|count| count > 0), "{verdict:#}");
        ensure!(verdict["requests_failed"] == 0, "{verdict:#}");
        Ok(())
    });
}

/// State outside of the agents: two bundles share a file, each in rows of its own. A killed agent forgets nothing, a rollback
/// and a way back lose nothing though the layout of the file has changed amid, and what the old bundle reads goes when no slot
/// runs it.
#[test]
fn state_outside_of_the_agents_survives_everything() {
    scenario(async {
        let (code, verdict) = play(&["--state"]).await?;
        ensure!(code == Some(0), "{code:?} {verdict:#}");
        for nothing in ["forgotten", "strayed"] {
            ensure!(verdict[nothing] == 0, "{nothing}: {verdict:#}");
        }
        ensure!(verdict["conversations"] == 12 && verdict["turns"].as_u64() > Some(100), "{verdict:#}");
        Ok(())
    });
}

/// With `--keep` everything runs on after the verdict, each command that is printed then works as it stands there,
/// and at the end nothing is left.
#[test]
fn what_can_be_tried_afterwards_works() {
    scenario(async {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        let mut demo = Process::spawn("the demo", Command::new(DEMO).args(["--quick", "--keep"]), &log)?;
        let invitation = wait::until_ok("the invitation", LIMIT, || {
            let seen = demo.must_run().and_then(|()| invitation(&log));
            async move { seen }
        })
        .await?;

        let commands: Vec<&str> = invitation.lines().filter_map(|line| line.trim().strip_prefix("$ ")).collect();
        let output = Command::new("sh").args(["-euc", &commands.join("\n")]).stdin(Stdio::null()).output()?;
        let told = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{commands:#?}\n{told}\n{}", String::from_utf8_lossy(&output.stderr));
        let answers = told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let served: Vec<String> = answers.filter_map(|answer| answer["bundle"].as_str().map(str::to_owned)).collect();
        ensure!(served == ["chat-2.3", "chat-2.3", "chat-2.4", "chat-2.3"], "{told}");

        let ended = demo.stop(LIMIT).await?;
        ensure!(ended.success(), "{ended}: {}", demo.tail());
        let proxy = told_address(&invitation)?;
        let left = Call::get("/hello").send(proxy.parse()?).await;
        ensure!(matches!(left, Err(Fault::NoConnection(_))), "Envoy has outlived the demo: {left:?}");
        Ok(())
    });
}

/// What the demo prints after its verdict, once it is there as a whole.
fn invitation(log: &std::path::Path) -> Result<String> {
    let text = std::fs::read_to_string(log)?;
    match text.split_once("In another terminal:") {
        Some((_, invitation)) if invitation.ends_with("\n\n") => Ok(invitation.to_owned()),
        _ => bail!("it is not there yet"),
    }
}

/// The address that clients are invited to.
fn told_address(invitation: &str) -> Result<&str> {
    let address = invitation.split("http://").nth(1).and_then(|rest| rest.split('/').next());
    address.context("no address is told")
}
