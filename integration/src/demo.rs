//! A release that one can watch: blue to green and back, under clients that talk all the while.
//!
//! ```text
//!   script ──▶ operator ──▶ colorfast (its command line), or plain Envoy for comparison
//!     │          │
//!     │        world: two agents, an Envoy of two workers, a sidecar
//!     │          │
//!     ├──▶ crowd: the clients ──▶ picture ──▶ screen (live, or sober lines)
//!     └──▶ verdict: what became of each conversation, in figures
//! ```
//!
//! The agents keep conversations in memory: one that lands on the other agent is visibly broken there. With `--state` they
//! are those of `docs/examples/state`, which share a file, and the story is another one ([`state`]). The exit
//! code is 0 where every conversation was kept, 1 where one was broken or a request failed, 2 for wrong arguments,
//! and 3 where the demo could not be played.

mod crowd;
mod invitation;
mod operator;
mod options;
mod paint;
mod picture;
mod screen;
mod script;
mod state;
mod verdict;
mod world;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::process;
use options::Options;
use world::World;

/// Every conversation was kept.
const KEPT: u8 = 0;
/// A conversation was broken, or a request failed.
const BROKEN: u8 = 1;
/// The demo could not be played.
const UNPLAYED: u8 = 3;
/// Stopped before the verdict, as shells say it.
const STOPPED: u8 = 130;

/// Plays the demo as the command line wishes.
#[must_use]
pub fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    // Whatever was started belongs to this future: it is stopped when the future ends, and when it is dropped.
    let verdict = runtime.block_on(async {
        let played = tokio::select! {
            played = play(&options) => played,
            () = stopped() => return None,
        };
        if played.is_ok() && options.keep {
            stopped().await;
        }
        Some(played.map(|(kept, _world)| kept))
    });
    match verdict {
        None => ExitCode::from(STOPPED),
        Some(Ok(true)) => ExitCode::from(KEPT),
        Some(Ok(_)) => ExitCode::from(BROKEN),
        Some(Err(error)) => failed(&error),
    }
}

/// Plays what is asked for: whether every conversation was kept, and what runs still.
async fn play(options: &Options) -> Result<(bool, Option<World>)> {
    if options.state {
        return Ok((state::play(options).await?.holds(), None));
    }
    let (verdict, world) = script::play(options).await?;
    Ok((verdict.holds(), Some(world)))
}

fn failed(error: &anyhow::Error) -> ExitCode {
    for tail in process::take_tails() {
        eprintln!("{tail}\n");
    }
    eprintln!("demo: {error:#}");
    ExitCode::from(UNPLAYED)
}

/// Waits for Ctrl-C, or for whoever asks the process to end.
async fn stopped() {
    let Ok(mut end) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => if interrupted.is_err() { std::future::pending().await },
        _ = end.recv() => {}
    }
}
