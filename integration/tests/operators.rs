//! Many operators at once: one line of history, and nobody who lost is left in the dark.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use integration::http::{Answer, Call, Line, Protocol};
use integration::{Sidecar, scenario};
use serde_json::{Value, json};

const CLIENTS: u64 = 8;
const VERBS: u64 = 125;

/// A thousand verbs of eight operators make one line of history: each that was carried out has exactly one entry, none
/// that was refused has any, and every loser is told what the others did, truly.
#[test]
fn operators_at_once_make_one_history() {
    scenario(async {
        let sidecar = Sidecar::start().await?;
        let desk = Desk { address: sidecar.control(), token: sidecar.control_token()? };
        let mut line = desk.line();
        for (number, verb) in preparations().into_iter().enumerate() {
            let answer = desk.verb(&mut line, &format!("before {number}"), &verb).await?;
            ensure!(answer.status == 200, "{verb}: {}", answer.text());
        }
        let clients = (0..CLIENTS).map(|client| tokio::spawn(desk.clone().operate(client)));
        let mut told = Vec::new();
        for client in clients.collect::<Vec<_>>() {
            told.extend(client.await??);
        }
        ensure!(told.len() as u64 == CLIENTS * VERBS);

        let entries = desk.entries(&mut line).await?;
        let seqs: Vec<_> = entries.keys().copied().collect();
        ensure!(seqs == (1..=seqs.len() as u64).collect::<Vec<_>>(), "the log has gaps: {seqs:?}");
        let times: Vec<_> = entries.values().map(|entry| entry["at"].as_u64()).collect();
        ensure!(times.is_sorted(), "times go back");

        let mut carried = BTreeMap::new();
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for Told { key, expected, answer } in &told {
            let kind = answer["type"].as_str().unwrap_or(if answer["changed"] == true { "changed" } else { "idle" });
            *seen.entry(kind.to_owned()).or_default() += 1;
            match kind {
                "changed" => {
                    let version = answer["version"].as_u64().context("no version")?;
                    ensure!(carried.insert(version, key.clone()).is_none(), "v{version} was given twice");
                }
                "idle" => {}
                _ => loser(kind, *expected, answer, &entries).with_context(|| format!("{key}: {answer}"))?,
            }
        }
        let keys = entries.iter().filter_map(|(seq, entry)| Some((*seq, entry["key"]["id"].as_str()?.to_owned())));
        let ours: BTreeMap<_, _> = keys.filter(|(_, key)| key.starts_with("client ")).collect();
        ensure!(carried == ours, "the answers and the log differ");
        ensure!(carried.len() > 100, "hardly anything was carried out: {seen:?}");
        ensure!(seen.get("urn:colorfast:problem:stale-version") > Some(&50), "hardly anybody was late: {seen:?}");
        ensure!(seen.keys().filter(|kind| kind.starts_with("urn:")).count() > 3, "too few ways to lose: {seen:?}");

        let verified = sidecar.cli(["verify-log"]).await?.ok()?;
        ensure!(verified["entries"] == entries.len() && verified.get("error").is_none(), "{verified}");
        Ok(())
    });
}

/// A verb that is sent again over a killed sidecar is carried out once, whichever moment it was killed at.
#[test]
fn a_key_tells_what_came_of_a_verb_over_a_crash() {
    scenario(async {
        let mut sidecar = Sidecar::start().await?;
        let desk = Desk { address: sidecar.control(), token: sidecar.control_token()? };
        for verb in preparations() {
            desk.verb(&mut desk.line(), &verb.to_string(), &verb).await?;
        }
        let mut seen = BTreeSet::new();
        for round in 0..6 {
            // The kill comes at another moment each round: before, while and after the verb is under way.
            let verb = json!({"verb": "ramp", "slot": "green", "weight": 100 + round});
            let key = format!("round {round}");
            let (sent, pause) = (desk.clone(), std::time::Duration::from_micros(400 * round));
            let (asked, by) = (verb.clone(), key.clone());
            let under_way = tokio::spawn(async move { sent.verb(&mut sent.line(), &by, &asked).await.ok() });
            tokio::time::sleep(pause).await;
            sidecar.kill();
            let first = under_way.await?;
            sidecar.restart().await?;
            let mut line = desk.line();
            let again: Value = desk.verb(&mut line, &key, &verb).await?.json()?;
            let entries = desk.entries(&mut line).await?;
            let written = entries.values().filter(|entry| entry["key"]["id"] == key.as_str()).count();
            ensure!(written == 1, "{key} stands {written} times in the log");
            ensure!(again["changed"] == true, "{again}");
            if let Some(first) = first {
                let first: Value = first.json()?;
                ensure!(again["repeated"] == true && again["version"] == first["version"], "{first} became {again}");
            }
            seen.insert(again["repeated"] == true);
        }
        eprintln!("operators: repeated after a kill: {seen:?}");
        sidecar.cli(["verify-log"]).await?.ok()?;
        Ok(())
    });
}

/// What makes a service with two bundles, one of them live.
fn preparations() -> Vec<Value> {
    let manifest = |code: &str| json!({"code": code, "model": "m", "prompts": "p"});
    vec![
        json!({"verb": "apply", "settings": {}}),
        json!({"verb": "add_bundle", "id": "v1", "manifest": manifest("1")}),
        json!({"verb": "add_bundle", "id": "v2", "manifest": manifest("2")}),
        json!({"verb": "stage", "slot": "blue", "bundle": "v1"}),
        json!({"verb": "switch", "slot": "blue"}),
        json!({"verb": "stage", "slot": "green", "bundle": "v2"}),
    ]
}

/// What came of one verb.
struct Told {
    key: String,
    expected: Option<u64>,
    answer: Value,
}

/// Where operators sit.
#[derive(Clone)]
struct Desk {
    address: SocketAddr,
    token: String,
}

impl Desk {
    fn line(&self) -> Line {
        Line::new(self.address, Protocol::Http1)
    }

    fn call(&self, call: Call) -> Call {
        call.header("authorization", format!("Bearer {}", self.token))
    }

    async fn verb(&self, line: &mut Line, key: &str, verb: &Value) -> Result<Answer> {
        let call = self.call(Call::post("/v1/services/chat/verbs", verb.to_string()));
        Ok(line.send(&call.header("idempotency-key", key)).await?)
    }

    /// Gives one verb after the other, every other one with the version that was seen last.
    async fn operate(self, client: u64) -> Result<Vec<Told>> {
        let mut line = self.line();
        let (mut version, mut told) = (None, Vec::new());
        for number in 0..VERBS {
            let slot = if (client + number / 5).is_multiple_of(2) { "green" } else { "blue" };
            // Fixed steps, another place to begin for each client: which of them meet is up to the sidecar.
            let mut verb = match (client * 3 + number) % 9 {
                0 | 5 => json!({"verb": "switch", "slot": slot}),
                1 => json!({"verb": "ramp", "slot": slot, "weight": 100 + number}),
                2 => json!({"verb": "rollback", "to": null, "pins": "break"}),
                3 => json!({"verb": "recycle", "slot": slot, "force": {"reason": "two at once"}}),
                4 => json!({"verb": "stage", "slot": slot, "bundle": "v2"}),
                6 => json!({"verb": "migrate", "slot": slot}),
                7 => json!({"verb": "abort", "slot": slot, "pins": "keep"}),
                _ => json!({"verb": "apply", "settings": {"quarantine_seconds": number % 3}}),
            };
            let expected = version.filter(|_| number % 2 == 0);
            if let Some(expected) = expected {
                verb["expected_version"] = json!(expected);
            }
            let key = format!("client {client}, verb {number}");
            let answer = self.verb(&mut line, &key, &verb).await?;
            ensure!([200, 409].contains(&answer.status), "{key}: {verb}: {} {}", answer.status, answer.text());
            let answer: Value = answer.json()?;
            version = answer["version"].as_u64().or(answer["current_version"].as_u64());
            told.push(Told { key, expected, answer });
        }
        Ok(told)
    }

    /// The whole log, by place.
    async fn entries(&self, line: &mut Line) -> Result<BTreeMap<u64, Value>> {
        let mut entries = BTreeMap::new();
        loop {
            let after = entries.last_key_value().map_or(0, |(seq, _)| *seq);
            let page: Value = line.send(&self.call(Call::get(&format!("/v1/events?after={after}")))).await?.json()?;
            let page = page["entries"].as_array().context("no entries")?.clone();
            if page.is_empty() {
                return Ok(entries);
            }
            entries.extend(page.into_iter().filter_map(|entry| Some((entry["seq"].as_u64()?, entry))));
        }
    }
}

/// Who lost is told what changed, in the words of the log: since the expected version, or last.
fn loser(kind: &str, expected: Option<u64>, answer: &Value, entries: &BTreeMap<u64, Value>) -> Result<()> {
    let changes = answer["changes"].as_array().context("no changes are told")?;
    let current = answer["current_version"].as_u64().context("no current version")?;
    let versions: Vec<_> = changes.iter().filter_map(|change| change["version"].as_u64()).collect();
    ensure!(versions.last() == Some(&current) && versions.is_sorted(), "{versions:?} do not lead to v{current}");
    if kind.ends_with(":stale-version") {
        let expected = expected.context("nothing was expected")?;
        ensure!(versions.iter().all(|version| *version > expected), "v{expected} was seen: {versions:?}");
        let missed = entries.range(expected + 1..=current).count();
        ensure!(versions.len() == missed.min(10), "{missed} changes were missed, {} are told", versions.len());
    } else {
        ensure!(versions.len() == 1, "{versions:?}");
    }
    for change in changes {
        let entry = entries.get(&change["version"].as_u64().context("no version")?).context("no such entry")?;
        let wanted = (&entry["event"]["type"], &entry["principal"], &entry["at"]);
        ensure!((&change["event"], &change["principal"], &change["at"]) == wanted, "{change} is not {entry}");
    }
    ensure!(answer["detail"].as_str().is_some_and(|detail| detail.contains("the last change was")));
    Ok(())
}
