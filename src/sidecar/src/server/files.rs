//! Files that appear whole or not at all, and that nobody else can read.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Uid;

use crate::replace::{PRIVATE, replace};

/// Makes a folder that only we can enter, and those above it; one that exists stays as it is.
///
/// # Errors
/// Where it cannot be made, or others could put files of theirs in the place of ours; then names the command that mends
/// it.
pub fn make_private_folder(path: &Path) -> Result<()> {
    let shown = path.display();
    DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| format!("cannot make {shown}"))?;
    let mode = fs::metadata(path).with_context(|| format!("cannot look at {shown}"))?.permissions().mode();
    ensure!(
        mode & 0o022 == 0,
        "the data folder {shown} can be written by others (mode {:03o}): run `chmod go-w {shown}`",
        mode & 0o777
    );
    Ok(())
}

/// Checks that what is at `path` is ours, and that nobody else can read it; nothing there is nothing to read.
///
/// # Errors
/// Names the command that mends it.
pub fn check_private(path: &Path) -> Result<()> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
    };
    check_owner(path, found.uid(), Uid::effective().as_raw())?;
    let mode = found.permissions().mode();
    if mode & 0o077 != 0 {
        let path = path.display();
        bail!("{path} holds secrets and is open to others (mode {:03o}): run `chmod 600 {path}`", mode & 0o777);
    }
    Ok(())
}

fn check_owner(path: &Path, owner: u32, us: u32) -> Result<()> {
    let path = path.display();
    ensure!(owner == us, "{path} holds secrets and belongs to user {owner}, not to {us}: run `chown {us} {path}`");
    Ok(())
}

/// Writes `bytes` to `path`, over what was there.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, PRIVATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that others can write is refused, with the command that mends it; one that they can read is not.
    #[test]
    fn folders_that_others_can_write_are_refused() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("new/data");
        make_private_folder(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        for (mode, fine) in [(0o755, true), (0o775, false), (0o702, false), (0o1777, false)] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            let made = make_private_folder(&folder).map_err(|error| error.to_string());
            let wanted = format!("run `chmod go-w {}`", folder.display());
            assert!(
                made.as_ref().map_or_else(|error| !fine && error.contains(&wanted), |()| fine),
                "{mode:o}: {made:?}"
            );
        }
    }

    /// A secret that belongs to somebody else is refused: they could read it, and change it.
    #[test]
    fn secrets_are_ours() {
        let path = Path::new("control.token");
        check_owner(path, 7, 7).unwrap();
        assert!(check_owner(path, 8, 7).unwrap_err().to_string().contains("run `chown 7 control.token`"));
    }
}
