//! npm packages for the clients that exist in JavaScript only, pinned by a lock file, installed once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::{packages, paths};

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
    packages::once("node", &key()?, "package-lock.json", |folder| {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(scripts().join(file), folder.join(file))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
        Ok(npm)
    })
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
