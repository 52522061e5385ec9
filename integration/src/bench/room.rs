//! Many more sessions that echo nothing than a proxy has room for: what its memory holds of the machine's, and of them.

use std::fmt;

use anyhow::{Context, Result, ensure};
use colorfast_core::memory::{Bucket, Buckets};
use serde::Serialize;
use serde_json::json;

use super::cpu;
use super::listeners;
use super::stats::slope;
use super::turn::{self, CONNECTIONS, Volley};
use crate::Envoy;
use crate::mesh::{Mesh, SLOTS};

/// Looks at the proxy while it fills.
pub const LOOKS: u64 = 40;
/// Workers of the proxy: they share its table.
const WORKERS: u32 = 2;
/// Requests of one session, over every connection, before the first look: what Envoy and V8 take for any load is taken.
const WARM_UP: u32 = 2_000;
/// From when on the table counts as full: the last places are filled by chance.
const FULL: f64 = 0.99;
/// Of so many sessions that there is room for, one is asked again in the end.
const RECENT_EACH: u32 = 4;

/// What became of the sessions and of the memory.
#[derive(Clone, Debug, Serialize)]
pub struct Room {
    /// Sessions that the settings have room for.
    pub room: u32,
    /// Records that its table has places for.
    pub places: u64,
    /// Sessions that came.
    pub sessions: u64,
    /// How it filled.
    pub fill: Vec<Fill>,
    /// Sessions that had come when it was full.
    pub full_after: u64,
    /// What the process grew by from then on, in bytes for each session that came: the slope over all looks.
    pub grows_bytes: f64,
    /// The latest sessions, which came once more.
    pub recent: u64,
    /// How many of them were still remembered.
    pub recent_known: u64,
    /// Sessions that the fleet was not told of, since too many came at once.
    pub untold: u64,
}

/// One look at the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fill {
    /// Sessions that had come.
    pub came: u64,
    /// Of these, those that had been forgotten for want of room.
    pub evictions: u64,
    /// Resident memory of the Envoy process, in KiB.
    pub resident_kib: u64,
}

impl Room {
    /// The looks from when it was full.
    pub fn full(&self) -> impl Iterator<Item = &Fill> {
        self.fill.iter().filter(|fill| fill.came >= self.full_after)
    }

    /// The resident memory of the process before the first session, when the table was full, and in the end, in KiB.
    #[must_use]
    pub fn resident_kib(&self) -> [u64; 3] {
        let of = |fill: Option<&Fill>| fill.map_or(0, |fill| fill.resident_kib);
        [of(self.fill.first()), of(self.full().next()), of(self.fill.last())]
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, full, after] = self.resident_kib();
        let Self { room, sessions, full_after, grows_bytes, recent, recent_known, untold, .. } = self;
        let evictions = self.fill.last().map_or(0, |fill| fill.evictions);
        write!(
            f,
            "{sessions} sessions through a proxy with room for {room}: resident {before} KiB before, {full} KiB with the table \
             full (after {full_after} sessions), {after} KiB in the end, {grows_bytes:.1} bytes more for each session in \
             between; {evictions} evictions; {recent_known} of the latest {recent} known; {untold} not told to the fleet."
        )
    }
}

/// Sends so many sessions through one proxy, each once, tells of every look, and has the latest come again.
///
/// # Errors
/// Where a part does not start or does not answer, or the table never gets full.
pub async fn measure(sessions: u64, room: u32, mut tell: impl FnMut(&Fill)) -> Result<Room> {
    let mesh = Mesh::with(json!({"pin": {}, "memory": {"sessions": room}}), &SLOTS).await?;
    let config = listeners::direct(listeners::plain(mesh.config("room")?)).concurrency(WORKERS);
    let envoy = mesh.join(config).await?;
    let mut load = Load { volley: Volley::open(envoy.address())?, request: turn::new_session(), number: 0 };
    for _ in 0..WARM_UP {
        load.fire(0)?;
    }
    let volleys = sessions.div_ceil(LOOKS * CONNECTIONS as u64);
    let mut fill = Vec::new();
    // The session of the warm-up is the first.
    let mut came = 1;
    for look in 0..=LOOKS {
        if look > 0 {
            tokio::task::block_in_place(|| (0..volleys).try_for_each(|_| load.fire(1)))?;
            came += volleys * CONNECTIONS as u64;
        }
        let evictions = count(&envoy, "memory_evictions$").await?;
        let resident_kib = cpu::resident_kib(envoy.pid().context("Envoy does not run")?)?;
        let seen = Fill { came, evictions, resident_kib };
        tell(&seen);
        fill.push(seen);
    }
    let places = u64::from(Buckets::for_sessions(room).count()) * Bucket::WAYS as u64;
    let is_full = |fill: &&Fill| (fill.came - fill.evictions) as f64 >= FULL * places as f64;
    let full_after = fill.iter().find(is_full).context("the table never gets full")?.came;
    let full = fill.iter().filter(|fill| fill.came >= full_after);
    let points: Vec<_> = full.map(|fill| (fill.came as f64, fill.resident_kib as f64 * 1024.0)).collect();

    let by_memory = "requests.*memory$";
    let before = count(&envoy, by_memory).await?;
    let recent = u64::from(room / RECENT_EACH).next_multiple_of(CONNECTIONS as u64);
    load.number = load.number.checked_sub(recent).context("fewer sessions than are asked again")?;
    tokio::task::block_in_place(|| (0..recent / CONNECTIONS as u64).try_for_each(|_| load.fire(1)))?;
    let recent_known = count(&envoy, by_memory).await? - before;
    let untold = count(&envoy, "memory_untold$").await?;
    envoy.expect_no_crash().await?;
    let grows_bytes = slope(&points);
    Ok(Room { room, places, sessions: came, fill, full_after, grows_bytes, recent, recent_known, untold })
}

/// One load of new sessions.
struct Load {
    volley: Volley,
    request: Vec<u8>,
    number: u64,
}

impl Load {
    /// Sends a request over every connection, each of the session `next` after the one before.
    fn fire(&mut self, next: u64) -> Result<()> {
        let number = &mut self.number;
        let rename = |request: &mut [u8]| {
            *number += next;
            turn::rename(request, *number)
        };
        self.volley.fire(&mut self.request, rename, |head, body| {
            let right = head.status == 200 && body == b"blue";
            ensure!(right, "{}: {:?}", head.status, String::from_utf8_lossy(body));
            Ok(())
        })
    }
}

/// The sum of the counters whose name matches.
async fn count(envoy: &Envoy, filter: &str) -> Result<u64> {
    Ok(envoy.stats(filter).await?.values().sum())
}
