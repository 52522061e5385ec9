//! The sidecar: holds the release state, pushes it to proxies, obeys operators.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What `colorfast serve` is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where state, tokens and `serve.json` live.
    pub data_dir: PathBuf,
    /// Where proxies ask.
    pub discovery: SocketAddr,
    /// Where operators ask.
    pub control: SocketAddr,
}

/// Serves until SIGINT or SIGTERM.
pub async fn run(_options: Options) -> anyhow::Result<()> {
    Ok(())
}
