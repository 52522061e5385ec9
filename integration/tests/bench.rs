//! The benchmark runs, and its report says what BENCHMARKS.md says that it says. No figure is judged here: this machine
//! has other things to do.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::{paths, scenario};
use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_bench");
/// How long the shortest run may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// Cheap: what the filter costs can be measured at any time, by anybody, and the report is documented whole.
#[test]
fn the_report_has_what_is_documented() {
    scenario(async {
        let folder = tempfile::tempdir()?;
        let mut bench = tokio::process::Command::new(BENCH);
        // The same build twice: that it runs beside itself is what is looked at.
        bench.arg("smoke").arg("--before").arg(paths::filter()?).arg("--out").arg(folder.path());
        bench.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(LIMIT, bench.output()).await.context("the benchmark hangs")??;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));

        let report: Value = serde_json::from_slice(&std::fs::read(folder.path().join("report.json"))?)?;
        documented(&report)?;
        requests(&report["requests"])?;
        bodies(&report["bodies"])?;
        for confirmation in list(&report["confirmation"])? {
            for latency in [&confirmation["command_ms"], &confirmation["prepared_ms"], &confirmation["sidecar_ms"]] {
                ordered(latency, &["min", "p50", "p99", "max"])?;
            }
            let [command, prepared, sidecar] =
                ["command_ms", "prepared_ms", "sidecar_ms"].map(|of| confirmation[of]["min"].as_f64());
            ensure!(prepared > Some(0.0), "a switch moved weight before anybody was ready: {confirmation:#}");
            ensure!(sidecar < command, "the operator was told before the sidecar knew: {confirmation:#}");
        }
        let starts = &report["starts"];
        ordered(&starts["with_filter_ms"], &["min", "q1", "median", "q3", "max"])?;
        for memory in list(&starts["memory"])? {
            ordered(memory, &["without_filter_kib", "with_filter_kib"])?;
        }
        ensure!(starts["wasm_bytes"].as_u64() == Some(std::fs::metadata(paths::filter()?)?.len()), "{starts:#}");

        let look_ups = &report["look_ups"];
        for latency in [&look_ups["with_look_up_ms"], &look_ups["by_memory_ms"]] {
            ordered(latency, &["min", "p50", "p99", "max"])?;
        }
        let waits = list(&report["told"]["waits"])?;
        let limits: Vec<_> = waits.iter().map(|wait| wait["tell_wait_ms"].as_u64()).collect();
        ensure!(limits == [Some(0), Some(20)], "{limits:?}");
        for wait in waits {
            ordered(&wait["answer_ms"], &["min", "p50", "p99", "max"])?;
        }
        let room = &report["room"];
        for key in ["came", "evictions"] {
            let all: Vec<_> = list(&room["fill"])?.iter().map(|fill| fill[key].as_u64()).collect();
            ensure!(all.is_sorted() && all.last() > all.first(), "{key}: {all:?}");
        }
        ensure!(room["recent_known"].as_u64() > Some(0), "{room:#}");

        let targets = list(&report["targets"])?;
        ensure!(targets.len() == 4, "{targets:#?}");
        for target in targets {
            let title = target["title"].as_str().context("a title")?;
            ensure!(told.contains(title), "the terminal does not show {title:?}: {told}");
        }
        let page = std::fs::read_to_string(folder.path().join("report.html"))?;
        ensure!(page.matches("<svg").count() == 3, "three charts are wanted");
        let outside = ["<script", "<link", "<img", "src=", "href=\"http", "url("];
        ensure!(outside.iter().all(|word| !page.contains(word)), "the page is not by itself");
        Ok(())
    });
}

fn requests(requests: &Value) -> Result<()> {
    for leg in ["direct", "upstream"] {
        let costs = list(&requests[leg])?;
        ensure!(costs.len() >= 7, "{leg}: {costs:#?}");
        let differences = list(&requests["differences"])?;
        let paired =
            |beyond: &str| differences.iter().filter(|pair| pair["leg"] == leg && pair["beyond"] == beyond).count();
        ensure!((paired("empty"), paired("hash_alone"), paired("before")) == (1, 2, 5), "{differences:#?}");
        for cost in costs {
            ordered(&cost["cpu_us"], &["min", "q1", "median", "q3", "max"])?;
            ensure!(cost["cpu_us"]["min"].as_f64() > Some(0.0), "{cost:#}");
        }
    }
    ensure!(requests["clock_grain_part"].as_f64() < Some(0.01), "the clock is too coarse");
    let calls = list(&requests["calls"])?;
    let count = |name: &str, kind: &str| {
        let call = calls.iter().find(|call| call["call"] == name);
        call.and_then(|call| call[kind].as_u64()).with_context(|| format!("{name} {kind}"))
    };
    for kind in ["by_hash", "by_pin"] {
        for must in ["proxy_get_header_map_pairs", "proxy_replace_header_map_value", "route_again"] {
            ensure!(count(must, kind)? > 0, "{kind} makes no {must}");
        }
    }
    ensure!((count("pin_check", "by_hash")?, count("pin_check", "by_pin")?) == (0, 1));
    ensure!(count("proxy_remove_header_map_value", "by_pin")? > 0, "the pin would reach the agent");
    Ok(())
}

fn bodies(bodies: &Value) -> Result<()> {
    let costs = list(&bodies["costs"])?;
    ensure!(costs.len() == 10, "five ways of two lengths are wanted: {costs:#?}");
    for cost in costs {
        ordered(&cost["cpu_us"], &["min", "q1", "median", "q3", "max"])?;
        ordered(&cost["ms"], &["min", "p50", "p99", "max"])?;
        ensure!(cost["cpu_us"]["min"].as_f64() > Some(0.0), "{cost:#}");
    }
    let per_mib = list(&bodies["per_mib"])?;
    ensure!(per_mib.iter().all(|per| per["cpu_us"].is_number() && per["p50_ms"].is_number()), "{per_mib:#?}");
    let memory = &bodies["memory"];
    for key in ["allocated_bytes", "resident_kib"] {
        let looks: Vec<_> = list(&memory[key])?.iter().filter_map(Value::as_u64).collect();
        ensure!(looks.len() == 3 && looks.iter().all(|look| *look > 0), "{memory:#}");
    }
    Ok(())
}

/// Numbers that none of the ones before is above.
fn ordered(of: &Value, keys: &[&str]) -> Result<()> {
    let numbers: Option<Vec<f64>> = keys.iter().map(|key| of[*key].as_f64()).collect();
    let numbers = numbers.with_context(|| format!("{keys:?} in {of:#}"))?;
    ensure!(numbers.is_sorted(), "{keys:?} are not in order: {of:#}");
    Ok(())
}

fn list(of: &Value) -> Result<&Vec<Value>> {
    of.as_array().filter(|all| !all.is_empty()).with_context(|| format!("{of} is no list with anything in it"))
}

/// Every key of the report stands in BENCHMARKS.md.
fn documented(report: &Value) -> Result<()> {
    let text = std::fs::read_to_string(paths::workspace().join("BENCHMARKS.md"))?;
    let mut keys = BTreeSet::new();
    collect(report, &mut keys);
    let missing: Vec<_> = keys.into_iter().filter(|key| !text.contains(&format!("`{key}`"))).collect();
    ensure!(missing.is_empty(), "BENCHMARKS.md does not tell of {missing:?}");
    Ok(())
}

fn collect(of: &Value, keys: &mut BTreeSet<String>) {
    match of {
        Value::Object(fields) => {
            for (key, value) in fields {
                keys.insert(key.clone());
                collect(value, keys);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, keys)),
        _ => {}
    }
}
