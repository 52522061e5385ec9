//! The APIs as programs use them: the page and its examples, streams over a restart, the documents that are served.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integration::http::{Call, Line, Protocol};
use integration::process::Process;
use integration::{Sidecar, paths, scenario, wait};
use serde_json::Value;

/// Every example of the page runs as it stands, one after the other, and does what it says.
#[test]
fn examples_of_the_page_run() {
    scenario(async {
        let sidecar = Sidecar::start().await?;
        let page = fs::read_to_string(paths::workspace().join("docs/api.md"))?;
        let blocks: Vec<_> =
            page.split("```sh\n").skip(1).filter_map(|part| Some(part.split_once("\n```")?.0)).collect();
        ensure!(blocks.len() > 3, "the page has {} examples", blocks.len());
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &blocks.join("\n")]).env("DATA", sidecar.data_dir());
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("{}: {said}{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        let status = sidecar.cli(["status"]).await?.ok()?;
        ensure!(status[0]["slots"][0]["phase"] == "live", "{status}");
        ensure!(said.contains("event: entry") && said.contains("\"switched\""), "no stream of entries: {said}");
        Ok(())
    });
}

/// What is served is what stands in the repository, to whoever has a token.
#[test]
fn served_documents_are_the_written_ones() {
    scenario(async {
        let sidecar = Sidecar::start().await?;
        let addresses = [
            (sidecar.control(), sidecar.control_token()?, "/v1/openapi.json", "openapi.json"),
            (sidecar.discovery(), sidecar.discovery_token()?, "/v3/openapi.json", "openapi-discovery.json"),
        ];
        for (address, token, path, file) in addresses {
            let mut line = Line::new(address, Protocol::Http1);
            let served = Call::get(path).header("authorization", format!("Bearer {token}"));
            let served = line.send(&served).await?;
            let text = fs::read_to_string(paths::workspace().join("docs").join(file))?;
            ensure!(served.json::<Value>()? == serde_json::from_str::<Value>(&text)?, "{file} is another one");
            ensure!(line.send(&Call::get(path)).await?.status == 401);
        }
        Ok(())
    });
}

/// Every operation of the documents asks who is there, `healthz` alone does not: without a token, and with a wrong one,
/// none is carried out, and the answer is the problem that the document names.
#[test]
fn every_operation_asks_who_is_there() {
    scenario(async {
        for api in ["control", "discovery"] {
            // Who fails too often is told to wait, so each address starts afresh.
            let sidecar = Sidecar::start().await?;
            let (address, token, document) = match api {
                "control" => (sidecar.control(), sidecar.control_token()?, "/v1/openapi.json"),
                _ => (sidecar.discovery(), sidecar.discovery_token()?, "/v3/openapi.json"),
            };
            let mut line = Line::new(address, Protocol::Http1);
            let call = Call::get(document).header("authorization", format!("Bearer {token}"));
            let document: Value = line.send(&call).await?.json()?;
            let mut seen = Vec::new();
            for (path, item) in document["paths"].as_object().context("no paths")? {
                for (method, operation) in item.as_object().context("no operations")? {
                    let open = operation["security"].as_array().is_some_and(Vec::is_empty);
                    ensure!(open == (path == "/healthz"), "{method} {path} is open: {open}");
                    for wrong in [None, Some("Bearer cf_wrong"), Some("Basic d3Jvbmc=")] {
                        let call = Call::new(method.to_uppercase().parse()?, path);
                        let call = wrong.iter().fold(call, |call, wrong| call.header("authorization", wrong));
                        let answer = line.send(&call).await?;
                        if open {
                            ensure!(answer.status == 200, "{method} {path}: {}", answer.status);
                            continue;
                        }
                        let problem: Value = answer.json()?;
                        let status = answer.status.to_string();
                        let described = &operation["responses"][&status]["content"]["application/problem+json"];
                        let types = described["schema"]["allOf"][1]["properties"]["type"]["enum"].as_array();
                        let named = types.is_some_and(|types| types.contains(&problem["type"]));
                        ensure!([401, 429].contains(&answer.status) && named, "{method} {path}: {problem}");
                        seen.push(answer.status);
                    }
                }
            }
            ensure!(seen.first() == Some(&401), "{api}: {seen:?}");
            ensure!(api == "discovery" || seen.contains(&429), "whoever guesses is never told to wait: {seen:?}");
        }
        Ok(())
    });
}

/// `watch` and `events --follow` go on over a restart of the sidecar: nothing is told twice, nothing is left out.
#[test]
fn followers_outlive_a_restart() {
    scenario(async {
        let mut sidecar = Sidecar::start().await?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("chat.yaml");
        fs::write(&file, "service: chat\n")?;
        let file = file.to_str().context("a path that is UTF-8")?;
        sidecar.cli(["service", "apply", file]).await?.ok()?;

        let mut follower = follow(&sidecar, folder.path(), &["events", "--follow", "--json"])?;
        let mut watcher = follow(&sidecar, folder.path(), &["watch", "--json"])?;
        let told = |process: &mut Process| -> Result<Vec<Value>> {
            process.must_run()?;
            let text = fs::read_to_string(process.log())?;
            Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
        };
        for round in 2..5_u64 {
            if round == 3 {
                sidecar.restart().await?;
            }
            let settings = format!("service: chat\nquarantine_seconds: {round}\n");
            fs::write(file, settings)?;
            sidecar.cli(["service", "apply", file]).await?.ok()?;
            let wanted = round + 1;
            wait::until_ok(&format!("entry {wanted} to be told"), wait::LIMIT, || {
                let seen = told(&mut follower).and_then(|entries| {
                    let seqs: Vec<_> = entries.iter().filter_map(|entry| entry["seq"].as_u64()).collect();
                    ensure!(seqs == (1..=wanted).collect::<Vec<_>>(), "{seqs:?}");
                    let statuses = told(&mut watcher)?;
                    let last = statuses.last().map(|status| status["version"].clone());
                    ensure!(last == Some(wanted.into()), "the watcher is at {last:?}");
                    Ok(())
                });
                async move { seen }
            })
            .await?;
        }
        Ok(())
    });
}

/// Starts a command that goes on until it is told to end.
fn follow(sidecar: &Sidecar, folder: &std::path::Path, line: &[&str]) -> Result<Process> {
    let mut command = Command::new(paths::colorfast()?);
    command.args(line).arg("--data-dir").arg(sidecar.data_dir());
    Process::spawn(line[0], &mut command, &folder.join(format!("{}.log", line[0])))
}

/// A change is told within a moment, not at the next question: what polled before is pushed now.
#[test]
fn changes_are_pushed() {
    scenario(async {
        let sidecar = Sidecar::start().await?;
        let token = sidecar.control_token()?;
        let call = |call: Call| call.header("authorization", format!("Bearer {token}"));
        let apply = |seconds: u32| {
            let verb = format!(r#"{{"verb":"apply","settings":{{"quarantine_seconds":{seconds}}}}}"#);
            call(Call::post("/v1/services/chat/verbs", verb))
        };
        let mut line = Line::new(sidecar.control(), Protocol::Http1);
        line.send(&apply(1)).await?;
        let mut reader = Line::new(sidecar.control(), Protocol::Http1);
        let mut stream = reader.stream(&call(Call::get("/v1/services/chat/watch"))).await?;
        let mut seen = String::new();
        let mut took = Vec::new();
        for round in 1..=10_u32 {
            let version = format!("\"version\":{}", round + 1);
            let began = std::time::Instant::now();
            if round > 1 {
                line.send(&apply(round)).await?;
            }
            while !seen.contains(&version) {
                let bytes = stream.next().await?.context("the stream has ended")?;
                seen.push_str(&String::from_utf8_lossy(&bytes));
            }
            took.push(began.elapsed());
        }
        took.sort();
        ensure!(took[took.len() / 2] < Duration::from_secs(1), "changes are told after {took:?}");
        Ok(())
    });
}
