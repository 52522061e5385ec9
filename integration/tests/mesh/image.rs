//! The filter as an OCI image, as registries and those who pull from them see it.

use std::fs;

use anyhow::{Context, ensure};
use colorfast_core::ids::Digest;
use integration::{paths, scenario};
use serde_json::Value;

use crate::registry::{Registry, crane, write_image};

/// The layer that holds the module.
const MODULE: &str = "application/vnd.module.wasm.content.layer.v1+wasm";

/// What is pushed by another library from the layout is a valid image, and the module in it is the built file, by the digest
/// that was said; the same file makes the same image.
#[test]
fn the_image_holds_the_built_filter() {
    scenario(async {
        let folder = tempfile::tempdir()?;
        let layout = folder.path().join("image");
        let printed = write_image(&layout)?;
        ensure!(write_image(&layout)? == printed, "the same module makes another image");
        let registry = Registry::start(folder.path()).await?;
        let (image, digest) = registry.push(&layout)?;
        crane(&["validate", "--remote", &image])?;
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
