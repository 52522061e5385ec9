//! `colorfast restore`: a backup in the place of the store, while no sidecar runs.

use serde::Serialize;

use crate::cli::args;
use crate::cli::args::Globals;
use crate::cli::error::{Exit, Failure};
use crate::cli::locate::{self, Environment};
use crate::cli::output::{Format, Output};
use crate::cli::progress::{PATIENCE, Progress};
use crate::cli::words;
use crate::server::{self, Existing, RestoreError, Restored};

/// What a restore prints for programs.
#[derive(Serialize)]
struct Report {
    data_dir: String,
    entries: u64,
    from_epoch: u64,
    epoch: u64,
    entry: u64,
    services: usize,
    given: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<String>,
}

/// Restores.
///
/// # Errors
/// Where a sidecar runs, a store is there, or the file is no backup; nothing has changed then.
pub fn run(
    args: &args::Restore,
    globals: &Globals,
    environment: &Environment,
    output: &Output,
) -> Result<Exit, Failure> {
    let folder = locate::data_dir(globals, environment)?.path;
    let existing = if args.force { Existing::Replace } else { Existing::Leave };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::outage(format!("cannot start: {error}")))?;
    let restored = runtime.block_on(async {
        let principal = locate::user();
        let task = server::restore(&args.file, &folder, existing, &principal);
        Progress::after(PATIENCE).during("reading the backup".to_owned(), task).await
    });
    let restored = restored.map_err(|error| failure(&error, args))?;
    let written = match output.format {
        Format::Json => output.document(&report(&restored, folder.display().to_string())),
        Format::Text => output.text(&told(&restored, globals, output)),
    };
    Ok(output.end(Exit::Done, written))
}

fn failure(error: &RestoreError, args: &args::Restore) -> Failure {
    let file = words::operand(&args.file.to_string_lossy());
    match error {
        RestoreError::InUse(_) => {
            Failure::refused("in-use", error).next("end that sidecar (SIGTERM), then restore again")
        }
        RestoreError::Exists(_) => Failure::refused("store-exists", error)
            .next(format!("colorfast restore --force {file}   (keeps it beside the restored one)")),
        RestoreError::Unreadable { .. } => Failure::usage(error),
        RestoreError::Unfit { .. } => Failure::refused("unfit-backup", error).next("take an older backup"),
        RestoreError::Failed(_) => Failure::outage(error),
    }
}

fn report(restored: &Restored, data_dir: String) -> Report {
    Report {
        data_dir,
        entries: restored.copy.entries,
        from_epoch: restored.copy.epoch.0.0,
        epoch: restored.epoch.0.0,
        entry: restored.entry,
        services: restored.copy.services,
        given: restored.given.0,
        kept: restored.kept.as_ref().map(|path| path.display().to_string()),
    }
}

fn told(restored: &Restored, globals: &Globals, output: &Output) -> String {
    let Restored { copy, epoch, entry, kept, .. } = restored;
    let mut text = format!(
        "{} {}, {} entries of epoch {}; they go on as epoch {} by entry {entry}\n",
        output.paint.good("restored"),
        words::count(copy.services, "service"),
        copy.entries,
        copy.epoch.0.0,
        epoch.0.0,
    );
    let note = output.paint.dim("note:");
    if let Some(kept) = kept {
        text.push_str(&format!("{note}  the store that was there is {}\n", words::tame(&kept.display().to_string())));
    }
    text.push_str(&format!(
        "{note}  what was done after the copy is lost: its sessions begin anew, and what it broke or revoked is good again\n"
    ));
    let start = match &globals.data_dir {
        Some(path) => format!("colorfast serve --data-dir={}", words::shell(&path.to_string_lossy())),
        None => "colorfast serve".to_owned(),
    };
    text.push_str(&format!("{}  {start}   (proxies follow by themselves)\n", output.paint.dim("next:")));
    text
}
