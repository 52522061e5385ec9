//! The same release by Envoy alone: weighted clusters, whose weights are set at run time. Every request draws anew,
//! for nothing keeps a session where it began.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::{SlotState, Step, Told};
use crate::demo::world::{Agents, BLUE, GREEN, SIDES, Side};
use crate::envoy::Admin;
use crate::{Envoy, EnvoyConfig};

/// What the runtime keys of the weights begin with.
const RUNTIME: &str = "agents";

/// An Envoy without the filter.
#[derive(Debug)]
pub struct PlainEnvoy {
    admin: Admin,
    /// Blue's and green's share, in percent.
    weights: [u32; 2],
}

impl PlainEnvoy {
    /// Starts an Envoy that sends everything to blue.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn start(agents: &Agents) -> Result<(Self, Envoy)> {
        let weighted = json!({"match": {"prefix": "/"}, "route": {"timeout": "0s", "weighted_clusters": {
            "runtime_key_prefix": RUNTIME,
            "clusters": [{"name": cluster(BLUE.slot), "weight": 100}, {"name": cluster(GREEN.slot), "weight": 0}],
        }}});
        let config = EnvoyConfig::shipped()?.without_filter().first_route(&weighted).edit(|document| {
            document["layered_runtime"] = json!({"layers": [{"name": "admin", "admin_layer": {}}]});
            Ok(())
        });
        let config = config.agent(BLUE.slot, agents.blue.address()).agent(GREEN.slot, agents.green.address());
        let envoy = Envoy::start(config).await?;
        Ok((Self { admin: envoy.admin()?, weights: [100, 0] }, envoy))
    }

    /// Sets the weights of a step.
    ///
    /// # Errors
    /// Where Envoy does not take them.
    pub async fn carry_out(&mut self, step: Step) -> Result<Told> {
        let began = Instant::now();
        let weights = match step {
            Step::Stage => self.weights,
            Step::Ramp => [90, 10],
            Step::Switch => [0, 100],
            Step::Rollback => [100, 0],
        };
        if weights == self.weights {
            let answer = String::new();
            return Ok(Told { command: None, answer, began, ended: Instant::now(), confirmed_after: None });
        }
        let set = |side: usize| format!("{RUNTIME}.{}={}", cluster(SIDES[side].slot), weights[side]);
        let path = format!("/runtime_modify?{}&{}", set(0), set(1));
        let answer = self.admin.post(&path).await?.text().trim_end().to_owned();
        self.weights = weights;
        let command = Some(format!("curl -X POST 'http://{}{path}'", self.admin.address()));
        Ok(Told { command, answer, began, ended: Instant::now(), confirmed_after: None })
    }

    /// How the slots stand.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotState> {
        let slot = |(side, percent): (&&Side, u32)| SlotState {
            slot: side.slot.to_owned(),
            phase: None,
            weight: percent * 100,
            bundle: Some(side.bundle.to_owned()),
        };
        SIDES.iter().zip(self.weights).map(slot).collect()
    }
}

fn cluster(slot: &str) -> String {
    format!("agent_{slot}")
}
