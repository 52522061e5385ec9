//! The summary on the terminal.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::report::{Report, Requests};
use super::stats::Spread;

/// The whole summary.
#[must_use]
pub fn summary(report: &Report) -> String {
    let mut parts = Vec::new();
    if let Some(requests) = &report.requests {
        for (title, costs) in
            [("CPU per request over direct answers", &requests.direct), ("… over an agent", &requests.upstream)]
        {
            let rows = costs.iter().map(|cost| {
                vec![
                    cost.title.clone(),
                    micros(cost.cpu_us.median),
                    range(&cost.cpu_us),
                    known(&cost.adds_us),
                    known(&cost.apart_us),
                ]
            });
            parts.push(table(&[title, "µs", "quartiles", "adds µs", "2nd listener"], rows));
        }
        let rows = requests
            .differences
            .iter()
            .map(|pair| vec![pair.title.clone(), pair.leg.title().to_owned(), known(&pair.differs_us)]);
        parts.push(table(&["paired within rounds", "", "µs"], rows));
        parts.push(noise(requests));
        let rows = requests.calls.iter().map(|call| {
            let counts = [call.by_hash, call.by_pin].map(|count| count.to_string());
            let [hash, pin] = counts;
            vec![call.title.to_owned(), micros(call.cpu_us.median), range(&call.cpu_us), hash, pin]
        });
        parts.push(table(&["measured alone", "µs", "quartiles", "by hash", "by pin"], rows));
        let sums = &requests.sums;
        parts.push(format!(
            "Host calls by hash {} µs, by pin {} µs, check of a pin {} µs.",
            micros(sums.by_hash_calls_us),
            micros(sums.by_pin_calls_us),
            micros(sums.pin_check_us)
        ));
    }
    parts.extend(report.bodies.as_ref().map(ToString::to_string));
    if !report.confirmation.is_empty() {
        let rows = report.confirmation.iter().map(|of| {
            let (command, prepared, sidecar) = (&of.command_ms, &of.prepared_ms, &of.sidecar_ms);
            let times = [command.p50, command.p99, prepared.p50, prepared.p99, sidecar.p50, sidecar.p99]
                .map(|ms| format!("{ms:.1}"));
            [of.members.to_string()].into_iter().chain(times).collect()
        });
        let head = [
            "switch confirmed, members",
            "command p50 ms",
            "p99 ms",
            "ready p50 ms",
            "p99 ms",
            "sidecar p50 ms",
            "p99 ms",
        ];
        parts.push(table(&head, rows));
    }
    parts.extend(report.look_ups.as_ref().map(ToString::to_string));
    parts.extend(report.told.as_ref().map(ToString::to_string));
    if let Some(starts) = &report.starts {
        parts.push(format!(
            "The filter adds {:.0} ms to the start of an Envoy and {:.1} MiB to each worker; its module has {} bytes.",
            starts.added_ms,
            starts.vm_kib / 1024.0,
            starts.wasm_bytes
        ));
    }
    parts.extend(report.room.as_ref().map(ToString::to_string));
    let rows = report.targets.iter().map(|target| {
        let met = if target.met { "met" } else { "MISSED" };
        let [is, limit] = [target.value, Some(target.limit)].map(|of| value(of, target.unit));
        vec![target.title.to_owned(), is, limit, met.to_owned()]
    });
    parts.push(table(&["target", "is", "at most", ""], rows));
    parts.join("\n")
}

/// Microseconds, as they are shown.
#[must_use]
pub fn micros(value: f64) -> String {
    format!("{value:.2}")
}

/// A median with its standard error, as they are shown.
#[must_use]
pub fn known(spread: &Spread) -> String {
    format!("{:.2} ± {:.2}", spread.median, spread.error)
}

/// How far figures of requests can be trusted.
#[must_use]
pub fn noise(requests: &Requests) -> String {
    format!(
        "Figures after ± are standard errors of the pairs, over {} rounds. Two listeners that do the same differ by {:.2} µs: \
         what is less is noise, whatever its error.",
        requests.rounds, requests.listeners_differ_us
    )
}

/// The quartiles, as they are shown.
#[must_use]
pub fn range(spread: &Spread) -> String {
    format!("{:.2} – {:.2}", spread.q1, spread.q3)
}

/// A value in its unit.
#[must_use]
pub fn value(value: Option<f64>, unit: &str) -> String {
    match (value, unit) {
        (None, _) => "noise".to_owned(),
        (Some(value), "ratio") => format!("{value:.2} ×"),
        (Some(value), _) => format!("{value:.1} {unit}"),
    }
}

/// A table under a head; all columns but the first are numbers.
#[must_use]
pub fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header.iter().copied());
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
