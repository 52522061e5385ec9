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
use super::upstream;
use super::variants::{self, Agents, Leg, STATEFUL_COOKIE, Variant};
use super::wire::{self, Wire};
use crate::Envoy;
use crate::mesh::{Mesh, SLOTS};
use crate::names;

/// Sessions that are tried until one hashes to green.
const SESSIONS: u32 = 64;

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

/// Connections of one load. Their requests are sent together and their answers awaited together, so that a worker that
/// has been woken finds some work: waking it, on a virtual machine above all, costs more than a request.
const CONNECTIONS: usize = 16;

/// One thing to measure: whom to ask, and what.
#[derive(Debug)]
struct Target {
    subject: Subject,
    process: u32,
    wires: Vec<Wire>,
    request: Vec<u8>,
    asks: Asks,
}

/// Who asks, and what must come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    /// The same session again and again, which is answered with this.
    One(&'static str),
    /// A new session each time, whose number stands in its id; its hash says who answers.
    Anew(u64),
}

impl Target {
    fn new(subject: Subject, process: u32, address: SocketAddr, request: Vec<u8>, asks: Asks) -> Result<Self> {
        let wires = (0..CONNECTIONS).map(|_| Wire::open(address)).collect::<Result<_>>()?;
        Ok(Self { subject, process, wires, request, asks })
    }

    /// Sends a request over every connection, so many times, and tells what one has cost in microseconds.
    fn measure(&mut self, times: u32) -> Result<f64> {
        let before = cpu::used(self.process)?;
        for _ in 0..times {
            for wire in &mut self.wires {
                if let Asks::Anew(number) = &mut self.asks {
                    *number += 1;
                    rename(&mut self.request, *number)?;
                }
                wire.send(&self.request)?;
            }
            for wire in &mut self.wires {
                let (head, _, body) = wire.receive()?;
                let right = match self.asks {
                    Asks::One(wanted) => body == wanted.as_bytes(),
                    Asks::Anew(_) => SLOTS.iter().any(|(slot, _)| body == slot.as_bytes()),
                };
                ensure!(
                    head.status == 200 && right,
                    "{:?} was answered with {}: {:?} ({:?})",
                    self.subject,
                    head.status,
                    String::from_utf8_lossy(body),
                    self.asks
                );
            }
        }
        let used = cpu::used(self.process)?.saturating_sub(before);
        Ok(used.as_secs_f64() * 1e6 / (f64::from(times) * self.wires.len() as f64))
    }
}

/// What each subject has cost in each round, in microseconds of CPU a request; the n-th of all are of the n-th round.
pub type Samples = BTreeMap<Subject, Vec<f64>>;

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
        let mesh = Mesh::with(json!({"pin": {}}), &SLOTS).await?;
        let status = mesh.status().await?;
        let assignment = |slot: usize| status["slots"][slot]["assignment"].as_u64().context("an assignment");
        let assignments = [assignment(0)?, assignment(1)?];

        let mut started = Vec::new();
        for leg in [Leg::Direct, Leg::Upstream] {
            // By hash and by pin are two requests to one Envoy.
            for variant in Variant::of(leg).filter(|variant| *variant != Variant::Pin) {
                progress.step(&format!("starting {} ({leg:?})", variant.title()));
                let ours = variant.is_ours().then(|| mesh.config(&format!("bench-{leg:?}"))).transpose()?;
                let config = variants::config(variant, leg, agents, bench_filter, assignments, ours)?;
                let envoy = if variant.is_ours() { mesh.join(config).await? } else { Envoy::start(config).await? };
                started.push((leg, variant, envoy));
            }
        }
        let ours = |leg| {
            let ours = started.iter().find(|(of, variant, _)| *of == leg && variant.is_ours());
            ours.map(|(.., envoy)| envoy.address()).context("the filter on both legs")
        };
        let (session, pin) = Self::kept_session(&mesh, ours(Leg::Upstream)?, ours(Leg::Direct)?).await?;

        let mut targets = Vec::new();
        for (leg, variant, envoy) in &started {
            let variants = if variant.is_ours() { vec![Variant::Hash, Variant::Pin] } else { vec![*variant] };
            for variant in variants {
                targets.push(Self::target(*leg, variant, envoy, &session, &pin)?);
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

    /// A session that its pin keeps on blue while its hash says green, so that an answer tells which rule has decided:
    /// it begins at one proxy, and what its hash says is asked of another, which does not remember it.
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
            let (_, _, body) = other.exchange(&request(&session, None, ""))?;
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
            Variant::Hash => (request(&format!("{NEW}{:012}", 0), None, ""), Asks::Anew(0)),
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

    fn rounds(&mut self, size: &Size, progress: &Progress) -> Result<Samples> {
        progress.step("warming up");
        for target in &mut self.targets {
            target.measure(size.warm_up)?;
        }
        let mut samples = Samples::new();
        let mut order: Vec<usize> = (0..self.targets.len()).collect();
        let mut shuffle = Shuffle(u64::from(size.times));
        for round in 1..=size.rounds {
            shuffle.shuffle(&mut order);
            for (nth, at) in order.iter().enumerate() {
                progress.part(
                    "requests",
                    u64::from(round - 1) * order.len() as u64 + nth as u64,
                    u64::from(size.rounds) * order.len() as u64,
                );
                let Some(target) = self.targets.get_mut(*at) else { continue };
                let cost = target.measure(size.times)?;
                samples.entry(target.subject.clone()).or_default().push(cost);
            }
        }
        Ok(samples)
    }
}

/// The same request to everybody: what else stands in it is the variant's.
fn request(session: &str, pin: Option<&str>, more: &str) -> Vec<u8> {
    let pin = pin.map(|pin| format!("{}: {pin}\r\n", names::PIN)).unwrap_or_default();
    let session = format!("{}: {session}\r\n", names::SESSION);
    let usual = "host: agents.example.com\r\nuser-agent: bench\r\naccept: application/json\r\n";
    format!("GET /turn HTTP/1.1\r\n{usual}{session}{pin}{more}\r\n").into_bytes()
}

/// What the ids of new sessions begin with; a number of twelve digits follows.
const NEW: &str = "bench-new-";

/// Writes the number of another session into a request, in place: the load must cost the same for everybody.
fn rename(request: &mut [u8], number: u64) -> Result<()> {
    let at = request.windows(NEW.len()).position(|found| found == NEW.as_bytes()).context("a new session")?;
    let digits = request.get_mut(at + NEW.len()..).and_then(|rest| rest.get_mut(..12)).context("its number")?;
    let mut left = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    Ok(())
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
    let least = samples.values().flatten().copied().fold(f64::INFINITY, f64::min) * f64::from(requests);
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
