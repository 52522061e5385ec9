//! Files that appear whole or not at all, and that nobody else can read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Makes a folder that only we can enter, and those above it; one that exists stays as it is.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Checks that nobody else can read what is at `path`; nothing there is nothing to read.
///
/// # Errors
/// Names the command that mends it.
pub fn check_private(path: &Path) -> Result<()> {
    let mode = match fs::metadata(path) {
        Ok(found) => found.permissions().mode(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
    };
    if mode & 0o077 != 0 {
        let path = path.display();
        bail!("{path} holds secrets and is open to others (mode {:03o}): run `chmod 600 {path}`", mode & 0o777);
    }
    Ok(())
}

/// Writes `bytes` to `path`, over what was there.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let written =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
    let placed = written.and_then(|()| fs::rename(&beside, path)).and_then(|()| File::open(folder)?.sync_all());
    if placed.is_err() {
        fs::remove_file(&beside).ok();
    }
    placed
}
