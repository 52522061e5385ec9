//! `colorfast backup`: a copy of all that the sidecar keeps, in a file that appears whole or not at all.

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use crate::cli::client::{Client, Download};
use crate::cli::error::{Exit, Failure};
use crate::cli::output::{Format, Output};
use crate::cli::progress::{PATIENCE, Progress};
use crate::cli::words;
use crate::data_dir::{LOCK_FILE, STORE_FILE};
use crate::server;

/// Where a backup goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `-`
    StandardOutput,
    /// A path.
    Path(PathBuf),
}

impl FromStr for Target {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "-" { Self::StandardOutput } else { Self::Path(text.into()) })
    }
}

/// What a backup prints for programs.
#[derive(Serialize)]
struct Report {
    file: String,
    bytes: u64,
    entries: u64,
    hash: String,
    epoch: u64,
    services: usize,
}

/// Fetches a copy of the store, checks it, and puts it where it is wanted.
///
/// # Errors
/// As the client's, where the target cannot be written, and where what came is no store that could be restored.
pub async fn run(client: &Client, output: &Output, target: &Target) -> Result<Exit, Failure> {
    match target {
        Target::StandardOutput => to_standard_output(client, output).await,
        Target::Path(path) => to_file(client, output, path).await,
    }
}

async fn to_standard_output(client: &Client, output: &Output) -> Result<Exit, Failure> {
    if output.format == Format::Json {
        return Err(Failure::usage("--json prints on standard output, where `-` puts the backup: name a file"));
    }
    if io::stdout().is_terminal() {
        let step = "colorfast backup FILE, or colorfast backup - | …";
        return Err(Failure::usage("standard output is a terminal, and a backup holds keys").next(step));
    }
    let mut download = client.backup().await?;
    let closed = |error: io::Error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::usage(format!("cannot write to standard output: {error}")),
    };
    fetch(&mut download, &mut io::stdout().lock(), closed).await?;
    Ok(Exit::Done)
}

async fn to_file(client: &Client, output: &Output, path: &Path) -> Result<Exit, Failure> {
    refuse_stores(path)?;
    let failed = |error: io::Error| Failure::usage(format!("cannot write {}: {error}", path.display()));
    let beside = Beside::make(path).map_err(failed)?;
    let mut progress = Progress::after(PATIENCE);
    let mut download = progress.during("the sidecar copies its store".to_owned(), client.backup()).await?;
    let size = download.bytes().map_or_else(String::new, |bytes| format!(" {}", words::size(bytes)));
    let bytes = progress.during(format!("fetching{size}"), fetch(&mut download, &mut &beside.file, failed)).await?;
    beside.file.sync_all().map_err(failed)?;
    let checking = "reading its log".to_owned();
    let contents = progress.during(checking, server::inspect(&beside.path)).await;
    let contents = contents.map_err(|error| {
        Failure::outage(format!("what came is no store that could be restored: {error:#}")).next("colorfast verify-log")
    })?;
    drop(progress);
    beside.put(path).map_err(failed)?;
    let written = match output.format {
        Format::Json => output.document(&Report {
            file: path.display().to_string(),
            bytes,
            entries: contents.entries,
            hash: contents.hash,
            epoch: contents.epoch.0.0,
            services: contents.services,
        }),
        Format::Text => {
            let (entries, services) = (contents.entries, words::count(contents.services, "service"));
            let done = output.paint.good("backed up");
            let file = words::tame(&path.display().to_string());
            let text = format!(
                "{done} {services}, {entries} entries of epoch {} ({}) to {file}\n{} it holds keys: whoever reads it can \
                 mint pins\n",
                contents.epoch.0.0,
                words::size(bytes),
                output.paint.dim("note:"),
            );
            output.text(&text)
        }
    };
    Ok(output.end(Exit::Done, written))
}

/// A store in use must not be written over, however well meant.
fn refuse_stores(path: &Path) -> Result<(), Failure> {
    let is_store = path.file_name().is_some_and(|name| name == STORE_FILE) && path.with_file_name(LOCK_FILE).exists();
    match is_store {
        true => Err(Failure::usage(format!("{} is the store of a data directory: name another file", path.display()))),
        false => Ok(()),
    }
}

/// Writes what comes, and answers how much it was.
async fn fetch(
    download: &mut Download,
    to: &mut impl Write,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<u64, Failure> {
    let mut bytes = 0;
    while let Some(piece) = download.next().await? {
        to.write_all(piece.as_ref()).map_err(&failed)?;
        bytes += piece.as_ref().len() as u64;
    }
    to.flush().map_err(&failed)?;
    Ok(bytes)
}

/// A file in the making, beside the one that it will be; gone when it is dropped before.
struct Beside {
    path: PathBuf,
    file: File,
}

impl Beside {
    fn make(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?.to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let path = path.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { path, file })
    }

    fn put(self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Once it was put in its place it is not there.
        fs::remove_file(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backup never takes the place of the store that it was made of.
    #[test]
    fn stores_are_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join(STORE_FILE);
        assert!(refuse_stores(&store).is_ok(), "a backup may have that name elsewhere");
        fs::write(folder.path().join(LOCK_FILE), "").unwrap();
        assert_eq!(refuse_stores(&store).unwrap_err().exit(), Exit::Usage);
        assert!(refuse_stores(&folder.path().join("other.db")).is_ok());
    }

    /// A file appears whole, readable to its owner only, or not at all, and over what was there.
    #[test]
    fn files_appear_whole() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.db");
        fs::write(&path, "before").unwrap();
        let left = Beside::make(&path).unwrap();
        (&left.file).write_all(b"half").unwrap();
        drop(left);
        assert_eq!(fs::read(&path).unwrap(), b"before");
        let made = Beside::make(&path).unwrap();
        (&made.file).write_all(b"whole").unwrap();
        made.put(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
