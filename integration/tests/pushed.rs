//! A release without any sidecar: verbs on an offline store, snapshots pushed by a file that Envoy watches. The commands
//! are those of the README.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use integration::mesh::obeyed;
use integration::numbers::spread;
use integration::{Agent, Envoy, EnvoyConfig, Load, Plan, document, paths, scenario, wait};
use serde_json::{Value, json};

/// How often the slots change places and back.
const FLIPS: usize = 5;
/// Requests between two pushes.
const BETWEEN: u64 = 500;
const LIMIT: Duration = Duration::from_secs(60);
/// What the README calls Envoy's folder.
const ETC: &str = "/etc/envoy";
/// The file that it has Envoy watch.
const WATCHED: &str = "ecds/colorfast.yaml";
const SERVICE: &str = "wasmcustom.colorfast.service.chat";

/// Whoever releases by git: a folder with the files of the README, and `colorfast`.
struct Desk(document::Desk);

fn readme() -> Result<String> {
    Ok(fs::read_to_string(paths::workspace().join("README.md"))?)
}

impl Desk {
    fn new() -> Result<Self> {
        let desk = Self(document::Desk::new()?);
        for file in document::blocks(&readme()?, "yaml") {
            let name = file.lines().next().and_then(|line| line.strip_prefix("# ")).context("a file has its name")?;
            fs::write(desk.path(name), &file)?;
            match name {
                "v1.yaml" => fs::write(desk.path("v2.yaml"), file.replace("v1", "v2"))?,
                // Some clients of the load have a cookie jar and nothing else.
                "chat.yaml" => fs::write(desk.path(name), format!("{file}\npin: {{cookie: always}}\n"))?,
                _ => {}
            }
        }
        let template = fs::read_to_string(paths::workspace().join("envoy/pushed/ecds.yaml"))?;
        let shipped = format!("{ETC}/colorfast_filter.wasm");
        ensure!(template.contains(&shipped), "the shipped file has the filter elsewhere");
        fs::write(desk.path("ecds.yaml"), template.replace(&shipped, &paths::filter()?.display().to_string()))?;
        fs::create_dir(desk.path("ecds"))?;
        Ok(desk)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    /// The text with the test's folder where the README has Envoy's.
    fn here(&self, text: &str) -> String {
        text.replace(ETC, &self.0.folder().display().to_string())
    }

    fn store_in(&mut self, folder: &str) {
        self.0.set("COLORFAST_STORE", folder);
    }

    /// Runs a line as it stands, but that Envoy's folder is the test's, and answers what it printed.
    fn run(&self, line: &str) -> Result<String> {
        self.0.run(&self.here(line))
    }

    /// What a command is refused with.
    fn refused(&self, line: &str, code: i32) -> Result<Value> {
        let output = self.0.shell(&format!("colorfast {line} --store release --json"))?.output()?;
        ensure!(output.status.code() == Some(code), "`{line}` ended with {}", output.status);
        Ok(serde_json::from_slice(&output.stderr)?)
    }

    /// The version that the store has made last.
    fn version(&self) -> Result<u64> {
        let status: Value = serde_json::from_str(&self.run("colorfast status --json")?)?;
        status[0]["version"].as_u64().context("a version")
    }

    /// Does what a block says; the line by which it pushes is the last.
    fn does(&self, block: &str) -> Result<()> {
        block.lines().try_for_each(|line| self.run(line).map(drop))
    }
}

/// The shipped configuration, which asks for the filter as `envoy/pushed/ecds.yaml` says, and knows no sidecar.
fn config(desk: &Desk, node: &str, agents: [&Agent; 2], keys: &str) -> Result<EnvoyConfig> {
    let shown = fs::read_to_string(paths::workspace().join("envoy/pushed/ecds.yaml"))?;
    let shown: String =
        shown.lines().filter_map(|line| line.strip_prefix("#   ")).map(|line| format!("{line}\n")).collect();
    let filter: Value = serde_saphyr::from_str(&desk.here(&shown)).context("the head of ecds.yaml shows no filter")?;
    let config =
        EnvoyConfig::shipped()?.node_id(node).agent("blue", agents[0].address()).agent("green", agents[1].address());
    let config = config.edit_http(move |hcm| {
        let filters = hcm["http_filters"].as_array_mut().context("no filters")?;
        let place = filters.iter_mut().find(|filter| filter["name"] == "colorfast").context("no filter")?;
        *place = filter[0].clone();
        Ok(())
    });
    let config = config.edit(|document| {
        let clusters = document["static_resources"]["clusters"].as_array_mut().context("no clusters")?;
        clusters.retain(|cluster| cluster["name"] != "colorfast_sidecar");
        Ok(())
    });
    Ok(config.env("COLORFAST_KEYS", keys))
}

/// Whether both proxies hold this version, and how many pushes they have refused.
async fn held(envoys: &[Envoy; 2], version: u64) -> Result<()> {
    wait::until_ok(&format!("version {version} at both proxies"), LIMIT, || async {
        for envoy in envoys {
            let stats = envoy.stats(&format!("{SERVICE}.(snapshot|pushed)_version")).await?;
            let at = |name: &str| stats.get(&format!("{SERVICE}.{name}")).copied();
            ensure!(at("snapshot_version") == Some(version) && at("pushed_version") == Some(version), "{stats:?}");
        }
        Ok(())
    })
    .await
}

/// Atomic, Kept, Reversible, with no sidecar at all: through pushes back and forth under load no request fails and no pinned
/// session changes its bundle, no listener drains; an older file is refused by every proxy, with both versions in log and
/// metrics; a rollback that breaks pins moves the sessions of the slot that is left. How long a push takes to be obeyed is
/// printed.
#[test]
fn releases_play_by_pushed_configuration_alone() {
    scenario(async {
        let mut desk = Desk::new()?;
        let shown = document::blocks(document::section(&readme()?, "Without a sidecar")?, "bash");
        let [first, start, release, back] = shown.as_slice() else { bail!("the README shows {} blocks", shown.len()) };
        let (v1, v2) = (Agent::start("v1").await?, Agent::start("v2").await?);
        for line in first.lines() {
            match line.strip_prefix("export COLORFAST_STORE=") {
                Some(store) => desk.store_in(store),
                None => drop(desk.run(line)?),
            }
        }
        // The keys go into Envoy's environment.
        let (mut keys, mut envoys) = (String::new(), Vec::new());
        for line in start.lines() {
            if line.starts_with("export") {
                keys = desk.run(&format!("{line}\necho \"$COLORFAST_KEYS\""))?.trim().to_owned();
            } else if line.starts_with("envoy") {
                for node in ["edge-1", "edge-2"] {
                    envoys.push(Envoy::start(config(&desk, node, [&v1, &v2], &keys)?).await?);
                }
            } else {
                desk.run(line)?;
            }
        }
        let envoys: [Envoy; 2] = envoys.try_into().ok().context("two proxies")?;
        held(&envoys, desk.version()?).await?;
        let key = serde_json::from_str::<Value>(&keys)?["chat"]["sid"].as_str().context("a key")?.to_owned();
        ensure!(!fs::read_to_string(desk.path(WATCHED))?.contains(&key), "a key stands in the configuration");

        let plan = Plan::new(envoys.iter().map(Envoy::address).collect());
        let load = Load::start(Plan { think: Duration::from_millis(10), clients: 32, ..plan })?;
        load.advance(BETWEEN, LIMIT).await?;
        desk.does(release)?;
        let push = release.lines().last().context("a push")?;
        let mut times = vec![obeyed(&envoys, "v2", Instant::now()).await?];
        load.advance(BETWEEN, LIMIT).await?;
        for _ in 0..FLIPS {
            for (verb, bundle) in [("colorfast rollback --keep-pins", "v1"), ("colorfast switch green", "v2")] {
                desk.run(verb)?;
                desk.run(push)?;
                times.push(obeyed(&envoys, bundle, Instant::now()).await?);
                load.advance(BETWEEN, LIMIT).await?;
            }
        }
        let before = desk.version()?;
        held(&envoys, before).await?;

        // The file of one push before, as a revert of the repository brings it.
        let newest = fs::read_to_string(desk.path(WATCHED))?;
        let older = newest.replace(&format!("\"version\": {before}"), &format!("\"version\": {}", before - 1));
        ensure!(older != newest, "no version in {newest}");
        fs::write(desk.path("ecds/older"), &older)?;
        fs::rename(desk.path("ecds/older"), desk.path(WATCHED))?;
        wait::until_ok("both proxies to refuse an older file", LIMIT, || async {
            for envoy in &envoys {
                let stats = envoy.stats(SERVICE).await?;
                let at = |name: &str| stats.get(&format!("{SERVICE}.{name}")).copied();
                ensure!(
                    at("pushed_version") == Some(before - 1) && at("snapshot_version") == Some(before),
                    "{stats:?}"
                );
                ensure!(at("snapshots_refused") == Some(1), "{stats:?}");
                let (log, said) = (envoy.log()?, format!(".{before} is held"));
                ensure!(
                    log.contains(&format!(".{} of the configuration is refused", before - 1)),
                    "nothing in the log"
                );
                ensure!(log.contains(&said), "the log lacks `{said}`");
            }
            Ok(())
        })
        .await?;
        obeyed(&envoys, "v2", Instant::now()).await?;

        let asked = Instant::now();
        desk.does(back)?;
        obeyed(&envoys, "v1", Instant::now()).await?;
        let told = Instant::now();
        load.advance(BETWEEN, LIMIT).await?;
        let report = load.stop().await?;
        report.expect_no_failure()?;
        report.expect_true_stamps()?;
        report.part(|record| record.ended() < asked).expect_kept()?;
        let stayed = report.sent_since(told);
        ensure!(stayed.records().iter().all(|record| record.bundle() == Some("v1")), "a broken session stayed on v2");
        for envoy in &envoys {
            envoy.expect_no_crash().await?;
            let stats = envoy.stats("listener_manager|polls_failed|memory_untold").await?;
            let at = |name: &str| stats.get(name).copied().unwrap_or_default();
            ensure!(at("listener_manager.total_listeners_draining") == 0, "a listener drains: {stats:?}");
            ensure!(at("listener_manager.listener_modified") == 0, "a listener was changed: {stats:?}");
            ensure!(stats.keys().all(|name| !name.ends_with("polls_failed")), "somebody polls: {stats:?}");
        }
        println!("{} requests, {} sessions: none failed, none hopped", report.records().len(), report.sessions().len());
        let times = spread(times.into_iter().flatten());
        println!("a push was obeyed after {times}, counted from the end of `render`");
        Ok(())
    });
}

/// Honest: what only proxies could tell is refused, or said not to be known; a sidecar and a command never share a folder; the
/// log is a line a verb.
#[test]
fn offline_commands_claim_nothing() {
    scenario(async {
        let mut desk = Desk::new()?;
        desk.store_in("release");
        let none = desk.refused("status", 1)?;
        ensure!(none["detail"].as_str().is_some_and(|said| said.contains("there is no offline store")), "{none}");
        for line in ["colorfast service apply chat.yaml", "colorfast bundle add v1.yaml", "colorfast stage blue v1"] {
            desk.run(line)?;
        }
        let before = fs::read_to_string(desk.path("release/log.jsonl"))?;
        let said = desk.run("colorfast switch blue")?;
        ensure!(said.contains("in the store, and at no proxy before it is pushed"), "{said}");
        let after = fs::read_to_string(desk.path("release/log.jsonl"))?;
        ensure!(after.strip_prefix(&before).is_some_and(|line| line.lines().count() == 1), "not one line more");
        let said: Value = serde_json::from_str(&desk.run("colorfast switch blue --json || true")?).unwrap_or_default();
        ensure!(said.is_null(), "a switch to what is live is refused: {said}");
        let status = desk.run("colorfast status")?;
        ensure!(status.contains("blue is live with v1") && status.contains("is not known here"), "{status}");
        let why = desk.run("colorfast why --session a --json")?;
        ensure!(serde_json::from_str::<Value>(&why)?["outcome"]["slot"] == json!("blue"), "{why}");
        desk.run("colorfast verify-log")?;
        desk.run("colorfast events")?;
        for line in ["watch", "keys rotate", "member forget a/1", "deadline blue 1h"] {
            let refused = desk.refused(line, 1)?;
            ensure!(refused["type"] == json!("urn:colorfast:problem:offline"), "{line}: {refused}");
        }
        let serve = desk.refused("serve", 2)?;
        ensure!(serve["detail"].as_str().is_some_and(|said| said.contains("--store")), "{serve}");
        let line = "colorfast serve --data-dir release --discovery 127.0.0.1:0 --control 127.0.0.1:0";
        let output = desk.0.shell(&format!("unset COLORFAST_STORE; {line}"))?.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(3) && said.contains("is an offline store"), "{said}");
        desk.run("colorfast backup copy.db")?;
        desk.run("env -u COLORFAST_STORE colorfast restore copy.db")?;
        Ok(())
    });
}
