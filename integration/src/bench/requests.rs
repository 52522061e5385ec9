//! CPU per request: rounds over all variants and all host calls in one Envoy, each round in another order.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::calls;
use super::cpu::{self, Core};
use super::listeners::{self, Agents, BARE_HOST, INSTANCES, Listener, Modules, STATEFUL_COOKIE};
use super::options::Size;
use super::progress::Progress;
use super::samples::{Samples, Subject};
use super::turn::{self, CONNECTIONS, Volley, request, request_at};
use super::upstream;
use super::variants::{Leg, Variant};
use super::wire::{self, Wire};
use crate::mesh::SLOTS;
use crate::{Envoy, lone, names, paths};

/// Sessions that are tried until one hashes to green.
const SESSIONS: u32 = 64;
/// Each listener has so many new sessions of its own.
const NEW_EACH: u64 = 1_000_000_000;
/// What each turn begins with and does not count: another listener, another VM, and what they run through is out of the
/// caches.
const LEAD_IN: u32 = 3;

/// One thing to measure: whom to ask, and what.
#[derive(Debug)]
struct Target {
    subject: Subject,
    instance: usize,
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
    fn new(subject: Subject, instance: usize, address: SocketAddr, request: Vec<u8>, asks: Asks) -> Result<Self> {
        Ok(Self { subject, instance, volley: Volley::open(address)?, request, asks })
    }

    /// Tells what a request costs a process in microseconds, of so many over every connection.
    fn measure(&mut self, process: u32, times: u32) -> Result<f64> {
        self.fire(LEAD_IN)?;
        let before = cpu::used(process)?;
        self.fire(times)?;
        let used = cpu::used(process)?.saturating_sub(before);
        Ok(used.as_secs_f64() * 1e6 / (f64::from(times) * CONNECTIONS as f64))
    }

    /// Sends a request over every connection, so many times.
    fn fire(&mut self, times: u32) -> Result<()> {
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
        Ok(())
    }
}

/// A session that its pin keeps on blue while its hash says green, so that an answer tells which rule has decided.
#[derive(Debug)]
struct Kept {
    session: String,
    pin: String,
}

/// Everything that runs while requests are measured.
#[derive(Debug)]
struct World {
    _envoy: Envoy,
    process: u32,
    targets: Vec<Target>,
}

/// The modules that are compared: those that are built, and an earlier filter where one is given.
///
/// # Errors
/// Where one of them is not there.
pub fn modules(before: Option<&Path>) -> Result<Modules> {
    if let Some(path) = before {
        ensure!(path.is_file(), "the build of before is {}, where there is no file", path.display());
    }
    // Envoy runs in another folder.
    let before = before.map(std::path::absolute).transpose()?;
    Ok(Modules { bench: paths::bench_filter()?, now: paths::filter()?, before })
}

/// Measures everything.
///
/// # Errors
/// Where a part does not start, or answers otherwise than its variant must.
pub async fn measure(size: &Size, modules: &Modules, progress: &Progress) -> Result<Samples> {
    let mut world = World::start(size, modules, progress).await?;
    let (size, progress) = (*size, progress.clone());
    tokio::task::spawn_blocking(move || {
        cpu::pin(None, Core::Load)?;
        world.rounds(&size, &progress)
    })
    .await?
}

impl World {
    async fn start(size: &Size, modules: &Modules, progress: &Progress) -> Result<Self> {
        let agents = Agents { blue: upstream::start("blue")?, green: upstream::start("green")? };
        progress.step("starting the Envoy of all variants");
        let envoy = Envoy::start(listeners::config(agents, modules)?).await?;
        let process = envoy.pid().context("Envoy does not run")?;
        cpu::pin_process(process, Core::Measured)?;
        let kept = Kept::find(envoy.listener(&Listener::first(Variant::HashAlone).name())?)?;
        progress.step("remembering sessions");
        let mut targets = Vec::new();
        for leg in Leg::ALL {
            for (variant, build) in modules.variants(leg) {
                for instance in 0..INSTANCES {
                    let listener = Listener { leg, variant: variant.stands_at(), build, instance };
                    let address = envoy.listener(&listener.name())?;
                    let new = NEW_EACH * targets.len() as u64;
                    let (request, asks) =
                        kept.asked(variant, leg, address, Numbers { new, remembered: size.remembered })?;
                    let subject = Subject::Variant(leg, variant, build);
                    let mut target = Target::new(subject, instance, address, request, asks)?;
                    if (leg, variant) == (Leg::Direct, Variant::LookedUp) {
                        // Both legs share what is remembered.
                        target.fire(size.remembered / CONNECTIONS as u32)?;
                    }
                    targets.push(target);
                }
            }
        }
        for (name, subject, headers) in calls::subjects() {
            let request = request(&kept.session, Some(&kept.pin), &headers);
            targets.push(Target::new(subject, 0, envoy.listener(&name)?, request, Asks::One("blue"))?);
        }
        Ok(Self { _envoy: envoy, process, targets })
    }

    fn rounds(&mut self, size: &Size, progress: &Progress) -> Result<Samples> {
        progress.step("warming up");
        for target in &mut self.targets {
            target.fire(size.warm_up)?;
        }
        let mut samples = Samples::default();
        let mut order: Vec<usize> = (0..self.targets.len()).collect();
        let mut shuffle = Shuffle(u64::from(size.rounds));
        for round in 0..size.rounds {
            progress.part("requests, rounds", round.into(), size.rounds.into());
            shuffle.shuffle(&mut order);
            for at in &order {
                let target = self.targets.get_mut(*at).context("a target")?;
                let cost = target.measure(self.process, size.times)?;
                samples.push(target.subject, target.instance, cost);
            }
        }
        Ok(samples)
    }
}

/// Of the sessions that a listener is asked for.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    /// The first new one.
    new: u64,
    /// How many there are that come again one after the other.
    remembered: u32,
}

impl Kept {
    /// Finds one, at the service that knows neither pin nor memory.
    fn find(alone: SocketAddr) -> Result<Self> {
        let mut wire = Wire::open(alone)?;
        for n in 0..SESSIONS {
            let session = format!("bench-session-{n:04}");
            let (_, _, body) = wire.exchange(&request_at(BARE_HOST, &session, None, ""))?;
            if body == b"green" {
                let pin = lone::sign(&lone::bound(&session, lone::BLUE))?;
                return Ok(Self { session, pin });
            }
        }
        anyhow::bail!("none of {SESSIONS} sessions hashes to green, which has half of the weight")
    }

    /// The request of a variant, and who answers it.
    fn asked(&self, variant: Variant, leg: Leg, address: SocketAddr, numbers: Numbers) -> Result<(Vec<u8>, Asks)> {
        let mut wire = Wire::open(address)?;
        let plain = request(&self.session, Some(&self.pin), "");
        let (request, asks) = match variant {
            Variant::Hash => {
                let mut request = turn::new_session();
                turn::rename(&mut request, numbers.new)?;
                (request, Asks::Another { number: numbers.new, of: u64::MAX })
            }
            Variant::HashAlone => (request_at(BARE_HOST, &self.session, None, ""), Asks::One("green")),
            Variant::Memory => {
                // A pin of no session id's brings it to blue once; from then on it is remembered there.
                let pin = lone::sign(&lone::free(lone::BLUE))?;
                wire.exchange(&request(&self.session, Some(&pin), ""))?;
                (request(&self.session, None, ""), Asks::One("blue"))
            }
            Variant::LookedUp => {
                let of = u64::from(numbers.remembered);
                // Far from those that the other leg asks for: these have just been met.
                let number = if leg == Leg::Direct { 0 } else { of / 2 };
                return Ok((turn::new_session(), Asks::Another { number, of }));
            }
            Variant::Stateful if leg == Leg::Upstream => {
                let (_, head, body) = wire.exchange(&plain)?;
                let cookie = wire::header(head, "set-cookie").context("a stateful session sets its cookie")?;
                let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
                ensure!(cookie.starts_with(STATEFUL_COOKIE), "{cookie}");
                let headers = format!("cookie: {cookie}\r\n");
                (request(&self.session, Some(&self.pin), &headers), Asks::One(slot(body)))
            }
            Variant::Weighted => {
                let (_, _, body) = wire.exchange(&plain)?;
                (plain, Asks::One(slot(body)))
            }
            _ => (plain, Asks::One("blue")),
        };
        let (_, head, _) = wire.exchange(&request)?;
        let issued = wire::header(head, names::PIN).is_some() || wire::header(head, "set-cookie").is_some();
        let begins = (leg, variant) == (Leg::Upstream, Variant::Hash);
        ensure!(issued == begins, "{variant:?} over {leg:?}: a pin or a cookie was issued: {issued}");
        Ok((request, asks))
    }
}

fn slot(body: &[u8]) -> &'static str {
    if body == b"green" { "green" } else { "blue" }
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

/// How long the clock's grain is, as a part of what the cheapest subject costs in one turn.
///
/// # Errors
/// Where the system has no such clock.
pub fn grain_part(samples: &Samples, requests: u32) -> Result<f64> {
    let least = samples.least() * f64::from(requests);
    Ok(cpu::grain()?.max(Duration::from_nanos(1)).as_secs_f64() * 1e6 / least)
}

/// How many requests one listener gets in a round.
#[must_use]
pub fn per_round(size: &Size) -> u32 {
    size.times * CONNECTIONS as u32
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
