//! The README, command by command: what it shows works, and what it lists is what there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use colorfast_core::plugin::PluginConfig;
use colorfast_core::settings::ServiceSettings;
use integration::document::{Desk, blocks, commands, section};
use integration::process::Process;
use integration::{Agent, Envoy, EnvoyConfig, paths, scenario, wait};
use serde_json::{Value, json};

fn readme() -> Result<String> {
    Ok(fs::read_to_string(paths::workspace().join("README.md"))?)
}

/// The rows of the table under a heading, cell by cell, without its two head rows.
fn rows(readme: &str, heading: &str) -> Result<Vec<Vec<String>>> {
    let lines = section(readme, heading)?
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    Ok(lines.skip(2).map(cells).collect())
}

/// From an empty home to a rollback that a real proxy has confirmed, by the README's own lines. Only the ports are the
/// test's.
#[test]
fn every_command_works_as_written() {
    scenario(async {
        let (readme, desk) = (readme()?, Desk::new()?);
        for file in blocks(&readme, "yaml") {
            let name = file.lines().next().and_then(|line| line.strip_prefix("# ")).context("a file has its name")?;
            fs::write(desk.path(name), &file)?;
            if name == "v1.yaml" {
                fs::write(desk.path("v2.yaml"), file.replace("v1", "v2").replace("support-12", "support-13"))?;
            }
        }
        let lines = commands(&readme);
        let (v1, v2) = (Agent::start("v1").await?, Agent::start("v2").await?);
        let (mut sidecar, mut envoy) = (None, None);
        let mut token = String::new();
        for line in &lines {
            match line.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["make", ..] => known_tasks(line)?,
                ["colorfast", "serve"] => sidecar = Some(serve(&desk, line).await?),
                ["export", assignment, ..] if assignment.starts_with("PATH=") => {}
                ["export", ..] => token = desk.run(&format!("{line}\necho \"$COLORFAST_TOKEN\""))?,
                ["envoy", ..] => {
                    let shipped = fs::read_to_string(paths::bootstrap())?;
                    ensure!(shipped.contains(line.as_str()), "bootstrap.yaml tells another command than `{line}`");
                    let address = address(&desk.path(".local/share/colorfast"))?;
                    let config = EnvoyConfig::shipped()?.agent("blue", v1.address()).agent("green", v2.address());
                    let config = config.sidecar(address).env("COLORFAST_TOKEN", token.trim());
                    envoy = Some(Envoy::start(config).await?);
                    wait::until_ok("the proxy to be a member", wait::LIMIT, || async {
                        let status: Value = serde_json::from_str(&desk.run("colorfast status --json")?)?;
                        ensure!(status[0]["members"][0]["current"] == json!(true), "{status}");
                        Ok(())
                    })
                    .await?;
                }
                ["colorfast", ..] => {
                    let said = desk.run(line)?;
                    let confirms = ["ramp", "switch", "rollback"].iter().any(|verb| line.contains(verb));
                    ensure!(envoy.is_none() || !confirms || said.contains("1 of 1 member obeyed"), "{said}");
                }
                [] => {}
                _ => bail!("what is `{line}`?"),
            }
        }
        ensure!(sidecar.is_some() && envoy.is_some(), "the README starts both");
        Ok(())
    });
}

/// What the README says of func-e is what the harness does where it runs Envoy through it (`make test-func-e`): the line of
/// Envoy itself, with the binary in `ENVOY_PATH`.
#[test]
fn func_e_takes_the_line_of_envoy() -> Result<()> {
    let readme = readme()?;
    let lines = commands(&readme);
    let envoy = lines.iter().find(|line| line.starts_with("envoy ")).context("the README starts no Envoy")?;
    let by_func_e = format!("ENVOY_PATH=\"$(command -v envoy)\" {}", envoy.replacen("envoy", "func-e run", 1));
    ensure!(blocks(&readme, "text").contains(&by_func_e), "the README lacks `{by_func_e}`");
    Ok(())
}

/// Starts the sidecar by the README's line, on ports of the test's.
async fn serve(desk: &Desk, line: &str) -> Result<Process> {
    let line = format!("exec {line} --discovery 127.0.0.1:0 --control 127.0.0.1:0");
    let mut sidecar = Process::spawn("the sidecar", &mut desk.shell(&line)?, &desk.path("serve.log"))?;
    let data = desk.path(".local/share/colorfast");
    wait::until_ok("the sidecar to listen", wait::LIMIT, || {
        let ready = sidecar.must_run().and_then(|()| address(&data));
        async move { ready }
    })
    .await?;
    Ok(sidecar)
}

fn address(data: &Path) -> Result<std::net::SocketAddr> {
    let serving: Value = serde_json::from_slice(&fs::read(data.join("serve.json"))?)?;
    let url = serving["discovery"].as_str().context("serve.json without discovery")?;
    Ok(url.trim_start_matches("http://").parse()?)
}

fn known_tasks(line: &str) -> Result<()> {
    let makefile = fs::read_to_string(paths::workspace().join("Makefile"))?;
    let tasks =
        line.split('#').next().unwrap_or_default().split_whitespace().skip(1).filter(|word| !word.contains('='));
    for task in tasks {
        ensure!(makefile.contains(&format!("\n{task}:")), "`{line}`: the Makefile has no {task}");
    }
    Ok(())
}

/// Every command of the table is one of the program, with a help of its own.
#[test]
fn every_listed_command_exists() {
    scenario(async {
        let desk = Desk::new()?;
        let table = rows(&readme()?, "Commands")?;
        let cells = table.iter().filter_map(|row| row.first());
        let commands = cells
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .filter_map(|code| code.strip_prefix("colorfast "));
        let verb = |line: &str| {
            line.split(' ')
                .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let commands: BTreeSet<String> = commands.map(verb).collect();
        ensure!(commands.len() > 12, "{commands:?}");
        for command in commands {
            desk.run(&format!("colorfast {command} --help"))?;
        }
        Ok(())
    });
}

/// Every setting of the table is one, with the default that the table says; and every setting is in the table.
#[test]
fn settings_are_listed_with_their_defaults() {
    scenario(async {
        let mut listed = BTreeSet::new();
        for row in rows(&readme()?, "Settings of a service")? {
            let [name, default, _] = row.as_slice() else { bail!("a row of three: {row:?}") };
            let (name, default) = (name.trim_matches('`'), default.split('`').nth(1));
            let Some(default) = default.filter(|_| name != "service" && name != "pin.cookie_name") else { continue };
            let default: Value = serde_saphyr::from_str(default)?;
            let document = name.rsplit('.').fold(default, |inner, key| json!({ key: inner }));
            let settings: ServiceSettings = serde_json::from_value(document).with_context(|| name.to_owned())?;
            ensure!(settings == ServiceSettings::default(), "{name} has another default: {settings:?}");
            listed.insert(name.to_owned());
        }
        listed.insert("pin.cookie_name".to_owned());
        // Settings at their default are not written, so this changes each of them.
        let other = json!({
            "slots": ["a"], "session_sources": [], "learn_from": [{"header": "x"}], "session_end_header": "x-end",
            "body": {"prefix_bytes": 1, "wait_ms": 1, "held_bytes": 1_048_576}, "sessionless": "client",
            "part_headers": {"code": "x-code"}, "quarantine_seconds": 1, "drain_deadline_seconds": 1, "bootstrap_wait_ms": 1,
            "on_slot_down": "reassign", "on_bundle_gone": "refuse", "runs": {"mint": "always", "status_header": "x-run"}, "memory": {"sessions": 2_000},
            "headers": {"slot": "x-1", "bundle": "x-2", "decision": "x-3", "pin": "x-4", "preview": "x-5"},
            "pin": {"header": "never", "cookie": "never", "cookie_name": "n", "cookie_path": "/p",
                "cookie_same_site": "strict", "cookie_secure": "always", "envelope_header": null,
                "max_age_seconds": 2, "idle_timeout_seconds": 1,
                "key_rotation_seconds": 0, "first_return_seconds": 1},
        });
        let settings: ServiceSettings = serde_json::from_value(other)?;
        let mut known = BTreeSet::new();
        for (name, value) in serde_json::to_value(settings)?.as_object().context("an object")? {
            match value.as_object().filter(|_| name != "part_headers") {
                Some(inner) => known.extend(inner.keys().map(|key| format!("{name}.{key}"))),
                None => drop(known.insert(name.clone())),
            }
        }
        ensure!(listed == known, "listed {listed:?}\nknown {known:?}");
        Ok(())
    });
}

/// The bootstrap snapshot that the README shows is one that the filter takes.
#[test]
fn the_bootstrap_snapshot_is_valid() {
    scenario(async {
        let snapshots = blocks(&readme()?, "json");
        let [snapshot] = snapshots.as_slice() else { bail!("one snapshot is shown") };
        let snapshot: Value = serde_json::from_str(snapshot)?;
        let plugin =
            json!({"sidecar_cluster": "colorfast_sidecar", "services": [{"name": "chat", "bootstrap": snapshot}]});
        serde_json::from_value::<PluginConfig>(plugin)?.validate()?;
        Ok(())
    });
}
