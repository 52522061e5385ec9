//! The filter as an OCI image, as registries and those who pull from them see it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use colorfast_core::ids::Digest;
use integration::kubernetes::tools;
use integration::process::Process;
use integration::{paths, scenario, wait};
use serde_json::Value;

/// The layer that holds the module.
const MODULE: &str = "application/vnd.module.wasm.content.layer.v1+wasm";

/// What a command prints.
fn said(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

fn crane(arguments: &[&str]) -> Result<Vec<u8>> {
    said(Command::new(tools::program("crane")?).args(arguments))
}

fn text(bytes: Vec<u8>) -> Result<String> {
    Ok(String::from_utf8(bytes)?.trim().to_owned())
}

/// Writes the image of the built filter.
fn write_image(folder: &Path) -> Result<String> {
    let script = paths::workspace().join("envoy/image.py");
    text(said(Command::new("python3").arg(script).arg(paths::filter()?).arg(folder))?)
}

/// What is pushed by another library from the layout is a valid image, and the module in it is the built file, by the digest
/// that was said; the same file makes the same image.
#[test]
fn the_image_holds_the_built_filter() {
    scenario(async {
        let folder = tempfile::tempdir()?;
        let layout = folder.path().join("image");
        let printed = write_image(&layout)?;
        ensure!(write_image(&layout)? == printed, "the same module makes another image");
        let log = folder.path().join("registry.log");
        let mut registry = Command::new(tools::program("crane")?);
        registry.args(["registry", "serve", "--address", "127.0.0.1:0"]);
        let mut registry = Process::spawn("the registry", &mut registry, &log)?;
        let port = wait::until_ok("the registry to listen", wait::LIMIT, || {
            let running = registry.must_run();
            async {
                running?;
                let said = fs::read_to_string(&log)?;
                let (_, port) = said.split_once("serving on port ").context("it does not listen")?;
                Ok(port.trim().parse::<u16>()?)
            }
        })
        .await?;
        let image = format!("127.0.0.1:{port}/colorfast-filter:test");
        crane(&["push", layout.to_str().context("a path of text")?, &image])?;
        crane(&["validate", "--remote", &image])?;
        let digest = text(crane(&["digest", &image])?)?;
        ensure!(printed.contains(&digest), "{printed}: the registry has {digest}");
        let manifest: Value = serde_json::from_slice(&crane(&["manifest", &image])?)?;
        let layers = manifest["layers"].as_array().context("no layers")?;
        // Istio takes an image of two layers, the module among them.
        let modules: Vec<_> = layers.iter().filter(|layer| layer["mediaType"] == MODULE).collect();
        ensure!(layers.len() == 2 && modules.len() == 1, "{manifest:#}");
        let layer = modules.first().and_then(|layer| layer["digest"].as_str()).context("no digest")?;
        let built = fs::read(paths::filter()?)?;
        ensure!(Digest::of(&built).to_string() == layer && printed.contains(layer), "{printed}: {manifest:#}");
        let (name, _) = image.rsplit_once(':').context("a name")?;
        let pulled = crane(&["blob", &format!("{name}@{layer}")])?;
        ensure!(pulled == built, "another module comes back than was built");
        Ok(())
    });
}
