//! From the switch command to confirmation: two real Envoys, and simulated members beside them.

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::json;

use super::members::Members;
use super::options::Size;
use super::progress::Progress;
use super::stats::Latency;
use crate::mesh::{Mesh, SLOTS};

/// Envoys; where more members are wanted, the others are simulated.
const REAL: u32 = 2;
/// Switches before those that are timed.
const WARM_UP: u32 = 3;

/// The times of the switches with one number of members, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Confirmation {
    /// How many members must confirm.
    pub members: u32,
    /// How many of them are Envoys.
    pub envoys: u32,
    /// How many switches were timed.
    pub switches: u32,
    /// What the operator waits: from the start of `colorfast switch` to its end, its process included.
    pub command_ms: Latency,
    /// From the order until every member asks the fleet and has told it its sessions, before any weight moves.
    pub prepared_ms: Latency,
    /// From the append of the switch to the last acknowledgement, as the sidecar says.
    pub sidecar_ms: Latency,
}

/// Measures with each number of members.
///
/// # Errors
/// Where a part does not start or a switch is not confirmed.
pub async fn measure(size: &Size, progress: &Progress) -> Result<Vec<Confirmation>> {
    let mesh = Mesh::with(json!({"pin": {}}), &SLOTS).await?;
    let simulated = Members::new(mesh.sidecar.discovery(), mesh.sidecar.discovery_token()?);
    let (mut envoys, mut come) = (Vec::new(), 0);
    let mut all = Vec::new();
    // Blue is live at first.
    let mut slots = SLOTS.iter().map(|(slot, _)| slot).cycle().skip(1);
    for members in size.members.iter().copied() {
        progress.step(&format!("waiting for {members} members"));
        let real = members.min(REAL);
        while envoys.len() < real as usize {
            envoys.push(mesh.envoy(&format!("edge-{}", envoys.len())).await?);
        }
        simulated.come(come..members - real);
        come = members - real;
        mesh.until_current(members as usize).await?;

        let (mut command, mut prepared, mut sidecar) = (Vec::new(), Vec::new(), Vec::new());
        for nth in 0..WARM_UP + size.switches {
            progress.part(
                &format!("switches with {members} members"),
                u64::from(nth),
                u64::from(WARM_UP + size.switches),
            );
            let Some(slot) = slots.next() else { break };
            let done = mesh.does(&format!("switch {slot}")).await?;
            if nth >= WARM_UP {
                command.push((done.told - done.asked).as_secs_f64() * 1e3);
                prepared.push(done.prepared_after.as_secs_f64() * 1e3);
                sidecar.push(done.confirmed_after.as_secs_f64() * 1e3);
            }
        }
        ensure!(mesh.members().await?.len() == members as usize, "a member came or went");
        let [command_ms, prepared_ms, sidecar_ms] = [command, prepared, sidecar].map(Latency::of);
        all.push(Confirmation { members, envoys: real, switches: size.switches, command_ms, prepared_ms, sidecar_ms });
    }
    Ok(all)
}
