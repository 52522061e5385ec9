//! A registry of images on loopback, by another library than the one that writes ours.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use integration::kubernetes::tools;
use integration::process::Process;
use integration::{paths, wait};

/// A running registry.
pub struct Registry {
    port: u16,
    _process: Process,
}

impl Registry {
    /// Starts one that keeps its log in a folder.
    pub async fn start(folder: &Path) -> Result<Self> {
        let log = folder.join("registry.log");
        let mut command = Command::new(tools::program("crane")?);
        command.args(["registry", "serve", "--address", "127.0.0.1:0"]);
        let mut process = Process::spawn("the registry", &mut command, &log)?;
        let port = wait::until_ok("the registry to listen", wait::LIMIT, || {
            let running = process.must_run();
            async {
                running?;
                let said = fs::read_to_string(&log)?;
                let (_, port) = said.split_once("serving on port ").context("it does not listen")?;
                Ok(port.trim().parse::<u16>()?)
            }
        })
        .await?;
        Ok(Self { port, _process: process })
    }

    /// Pushes a layout; answers what the image is called, and its digest.
    pub fn push(&self, layout: &Path) -> Result<(String, String)> {
        let image = format!("127.0.0.1:{}/colorfast-filter:test", self.port);
        crane(&["push", layout.to_str().context("a path of text")?, &image])?;
        let digest = text(crane(&["digest", &image])?)?;
        Ok((image, digest))
    }
}

/// What a command prints.
fn said(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// What another library's tool prints.
pub fn crane(arguments: &[&str]) -> Result<Vec<u8>> {
    said(Command::new(tools::program("crane")?).args(arguments))
}

fn text(bytes: Vec<u8>) -> Result<String> {
    Ok(String::from_utf8(bytes)?.trim().to_owned())
}

/// Writes the image of the built filter, and answers what was said of it.
pub fn write_image(folder: &Path) -> Result<String> {
    let script = paths::workspace().join("envoy/image.py");
    text(said(Command::new("python3").arg(script).arg(paths::filter()?).arg(folder))?)
}
