//! `colorfast doctor`: what is misconfigured in an Envoy, where, why it matters, and what to write instead.
//!
//! ```text
//!  admin address or file ─▶ proxy ─┐
//!  stats, sidecar, release ────────┴▶ evidence ──checks──▶ findings ─▶ people, programs
//! ```

mod checks;
mod evidence;
mod finding;
mod gather;
mod plugin;
mod proxy;

use serde::Serialize;

use crate::cli::args::{self, Globals};
use crate::cli::error::{Exit, Failure};
use crate::cli::locate::Environment;
use crate::cli::output::{Format, Output};
use crate::cli::progress::{PATIENCE, Progress};
use crate::cli::words;
use finding::{Finding, Level, Place, Skipped};

/// What is printed for programs.
#[derive(Serialize)]
struct Report<'a> {
    source: &'a str,
    findings: &'a [Finding],
    skipped: &'a [Skipped],
}

/// Looks at an Envoy.
///
/// # Errors
/// Where it cannot be looked at.
pub fn run(
    args: &args::Doctor,
    globals: &Globals,
    environment: &Environment,
    output: &Output,
) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::outage(format!("cannot start: {error}")))?;
    let gathered = runtime.block_on(async {
        let task = gather::all(args, globals, environment);
        Progress::after(PATIENCE).during("reading the configuration".to_owned(), task).await
    })?;
    let findings = checks::diagnose(&gathered.evidence);
    let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count();
    let written = match output.format {
        Format::Json => {
            output.document(&Report { source: &gathered.source, findings: &findings, skipped: &gathered.skipped })
        }
        Format::Text => output.text(&page(&gathered.source, &findings, &gathered.skipped, output)),
    };
    Ok(output.end(if problems == 0 { Exit::Done } else { Exit::Refused }, written))
}

fn page(source: &str, findings: &[Finding], skipped: &[Skipped], output: &Output) -> String {
    let paint = output.paint;
    let mut text = String::new();
    for Finding { check, level, place, what, why, instead } in findings {
        let head = match level {
            Level::Problem => paint.bad("problem"),
            Level::Note => paint.warn("note"),
        };
        let (place, what) = (words::tame(&told(place)), paint.strong(&words::tame(what)));
        text.push_str(&format!("{head} {check} {}\n  {what}\n", paint.dim(&place)));
        text.push_str(&format!("  {}  {why}\n", paint.dim("why:")));
        text.push_str(&format!("  {} {}\n\n", paint.dim("write:"), words::tame(instead)));
    }
    for Skipped { check, why } in skipped {
        text.push_str(&format!("{} {check}: {}\n", paint.dim("not looked at:"), words::tame(why)));
    }
    let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count();
    let sum = match problems {
        0 => paint.good("nothing is wrong"),
        count => paint.bad(&words::count(count, "problem")),
    };
    text.push_str(&format!("{sum} with {}\n", words::tame(source)));
    text
}

fn told(place: &Place) -> String {
    let listener = place.listener.iter().map(|name| format!("listener {name}"));
    let chain = place.filter_chain.iter().map(|name| format!("filter chain {name}"));
    let route = place.route.iter().map(|name| format!("route {name}"));
    let parts: Vec<_> = listener.chain(chain).chain(route).collect();
    if parts.is_empty() { "the whole proxy".to_owned() } else { parts.join(", ") }
}
