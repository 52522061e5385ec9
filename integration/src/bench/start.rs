//! What the filter adds to the start of an Envoy, and what each worker's VM holds of memory.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::cpu;
use super::options::Size;
use super::progress::Progress;
use super::stats::{Spread, slope};
use super::wire::Wire;
use crate::http::{Call, Line, Protocol};
use crate::{Agent, Envoy, EnvoyConfig, lone, paths};

/// How often a start is looked at.
const LOOK: Duration = Duration::from_micros(500);
const LIMIT: Duration = Duration::from_secs(60);
/// What each worker has served when its memory is looked at, over connections that spread over all workers.
const CONNECTIONS: u32 = 16;
const REQUESTS: u32 = 50;

/// Starts and memory.
#[derive(Clone, Debug, Serialize)]
pub struct Starts {
    /// From the start of the process to the first answer, with one worker, without the filter, in milliseconds.
    pub without_filter_ms: Spread,
    /// The same with the filter: the module is compiled, and a VM made for the main thread and the worker.
    pub with_filter_ms: Spread,
    /// What the filter adds: the difference of the medians.
    pub added_ms: f64,
    /// Resident memory by workers, in KiB.
    pub memory: Vec<Memory>,
    /// What one more worker holds without the filter, in KiB: the slope over the workers.
    pub worker_kib: f64,
    /// What one more worker's VM adds to that, in KiB.
    pub vm_kib: f64,
    /// Size of the module as it is loaded, in bytes.
    pub wasm_bytes: u64,
}

/// Resident memory with one number of workers, in KiB.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// How many workers.
    pub workers: u32,
    /// Without the filter.
    pub without_filter_kib: u64,
    /// With it.
    pub with_filter_kib: u64,
}

/// Measures both.
///
/// # Errors
/// Where an Envoy does not start.
pub async fn measure(size: &Size, progress: &Progress) -> Result<Starts> {
    let (blue, green) = (Agent::start("b-1").await?, Agent::start("g-1").await?);
    let with = lone::config(&blue, &green)?.without_access_log();
    let without = with.clone().without_filter();
    let mut times = [Vec::new(), Vec::new()];
    let mut envoys = [started(without.clone()).await?, started(with.clone()).await?];
    for nth in 0..size.starts {
        progress.part("starts", u64::from(nth), u64::from(size.starts));
        for (envoy, times) in envoys.iter_mut().zip(&mut times) {
            times.push(first_answer(envoy).await?.as_secs_f64() * 1e3);
        }
    }
    drop(envoys);

    let mut memory = Vec::new();
    for workers in size.workers.iter().copied() {
        progress.step(&format!("memory of {workers} workers"));
        memory.push(Memory {
            workers,
            without_filter_kib: resident(without.clone().concurrency(workers)).await?,
            with_filter_kib: resident(with.clone().concurrency(workers)).await?,
        });
    }
    let points = |of: fn(&Memory) -> u64| -> Vec<(f64, f64)> {
        memory.iter().map(|memory| (f64::from(memory.workers), of(memory) as f64)).collect()
    };
    let worker_kib = slope(&points(|memory| memory.without_filter_kib));
    let vm_kib = slope(&points(|memory| memory.with_filter_kib)) - worker_kib;
    let [without_filter_ms, with_filter_ms] = times.map(Spread::of);
    Ok(Starts {
        added_ms: with_filter_ms.median - without_filter_ms.median,
        without_filter_ms,
        with_filter_ms,
        memory,
        worker_kib,
        vm_kib,
        wasm_bytes: std::fs::metadata(paths::filter()?)?.len(),
    })
}

/// An Envoy of one worker, stopped: its ports are known and stay the same.
async fn started(config: EnvoyConfig) -> Result<Envoy> {
    Envoy::start(config.concurrency(1)).await
}

/// Starts a running Envoy again, and tells how long the first answer took from then.
async fn first_answer(envoy: &mut Envoy) -> Result<Duration> {
    envoy.stop().await?;
    let address = envoy.address();
    let began = Instant::now();
    let looked = tokio::task::spawn_blocking(move || look(address, began));
    envoy.restart().await?;
    looked.await?
}

fn look(address: SocketAddr, began: Instant) -> Result<Duration> {
    let request = format!("GET /who HTTP/1.1\r\nhost: {address}\r\nx-agent-session: s-1\r\n\r\n");
    while began.elapsed() < LIMIT {
        if let Ok(mut wire) = Wire::open(address)
            && let Ok((head, ..)) = wire.exchange(request.as_bytes())
            && head.status == 200
        {
            return Ok(began.elapsed());
        }
        std::thread::sleep(LOOK);
    }
    bail!("no answer within {LIMIT:?}")
}

/// The resident memory of an Envoy that has served a while.
async fn resident(config: EnvoyConfig) -> Result<u64> {
    let envoy = Envoy::start(config).await?;
    let call = Call::get("/who").header(crate::names::SESSION, "s-1");
    for _ in 0..CONNECTIONS {
        let mut line = Line::new(envoy.address(), Protocol::Http1);
        for _ in 0..REQUESTS {
            line.send(&call).await?;
        }
    }
    cpu::resident_kib(envoy.pid().context("Envoy does not run")?)
}
