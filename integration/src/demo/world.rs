//! What the demo runs on: two agents and the Envoy in front of them.

use std::net::SocketAddr;

use anyhow::Result;

use crate::{Agent, Envoy};

/// A slot of the demo and the bundle that it gets.
#[derive(Debug, PartialEq, Eq)]
pub struct Side {
    /// The slot.
    pub slot: &'static str,
    /// Its bundle.
    pub bundle: &'static str,
}

/// Where everybody talks at first.
pub const BLUE: Side = Side { slot: "blue", bundle: "chat-2.3" };
/// What is released.
pub const GREEN: Side = Side { slot: "green", bundle: "chat-2.4" };
/// Both.
pub const SIDES: [&Side; 2] = [&BLUE, &GREEN];

impl Side {
    /// The side whose bundle this is.
    #[must_use]
    pub fn of(bundle: &str) -> Option<&'static Self> {
        SIDES.into_iter().find(|side| side.bundle == bundle)
    }
}

/// The agents of both sides. Each keeps its conversations in its own memory.
#[derive(Debug)]
pub struct Agents {
    /// Of [`BLUE`].
    pub blue: Agent,
    /// Of [`GREEN`].
    pub green: Agent,
}

impl Agents {
    /// Starts both.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start() -> Result<Self> {
        Ok(Self { blue: Agent::start(BLUE.bundle).await?, green: Agent::start(GREEN.bundle).await? })
    }

    /// Where each side listens, in the order of [`SIDES`].
    #[must_use]
    pub fn addresses(&self) -> [SocketAddr; 2] {
        [self.blue.address(), self.green.address()]
    }

    /// How many requests each side got so far, in the order of [`SIDES`].
    #[must_use]
    pub fn requests(&self) -> [u64; 2] {
        [self.blue.requests(), self.green.requests()]
    }
}

/// Everything that runs. Envoy ends first, its agents last.
#[derive(Debug)]
pub struct World {
    /// The proxy.
    pub envoy: Envoy,
    /// Who carries out the release, with what that takes.
    pub operator: super::operator::Operator,
    /// Who answers.
    pub agents: Agents,
}

impl World {
    /// Where clients talk.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.envoy.address()
    }
}
