//! `serve.json`: where a running sidecar listens, for whoever knows its data folder.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files;

/// Its name in the data folder.
pub const FILE: &str = "serve.json";

/// What stands in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// Who listens.
    pub pid: u32,
    /// URL for proxies.
    pub discovery: String,
    /// URL for operators.
    pub control: String,
}

/// The file of this process, while it listens.
#[derive(Debug)]
pub struct ServeFile(PathBuf);

impl ServeFile {
    /// Removes what an earlier process left behind: it listens no more.
    pub fn clear(folder: &Path) -> io::Result<()> {
        match fs::remove_file(folder.join(FILE)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Says where this process listens.
    pub fn write(folder: &Path, discovery: SocketAddr, control: SocketAddr) -> io::Result<Self> {
        let url = |address| format!("http://{address}");
        let serving = Serving { pid: std::process::id(), discovery: url(discovery), control: url(control) };
        let mut text = serde_json::to_vec(&serving)?;
        text.push(b'\n');
        let path = folder.join(FILE);
        files::write_private(&path, &text)?;
        Ok(Self(path))
    }

    /// This process listens no more.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_file(self.0)
    }
}
