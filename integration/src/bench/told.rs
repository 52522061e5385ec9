//! What an answer takes that hands out a new id and is let go only when the fleet has it, beside one that goes at once.

use std::fmt;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::progress::Progress;
use super::stats::Latency;
use super::table::table;
use crate::Envoy;
use crate::http::{Call, Line, Protocol};
use crate::mesh::{Mesh, SLOTS};

/// The limits that are compared: none waits, and the default.
const LIMITS_MS: [u32; 2] = [0, 20];
/// Answers of each before those that are timed.
const WARM_UP: u32 = 20;

/// The times of answers.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// How many of each.
    pub answers: u32,
    /// By how long they may wait.
    pub waits: Vec<Wait>,
}

/// The times under one limit.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Wait {
    /// `memory.tell_wait_ms`
    pub tell_wait_ms: u32,
    /// From the request to the end of its answer, in milliseconds.
    pub answer_ms: Latency,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.waits.iter().map(|wait| {
            let times = [wait.answer_ms.p50, wait.answer_ms.p99, wait.answer_ms.max].map(|ms| format!("{ms:.2}"));
            [wait.tell_wait_ms.to_string()].into_iter().chain(times).collect()
        });
        write!(f, "{}", table(&["answers with a new id, tell_wait_ms", "p50 ms", "p99 ms", "worst ms"], rows))
    }
}

/// A proxy under one limit, and a client of it.
#[derive(Debug)]
struct Lane {
    limit: u32,
    _mesh: Mesh,
    _envoy: Envoy,
    line: Line,
    times: Vec<f64>,
}

impl Lane {
    /// Both slots of it hold sessions: where one alone does, nothing waits.
    async fn start(limit: u32) -> Result<Self> {
        let memory = json!({"tell_wait_ms": limit});
        let mesh =
            Mesh::with(json!({"pin": {}, "learn_from": [{"body": "/opened"}], "memory": memory}), &SLOTS).await?;
        let envoy = mesh.envoy("edge-1").await?;
        mesh.does("ramp green 50%").await?;
        let line = Line::new(envoy.address(), Protocol::Http1);
        Ok(Self { limit, _mesh: mesh, _envoy: envoy, line, times: Vec::new() })
    }

    /// Opens a conversation, whose id comes in the body of the answer; tells how long that took, in milliseconds.
    async fn open(&mut self, number: u32) -> Result<f64> {
        let sent = Instant::now();
        let answer = self.line.send(&Call::get(&format!("/open?name=told-{number}"))).await?;
        let took = sent.elapsed();
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        let body: Value = answer.json()?;
        let id = body["opened"].as_str().context("no id in the body")?;
        ensure!(id == format!("told-{number}-body"), "{id}");
        Ok(took.as_secs_f64() * 1e3)
    }
}

/// Times so many answers under each limit, in turn.
///
/// # Errors
/// Where a part does not start, or an answer does not come.
pub async fn measure(answers: u32, progress: &Progress) -> Result<Told> {
    progress.step("proxies that wait until the fleet knows an id");
    let mut lanes = Vec::new();
    for limit in LIMITS_MS {
        lanes.push(Lane::start(limit).await?);
    }
    for number in 0..WARM_UP + answers {
        progress.part("answers with a new id", number.into(), (WARM_UP + answers).into());
        // There and back, so that none always comes after the other.
        lanes.reverse();
        for lane in &mut lanes {
            let took = lane.open(number).await?;
            if number >= WARM_UP {
                lane.times.push(took);
            }
        }
    }
    lanes.sort_by_key(|lane| lane.limit);
    let wait = |lane: Lane| Wait { tell_wait_ms: lane.limit, answer_ms: Latency::of(lane.times) };
    Ok(Told { answers, waits: lanes.into_iter().map(wait).collect() })
}
