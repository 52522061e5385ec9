//! The report: what `report.json` holds. Its keys are documented in BENCHMARKS.md, and stay.

use serde::Serialize;

use super::calls::{self, CALLS, Call, Counts};
use super::confirmation::Confirmation;
use super::look_ups::LookUps;
use super::machine::Machine;
use super::requests::{Samples, Subject};
use super::room::Room;
use super::start::Starts;
use super::stats::Spread;
use super::targets::{self, Target};
use super::variants::{Leg, Variant};

/// The form of the report: a key that changes its meaning changes it.
pub const FORMAT: u32 = 1;

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`FORMAT`]
    pub format: u32,
    /// The release of colorfast.
    pub release: &'static str,
    /// How much was measured: `full`, `quick` or `smoke`.
    pub mode: &'static str,
    /// When the run began, UTC.
    pub began: String,
    /// What it ran on.
    pub machine: Machine,
    /// CPU per request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<Requests>,
    /// From the switch command to confirmation, by the number of members.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub confirmation: Vec<Confirmation>,
    /// What one look-up in the fleet adds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look_ups: Option<LookUps>,
    /// Starts and memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts: Option<Starts>,
    /// Many more sessions than a proxy has room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<Room>,
    /// What is to be held, and whether it is.
    pub targets: Vec<Target>,
}

/// CPU per request of the Envoy process.
#[derive(Clone, Debug, Serialize)]
pub struct Requests {
    /// Requests of each variant in each round.
    pub per_round: u32,
    /// Rounds.
    pub rounds: u32,
    /// Turns of those that take turns, in all rounds.
    pub turns: u32,
    /// The grain of the CPU clock, as a part of the shortest measurement.
    pub clock_grain_part: f64,
    /// Over direct answers.
    pub direct: Vec<Cost>,
    /// Over an agent.
    pub upstream: Vec<Cost>,
    /// Each host call alone, and the check of a pin.
    pub calls: Vec<CallCost>,
    /// What the filter's calls come to.
    pub sums: Sums,
}

/// What one variant costs, in microseconds of CPU a request.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Which.
    pub variant: Variant,
    /// For people.
    pub title: &'static str,
    /// All of it.
    pub cpu_us: Spread,
    /// What it adds, round by round, to what it stands on: to no filter, or to early stripping where it has that.
    pub adds_us: Spread,
}

/// What one host call costs, measured alone, and how many a request makes.
#[derive(Clone, Debug, Serialize)]
pub struct CallCost {
    /// The import; or `route_again`, what the first change of a header costs beyond the change: Envoy chooses the route
    /// once more; or `pin_check`.
    pub call: &'static str,
    /// For people.
    pub title: &'static str,
    /// Microseconds of CPU: the slope over the number of calls.
    pub cpu_us: Spread,
    /// How many a new session's request makes.
    pub by_hash: u64,
    /// How many a pinned session's request makes.
    pub by_pin: u64,
}

/// What the calls of a request cost together, in microseconds of CPU.
#[derive(Clone, Debug, Serialize)]
pub struct Sums {
    /// The host calls of a new session's request.
    pub by_hash_calls_us: f64,
    /// The host calls of a pinned session's request.
    pub by_pin_calls_us: f64,
    /// The check of the pin.
    pub pin_check_us: f64,
    /// What a pinned session's request costs beyond the empty filter, over direct answers.
    pub by_pin_beyond_empty_us: Spread,
    /// What the request of a remembered session that the worker has met of late costs beyond one by hash alone, turn by
    /// turn, over direct answers.
    pub by_memory_beyond_hash_us: Spread,
    /// The same of one that has to be looked up.
    pub by_look_up_beyond_hash_us: Spread,
}

impl Requests {
    /// Makes figures of samples.
    #[must_use]
    pub fn of(samples: &Samples, counts: &Counts, per_round: u32, clock_grain_part: f64) -> Self {
        let rounds = |subject: &Subject| samples.rounds.get(subject).cloned().unwrap_or_default();
        let direct = costs(Leg::Direct, |variant| rounds(&Subject::Direct(variant)));
        let upstream = costs(Leg::Upstream, |variant| rounds(&Subject::Upstream(variant)));
        let empty = rounds(&Subject::Direct(Variant::Empty));
        let nothing = rounds(&Subject::Call(calls::NOTHING, 0));
        let calls: Vec<CallCost> =
            CALLS.iter().flat_map(|call| CallCost::of(call, counts, &nothing, &rounds)).collect();
        let sum = |count: fn(&CallCost) -> u64| -> f64 {
            let host = calls.iter().filter(|call| call.call != PIN_CHECK);
            host.map(|call| call.cpu_us.median * count(call) as f64).sum()
        };
        let pin = rounds(&Subject::Direct(Variant::Pin));
        let alike = [Variant::HashAlone, Variant::Memory, Variant::LookedUp];
        let turns = |variant| samples.turns.get(&Subject::Direct(variant)).cloned().unwrap_or_default();
        let [alone, memory, looked_up] = alike.map(turns);
        Self {
            per_round,
            rounds: u32::try_from(pin.len()).unwrap_or(u32::MAX),
            turns: u32::try_from(alone.len()).unwrap_or(u32::MAX),
            clock_grain_part,
            sums: Sums {
                by_hash_calls_us: sum(|call| call.by_hash),
                by_pin_calls_us: sum(|call| call.by_pin),
                pin_check_us: calls.iter().find(|call| call.call == PIN_CHECK).map_or(0.0, |call| call.cpu_us.median),
                by_pin_beyond_empty_us: Spread::of(differences(&pin, &empty)),
                by_memory_beyond_hash_us: Spread::of(differences(&memory, &alone)),
                by_look_up_beyond_hash_us: Spread::of(differences(&looked_up, &alone)),
            },
            direct,
            upstream,
            calls,
        }
    }

    /// The cost of a variant over direct answers.
    #[must_use]
    pub fn direct(&self, variant: Variant) -> Option<&Cost> {
        self.direct.iter().find(|cost| cost.variant == variant)
    }

    /// The cost of a variant over an agent.
    #[must_use]
    pub fn upstream(&self, variant: Variant) -> Option<&Cost> {
        self.upstream.iter().find(|cost| cost.variant == variant)
    }
}

/// The name of the check of a pin among the calls.
pub const PIN_CHECK: &str = "pin_check";

impl CallCost {
    /// A call, and what comes with the first change of a header where this is one.
    fn of(call: &Call, counts: &Counts, nothing: &[f64], rounds: &impl Fn(&Subject) -> Vec<f64>) -> Vec<Self> {
        let [once, often] = call.listeners().map(|(_, times)| rounds(&Subject::Call(call.repeat, times)));
        let slopes: Vec<f64> = differences(&often, &once).map(|more| more / f64::from(call.more)).collect();
        let [by_hash, by_pin] = match call.import {
            Some(import) => counts.of(import),
            None => [0, 1],
        };
        let name = call.import.unwrap_or(PIN_CHECK);
        let mut costs = Vec::new();
        if call.import == Some("proxy_replace_header_map_value") {
            let first = differences(&once, nothing).zip(&slopes).map(|(first, slope)| first - slope);
            let cpu_us = Spread::of(first);
            let title = "the route, chosen again after a change";
            costs.push(Self { call: calls::ROUTE, title, cpu_us, by_hash: by_hash.min(1), by_pin: by_pin.min(1) });
        }
        costs.push(Self { call: name, title: call.title, cpu_us: Spread::of(slopes), by_hash, by_pin });
        costs
    }
}

fn costs(leg: Leg, rounds: impl Fn(Variant) -> Vec<f64>) -> Vec<Cost> {
    let cost = |variant: Variant| {
        let base = match variant {
            Variant::None | Variant::Stripping | Variant::Weighted | Variant::Stateful => Variant::None,
            _ => Variant::Stripping,
        };
        let (all, base) = (rounds(variant), rounds(base));
        let adds_us = Spread::of(differences(&all, &base));
        Cost { variant, title: variant.title(), cpu_us: Spread::of(all), adds_us }
    };
    Variant::of(leg).map(cost).collect()
}

/// What each round has more than the same round of another subject.
fn differences<'a>(all: &'a [f64], base: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    all.iter().zip(base).map(|(all, base)| all - base)
}

impl Report {
    /// Judges the figures by the targets.
    #[must_use]
    pub fn judged(mut self) -> Self {
        self.targets = targets::judge(&self);
        self
    }
}
