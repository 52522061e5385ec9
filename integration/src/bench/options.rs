//! How much is measured.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use super::bodies::Extent;

/// Lengths of bodies, from a question to a long history with images, in bytes.
const SIZES: [usize; 6] = [1_000, 60_000, 300_000, 1_000_000, 3_000_000, 10_000_000];

/// Measures what colorfast costs, and writes a report.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench", version)]
pub struct Options {
    /// How much: `full` for figures to keep, `quick` for a look, `smoke` to see that it runs
    #[arg(value_enum, default_value = "full")]
    pub mode: Mode,
    /// Where the reports go, instead of target/bench
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Measure this part only
    #[arg(long, value_enum)]
    pub only: Option<Part>,
    /// An earlier build of the filter, which runs beside today's in the part `requests`
    #[arg(long, value_name = "WASM", env = "COLORFAST_WASM_BEFORE")]
    pub before: Option<PathBuf>,
}

impl Options {
    /// Whether a part is to be measured.
    #[must_use]
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

/// What is measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// CPU per request
    Requests,
    /// Bodies that are searched for a session id
    Bodies,
    /// From the switch command to confirmation
    Confirmation,
    /// What one look-up in the fleet adds
    LookUps,
    /// An answer that waits until the fleet knows its id
    Told,
    /// Start and memory
    Starts,
    /// Many more sessions than a proxy has room for
    Room,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Minutes: the figures of BENCHMARKS.md.
    Full,
    /// A minute or so: figures that waver.
    Quick,
    /// As little as can be: figures that mean nothing.
    Smoke,
}

/// The numbers of a mode.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Bodies that are searched.
    pub bodies: Extent,
    /// How often one listener is asked in one round, over every connection.
    pub times: u32,
    /// How often it is asked before the first round.
    pub warm_up: u32,
    /// Rounds over all listeners.
    pub rounds: u32,
    /// Sessions that are looked up, one after the other: several times as many as a worker has copies of.
    pub remembered: u32,
    /// Switches that are timed, with each number of members.
    pub switches: u32,
    /// The numbers of members.
    pub members: &'static [u32],
    /// Starts that are timed, with and without the filter.
    pub starts: u32,
    /// Numbers of workers whose memory is compared.
    pub workers: &'static [u32],
    /// Sessions that one proxy does not know and the fleet does.
    pub look_ups: u32,
    /// Answers with a new id, of each kind.
    pub told: u32,
    /// Sessions that come to one proxy, and how many it has room for.
    pub room: Option<(u64, u32)>,
}

impl Mode {
    /// The word in the report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Quick => "quick",
            Self::Smoke => "smoke",
        }
    }

    /// Its numbers.
    #[must_use]
    pub fn size(self) -> Size {
        match self {
            Self::Full => Size {
                bodies: Extent { sizes: &SIZES, rounds: 51, waves: 20 },
                times: 40,
                warm_up: 200,
                rounds: 101,
                remembered: 16_384,
                switches: 200,
                members: &[1, 10, 100, 1_000],
                starts: 11,
                workers: &[1, 2, 3, 4],
                look_ups: 2_000,
                told: 2_000,
                room: Some((1_000_000, 131_072)),
            },
            Self::Quick => Size {
                bodies: Extent { sizes: &SIZES, rounds: 11, waves: 5 },
                times: 20,
                warm_up: 100,
                rounds: 31,
                remembered: 16_384,
                switches: 30,
                members: &[1, 10, 100, 1_000],
                starts: 5,
                workers: &[1, 4],
                look_ups: 300,
                told: 300,
                room: None,
            },
            Self::Smoke => Size {
                bodies: Extent { sizes: &[1_000, 300_000], rounds: 2, waves: 2 },
                times: 4,
                warm_up: 10,
                rounds: 3,
                remembered: 512,
                switches: 4,
                members: &[1, 10],
                starts: 1,
                workers: &[1, 2],
                look_ups: 20,
                told: 20,
                room: Some((6_000, 1_024)),
            },
        }
    }
}
