//! What colorfast costs: `make bench`.
//!
//! ```text
//!   requests ─ wire (load) ─▶ one Envoy: listeners of all variants ─▶ upstream (agents)
//!      ├ calls: each host call alone, by the bench filter; its number, by the built filter in a small host
//!      └▶ samples: round by round, paired
//!   bodies ─ wire ─▶ one Envoy: listeners that read them and that do not ─▶ upstream
//!   confirmation ─ members (simulated) + two Envoys ◀─▶ sidecar ◀─ colorfast switch
//!   look-ups: two Envoys, sessions that one of them has seen
//!   told: two sidecars and Envoys, one of which lets ids go only when the fleet has them
//!   start: the VM's start, its memory
//!   room: many more sessions than one Envoy has room for
//!      └──▶ report (figures) ─▶ targets ─▶ report.json, page (charts) ─▶ report.html, table
//! ```
//!
//! BENCHMARKS.md says how it is measured and how to read it. Nothing here judges a build: targets are shown.

mod bodies;
mod calls;
mod charts;
mod confirmation;
mod cpu;
mod listeners;
pub mod look_ups;
mod machine;
mod members;
mod options;
mod page;
mod progress;
mod report;
mod requests;
pub mod room;
mod samples;
mod start;
mod stats;
mod table;
mod targets;
mod told;
mod turn;
mod upstream;
mod variants;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser as _;

use crate::{paths, process};
use options::{Options, Part};
use progress::Progress;
use report::{Report, Requests, Taken};

pub use stats::Latency;
pub(crate) use table::table;

/// The benchmark could not be run.
const FAILED: u8 = 3;

/// Measures what the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(&options)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for tail in process::take_tails() {
                eprintln!("{tail}\n");
            }
            eprintln!("bench: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

async fn run(options: &Options) -> Result<()> {
    let size = options.mode.size();
    let progress = Progress::new();
    let mut report = Report {
        format: report::FORMAT,
        release: env!("CARGO_PKG_VERSION"),
        mode: options.mode.as_str(),
        began: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%MZ").to_string(),
        machine: machine::Machine::this()?,
        requests: None,
        bodies: None,
        confirmation: Vec::new(),
        look_ups: None,
        told: None,
        starts: None,
        room: None,
        targets: Vec::new(),
    };
    if options.wants(Part::Requests) {
        let modules = requests::modules(options.before.as_deref())?;
        let samples = requests::measure(&size, &modules, &progress).await?;
        let per_round = requests::per_round(&size);
        let clock_grain_part = requests::grain_part(&samples, per_round)?;
        let before_wasm_bytes = modules.before.map(std::fs::metadata).transpose()?.map(|file| file.len());
        let taken = Taken { per_round, clock_grain_part, before_wasm_bytes };
        report.requests = Some(Requests::of(&samples, &calls::Counts::take()?, taken));
    }
    if options.wants(Part::Bodies) {
        report.bodies = Some(bodies::measure(size.bodies, &progress).await?);
    }
    if options.wants(Part::Confirmation) {
        report.confirmation = confirmation::measure(&size, &progress).await?;
    }
    if options.wants(Part::LookUps) {
        progress.step("look-ups in the fleet");
        report.look_ups = Some(look_ups::measure(size.look_ups).await?);
    }
    if options.wants(Part::Told) {
        report.told = Some(told::measure(size.told, &progress).await?);
    }
    if options.wants(Part::Starts) {
        report.starts = Some(start::measure(&size, &progress).await?);
    }
    if let Some((sessions, room)) = size.room.filter(|_| options.wants(Part::Room)) {
        let mut looks = 0;
        let tell = |_: &room::Fill| {
            progress.part(&format!("{sessions} sessions through one proxy, parts"), looks, room::LOOKS);
            looks += 1;
        };
        report.room = Some(room::measure(sessions, room, tell).await?);
    }
    progress.end();
    let report = report.judged();
    let folder = options.out.clone().unwrap_or_else(|| paths::target().join("bench"));
    let [json, html] = written(&folder, &report)?;
    println!("{}", table::summary(&report));
    println!("{}\n{}", json.display(), html.display());
    Ok(())
}

/// Writes both forms of the report.
fn written(folder: &std::path::Path, report: &Report) -> Result<[PathBuf; 2]> {
    std::fs::create_dir_all(folder)?;
    let (json, html) = (folder.join("report.json"), folder.join("report.html"));
    for (path, text) in [(&json, serde_json::to_string_pretty(report)? + "\n"), (&html, page::page(report)?)] {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok([json, html])
}
