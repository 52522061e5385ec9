//! `colorfast run`: leases of runs that work without traffic.

use std::time::Duration;

use clap::Subcommand;
use colorfast_core::ids::{BundleId, ServiceName};

use crate::api::runs::{HoldRun, RunLease, RunName};
use crate::cli::args::duration;
use crate::cli::client::Client;
use crate::cli::error::{Exit, Failure};
use crate::cli::output::{Format, Output, render};
use crate::cli::words;

/// `colorfast run …`
#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// Take a lease for a run, or renew it: the slot that runs its bundle is not recycled meanwhile
    Hold {
        /// The name that the run has at its agent
        run: RunName,
        /// The bundle that it began on, as x-agent-bundle said
        #[arg(long, value_name = "ID")]
        bundle: BundleId,
        /// How long the lease holds unless it is renewed, a day at most
        #[arg(long, value_name = "TIME", default_value = "1m", value_parser = duration)]
        ttl: Duration,
    },
    /// End the lease of a run
    End {
        /// The run
        run: RunName,
    },
    /// List the runs that hold a lease
    List,
}

/// Takes, ends or lists leases.
///
/// # Errors
/// As the client's, and where the time is no whole number of seconds.
pub async fn run(
    client: &Client,
    output: &Output,
    service: &ServiceName,
    command: RunCommand,
) -> Result<Exit, Failure> {
    let written = match command {
        RunCommand::Hold { run, bundle, ttl } => {
            let seconds = u32::try_from(ttl.as_secs()).ok().filter(|seconds| *seconds > 0 && ttl.subsec_nanos() == 0);
            let seconds = seconds.ok_or_else(|| Failure::usage("--ttl: is no whole number of seconds from 1 on"))?;
            let lease = client.hold_run(service, &run, &HoldRun { bundle, ttl_seconds: Some(seconds) }).await?;
            match output.format {
                Format::Json => output.document(&lease),
                Format::Text => output.line(&told(&lease)),
            }
        }
        RunCommand::End { run } => {
            client.end_run(service, &run).await?;
            match output.format {
                Format::Json => output.document(&serde_json::json!({"service": service, "ended": run})),
                Format::Text => output.line(&format!("{run} holds nothing any more")),
            }
        }
        RunCommand::List => list(client, output, service).await,
    };
    Ok(output.end(Exit::Done, written))
}

fn told(lease: &RunLease) -> String {
    let RunLease { run, bundle, slot, phase, expires, .. } = lease;
    format!("{run} holds {slot} ({phase}), which runs {bundle}, until {}", words::moment(*expires))
}

async fn list(client: &Client, output: &Output, service: &ServiceName) -> Result<(), Failure> {
    let leases = client.runs(service).await?;
    if output.format == Format::Json {
        return output.document(&leases);
    }
    if leases.is_empty() {
        return output.line("no run holds a lease: `colorfast run hold RUN --bundle ID` takes one");
    }
    let now = words::now();
    let mut table = output.table(&["RUN", "SLOT", "PHASE", "BUNDLE", "BEGAN", "LEASE", "ENDS"]);
    for lease in &leases {
        let left = |at| words::left(now, at).unwrap_or_else(|| "over".to_owned());
        table.add_row([
            lease.run.to_string(),
            lease.slot.to_string(),
            output.paint.phase(lease.phase),
            lease.bundle.to_string(),
            words::ago(now, lease.began),
            left(lease.expires),
            left(lease.ends),
        ]);
    }
    output.text(&render(&table))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::fake::Fake;

    /// Each command asks for what it says, and tells what it got.
    #[tokio::test]
    async fn runs_are_held_ended_and_listed() {
        let lease = json!({"run": "r-1", "bundle": "v1", "slot": "blue", "phase": "draining",
            "began": 1_763_719_000_000_u64, "expires": 1_763_719_200_000_u64, "ends": 1_764_000_000_000_u64});
        let answer = lease.clone();
        let fake = Fake::start(move |asked| match asked.line.split(' ').next() {
            Some("GET") => (200, json!([answer])),
            Some("DELETE") => (204, json!(null)),
            _ => (200, answer.clone()),
        })
        .await;
        let (service, output) = ("chat".parse().unwrap(), Output::plain());
        let name = || "r-1".parse().unwrap();
        let hold = |ttl| RunCommand::Hold { run: name(), bundle: "v1".parse().unwrap(), ttl };
        assert!(run(&fake.client, &output, &service, hold(Duration::from_millis(1_500))).await.is_err());
        for command in [hold(Duration::from_secs(60)), RunCommand::End { run: name() }, RunCommand::List] {
            assert_eq!(run(&fake.client, &output, &service, command).await.unwrap(), Exit::Done);
        }
        let place = "/v1/services/chat/runs";
        assert_eq!(fake.lines(), [format!("PUT {place}/r-1"), format!("DELETE {place}/r-1"), format!("GET {place}")]);
        assert_eq!(fake.asked()[0].body, json!({"bundle": "v1", "ttl_seconds": 60}));
        let told = told(&serde_json::from_value(lease).unwrap());
        assert_eq!(told, "r-1 holds blue (draining), which runs v1, until 2025-11-21T10:00:00Z");
    }
}
