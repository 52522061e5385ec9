//! npm packages for the clients that exist in JavaScript only, pinned by a lock file, installed once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::paths;

/// Where the scripts and the lists of versions are.
#[must_use]
pub fn scripts() -> PathBuf {
    paths::workspace().join("integration/node")
}

/// The folder with what the lock file names; it is installed where it is missing.
///
/// # Errors
/// Where it cannot be; the words of npm are in the message.
pub fn packages() -> Result<PathBuf> {
    let home = paths::workspace().join("build/node");
    fs::create_dir_all(&home)?;
    // Tests start side by side: the first one installs, the others wait for it.
    let lock = File::create(home.join(".lock"))?;
    lock.lock()?;
    let packages = home.join(key()?);
    if packages.is_dir() {
        return Ok(packages);
    }
    eprintln!("package-lock.json: installing from npm into {} (once)", packages.display());
    let unfinished = tempfile::tempdir_in(&home)?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(scripts().join(file), unfinished.path().join(file))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(unfinished.path());
    let installed = npm.output().context("npm does not run")?;
    if !installed.status.success() {
        bail!("{npm:?} failed: {}", String::from_utf8_lossy(&installed.stderr).trim());
    }
    fs::rename(unfinished.keep(), &packages)?;
    Ok(packages)
}

/// A Node.js that finds `packages`.
#[must_use]
pub fn node(packages: &Path) -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", packages.join("node_modules"));
    command
}

/// Names what was installed: the versions, and the Node.js that they run in.
fn key() -> Result<String> {
    let version = Command::new("node").arg("--version").output().context("node does not run")?;
    let mut hash = Sha256::new();
    hash.update(fs::read(scripts().join("package-lock.json"))?);
    hash.update(&version.stdout);
    Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}
