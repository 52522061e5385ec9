//! `docs/kubernetes.md`, command by command.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integration::document::{Desk, blocks, commands};
use integration::kubernetes::{Cluster, tools};
use integration::ports::Port;
use integration::process::Process;
use integration::{Agent, Envoy, EnvoyConfig, paths, scenario, wait};
use serde_json::{Value, json};

const GRACE: Duration = Duration::from_secs(10);

/// Every command of the page works as written, in its order, and leaves nothing behind. What a kubelet would do is the test's:
/// it runs the sidecar by the arguments, the environment and the Secrets of its Deployment, and a proxy as the pod of a
/// gateway. Verbs are confirmed by that proxy.
#[test]
fn every_command_works_as_written() {
    scenario(async {
        let cluster = Cluster::start("kubernetes-docs").await?;
        cluster.install_crds().await?;
        let volume = |name: &str| {
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": format!("/nonexistent/{name}")}}})
        };
        cluster.apply(&[volume("one"), volume("two")]).await?;
        let agents = [Agent::start("v1").await?, Agent::start("v2").await?];
        let mut node = Node { desk: desk(&cluster)?, port: Port::reserve()?, sidecar: None, exec: None };
        let (mut envoy, mut pushed): (Option<Envoy>, _) = (None, 0);
        let page = fs::read_to_string(paths::workspace().join("docs/kubernetes.md"))?;
        for line in commands(&page) {
            let words: Vec<_> = line.split_whitespace().collect();
            match words.as_slice() {
                ["alias", ..] => {
                    ensure!(line.contains("exec -i deployment/colorfast -- colorfast'"), "what does {line} mean?");
                    node.enter(&cluster).await?;
                }
                ["unalias", "colorfast"] => node.exec = None,
                ["export", assignment] => {
                    let (name, value) = assignment.split_once('=').context("an assignment")?;
                    node.desk.set(name, value);
                }
                ["unset", name] => node.desk.set(name, ""),
                [assignment, ..] if assignment.starts_with("TOKEN=$(") => {
                    let token = node.run(&format!("{line}\necho \"$TOKEN\""))?;
                    node.desk.set("TOKEN", token.trim());
                }
                ["kubectl", "-n", "colorfast", "rollout", ..] => {
                    node.start(&cluster).await?;
                    node.run(&line)?;
                }
                ["colorfast", "snapshot", "render", ..] => {
                    node.run(&line)?;
                    let version = rendered(&cluster).await?;
                    ensure!(version > pushed, "version {version} was pushed after {pushed}");
                    pushed = version;
                }
                ["colorfast", verb, ..] => {
                    let said = node.run(&line)?;
                    let confirms =
                        ["ramp", "switch", "rollback"].contains(verb) && envoy.is_some() && node.exec.is_some();
                    ensure!(!confirms || said.contains("1 of 1 member obeyed"), "{said}");
                    ensure!(*verb != "status" || said.contains("gw-1"), "{said}");
                }
                ["kubectl", "auth", ..] => ensure!(node.run(&line)?.trim() == "yes", "{line}"),
                ["kubectl" | "openssl" | "sed", ..] => drop(node.run(&line)?),
                _ => bail!("what is `{line}`?"),
            }
            if line.starts_with("kubectl create namespace istio-ingress") {
                let pod = json!({"apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": "gw-1", "namespace": "istio-ingress", "labels": {"istio": "ingress"}},
                    "spec": {"containers": [{"name": "proxy", "image": "proxy"}]}});
                cluster.apply(&[pod]).await?;
            }
            if envoy.is_none() && line.contains("create secret generic colorfast --from-literal=token") {
                envoy = Some(node.gateway(&cluster, &agents).await?);
            }
        }
        ensure!(envoy.is_some() && pushed > 0, "the page starts no gateway, or pushes nothing");
        for what in ["namespace", "deployment", "envoyfilter", "rolebinding"] {
            let left = cluster.kubectl(["get", what, "-A", "-o", "name"]).await?.ended_with(0)?.stdout;
            ensure!(!left.contains("colorfast") && !left.contains("agents"), "left behind: {left}");
        }
        Ok(())
    });
}

/// What a node does for the pods on it.
struct Node {
    desk: Desk,
    port: Port,
    sidecar: Option<Process>,
    /// The environment of the sidecar's container, while commands are run in it.
    exec: Option<BTreeMap<String, String>>,
}

impl Node {
    /// Runs a line, `colorfast` where the page says that it runs.
    fn run(&self, line: &str) -> Result<String> {
        let environment = self.exec.iter().flatten().map(|(name, value)| format!("export {name}='{value}'\n"));
        self.desk.run(&format!("{}{line}", environment.collect::<String>()))
    }

    /// The sidecar's container, as its Deployment has it.
    async fn container(&self, cluster: &Cluster) -> Result<Value> {
        let words = ["-n", "colorfast", "get", "deployment", "colorfast", "-o", "json"];
        let deployment: Value = serde_json::from_str(&cluster.kubectl(words).await?.ended_with(0)?.stdout)?;
        Ok(deployment["spec"]["template"]["spec"]["containers"][0].clone())
    }

    /// A text of the container with its folders where the test has them.
    fn here(&self, text: &str) -> String {
        let folder = |name: &str| self.desk.path(name).display().to_string();
        let text = text.replace("/etc/colorfast/tls", &folder("mounted/tls"));
        text.replace("/var/lib/colorfast", &folder("mounted/data"))
            .replace("0.0.0.0:18000", &self.port.addr().to_string())
    }

    fn environment(&self, container: &Value) -> Result<BTreeMap<String, String>> {
        let variables = container["env"].as_array().context("no environment")?;
        let variable = |one: &Value| Some((one["name"].as_str()?.to_owned(), self.here(one["value"].as_str()?)));
        Ok(variables.iter().filter_map(variable).collect())
    }

    /// What is run from now on is run in the sidecar's container.
    async fn enter(&mut self, cluster: &Cluster) -> Result<()> {
        self.exec = Some(self.environment(&self.container(cluster).await?)?);
        Ok(())
    }

    /// Starts the sidecar's container, in the place of one that runs.
    async fn start(&mut self, cluster: &Cluster) -> Result<()> {
        if let Some(mut running) = self.sidecar.take() {
            running.stop(GRACE).await?;
        }
        mount(cluster, "colorfast", "colorfast-tls", &self.desk.path("mounted/tls")).await?;
        fs::create_dir_all(self.desk.path("mounted/data"))?;
        let account = self.desk.path("mounted/account");
        fs::create_dir_all(&account)?;
        let made = cluster.kubectl(["-n", "colorfast", "create", "token", "colorfast"]).await?.ended_with(0)?;
        fs::write(account.join("token"), made.stdout.trim())?;
        let config: Value = serde_json::from_slice(&fs::read(cluster.kubeconfig())?)?;
        let known = &config["clusters"][0]["cluster"];
        fs::copy(known["certificate-authority"].as_str().context("an authority")?, account.join("ca.crt"))?;
        let server = known["server"].as_str().and_then(|server| server.strip_prefix("https://")).context("a server")?;
        let (host, port) = server.split_once(':').context("an address")?;

        let container = self.container(cluster).await?;
        let environment = self.environment(&container)?;
        let arguments = container["args"].as_array().context("no arguments")?.iter().filter_map(Value::as_str);
        let mut command = Command::new(paths::colorfast()?);
        command.args(arguments.map(|argument| self.here(argument))).args(["--control", "127.0.0.1:0"]);
        command.arg("--pods-account").arg(&account).envs(&environment);
        command.env("KUBERNETES_SERVICE_HOST", host).env("KUBERNETES_SERVICE_PORT", port);
        let serving = Path::new(&environment["COLORFAST_DATA_DIR"]).join("serve.json");
        let mut process = Process::spawn("the sidecar", &mut command, &cluster.logs().join("sidecar.log"))?;
        let pid = process.pid();
        wait::until_ok("the sidecar to listen", wait::LIMIT, || {
            let seen = process.must_run().and_then(|()| {
                let written: Value = serde_json::from_slice(&fs::read(&serving)?)?;
                ensure!(written["pid"] == pid, "{written}");
                Ok(())
            });
            async move { seen }
        })
        .await?;
        self.sidecar = Some(process);
        Ok(())
    }

    /// A proxy as the pod of a gateway, which reaches the sidecar as the DestinationRule says, with the token and the authority
    /// of the Secrets beside it.
    async fn gateway(&self, cluster: &Cluster, agents: &[Agent; 2]) -> Result<Envoy> {
        let folder = self.desk.path("mounted/gateway");
        mount(cluster, "istio-ingress", "colorfast", &folder).await?;
        mount(cluster, "istio-ingress", "colorfast-ca", &folder).await?;
        let words = ["-n", "istio-ingress", "get", "destinationrule", "colorfast", "-o", "json"];
        let rule: Value = serde_json::from_str(&cluster.kubectl(words).await?.ended_with(0)?.stdout)?;
        let tls = &rule["spec"]["trafficPolicy"]["tls"];
        ensure!(tls["mode"] == "SIMPLE" && tls["credentialName"] == "colorfast-ca", "{tls}");
        let socket = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": tls["sni"],
                "common_tls_context": {"validation_context": {
                    "trusted_ca": {"filename": folder.join("ca.crt")},
                    "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": tls["subjectAltNames"][0]}}],
                }},
            },
        });
        let config = EnvoyConfig::shipped()?
            .node_id("router~127.0.0.1~gw-1.istio-ingress~istio-ingress.svc.cluster.local")
            .agent("blue", agents[0].address())
            .agent("green", agents[1].address())
            .sidecar(self.port.addr())
            .env("COLORFAST_TOKEN", fs::read_to_string(folder.join("token"))?.trim());
        let envoy = Envoy::start(config.edit(move |document| {
            let clusters = document["static_resources"]["clusters"].as_array_mut().context("clusters")?;
            let sidecar = clusters.iter_mut().find(|cluster| cluster["name"] == "colorfast_sidecar");
            sidecar.context("the sidecar's cluster")?["transport_socket"] = socket;
            Ok(())
        }))
        .await?;
        wait::until_ok("the proxy to be a member", wait::LIMIT, || async {
            let status: Value = serde_json::from_str(&self.run("colorfast status --json")?)?;
            ensure!(
                status[0]["members"][0]["current"] == json!(true) && status[0]["members"][0]["pod"] == "gw-1",
                "{status}"
            );
            Ok(())
        })
        .await?;
        Ok(envoy)
    }
}

/// A working folder as the page expects it: the repository's `envoy`, the files of the README, and the built filter.
fn desk(cluster: &Cluster) -> Result<Desk> {
    let mut desk = Desk::new()?;
    desk.tool("kubectl", &tools::program("kubectl")?)?;
    desk.set("KUBECONFIG", cluster.kubeconfig());
    let copied = Command::new("cp").arg("-r").arg(paths::workspace().join("envoy")).arg(desk.path("envoy")).status()?;
    ensure!(copied.success(), "cannot copy envoy/");
    fs::create_dir_all(desk.path("target/release"))?;
    fs::copy(paths::filter()?, desk.path("target/release/colorfast_filter.wasm"))?;
    for file in blocks(&fs::read_to_string(paths::workspace().join("README.md"))?, "yaml") {
        let name = file.lines().next().and_then(|line| line.strip_prefix("# ")).context("a file has its name")?;
        fs::write(desk.path(name), &file)?;
        if name == "v1.yaml" {
            fs::write(desk.path("v2.yaml"), file.replace("v1", "v2"))?;
        }
    }
    Ok(desk)
}

/// Does what a kubelet does: the data of a Secret stand in a folder as files.
async fn mount(cluster: &Cluster, namespace: &str, secret: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let words = ["-n", namespace, "get", "secret", secret, "-o", "json"];
    let found: Value = serde_json::from_str(&cluster.kubectl(words).await?.ended_with(0)?.stdout)?;
    for name in found["data"].as_object().context("a secret has data")?.keys() {
        let template = format!("go-template={{{{index .data \"{name}\" | base64decode}}}}");
        let words = ["-n", namespace, "get", "secret", secret, "-o", &template];
        fs::write(folder.join(name), cluster.kubectl(words).await?.ended_with(0)?.stdout)?;
    }
    Ok(())
}

/// The version of the snapshot that stands in the EnvoyFilter of the cluster.
async fn rendered(cluster: &Cluster) -> Result<u64> {
    let words = ["-n", "istio-ingress", "get", "envoyfilter", "colorfast-code", "-o", "json"];
    let filter: Value = serde_json::from_str(&cluster.kubectl(words).await?.ended_with(0)?.stdout)?;
    let place = "/spec/configPatches/0/patch/value/typed_config/config/configuration/value";
    let text = filter.pointer(place).and_then(Value::as_str).context("no plugin configuration")?;
    let plugin: Value = serde_json::from_str(text)?;
    ensure!(!text.contains("\"keys\""), "keys stand in the configuration");
    plugin["services"][0]["snapshot"]["version"].as_u64().context("no snapshot")
}
