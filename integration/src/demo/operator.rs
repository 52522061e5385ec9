//! Who carries out the release: colorfast, or plain Envoy for comparison.

mod colorfast;
mod plain;

use std::time::{Duration, Instant};

use anyhow::Result;

use super::screen::Screen;
use super::world::{Agents, World};

pub use colorfast::Colorfast;
pub use plain::PlainEnvoy;

/// The steps of the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Green gets its bundle, and no session yet.
    Stage,
    /// Green takes a tenth of the new sessions.
    Ramp,
    /// Green takes all new sessions.
    Switch,
    /// Everybody leaves green.
    Rollback,
}

/// How a step went.
#[derive(Clone, Debug)]
pub struct Told {
    /// The command, as a person would type it; none where there is nothing to do.
    pub command: Option<String>,
    /// What the command answered.
    pub answer: String,
    /// When it was given.
    pub began: Instant,
    /// When it came back.
    pub ended: Instant,
    /// How long it took every proxy to confirm, where anybody confirms.
    pub confirmed_after: Option<Duration>,
}

/// One slot, as whoever decides has it.
#[derive(Clone, Debug)]
pub struct SlotState {
    /// The slot.
    pub slot: String,
    /// What it is doing, where there is a word for it.
    pub phase: Option<String>,
    /// Its share of the new sessions, in parts of 10,000.
    pub weight: u32,
    /// What it runs.
    pub bundle: Option<String>,
}

/// Who carries out the release, with what that takes.
#[derive(Debug)]
pub enum Operator {
    /// A sidecar, and its command line.
    Colorfast(Colorfast),
    /// The runtime weights of Envoy.
    PlainEnvoy(PlainEnvoy),
}

impl Operator {
    /// Starts all that a release takes, with blue live.
    ///
    /// # Errors
    /// Where anything does not start, or refuses.
    pub async fn start_with_colorfast(screen: &Screen) -> Result<World> {
        let agents = Agents::start().await?;
        let colorfast = Colorfast::start(screen).await?;
        let envoy = colorfast.start_envoy(agents.addresses()).await?;
        Ok(World { envoy, operator: Self::Colorfast(colorfast), agents })
    }

    /// Starts the same without colorfast.
    ///
    /// # Errors
    /// Where anything does not start.
    pub async fn start_without() -> Result<World> {
        let agents = Agents::start().await?;
        let (plain, envoy) = PlainEnvoy::start(&agents).await?;
        Ok(World { envoy, operator: Self::PlainEnvoy(plain), agents })
    }

    /// Carries out a step.
    ///
    /// # Errors
    /// Where it is refused, or not confirmed.
    pub async fn carry_out(&mut self, step: Step) -> Result<Told> {
        match self {
            Self::Colorfast(colorfast) => colorfast.carry_out(step).await,
            Self::PlainEnvoy(plain) => plain.carry_out(step).await,
        }
    }

    /// How the slots stand.
    ///
    /// # Errors
    /// Where the sidecar does not answer.
    pub async fn slots(&self) -> Result<Vec<SlotState>> {
        match self {
            Self::Colorfast(colorfast) => colorfast.slots().await,
            Self::PlainEnvoy(plain) => Ok(plain.slots()),
        }
    }
}
