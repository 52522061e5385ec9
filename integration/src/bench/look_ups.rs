//! What one look-up in the fleet adds to a request: of a session that the proxy does not know and another has seen.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;

use super::stats::Latency;
use crate::http::{Line, Protocol};
use crate::mesh::{Mesh, SLOTS, ask, fresh};

/// The times of the same requests with a look-up and without, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LookUps {
    /// How many sessions.
    pub look_ups: usize,
    /// Of a session's first request at this proxy, which asks the fleet.
    pub with_look_up_ms: Latency,
    /// Of its second, which the proxy's own memory decides.
    pub by_memory_ms: Latency,
    /// What a look-up adds: the difference of the medians.
    pub added_p50_ms: f64,
    /// The difference of the 99th percentiles.
    pub added_p99_ms: f64,
}

impl fmt::Display for LookUps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { with_look_up_ms: with, by_memory_ms: without, added_p50_ms, added_p99_ms, .. } = self;
        write!(
            f,
            "A look-up in the fleet adds {added_p50_ms:.2} ms at p50 and {added_p99_ms:.2} ms at p99: {:.2} and {:.2} ms with \
             it, {:.2} and {:.2} ms by the proxy's own memory.",
            with.p50, with.p99, without.p50, without.p99,
        )
    }
}

/// Has sessions begin at one proxy, and times them at another while two slots hold sessions.
///
/// # Errors
/// Where a part does not start, or a session does not stay.
pub async fn measure(sessions: u32) -> Result<LookUps> {
    // One that takes longer than requests wait by default is to be seen as well.
    let mesh = Mesh::with(json!({"pin": {}, "memory": {"ask_wait_ms": 1000}}), &SLOTS).await?;
    let (first, second) = (mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?);
    mesh.until_current(2).await?;
    let mut line = Line::new(first.address(), Protocol::Http1);
    let mut begun = Vec::new();
    for number in 0..sessions {
        let id = format!("look-up-{number}");
        let (reply, _) = ask(&mut line, &fresh(&id)).await?;
        begun.push((id, reply.bundle));
    }
    mesh.does("switch green").await?;
    let asked = of(second.address(), begun.iter().map(|(id, bundle)| (id.as_str(), bundle.as_str()))).await?;
    let met = second.stats("waits.need.fleet.end.met$").await?.values().sum::<u64>();
    ensure!(met == u64::from(sessions), "{met} of {sessions} sessions were looked up");
    Ok(asked)
}

/// Asks twice for each session, which this proxy does not know and must go on with its bundle: with a look-up, and without.
///
/// # Errors
/// Where a session does not stay.
pub async fn of<'a>(proxy: SocketAddr, sessions: impl Iterator<Item = (&'a str, &'a str)>) -> Result<LookUps> {
    let mut line = Line::new(proxy, Protocol::Http1);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (id, bundle) in sessions {
        for times in [&mut first, &mut second] {
            let sent = Instant::now();
            let (reply, _) = ask(&mut line, &fresh(id)).await.with_context(|| format!("the session {id}"))?;
            times.push(sent.elapsed().as_secs_f64() * 1e3);
            ensure!(reply.bundle == bundle, "{id} moved to {}", reply.bundle);
        }
    }
    let look_ups = first.len();
    let (with, without) = (Latency::of(first), Latency::of(second));
    Ok(LookUps {
        look_ups,
        added_p50_ms: with.p50 - without.p50,
        added_p99_ms: with.p99 - without.p99,
        with_look_up_ms: with,
        by_memory_ms: without,
    })
}
