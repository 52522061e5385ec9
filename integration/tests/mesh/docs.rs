//! `docs/istio.md`, command by command.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use integration::document::{Desk, commands, copy};
use integration::kubernetes::{Installation, tools};
use integration::{Envoy, Load, Mesh, Plan, paths, scenario, wait};
use serde_json::{Value, json};

/// From a mesh without the filter to one without it again: every command of the page works as written, in its order, and
/// under load from the moment that the gateway is there. No request fails, the upgrade of the filter included, and
/// nothing is left in the end. Only paths, ports and the machines that would run pods are the test's.
#[test]
fn every_command_works_as_written() {
    scenario(async {
        let release = Mesh::with(json!({}), &[("blue", "v1"), ("green", "v2")]).await?;
        release.cli("recycle green").await?.ok()?;
        let mesh = Installation::bare("docs", release).await?;
        mesh.cluster.namespaces(["istio-ingress"]).await?;
        let mut desk = desk(&mesh)?;
        let (mut gateway, mut load): (Option<Envoy>, Option<Load>) = (None, None);
        for line in commands(&fs::read_to_string(paths::workspace().join("docs/istio.md"))?) {
            match line.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["helm", "upgrade", .., "--values", values] => {
                    takes(&desk.path(values))?;
                    let envoy = mesh.ingress(1).await?;
                    desk.set("GATEWAY", envoy.address().to_string());
                    load = Some(Load::start(Plan::new(vec![envoy.address()]))?);
                    gateway = Some(envoy);
                }
                ["kubectl", "-n", "istio-ingress", "delete", "envoyfilter", "colorfast"] => {
                    // From here on the page takes things away: the promises end.
                    let report = load.take().context("the load runs by now")?.stop().await?;
                    report.expect_no_failure()?;
                    report.expect_true_stamps()?;
                    desk.run(&line)?;
                }
                ["colorfast", verb, ..] => {
                    let said = desk.run(&line)?;
                    let confirms = ["ramp", "switch", "rollback"].contains(verb);
                    ensure!(!confirms || said.contains("1 of 1 member obeyed"), "{said}");
                    ensure!(*verb != "status" || said.contains("router~192.0.2.1~ingress-1.istio-ingress~"), "{said}");
                }
                ["kubectl" | "curl" | "sed" | "mv", ..] => drop(desk.run(&line)?),
                _ => bail!("what is `{line}`?"),
            }
            if line.contains("create configmap") {
                mount(&desk)?;
            }
            if let (Some(envoy), true) = (&gateway, line.ends_with("-k envoy/istio/gateway")) {
                has_the_named_filter(&desk, envoy).await?;
            }
        }
        ensure!(gateway.is_some() && load.is_none(), "the page starts a gateway and uninstalls");
        let kinds = "envoyfilter,virtualservice,gateways.networking.istio.io,telemetry,destinationrule";
        let left = mesh.cluster.kubectl(["get", kinds, "-A", "-o", "name"]).await?.ended_with(0)?.stdout;
        ensure!(left.trim().is_empty(), "left behind: {left}");
        Ok(())
    });
}

/// A working folder as the page expects it: the repository's `envoy/istio`, edited, and two builds of the filter.
fn desk(mesh: &Installation) -> Result<Desk> {
    let mut desk = Desk::new()?;
    desk.tool("kubectl", &tools::program("kubectl")?)?;
    desk.set("KUBECONFIG", mesh.cluster.kubeconfig());
    desk.set("COLORFAST_DATA_DIR", mesh.release.sidecar.data_dir());
    for folder in ["target/release", "next", "mounted"] {
        fs::create_dir_all(desk.path(folder))?;
    }
    fs::copy(paths::filter()?, desk.path("target/release/colorfast_filter.wasm"))?;
    fs::copy(paths::crashing_filter()?, desk.path("next/colorfast_filter.wasm"))?;
    copy(&paths::workspace().join("envoy/istio"), &desk.path("envoy/istio"), &|text| {
        let port = "- port: { number: 80, name: http, protocol: HTTP }";
        text.replace("/etc/colorfast", &desk.path("mounted").to_string_lossy())
            .replace(port, &format!("- bind: 127.0.0.1\n      {}", &port[2..]))
    })?;
    Ok(desk)
}

/// Does what a kubelet does: the ConfigMap's files stand in the folder that it is mounted as.
fn mount(desk: &Desk) -> Result<()> {
    let get = "kubectl -n istio-ingress get configmap colorfast-filter -o";
    let files =
        desk.run(&format!("{get} go-template='{{{{range $name, $_ := .binaryData}}}}{{{{$name}}}} {{{{end}}}}'"))?;
    for file in files.split_whitespace() {
        let data = format!("{{{{index .binaryData \"{file}\" | base64decode}}}}");
        desk.run(&format!("{get} go-template='{data}' > mounted/{file}"))?;
    }
    Ok(())
}

/// Waits until the gateway has the filter that `code.yaml` names.
async fn has_the_named_filter(desk: &Desk, gateway: &Envoy) -> Result<()> {
    let code = fs::read_to_string(desk.path("envoy/istio/filter/code.yaml"))?;
    let named = code.split("filename: ").nth(1).and_then(|rest| rest.split(' ').next()).context("code names a file")?;
    wait::until_ok("the gateway to have it", wait::LIMIT, || async {
        let dump = gateway.admin()?.get("/config_dump?resource=ecds_filters").await?.text();
        ensure!(dump.contains(named), "{dump}");
        Ok(())
    })
    .await
}

/// Whether Istio's chart knows these values: its schema takes no others.
fn takes(values: &Path) -> Result<()> {
    let schema: Value = serde_json::from_slice(&fs::read(tools::files("gateway-values.schema.json")?)?)?;
    let schema = &schema["$defs"]["values"];
    ensure!(schema["additionalProperties"] == json!(false), "the schema takes anything");
    let values: Value = serde_saphyr::from_str(&fs::read_to_string(values)?)?;
    for (name, value) in values.as_object().context("values are an object")? {
        let known = schema["properties"].get(name).with_context(|| format!("the chart has no value {name}"))?;
        let kind = if value.is_array() { "array" } else { "object" };
        ensure!(known["type"] == kind, "{name} is no {kind}: {known}");
    }
    Ok(())
}
