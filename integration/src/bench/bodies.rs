//! What a body costs in which the filter looks for a session id, by its size, and what Envoy holds for it.
//!
//! All ways are listeners of one Envoy, and each round asks them all: see `listeners`. Requests go one at a time over one kept
//! connection, so that the time of each is what the proxy takes, and what an agent takes that reads and forgets.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::cpu::{self, Core};
use super::listeners::{self, Shipped, Wasm};
use super::progress::Progress;
use super::samples::differences;
use super::stats::{Latency, Spread, slope};
use super::table::{known, table};
use super::turn::HOST;
use super::upstream;
use super::wire::Wire;
use crate::{Envoy, EnvoyConfig, lone, names, paths};

/// Of bytes.
const MIB: f64 = 1_048_576.0;
/// Each turn sends about so many bytes, and [`LEAST`] bodies at least.
const TURN_BYTES: usize = 4_000_000;
/// Least bodies of a turn that are counted.
const LEAST: usize = 4;
/// Most of them.
const MOST: usize = 64;
/// Bodies that are on their way at once where memory is looked at, of [`WAVE_BYTES`] each.
const AT_ONCE: usize = 20;
/// As long as the longest turns of coding agents are; twenty fit into what a worker holds by default.
const WAVE_BYTES: usize = 3_000_000;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Lengths of bodies, about, in bytes.
    pub sizes: &'static [usize],
    /// Rounds over all ways and sizes.
    pub rounds: u32,
    /// Waves of bodies at once, after which memory is looked at.
    pub waves: u32,
}

/// What becomes of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// No filter: it passes as it comes.
    Passed,
    /// No filter of ours: Envoy's own buffer filter holds it until it is whole.
    Buffered,
    /// The filter finds the id in a header, and lets the body pass.
    Unread,
    /// The filter finds the id in front of all else.
    Front,
    /// The filter finds the id behind all else.
    Behind,
}

impl Way {
    const ALL: [Self; 5] = [Self::Passed, Self::Buffered, Self::Unread, Self::Front, Self::Behind];

    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Passed => "no filter",
            Self::Buffered => "Envoy's buffer filter",
            Self::Unread => "colorfast, id in a header",
            Self::Front => "colorfast, id in front of the body",
            Self::Behind => "colorfast, id behind the body",
        }
    }

    /// Its listener, which those share that differ in what is sent.
    fn listener(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Buffered => "buffered",
            Self::Unread => "unread",
            Self::Front | Self::Behind => "read",
        }
    }

    fn edit(self, hcm: &mut Value) -> Result<()> {
        let mut ours = |settings: Value| Wasm::ours(&paths::filter()?, self.listener(), plugin(settings)).edit(hcm);
        match self {
            Self::Passed => listeners::without_stripping(hcm),
            Self::Buffered => {
                listeners::without_stripping(hcm)?;
                listeners::before_router(hcm, buffer())
            }
            Self::Unread => ours(json!({"pin": {}})),
            Self::Front | Self::Behind => ours(json!({
                "session_sources": [{"body": "/previous_response_id"}],
                "body": {"prefix_bytes": 16 << 20},
                "pin": {},
            })),
        }
    }

    /// A request of about so many bytes, in the order of keys of today's SDKs but where the id stands in front.
    fn request(self, bytes: usize) -> Vec<u8> {
        let text = r#"fn main() {\n    println!(\"a line of code, as it stands in the history\");\n}\n"#;
        let message = format!(r#"{{"role":"user","content":"{text}"}},"#);
        let history = message.repeat((bytes / message.len()).max(1));
        let input = format!(r#""model":"m","input":[{}]"#, history.trim_end_matches(','));
        let id = format!(r#""previous_response_id":"{}""#, self.session());
        let body = match self {
            Self::Front => format!("{{{id},{input}}}"),
            _ => format!("{{{input},{id}}}"),
        };
        let head = format!(
            "POST /v1/responses HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: bench\r\ncontent-type: application/json\r\n\
             {}: {}\r\ncontent-length: {}\r\n\r\n",
            names::SESSION,
            self.session(),
            body.len()
        );
        [head.into_bytes(), body.into_bytes()].concat()
    }

    fn session(self) -> String {
        format!("bench-{}", self.listener())
    }
}

/// What bodies cost.
#[derive(Clone, Debug, Serialize)]
pub struct Bodies {
    /// Rounds.
    pub rounds: u32,
    /// By way and size.
    pub costs: Vec<Cost>,
    /// What a way costs for each MiB beyond a filter that does not read bodies.
    pub per_mib: Vec<PerMib>,
    /// The memory of the proxy.
    pub memory: Memory,
}

/// What bodies of one length cost on one way.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// What becomes of them.
    pub way: Way,
    /// Their length, about, in bytes.
    pub bytes: usize,
    /// CPU of the Envoy process, in microseconds for each.
    pub cpu_us: Spread,
    /// What that is beyond a filter that does not read them, round by round.
    pub adds_us: Spread,
    /// From the first byte of the request to the last of the answer, in milliseconds.
    pub ms: Latency,
    /// What the medians differ by from those of a filter that does not read them, in milliseconds.
    pub adds_p50_ms: f64,
    /// What the 99th percentiles do.
    pub adds_p99_ms: f64,
}

/// What each MiB costs on one way.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PerMib {
    /// What becomes of it.
    pub way: Way,
    /// The slope of what is added over the sizes, in microseconds of CPU.
    pub cpu_us: f64,
    /// The slope of what the medians of the times add, in milliseconds.
    pub p50_ms: f64,
}

/// What the proxy holds before bodies at once, after the first wave, and after the last.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Bodies at once.
    pub at_once: usize,
    /// The length of each, about, in bytes.
    pub bytes: usize,
    /// Waves of them.
    pub waves: u32,
    /// What Envoy has allocated, in bytes: `server.memory_allocated`.
    pub allocated_bytes: [u64; 3],
    /// What the process has resident, in KiB.
    pub resident_kib: [u64; 3],
}

impl fmt::Display for Bodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.costs.iter().map(|cost| {
            vec![
                cost.way.title().to_owned(),
                cost.bytes.to_string(),
                format!("{:.0}", cost.cpu_us.median),
                known(&cost.adds_us),
                format!("{:.2}", cost.ms.p50),
                format!("{:.2}", cost.ms.p99),
                format!("{:.2}", cost.adds_p50_ms),
                format!("{:.2}", cost.adds_p99_ms),
            ]
        });
        let head = ["bodies", "bytes", "CPU µs", "adds µs", "p50 ms", "p99 ms", "adds p50", "adds p99"];
        writeln!(f, "{}", table(&head, rows))?;
        for PerMib { way, cpu_us, p50_ms } in &self.per_mib {
            writeln!(f, "{}: {cpu_us:.0} µs of CPU and {p50_ms:.2} ms more for each MiB.", way.title())?;
        }
        write!(f, "{}", self.memory)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_once, bytes, waves, .. } = self;
        let [allocated, first, last] = self.allocated_bytes.map(|bytes| bytes as f64 / MIB);
        let [resident, resident_first, resident_last] = self.resident_kib.map(|kib| kib as f64 / 1024.0);
        write!(
            f,
            "{waves} waves of {at_once} bodies of {bytes} bytes at once: Envoy has {allocated:.1} MiB allocated before, {first:.1} \
             MiB after the first and {last:.1} MiB after the last; its process has {resident:.1}, {resident_first:.1} and \
             {resident_last:.1} MiB resident."
        )
    }
}

/// Measures all ways and sizes, and the memory of the proxy.
///
/// # Errors
/// Where a part does not start, or a request is not answered by the session's slot.
pub async fn measure(extent: Extent, progress: &Progress) -> Result<Bodies> {
    progress.step("starting the Envoy of bodies");
    let envoy = Envoy::start(config(upstream::start("blue")?)?).await?;
    let process = envoy.pid().context("Envoy does not run")?;
    cpu::pin_process(process, Core::Measured)?;
    let addresses: Vec<_> = Way::ALL.iter().map(|way| envoy.listener(way.listener())).collect::<Result<_>>()?;
    let (telling, read) = (progress.clone(), envoy.listener(Way::Behind.listener())?);
    let (rounds, bodies) = tokio::task::spawn_blocking(move || {
        cpu::pin(None, Core::Load)?;
        let mut lanes = Lane::all(&addresses, extent.sizes)?;
        for round in 0..extent.rounds {
            telling.part("bodies, rounds", round.into(), extent.rounds.into());
            // There and back, so that none always comes after the other.
            lanes.reverse();
            for lane in &mut lanes {
                lane.turn(process)?;
            }
        }
        lanes.sort_by_key(|lane| lane.number);
        anyhow::Ok((extent.rounds, lanes))
    })
    .await??;
    let memory = Memory::of(&envoy, read, extent.waves, progress).await?;
    let results = envoy.stats("session_bodies").await?;
    let other = results.iter().filter(|(name, count)| **count > 0 && !name.ends_with("found"));
    ensure!(results.values().sum::<u64>() > 0 && other.count() == 0, "ids were not found in bodies: {results:?}");
    let costs = costs(&bodies, extent.sizes);
    let per_mib = [Way::Buffered, Way::Front, Way::Behind].map(|way| per_mib(way, &costs)).to_vec();
    Ok(Bodies { rounds, costs, per_mib, memory })
}

/// One way with bodies of one length.
struct Lane {
    number: usize,
    way: Way,
    bytes: usize,
    wire: Wire,
    request: Vec<u8>,
    times: usize,
    cpu_us: Vec<f64>,
    ms: Vec<f64>,
}

impl Lane {
    fn all(addresses: &[SocketAddr], sizes: &[usize]) -> Result<Vec<Self>> {
        let mut lanes = Vec::new();
        for bytes in sizes.iter().copied() {
            for (way, address) in Way::ALL.into_iter().zip(addresses) {
                let wire = Wire::open(*address)?;
                let times = (TURN_BYTES / bytes).clamp(LEAST, MOST);
                let (number, request) = (lanes.len(), way.request(bytes));
                lanes.push(Self { number, way, bytes, wire, request, times, cpu_us: Vec::new(), ms: Vec::new() });
            }
        }
        Ok(lanes)
    }

    /// The first request is not counted: the turn before was of another VM and of other bytes.
    fn turn(&mut self, process: u32) -> Result<()> {
        self.send()?;
        let before = cpu::used(process)?;
        for _ in 0..self.times {
            let began = Instant::now();
            self.send()?;
            self.ms.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let used = cpu::used(process)?.saturating_sub(before);
        self.cpu_us.push(used.as_secs_f64() * 1e6 / self.times as f64);
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        let (head, _, _) = self.wire.exchange(&self.request)?;
        ensure!(head.status == 200, "{:?} of {} bytes was answered with {}", self.way, self.bytes, head.status);
        Ok(())
    }
}

fn costs(lanes: &[Lane], sizes: &[usize]) -> Vec<Cost> {
    let mut costs = Vec::new();
    for bytes in sizes {
        let of_size: Vec<_> = lanes.iter().filter(|lane| lane.bytes == *bytes).collect();
        let Some(unread) = of_size.iter().find(|lane| lane.way == Way::Unread) else { continue };
        let unread_ms = Latency::of(unread.ms.iter().copied());
        for lane in &of_size {
            let ms = Latency::of(lane.ms.iter().copied());
            costs.push(Cost {
                way: lane.way,
                bytes: lane.bytes,
                cpu_us: Spread::of(lane.cpu_us.iter().copied()),
                adds_us: Spread::of(differences(&lane.cpu_us, &unread.cpu_us)),
                ms,
                adds_p50_ms: ms.p50 - unread_ms.p50,
                adds_p99_ms: ms.p99 - unread_ms.p99,
            });
        }
    }
    costs
}

fn per_mib(way: Way, costs: &[Cost]) -> PerMib {
    let over_sizes = |value: fn(&Cost) -> f64| {
        let of_way = costs.iter().filter(|cost| cost.way == way);
        slope(&of_way.map(|cost| (cost.bytes as f64 / MIB, value(cost))).collect::<Vec<_>>())
    };
    PerMib { way, cpu_us: over_sizes(|cost| cost.adds_us.median), p50_ms: over_sizes(|cost| cost.adds_p50_ms) }
}

impl Memory {
    async fn of(envoy: &Envoy, read: SocketAddr, waves: u32, progress: &Progress) -> Result<Self> {
        let request = Way::Behind.request(WAVE_BYTES);
        let mut wires: Vec<_> = (0..AT_ONCE).map(|_| Wire::open(read)).collect::<Result<_>>()?;
        let before = look(envoy).await?;
        let mut after = Vec::new();
        for wave in 0..waves {
            progress.part("bodies at once, waves", wave.into(), waves.into());
            tokio::task::block_in_place(|| at_once(&mut wires, &request))?;
            after.push(look(envoy).await?);
        }
        let (first, last) = after.first().zip(after.last()).context("no waves")?;
        let [allocated_bytes, resident_kib] =
            [0, 1].map(|of| [before, *first, *last].map(|look| look.get(of).copied().unwrap_or_default()));
        Ok(Self { at_once: AT_ONCE, bytes: WAVE_BYTES, waves, allocated_bytes, resident_kib })
    }
}

/// Sends one body over each connection at the same time.
fn at_once(wires: &mut [Wire], request: &[u8]) -> Result<()> {
    std::thread::scope(|scope| {
        let sent: Vec<_> =
            wires.iter_mut().map(|wire| scope.spawn(|| wire.exchange(request).map(|all| all.0))).collect();
        for sent in sent {
            let head = sent.join().ok().context("a load broke")??;
            ensure!(head.status == 200, "a body was answered with {}", head.status);
        }
        Ok(())
    })
}

/// What Envoy has allocated, in bytes, and what its process has resident, in KiB.
async fn look(envoy: &Envoy) -> Result<[u64; 2]> {
    let allocated = envoy.stats("^server.memory_allocated$").await?.values().sum();
    Ok([allocated, cpu::resident_kib(envoy.pid().context("Envoy does not run")?)?])
}

fn config(agent: SocketAddr) -> Result<EnvoyConfig> {
    let config = listeners::plain(EnvoyConfig::shipped()?.agent("blue", agent).agent("green", agent));
    let config = config.sidecar(lone::NOBODY).env("COLORFAST_KEYS", &lone::keys());
    let config = config.edit(|doc| {
        let shipped = Shipped::take(doc)?;
        for way in [Way::Passed, Way::Buffered, Way::Unread, Way::Behind] {
            shipped.put(doc, way.listener(), |hcm| way.edit(hcm))?;
        }
        Ok(())
    });
    Ok(config.without_filter())
}

/// A plugin that decides by its own configuration, with these settings.
fn plugin(settings: Value) -> String {
    let mut plugin = lone::plugin();
    plugin["services"][0]["bootstrap"]["settings"] = settings;
    plugin.to_string()
}

/// Envoy's own filter that holds a body until it is whole.
fn buffer() -> Value {
    json!({
        "name": "envoy.filters.http.buffer",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
            "max_request_bytes": 16 << 20,
        },
    })
}
