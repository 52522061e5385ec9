//! Python packages for the clients that exist in Python only, pinned, each list of versions installed once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{packages, paths};

/// Where the scripts and the lists of versions are.
#[must_use]
pub fn scripts() -> PathBuf {
    paths::workspace().join("integration/python")
}

/// The folder with what a list of versions names (a file of [`scripts`]); it is installed where it is missing.
///
/// # Errors
/// Where it cannot be; the words of pip are in the message.
pub fn packages(list: &str) -> Result<PathBuf> {
    let requirements = scripts().join(list);
    packages::once("python", &key(&requirements)?, list, |folder| {
        // A folder of packages rather than a virtual environment, which many systems make only with a package of its own.
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]);
        pip.arg("--target").arg(folder).arg("--requirement").arg(&requirements);
        Ok(pip)
    })
}

/// A Python that finds `packages` before whatever this machine has installed.
#[must_use]
pub fn python(packages: &Path) -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", packages).env("PYTHONNOUSERSITE", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Names what was installed: the versions, and the Python that they were built for.
fn key(requirements: &Path) -> Result<String> {
    let script = "import hashlib, platform, sys; \
        what = (open(sys.argv[1]).read(), platform.python_version(), platform.machine(), sys.executable); \
        print(hashlib.sha256(repr(what).encode()).hexdigest()[:16])";
    let out = Command::new("python3").args(["-c", script]).arg(requirements).output()?;
    if !out.status.success() {
        bail!("python3 does not run: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8(out.stdout)?.trim().to_owned())
}
