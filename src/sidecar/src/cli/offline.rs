//! Commands on an offline store: the control API in this process, without what only proxies could tell.

use std::io::IsTerminal as _;
use std::path::Path;

use colorfast_core::ids::ServiceName;

use crate::cli::args::{Globals, OperatorCommand, ServiceCommand};
use crate::cli::client::Client;
use crate::cli::error::{Exit, Failure};
use crate::cli::keys::KeysCommand;
use crate::cli::locate::{self, Environment};
use crate::cli::operator::{self, Operator};
use crate::cli::output::Output;
use crate::cli::render::{self, SnapshotCommand};
use crate::cli::words;
use crate::server::{Missing, Offline, OfflineError};

/// Does what is asked, on the store in `folder`.
///
/// # Errors
/// Where the store cannot be opened, where the command needs proxies that report, and as the command's own.
pub async fn run(
    command: OperatorCommand,
    folder: &Path,
    globals: Globals,
    environment: &Environment,
    output: Output,
) -> Result<Exit, Failure> {
    if let Some(why) = needs_proxies(&command) {
        return Err(Failure::refused("offline", format!("not on an offline store: {why}")));
    }
    let makes = matches!(command, OperatorCommand::Service(ServiceCommand::Apply { .. }));
    let missing = if makes { Missing::Make } else { Missing::Refuse };
    let opened = Offline::open(folder, missing, locate::user()).await;
    let store = opened.map_err(|error| failure(&error, folder))?;
    let named = operator::named(&globals, environment)?;
    match command {
        OperatorCommand::Snapshot(SnapshotCommand::Render(args)) => {
            render::run(&args, store.snapshots(), named.as_ref(), &output)
        }
        OperatorCommand::Keys(KeysCommand::Export) => export(&store, named.as_ref(), &output),
        command => {
            let client = Client::inside(store.control(), folder)?;
            Operator::with(client, output, globals, named).obey(command).await
        }
    }
}

/// Why a command makes no sense where no proxy reports.
fn needs_proxies(command: &OperatorCommand) -> Option<&'static str> {
    match command {
        OperatorCommand::Watch | OperatorCommand::Status { watch: true } => {
            Some("nothing moves in it between two commands; `colorfast status` shows it as it is")
        }
        OperatorCommand::Events(events) if events.follow => {
            Some("nothing is appended while somebody looks; `colorfast events` shows what there is")
        }
        OperatorCommand::Member(_) => Some("no proxy is a member of it"),
        OperatorCommand::Run(_) => Some("runs hold their slot at a sidecar, and there is none"),
        OperatorCommand::Token(_) => Some("whoever may write the folder may do everything"),
        OperatorCommand::Deadline { .. } => {
            Some("nobody waits for the time to come; `colorfast migrate SLOT` when it has")
        }
        OperatorCommand::Keys(KeysCommand::Rotate { .. } | KeysCommand::Retire { .. }) => {
            Some("a key may sign only once every proxy has it, and go only once none does, which nobody can tell here")
        }
        _ => None,
    }
}

fn failure(error: &OfflineError, folder: &Path) -> Failure {
    let folder = words::operand(&folder.to_string_lossy());
    match error {
        OfflineError::None(_) => {
            Failure::not_found(error).next(format!("colorfast --store {folder} service apply FILE   (makes one)"))
        }
        OfflineError::OfSidecar(_) => Failure::refused("store-of-sidecar", error)
            .next(format!("colorfast --data-dir {folder} …   (asks the sidecar that runs there)"))
            .next("colorfast --store DIR …   (another folder)"),
        OfflineError::InUse(_) => Failure::refused("in-use", error).next("the same command, once that one has ended"),
        OfflineError::NoSecrets(_) => Failure::refused("no-secrets", error),
        OfflineError::Failed(_) => Failure::outage(error),
    }
}

/// Prints the keys of all services, or of one.
fn export(store: &Offline, named: Option<&ServiceName>, output: &Output) -> Result<Exit, Failure> {
    if std::io::stdout().is_terminal() {
        let step = "colorfast --store DIR keys export | kubectl create secret generic colorfast-keys --from-file=COLORFAST_KEYS=/dev/stdin";
        return Err(Failure::usage("standard output is a terminal, and these are keys").next(step));
    }
    let keys: std::collections::BTreeMap<_, _> =
        store.keys().into_iter().filter(|(service, _)| named.is_none_or(|named| named == service)).collect();
    if keys.is_empty() {
        return Err(Failure::not_found("the store has no such service").next("colorfast --store DIR status"));
    }
    output.document_line(&keys)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{Arguments, Command};

    fn command(line: &str) -> OperatorCommand {
        match Arguments::parse_from(line.split_whitespace()).command {
            Command::Operator(command) => command,
            _ => panic!("{line}"),
        }
    }

    /// Whatever needs proxies that report says why it cannot be had; all else goes on.
    #[test]
    fn what_needs_proxies_is_refused() {
        for line in [
            "colorfast watch",
            "colorfast status --watch",
            "colorfast events --follow",
            "colorfast member forget a/1",
            "colorfast run list",
            "colorfast token list",
            "colorfast deadline blue 1h",
            "colorfast keys rotate",
            "colorfast keys retire 1",
            "colorfast keys rotate --runs",
            "colorfast keys retire 1 --runs",
        ] {
            assert!(needs_proxies(&command(line)).is_some(), "{line}");
        }
        for line in [
            "colorfast status",
            "colorfast events",
            "colorfast why --session a",
            "colorfast switch green",
            "colorfast rollback",
            "colorfast recycle blue",
            "colorfast keys list",
            "colorfast keys list --runs",
            "colorfast keys export",
            "colorfast backup b.db",
            "colorfast verify-log",
            "colorfast preview-token green",
            "colorfast snapshot render",
        ] {
            assert!(needs_proxies(&command(line)).is_none(), "{line}");
        }
    }
}
