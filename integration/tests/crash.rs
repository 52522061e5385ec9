//! The sidecar is killed in the middle of switches, again and again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use integration::http::{Call, Line, Protocol};
use integration::mesh::CHAT;
use integration::numbers::from_environment;
use integration::{Load, Mesh, Plan, scenario, wait};
use serde_json::{Value, json};

/// How often it is killed, unless `COLORFAST_KILLS` says otherwise.
const KILLS: usize = 10;
/// Shares of the time of a switch after which the kills come, in turn: before, at, and after the moment of the append.
const SPREAD: [f64; 5] = [0.1, 1.0, 0.4, 1.5, 0.7];
/// Verbs that are timed before the first kill.
const TIMED: u32 = 4;
/// Requests between a restart and the next kill.
const BETWEEN: u64 = 300;
const LIMIT: Duration = Duration::from_secs(60);

/// Where in a switch a kill fell.
#[derive(Debug, Default)]
struct Fell {
    /// Nothing was written.
    before: usize,
    /// It was written, and the operator was not told.
    during: usize,
    /// The operator was told.
    after: usize,
}

/// Atomic, Confirmed, Kept, Last good: after each `kill -9` in a switch the log verifies; a verb that was acknowledged is
/// there; one that was not is there whole or not at all, and its idempotency key says which and never does it twice;
/// both proxies follow. Clients see no failed request, no session changes its bundle, and every stamp is true.
#[test]
fn kills_leave_no_half_done_switch() {
    scenario(async {
        let kills = from_environment("COLORFAST_KILLS", KILLS)?;
        let mut mesh = Mesh::start().await?;
        let envoys = [mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?];
        mesh.does("ramp green 50%").await?;
        let plan = Plan::new(envoys.iter().map(integration::Envoy::address).collect());
        let load = Load::start(Plan { clients: 32, think: Duration::from_millis(20), ..plan })?;
        load.reach(BETWEEN, LIMIT).await?;

        let mut slots = ["green", "blue"].into_iter().cycle();
        let mut delay = time_of_a_switch(&mesh, &mut slots).await?;
        let mut fell = Fell::default();
        for round in 0..kills {
            let slot = slots.next().unwrap_or_default();
            let switch = Switch { slot, key: format!("crash-{round}") };
            let acknowledged = switch.killed_after(delay.mul_f64(SPREAD[round % SPREAD.len()]), &mut mesh).await?;
            mesh.sidecar.restart().await?;
            let found = switch.entries(&mesh).await?;
            match (acknowledged, found.as_slice()) {
                (Some(version), [entry]) => {
                    ensure!(entry["seq"] == version, "acknowledged as {version}, but found as {entry:#}");
                    fell.after += 1;
                }
                (Some(version), other) => bail!("version {version} was acknowledged, and the log has {other:?}"),
                (None, []) => fell.before += 1,
                (None, [_]) => fell.during += 1,
                (None, several) => bail!("{slot} was switched to {} times", several.len()),
            }
            switch.repeat(&mesh, found.first()).await?;
            mesh.until_current(envoys.len()).await?;
            load.advance(BETWEEN, LIMIT).await?;
            // A machine that got slower or faster must not push all kills to one side.
            delay = if acknowledged.is_some() { delay.mul_f64(0.9) } else { delay.mul_f64(1.1) };
        }
        let report = load.stop().await?;

        println!(
            "{kills} kills in switches: {} before the append, {} between it and the answer, {} after the answer",
            fell.before, fell.during, fell.after
        );
        println!("{} requests of {} sessions", report.records().len(), report.sessions().len());
        report.expect_no_failure()?;
        report.expect_kept()?;
        report.expect_true_stamps()?;
        ensure!(fell.before + fell.during > 0 && fell.during + fell.after > 0, "no kill fell into a switch: {fell:?}");
        for envoy in &envoys {
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}

/// How long a switch takes from the request to its answer, by the median of some.
async fn time_of_a_switch(mesh: &Mesh, slots: &mut impl Iterator<Item = &'static str>) -> Result<Duration> {
    let mut times = Vec::new();
    for number in 0..TIMED {
        let switch = Switch { slot: slots.next().unwrap_or_default(), key: format!("timed-{number}") };
        let mut line = connected(mesh).await?;
        let began = Instant::now();
        let answer = line.send(&switch.call(mesh)?).await?;
        times.push(began.elapsed());
        ensure!(answer.status == 200, "{}", answer.text());
        mesh.until_current(2).await?;
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// A connection to the control API that is open already: what is timed is the verb alone.
async fn connected(mesh: &Mesh) -> Result<Line> {
    let mut line = Line::new(mesh.sidecar.control(), Protocol::Http1);
    ensure!(line.send(&Call::get("/healthz")).await?.status == 200);
    Ok(line)
}

/// One switch, under a key of its own.
struct Switch {
    slot: &'static str,
    key: String,
}

impl Switch {
    fn call(&self, mesh: &Mesh) -> Result<Call> {
        let body = json!({"verb": "switch", "slot": self.slot}).to_string();
        let call = Call::post(&format!("/v1/services/{CHAT}/verbs"), body).limit(Duration::from_secs(5));
        let call = call.header("authorization", format!("Bearer {}", mesh.sidecar.control_token()?));
        Ok(call.header("content-type", "application/json").header("idempotency-key", &self.key))
    }

    /// Sends the verb, and kills the sidecar so long after. Answers the version, where it was acknowledged.
    async fn killed_after(&self, delay: Duration, mesh: &mut Mesh) -> Result<Option<u64>> {
        let (mut line, call) = (connected(mesh).await?, self.call(mesh)?);
        let (sends, sent) = std::sync::mpsc::channel();
        let sending = tokio::spawn(async move {
            sends.send(Instant::now()).ok();
            line.send(&call).await
        });
        // This thread is not one of the runtime's workers: it may sleep, and does so to the microsecond.
        let began = sent.recv().context("the verb was not sent")?;
        std::thread::sleep(delay.saturating_sub(began.elapsed()));
        mesh.sidecar.kill();
        let Ok(answer) = sending.await? else { return Ok(None) };
        let answer: Value = answer.json()?;
        let version = answer["version"].as_u64().with_context(|| format!("it was refused: {answer:#}"))?;
        Ok(Some(version))
    }

    /// What the log, which is whole, has under the key.
    async fn entries(&self, mesh: &Mesh) -> Result<Vec<Value>> {
        let verified = mesh.sidecar.cli(["verify-log"]).await?.ok()?;
        ensure!(verified["error"].is_null(), "{verified:#}");
        let events = mesh.sidecar.cli(["events", "--limit", "1000"]).await?.ok()?;
        let entries = events["entries"].as_array().context("events without entries")?;
        Ok(entries.iter().filter(|entry| entry["key"]["id"] == self.key.as_str()).cloned().collect())
    }

    /// Sends it again, twice: it tells what came of it, or does it once.
    async fn repeat(&self, mesh: &Mesh, found: Option<&Value>) -> Result<()> {
        let mut known = found.and_then(|entry| entry["seq"].as_u64());
        for _ in 0..2 {
            let answer = wait::until_ok("the verb to be answered", LIMIT, || async {
                let answer = self.call(mesh)?.send(mesh.sidecar.control()).await?;
                ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
                answer.json::<Value>()
            })
            .await?;
            ensure!(answer["repeated"].as_bool().unwrap_or(false) == known.is_some(), "{known:?}: {answer:#}");
            let version = answer["version"].as_u64().context("no version")?;
            ensure!(known.is_none_or(|known| known == version), "known as {known:?}: {answer:#}");
            known = Some(version);
        }
        let entries = self.entries(mesh).await?;
        ensure!(entries.len() == 1 && entries[0]["seq"].as_u64() == known, "{entries:?}");
        Ok(())
    }
}
