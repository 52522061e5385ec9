//! CPU per request: rounds over all variants and all host calls, interleaved, each round in another order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::calls::{self, CALLS};
use super::cpu::{self, Core};
use super::options::Size;
use super::progress::Progress;
use super::turn::{self, CONNECTIONS, Volley, request, request_at};
use super::upstream;
use super::variants::{self, Agents, Leg, STATEFUL_COOKIE, Source, Variant};
use super::wire::{self, Wire};
use crate::mesh::{Mesh, SLOTS};
use crate::{Envoy, EnvoyConfig, lone, names};

/// Sessions that are tried until one hashes to green.
const SESSIONS: u32 = 64;

/// The service without keys, and the host that is asked for to get it; both as long as those of the other.
const BARE: &str = "bare";
const BARE_HOST: &str = "nobody.example.com";
/// Remembered sessions that come one after the other, several times as many as a worker has copies of.
const BEYOND_COPIES: u64 = 16_384;
/// How often subjects that are measured together take turns in a round.
const TURNS: u32 = 20;

/// What is measured: a variant on a leg, or so many of a host call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A variant over direct answers.
    Direct(Variant),
    /// A variant over an agent.
    Upstream(Variant),
    /// A host call by its word, so many times.
    Call(&'static str, u32),
}

/// One thing to measure: whom to ask, and what.
#[derive(Debug)]
struct Target {
    subject: Subject,
    process: u32,
    volley: Volley,
    request: Vec<u8>,
    asks: Asks,
}

/// Who asks, and what must come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    /// The same session again and again, which is answered with this.
    One(&'static str),
    /// Another session each time, whose number stands in its id; its hash says who answers.
    Another {
        /// The number of the last.
        number: u64,
        /// How many there are: then they come again.
        of: u64,
    },
}

impl Target {
    fn new(subject: Subject, process: u32, address: SocketAddr, request: Vec<u8>, asks: Asks) -> Result<Self> {
        Ok(Self { subject, process, volley: Volley::open(address)?, request, asks })
    }

    /// Sends a request over every connection, so many times, and tells what one has cost in microseconds.
    fn measure(&mut self, times: u32) -> Result<f64> {
        let before = cpu::used(self.process)?;
        let (subject, asks) = (&self.subject, self.asks);
        for _ in 0..times {
            let next = |request: &mut [u8]| match &mut self.asks {
                Asks::One(_) => Ok(()),
                Asks::Another { number, of } => {
                    *number = (*number + 1) % *of;
                    turn::rename(request, *number)
                }
            };
            self.volley.fire(&mut self.request, next, |head, body| {
                let right = match asks {
                    Asks::One(wanted) => body == wanted.as_bytes(),
                    Asks::Another { .. } => SLOTS.iter().any(|(slot, _)| body == slot.as_bytes()),
                };
                let (status, body) = (head.status, String::from_utf8_lossy(body));
                ensure!(status == 200 && right, "{subject:?} was answered with {status}: {body:?} ({asks:?})");
                Ok(())
            })?;
        }
        let used = cpu::used(self.process)?.saturating_sub(before);
        Ok(used.as_secs_f64() * 1e6 / (f64::from(times) * CONNECTIONS as f64))
    }
}

/// What each subject has cost, in microseconds of CPU a request.
#[derive(Debug, Default)]
pub struct Samples {
    /// In each round; the n-th of all are of the n-th round.
    pub rounds: BTreeMap<Subject, Vec<f64>>,
    /// In each turn, where several take turns in a round; the n-th of all are of the n-th turn.
    pub turns: BTreeMap<Subject, Vec<f64>>,
}

/// Everything that runs while requests are measured.
#[derive(Debug)]
struct World {
    _mesh: Mesh,
    _envoys: Vec<Envoy>,
    targets: Vec<Target>,
}

/// Measures everything.
///
/// # Errors
/// Where a part does not start, or answers otherwise than its variant must.
pub async fn measure(size: &Size, bench_filter: &Path, progress: &Progress) -> Result<Samples> {
    let mut world = World::start(bench_filter, progress).await?;
    let (size, progress) = (*size, progress.clone());
    tokio::task::spawn_blocking(move || {
        cpu::pin(None, Core::Load)?;
        world.rounds(&size, &progress)
    })
    .await?
}

impl World {
    async fn start(bench_filter: &Path, progress: &Progress) -> Result<Self> {
        let agents = Agents { blue: upstream::start("blue")?, green: upstream::start("green")? };
        // What a question to the fleet costs is measured by itself: here new sessions begin without one.
        let mesh = Mesh::with(json!({"pin": {}, "memory": {"ask_wait_ms": 0}}), &SLOTS).await?;
        let status = mesh.status().await?;
        let assignment = |slot: usize| status["slots"][slot]["assignment"].as_u64().context("an assignment");
        let assignments = [assignment(0)?, assignment(1)?];

        let mut started = Vec::new();
        for leg in [Leg::Direct, Leg::Upstream] {
            // By hash and by pin are two requests to one Envoy, and so are by hash alone and by memory.
            for variant in Variant::of(leg)
                .filter(|variant| !matches!(variant, Variant::Pin | Variant::Memory | Variant::LookedUp))
            {
                progress.step(&format!("starting {} ({leg:?})", variant.title()));
                let ours = match variant.source() {
                    Source::Sidecar => Some(mesh.config(&format!("bench-{leg:?}"))?),
                    Source::Configuration => Some(Self::by_itself()?),
                    Source::Nothing => None,
                };
                let config = variants::config(variant, leg, agents, bench_filter, assignments, ours)?;
                let joins = variant.source() == Source::Sidecar;
                let envoy = if joins { mesh.join(config).await? } else { Envoy::start(config).await? };
                started.push((leg, variant, envoy));
            }
        }
        let the = |leg, variant| {
            let found = started.iter().find(|(of, is, _)| (*of, *is) == (leg, variant));
            found.map(|(.., envoy)| envoy.address()).with_context(|| format!("{variant:?} over {leg:?}"))
        };
        let alone = the(Leg::Direct, Variant::HashAlone)?;
        let (session, pin) = Self::kept_session(&mesh, the(Leg::Upstream, Variant::Hash)?, alone).await?;

        let mut targets = Vec::new();
        for (leg, variant, envoy) in &started {
            let also: &[_] = match variant {
                Variant::Hash => &[Variant::Pin],
                Variant::HashAlone => &[Variant::Memory, Variant::LookedUp],
                _ => &[],
            };
            for variant in [variant].into_iter().chain(also) {
                targets.push(Self::target(*leg, *variant, envoy, &session, &pin)?);
            }
        }
        progress.step("starting the listeners of the host calls");
        let alone = Envoy::start(calls::config(bench_filter)?).await?;
        let process = alone.pid().context("Envoy does not run")?;
        let nothing = request(&session, Some(&pin), "");
        let blue = Asks::One("blue");
        targets.push(Target::new(Subject::Call(calls::NOTHING, 0), process, alone.address(), nothing, blue)?);
        for call in CALLS {
            for (listener, times) in call.listeners() {
                let (subject, address) = (Subject::Call(call.repeat, times), alone.listener(&listener)?);
                let request = request(&session, Some(&pin), &call.headers());
                targets.push(Target::new(subject, process, address, request, blue)?);
            }
        }
        let mut envoys: Vec<Envoy> = started.into_iter().map(|(.., envoy)| envoy).collect();
        envoys.push(alone);
        for envoy in &envoys {
            cpu::pin_process(envoy.pid().context("Envoy does not run")?, Core::Measured)?;
        }
        Ok(Self { _mesh: mesh, _envoys: envoys, targets })
    }

    /// The filter with what a sidecar would tell it in its configuration: both slots take half of the new sessions. Of its
    /// two services, which are the same, one has keys.
    fn by_itself() -> Result<EnvoyConfig> {
        let mut plugin = lone::plugin();
        let keyed = &mut plugin["services"][0];
        keyed["bootstrap"]["settings"]["pin"] = json!({});
        for (slot, phase) in [(0, "live"), (1, "candidate")] {
            keyed["bootstrap"]["slots"][slot]["phase"] = json!(phase);
            keyed["bootstrap"]["slots"][slot]["weight"] = json!(5_000);
        }
        let mut bare = keyed.clone();
        bare["name"] = json!(BARE);
        bare["bootstrap"]["service"] = json!(BARE);
        // What looking at the other costs is laid to the remembered session's account.
        bare["match"] = json!({"hosts": [BARE_HOST]});
        plugin["services"].as_array_mut().context("services")?.insert(0, bare);
        let config = EnvoyConfig::shipped()?.plugin(&plugin).sidecar(lone::NOBODY);
        Ok(config.env("COLORFAST_KEYS", &lone::keys()))
    }

    /// A session that its pin keeps on blue while its hash says green, so that an answer tells which rule has decided:
    /// it begins at one proxy, and what its hash says is asked of another, which remembers nothing.
    async fn kept_session(mesh: &Mesh, ours: SocketAddr, other: SocketAddr) -> Result<(String, String)> {
        let (mut wire, mut other) = (Wire::open(ours)?, Wire::open(other)?);
        let mut pins = Vec::new();
        for n in 0..SESSIONS {
            let session = format!("bench-session-{n:04}");
            let (_, head, _) = wire.exchange(&request(&session, None, ""))?;
            pins.push((session, wire::header(head, names::PIN).context("a new session gets its pin")?));
        }
        mesh.does("ramp green 50%").await?;
        for (session, pin) in pins {
            let (_, _, body) = other.exchange(&request_at(BARE_HOST, &session, None, ""))?;
            if body == b"green" {
                return Ok((session, pin));
            }
        }
        anyhow::bail!("none of {SESSIONS} sessions hashes to green, which has half of the weight")
    }

    fn target(leg: Leg, variant: Variant, envoy: &Envoy, session: &str, pin: &str) -> Result<Target> {
        let mut wire = Wire::open(envoy.address())?;
        let plain = request(session, Some(pin), "");
        let (request, asks) = match variant {
            Variant::Hash => (turn::new_session(), Asks::Another { number: 0, of: u64::MAX }),
            Variant::HashAlone => (request_at(BARE_HOST, session, None, ""), Asks::One("green")),
            Variant::Memory => {
                // A pin of no session id's brings it to blue once; from then on it is remembered there.
                let pin = lone::sign(&lone::free(lone::BLUE))?;
                wire.exchange(&request(session, Some(&pin), ""))?;
                (request(session, None, ""), Asks::One("blue"))
            }
            Variant::LookedUp => {
                let mut request = turn::new_session();
                for number in 0..BEYOND_COPIES {
                    turn::rename(&mut request, number)?;
                    wire.exchange(&request)?;
                }
                (request, Asks::Another { number: 0, of: BEYOND_COPIES })
            }
            Variant::Stateful if leg == Leg::Upstream => {
                let (_, head, body) = wire.exchange(&plain)?;
                let body = if body == b"green" { "green" } else { "blue" };
                let cookie = wire::header(head, "set-cookie").context("a stateful session sets its cookie")?;
                let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
                ensure!(cookie.starts_with(STATEFUL_COOKIE), "{cookie}");
                (request(session, Some(pin), &format!("cookie: {cookie}\r\n")), Asks::One(body))
            }
            Variant::Weighted => {
                let (_, _, body) = wire.exchange(&plain)?;
                let body = if body == b"green" { "green" } else { "blue" };
                (plain, Asks::One(body))
            }
            _ => (plain, Asks::One("blue")),
        };
        let (_, head, _) = wire.exchange(&request)?;
        let issued = wire::header(head, names::PIN).is_some() || wire::header(head, "set-cookie").is_some();
        let begins = (leg, variant) == (Leg::Upstream, Variant::Hash);
        ensure!(issued == begins, "{variant:?} over {leg:?}: a pin or a cookie was issued: {issued}");
        let subject = if leg == Leg::Direct { Subject::Direct(variant) } else { Subject::Upstream(variant) };
        Target::new(subject, envoy.pid().context("Envoy does not run")?, envoy.address(), request, asks)
    }

    /// What is measured at a time: each subject by itself, but for those whose difference is small. These take turns, so
    /// that whatever else the machine does falls on all.
    fn groups(&self) -> Vec<Vec<usize>> {
        let legs: [fn(Variant) -> Subject; 2] = [Subject::Direct, Subject::Upstream];
        let alike = legs.map(|leg| [Variant::HashAlone, Variant::Memory, Variant::LookedUp].map(leg));
        let all = || self.targets.iter().map(|target| &target.subject).enumerate();
        let singles = all().filter(|(_, subject)| !alike.as_flattened().contains(subject)).map(|(at, _)| vec![at]);
        let of =
            |alike: &[Subject; 3]| all().filter(|(_, subject)| alike.contains(subject)).map(|(at, _)| at).collect();
        singles.chain(alike.iter().map(of)).collect()
    }

    fn rounds(&mut self, size: &Size, progress: &Progress) -> Result<Samples> {
        progress.step("warming up");
        for target in &mut self.targets {
            target.measure(size.warm_up)?;
        }
        let mut samples = Samples::default();
        let mut order = self.groups();
        let mut shuffle = Shuffle(u64::from(size.times));
        for round in 1..=size.rounds {
            shuffle.shuffle(&mut order);
            for (nth, group) in order.iter().enumerate() {
                progress.part(
                    "requests",
                    u64::from(round - 1) * order.len() as u64 + nth as u64,
                    u64::from(size.rounds) * order.len() as u64,
                );
                if let [one] = group.as_slice() {
                    let (subject, cost) = self.measure(*one, size.times)?;
                    samples.rounds.entry(subject).or_default().push(cost);
                    continue;
                }
                let turns = TURNS.min(size.times);
                let mut sums = BTreeMap::<_, f64>::new();
                for turn in 0..turns {
                    // There and back: what goes one way during a turn falls on the first as on the last.
                    let there = group.iter().copied();
                    let order: Vec<_> = if turn % 2 == 0 { there.collect() } else { there.rev().collect() };
                    for at in order {
                        let (subject, cost) = self.measure(at, size.times / turns)?;
                        *sums.entry(subject.clone()).or_default() += cost;
                        samples.turns.entry(subject).or_default().push(cost);
                    }
                }
                for (subject, sum) in sums {
                    samples.rounds.entry(subject).or_default().push(sum / f64::from(turns));
                }
            }
        }
        Ok(samples)
    }

    fn measure(&mut self, at: usize, times: u32) -> Result<(Subject, f64)> {
        let target = self.targets.get_mut(at).context("a target")?;
        Ok((target.subject.clone(), target.measure(times)?))
    }
}

/// A random order: SplitMix64 as the rules have it, and the swaps of Fisher and Yates.
struct Shuffle(u64);

impl Shuffle {
    fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let other = colorfast_core::rendezvous::mix(self.0) % (last as u64 + 1);
            all.swap(last, other as usize);
        }
    }
}

/// How many requests one subject gets in a round.
#[must_use]
pub fn per_round(size: &Size) -> u32 {
    size.times * CONNECTIONS as u32
}

/// How long the clock's grain is, as a part of what the cheapest subject costs in one round.
///
/// # Errors
/// Where the system has no such clock.
pub fn grain_part(samples: &Samples, requests: u32) -> Result<f64> {
    let least = samples.rounds.values().flatten().copied().fold(f64::INFINITY, f64::min) * f64::from(requests);
    Ok(cpu::grain()?.max(Duration::from_nanos(1)).as_secs_f64() * 1e6 / least)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each round has everybody once, and not in the order of the round before.
    #[test]
    fn rounds_are_shuffled() {
        let mut shuffle = Shuffle(1);
        let mut order: Vec<usize> = (0..40).collect();
        let before = order.clone();
        shuffle.shuffle(&mut order);
        assert_ne!(order, before);
        order.sort_unstable();
        assert_eq!(order, before);
    }
}
