//! The report: what `report.json` holds. Its keys are documented in BENCHMARKS.md, and stay.

use serde::Serialize;

use super::bodies::Bodies;
use super::calls::{self, CALLS, Call, Counts};
use super::confirmation::Confirmation;
use super::look_ups::LookUps;
use super::machine::Machine;
use super::room::Room;
use super::samples::{Samples, Subject, differences};
use super::start::Starts;
use super::stats::{Spread, root_mean_square};
use super::targets::{self, Target};
use super::told::Told;
use super::variants::{Build, Leg, Variant};

/// The form of the report: a key that changes its meaning changes it.
pub const FORMAT: u32 = 2;

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
    /// Bodies that are searched for a session id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bodies: Option<Bodies>,
    /// From the switch command to confirmation, by the number of members.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub confirmation: Vec<Confirmation>,
    /// What one look-up in the fleet adds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look_ups: Option<LookUps>,
    /// What waits until the fleet knows an id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
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
    /// Requests to each listener in each round.
    pub per_round: u32,
    /// Rounds.
    pub rounds: u32,
    /// The grain of the CPU clock, as a part of the shortest measurement.
    pub clock_grain_part: f64,
    /// What two listeners that do the same differ by: the root of the mean square over all variants.
    pub listeners_differ_us: f64,
    /// The size of the module of the build of before, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_wasm_bytes: Option<u64>,
    /// Over direct answers.
    pub direct: Vec<Cost>,
    /// Over an agent.
    pub upstream: Vec<Cost>,
    /// Pairs that are of interest.
    pub differences: Vec<Difference>,
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
    /// Of which build, where it is the filter.
    pub build: Build,
    /// For people.
    pub title: String,
    /// All of it: the mean of its listeners.
    pub cpu_us: Spread,
    /// What it adds, round by round, to what it stands on: to no filter, or to early stripping where it has that.
    pub adds_us: Spread,
    /// What its second listener costs beyond its first, round by round.
    pub apart_us: Spread,
}

/// What one variant costs beyond another, round by round, in microseconds of CPU a request.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// What answers.
    pub leg: Leg,
    /// Which.
    pub variant: Variant,
    /// Beyond what.
    pub beyond: Beyond,
    /// For people.
    pub title: String,
    /// How much.
    pub differs_us: Spread,
}

/// What a variant is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Beyond {
    /// Another variant.
    Variant(Variant),
    /// Itself, of another build.
    Build(Build),
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
    /// What the request of a remembered session that the worker has met of late costs beyond one by hash alone, over direct
    /// answers.
    pub by_memory_beyond_hash_us: Spread,
    /// The same of one that has to be looked up.
    pub by_look_up_beyond_hash_us: Spread,
}

impl Requests {
    /// Makes figures of samples.
    #[must_use]
    pub fn of(samples: &Samples, counts: &Counts, taken: Taken) -> Self {
        let Taken { per_round, clock_grain_part, before_wasm_bytes } = taken;
        let before = before_wasm_bytes.map(|_| Build::Before);
        let direct = costs(samples, Leg::Direct, before);
        let upstream = costs(samples, Leg::Upstream, before);
        let apart = direct.iter().chain(&upstream).map(|cost| cost.apart_us.median);
        let calls: Vec<CallCost> = CALLS.iter().flat_map(|call| CallCost::of(call, counts, samples)).collect();
        let sum = |count: fn(&CallCost) -> u64| -> f64 {
            let host = calls.iter().filter(|call| call.call != PIN_CHECK);
            host.map(|call| call.cpu_us.median * count(call) as f64).sum()
        };
        let beyond = |variant, other| {
            let [variant, other] = [variant, other].map(|of| Subject::Variant(Leg::Direct, of, Build::Now));
            Spread::of(samples.beyond(variant, other))
        };
        let none = samples.of(Subject::Variant(Leg::Direct, Variant::None, Build::Now));
        Self {
            per_round,
            rounds: u32::try_from(none.len()).unwrap_or(u32::MAX),
            clock_grain_part,
            listeners_differ_us: root_mean_square(apart),
            before_wasm_bytes,
            sums: Sums {
                by_hash_calls_us: sum(|call| call.by_hash),
                by_pin_calls_us: sum(|call| call.by_pin),
                pin_check_us: calls.iter().find(|call| call.call == PIN_CHECK).map_or(0.0, |call| call.cpu_us.median),
                by_pin_beyond_empty_us: beyond(Variant::Pin, Variant::Empty),
                by_memory_beyond_hash_us: beyond(Variant::Memory, Variant::HashAlone),
                by_look_up_beyond_hash_us: beyond(Variant::LookedUp, Variant::HashAlone),
            },
            differences: all_differences(samples, before),
            direct,
            upstream,
            calls,
        }
    }

    /// The cost of a variant over direct answers.
    #[must_use]
    pub fn direct(&self, variant: Variant) -> Option<&Cost> {
        self.direct.iter().find(|cost| (cost.variant, cost.build) == (variant, Build::Now))
    }

    /// The cost of a variant over an agent.
    #[must_use]
    pub fn upstream(&self, variant: Variant) -> Option<&Cost> {
        self.upstream.iter().find(|cost| (cost.variant, cost.build) == (variant, Build::Now))
    }
}

/// How requests were measured.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Requests to each listener in each round.
    pub per_round: u32,
    /// The grain of the CPU clock, as a part of the shortest measurement.
    pub clock_grain_part: f64,
    /// The size of the module of the build of before, where one ran.
    pub before_wasm_bytes: Option<u64>,
}

/// The name of the check of a pin among the calls.
pub const PIN_CHECK: &str = "pin_check";

impl CallCost {
    /// A call, and what comes with the first change of a header where this is one.
    fn of(call: &Call, counts: &Counts, samples: &Samples) -> Vec<Self> {
        let [once, often] = call.listeners().map(|(_, times)| samples.of(Subject::Call(call.repeat, times)));
        let more = differences(&often, &once);
        let slopes: Vec<f64> = more.into_iter().map(|more| more / f64::from(call.more)).collect();
        let [by_hash, by_pin] = match call.import {
            Some(import) => counts.of(import),
            None => [0, 1],
        };
        let name = call.import.unwrap_or(PIN_CHECK);
        let mut costs = Vec::new();
        if call.import == Some("proxy_replace_header_map_value") {
            let first = differences(&once, &samples.of(Subject::Call(calls::NOTHING, 0)));
            let cpu_us = Spread::of(differences(&first, &slopes));
            let title = "the route, chosen again after a change";
            costs.push(Self { call: calls::ROUTE, title, cpu_us, by_hash: by_hash.min(1), by_pin: by_pin.min(1) });
        }
        costs.push(Self { call: name, title: call.title, cpu_us: Spread::of(slopes), by_hash, by_pin });
        costs
    }
}

fn costs(samples: &Samples, leg: Leg, before: Option<Build>) -> Vec<Cost> {
    let cost = |variant: Variant, build: Build| {
        let subject = Subject::Variant(leg, variant, build);
        let base = Subject::Variant(leg, variant.stands_on(), Build::Now);
        let title = match build {
            Build::Now => variant.title().to_owned(),
            Build::Before => format!("{} (before)", variant.title()),
        };
        Cost {
            variant,
            build,
            title,
            cpu_us: Spread::of(samples.of(subject)),
            adds_us: Spread::of(samples.beyond(subject, base)),
            apart_us: Spread::of(samples.apart(subject)),
        }
    };
    Variant::of(leg).flat_map(|variant| variant.builds(before).map(move |build| cost(variant, build))).collect()
}

/// What is held against what: the filter against the floor and against Envoy's own ways, what is remembered against what is
/// hashed, and all of it against the build of before.
fn all_differences(samples: &Samples, before: Option<Build>) -> Vec<Difference> {
    use Variant::{Calls, Empty, HashAlone, LookedUp, Lua, Memory, Pin, Weighted};
    let pairs = [(Pin, Empty), (Pin, Calls), (Pin, Lua), (Pin, Weighted), (Memory, HashAlone), (LookedUp, HashAlone)];
    let earlier = before.into_iter().flat_map(|before| Variant::OURS.map(|variant| (variant, variant, before)));
    let all: Vec<_> = pairs.map(|(variant, other)| (variant, other, Build::Now)).into_iter().chain(earlier).collect();
    let on = |leg: Leg| {
        let there = move |variant: Variant| Variant::of(leg).any(|of| of == variant);
        all.iter().filter(move |(_, other, _)| there(*other)).map(move |(variant, other, build)| {
            let [ours, base] =
                [(*variant, Build::Now), (*other, *build)].map(|(of, build)| Subject::Variant(leg, of, build));
            let (beyond, than) = match build {
                Build::Now => (Beyond::Variant(*other), other.title()),
                Build::Before => (Beyond::Build(*build), "the build of before"),
            };
            let title = format!("{}, beyond {than}", variant.title());
            Difference { leg, variant: *variant, beyond, title, differs_us: Spread::of(samples.beyond(ours, base)) }
        })
    };
    Leg::ALL.into_iter().flat_map(on).collect()
}

impl Report {
    /// Judges the figures by the targets.
    #[must_use]
    pub fn judged(mut self) -> Self {
        self.targets = targets::judge(&self);
        self
    }
}
