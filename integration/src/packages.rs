//! Packages of other languages: each list of versions is installed once, whichever test comes first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::paths;

/// The folder `build/<language>/<key>`. Where it is missing, the command that `install` makes fills it; `list` is what that
/// installs, for people.
///
/// # Errors
/// Where it cannot be installed; the words of the installer are in the message.
pub fn once(language: &str, key: &str, list: &str, install: impl FnOnce(&Path) -> Result<Command>) -> Result<PathBuf> {
    let home = paths::workspace().join("build").join(language);
    fs::create_dir_all(&home)?;
    // Tests start side by side: the first one installs, the others wait for it.
    let lock = File::create(home.join(".lock"))?;
    lock.lock()?;
    let packages = home.join(key);
    if packages.is_dir() {
        return Ok(packages);
    }
    eprintln!("{list}: installing into {} (once)", packages.display());
    let unfinished = tempfile::tempdir_in(&home)?;
    let mut installer = install(unfinished.path())?;
    let installed =
        installer.output().with_context(|| format!("{} does not run", installer.get_program().display()))?;
    if !installed.status.success() {
        bail!("{installer:?} failed: {}", String::from_utf8_lossy(&installed.stderr).trim());
    }
    fs::rename(unfinished.keep(), &packages)?;
    Ok(packages)
}
