//! The filter by HTTP: what Istio's agent makes of it, by the agent's own code.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use integration::document::copy;
use integration::kubernetes::{Installation, Manifests, tools};
use integration::mesh::{ask_once, fresh};
use integration::{Artifacts, Envoy, Mesh, paths, scenario, wait};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::registry::{Registry, write_image};

/// Where the extension configuration stands in the EnvoyFilter `colorfast-code`, and the code in that.
const EXTENSION: &str = "/spec/configPatches/0/patch/value";
const CODE: &str = "/typed_config/config/vm_config/code";

/// Last good: the agent downloads the filter, by HTTP or as the image that is shipped, hands the proxy a file and keeps every other setting, so that the gateway
/// decides as with a file of its own. Where the digest is another than the manifest says, that build never runs: the agent
/// offers a filter that denies everything, and the proxy refuses it and stays on the build that it has.
#[test]
fn the_filter_is_downloaded_and_checked() {
    scenario(async {
        let mesh = Installation::start("remote", Mesh::start().await?).await?;
        let module = fs::read(paths::filter()?)?;
        let digest = Sha256::digest(&module).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let artifacts = Artifacts::serve(module.clone()).await?;

        let registry = Registry::start(mesh.cluster.folder()).await?;
        let layout = mesh.cluster.folder().join("image");
        write_image(&layout)?;
        let (image, of_image) = registry.push(&layout)?;
        let of_image = of_image.strip_prefix("sha256:").context("a digest by SHA-256")?;
        let (_, got) = downloaded(&mesh, &format!("oci://{image}"), of_image).await?;
        ensure!(fs::read(file(&got)?)? == module, "the agent has another file from the registry");

        let address = format!("http://{}/colorfast_filter.wasm", artifacts.address());
        let (asked, got) = downloaded(&mesh, &address, &digest).await?;
        ensure!(fs::read(file(&got)?)? == module, "the agent has another file");
        let around = |mut document: Value| {
            document.pointer_mut(CODE).map(Value::take);
            document
        };
        ensure!(around(asked.clone()) == around(got.clone()), "asked\n{asked:#}\ngot\n{got:#}");
        deliver(&mesh, got).await?;
        let envoy = mesh.ingress(1).await?;
        served(&envoy, "before").await?;

        let (_, got) = downloaded(&mesh, &address, &"0".repeat(64)).await?;
        let kind = got["typed_config"]["@type"].as_str().unwrap_or_default();
        ensure!(kind.ends_with(".rbac.v3.RBAC"), "{got:#}");
        deliver(&mesh, got).await?;
        wait::until_ok("the proxy to refuse it", wait::LIMIT, || async {
            let refused = envoy.stats("extension_config_discovery.*(update_rejected|config_fail)$").await?;
            ensure!(refused.values().any(|count| *count > 0), "{refused:?}");
            Ok(())
        })
        .await?;
        for number in 0..50 {
            served(&envoy, &format!("after-{number}")).await?;
        }
        Ok(())
    });
}

/// The extension configuration of the component `remote`, and what the agent makes of it.
async fn downloaded(mesh: &Installation, address: &str, digest: &str) -> Result<(Value, Value)> {
    let folder = mesh.cluster.folder().join("remote");
    copy(&paths::workspace().join("envoy/istio"), &folder, &|text| text.replace(&"0".repeat(64), digest))?;
    fs::create_dir_all(folder.join("overlay"))?;
    let overlay = "resources: [../gateway]\ncomponents: [../remote]\n";
    fs::write(folder.join("overlay/kustomization.yaml"), overlay)?;
    let mut manifests = Manifests::of(&mesh.cluster, &folder.join("overlay")).await?;
    let mut asked = manifests.at("EnvoyFilter", "colorfast-code", EXTENSION)?.take();
    let remote = asked.pointer_mut(&format!("{CODE}/remote")).context("the component names no download")?;
    ensure!(remote["sha256"] == digest, "{remote}");
    remote["http_uri"]["uri"] = json!(address);

    let input = mesh.cluster.write("asked.json", &asked)?;
    let modules = mesh.cluster.folder().join("modules");
    fs::create_dir_all(&modules)?;
    let result = mesh.cluster.folder().join("got.json");
    let mut command = Command::new(tools::program("download")?);
    let output = command.arg(&modules).arg(&result).stdin(fs::File::open(input)?).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok((asked, serde_json::from_slice(&fs::read(result)?)?))
}

/// The file that the proxy loads.
fn file(extension: &Value) -> Result<&str> {
    extension.pointer(&format!("{CODE}/local/filename")).and_then(Value::as_str).context("the agent has no file")
}

/// Has istiod send the gateway an extension configuration.
async fn deliver(mesh: &Installation, extension: Value) -> Result<()> {
    let mut manifests = mesh.gateway().await?;
    *manifests.at("EnvoyFilter", "colorfast-code", EXTENSION)? = extension;
    manifests.apply(&mesh.cluster).await
}

async fn served(envoy: &Envoy, session: &str) -> Result<()> {
    let (reply, _) = ask_once(envoy, &fresh(session)).await.context("a request failed")?;
    ensure!(reply.slot == "blue", "{reply:?}");
    Ok(())
}
