//! Where the tools of `make mesh-tools` are.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::paths;

/// A program that `make mesh-tools` has built.
///
/// # Errors
/// Where it is not there.
pub fn program(name: &str) -> Result<PathBuf> {
    found(name)
}

/// A folder of files of the pinned modules: `crds`, `stages`; or a file of them.
///
/// # Errors
/// Where it is not there.
pub fn files(name: &str) -> Result<PathBuf> {
    found(&format!("files/{name}"))
}

fn found(name: &str) -> Result<PathBuf> {
    let path = paths::workspace().join("build/mesh").join(name);
    if !path.exists() {
        bail!("{} does not exist; `make mesh-tools` makes it", path.display());
    }
    Ok(path)
}
