//! What is to be held. It is shown, and never asserted: figures of another machine are other figures.

use serde::Serialize;

use super::report::Report;
use super::stats::Spread;
use super::variants::Variant;

/// One target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Target {
    /// The word for programs.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What was measured; none where the figures are noise, as in a run that only looks whether all runs.
    pub value: Option<f64>,
    /// What it may be at most.
    pub limit: f64,
    /// `ratio`, `µs` or `ms`.
    pub unit: &'static str,
    /// Whether it is held.
    pub met: bool,
}

impl Target {
    fn new(name: &'static str, title: &'static str, value: Option<f64>, limit: f64, unit: &'static str) -> Self {
        Self { name, title, value, limit, unit, met: value.is_some_and(|value| value <= limit) }
    }
}

/// What a remembered session may cost beyond a hashed one, in microseconds.
const MEMORY_US: f64 = 1.5;

/// The targets that the report has figures for.
#[must_use]
pub fn judge(report: &Report) -> Vec<Target> {
    let mut targets = Vec::new();
    if let Some(requests) = &report.requests {
        let adds = |variant| requests.direct(variant).map_or(0.0, |cost| cost.adds_us.median);
        let upstream = |variant| requests.upstream(variant).map_or(0.0, |cost| cost.cpu_us.median);
        let sums = &requests.sums;
        targets.extend([
            Target::new(
                "pin_adds_to_empty",
                "what the filter adds by pin, in what an empty filter adds",
                ratio(adds(Variant::Pin), adds(Variant::Empty)),
                2.5,
                "ratio",
            ),
            Target::new(
                "pin_beyond_empty_to_calls",
                "what it adds beyond the empty filter, in its host calls and one MAC measured alone",
                ratio(sums.by_pin_beyond_empty_us.median, sums.by_pin_calls_us + sums.pin_check_us),
                1.2,
                "ratio",
            ),
            Target::new(
                "pin_to_weighted_upstream",
                "CPU by pin over an agent, in that of native weighted clusters",
                ratio(upstream(Variant::Pin), upstream(Variant::Weighted)),
                1.25,
                "ratio",
            ),
            Target::new(
                "memory_beyond_hash",
                "CPU of a remembered session that the worker has met of late, beyond that of one by hash alone",
                known(&sums.by_memory_beyond_hash_us, MEMORY_US / 2.0),
                MEMORY_US,
                "µs",
            ),
        ]);
    }
    for (members, name, title, limit) in [
        (100, "confirmed_100_p99", "switch confirmed with 100 members, p99", 100.0),
        (1_000, "confirmed_1000_p99", "switch confirmed with 1,000 members, p99", 1_000.0),
    ] {
        if let Some(found) = report.confirmation.iter().find(|confirmation| confirmation.members == members) {
            targets.push(Target::new(name, title, Some(found.command_ms.p99), limit, "ms"));
        }
    }
    targets
}

/// The median, where it is known to within `grain`.
fn known(spread: &Spread, grain: f64) -> Option<f64> {
    (spread.error <= grain).then_some(spread.median)
}

fn ratio(value: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| value / of)
}
