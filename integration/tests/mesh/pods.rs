//! What is shipped for Kubernetes at a real API server, and the pods of gateways as the sidecar sees them there.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::kubernetes::Cluster;
use integration::{Mesh, Sidecar, paths, scenario, wait};
use serde_json::{Value, json};

/// Everything under `envoy/kubernetes`, in the order in which it is installed.
const SHIPPED: [&str; 5] = ["agents", "sidecar", "overlays/in-pod", "overlays/gateway-api", "overlays/monitoring"];
/// The namespaces that it is in.
const NAMESPACES: [&str; 4] = ["agents", "colorfast", "gateway", "istio-ingress"];
/// The account of the sidecar.
const ACCOUNT: &str = "colorfast:colorfast";

fn shipped(folder: &str) -> PathBuf {
    paths::workspace().join("envoy/kubernetes").join(folder)
}

/// What the account may do, and what it may not: verb, resource, namespace.
const MAY: [(&str, &str, &str); 2] = [("list", "pods", "istio-ingress"), ("watch", "pods", "istio-ingress")];
const MAY_NOT: [(&str, &str, &str); 22] = [
    ("get", "pods", "istio-ingress"),
    ("create", "pods", "istio-ingress"),
    ("update", "pods", "istio-ingress"),
    ("patch", "pods", "istio-ingress"),
    ("delete", "pods", "istio-ingress"),
    ("get", "pods/log", "istio-ingress"),
    ("create", "pods/exec", "istio-ingress"),
    ("list", "secrets", "istio-ingress"),
    ("get", "secrets/colorfast", "istio-ingress"),
    ("list", "configmaps", "istio-ingress"),
    ("patch", "envoyfilters.networking.istio.io", "istio-ingress"),
    ("list", "pods", "colorfast"),
    ("watch", "pods", "colorfast"),
    ("get", "secrets/colorfast-tls", "colorfast"),
    ("patch", "deployments.apps", "colorfast"),
    ("list", "pods", "agents"),
    ("watch", "pods", "agents"),
    ("patch", "deployments.apps/scale", "agents"),
    ("list", "nodes", "default"),
    ("list", "namespaces", "default"),
    ("create", "clusterrolebindings.rbac.authorization.k8s.io", "default"),
    ("impersonate", "users", "default"),
];

/// Every manifest is accepted by strict server-side validation and kept as it is; all that it starts comes up under the
/// strictest of the pod security standards; and the account of the sidecar may do what it needs, and nothing else.
#[test]
fn manifests_are_accepted_kept_and_least_privileged() {
    scenario(async {
        let cluster = Cluster::start("kubernetes").await?;
        cluster.install_crds().await?;
        cluster.namespaces(NAMESPACES).await?;
        // No storage driver runs here: the claims find volumes that are there.
        let volume = |name: &str| {
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": format!("/nonexistent/{name}")}}})
        };
        cluster.apply(&[volume("one"), volume("two")]).await?;
        for folder in SHIPPED.map(shipped) {
            cluster.validate("-k", &folder).await?.ended_with(0)?;
            cluster.apply_files([&folder]).await?;
        }
        for folder in SHIPPED.map(shipped) {
            cluster.expect_no_diff([&folder]).await?;
        }
        for (namespace, workload) in [
            ("agents", "deployment/chat-blue"),
            ("agents", "deployment/chat-green"),
            ("colorfast", "deployment/colorfast"),
            ("gateway", "statefulset/gateway"),
        ] {
            cluster.until(workload, ["-n", namespace, "rollout", "status", workload]).await?;
        }
        // The standard is enforced: what asks for more is refused.
        let root = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root", "namespace": "colorfast"},
            "spec": {"containers": [{"name": "root", "image": "root"}]}});
        let refused = cluster.kubectl(
            ["apply", "-f"].map(Into::into).into_iter().chain([cluster.write("root.json", &root)?.into_os_string()]),
        );
        ensure!(refused.await?.ended_with(1)?.stderr.contains("restricted"), "a pod may run as root");

        for (verb, resource, namespace) in MAY {
            ensure!(cluster.may(ACCOUNT, verb, resource, namespace).await?, "may not {verb} {resource} in {namespace}");
        }
        for (verb, resource, namespace) in MAY_NOT {
            ensure!(!cluster.may(ACCOUNT, verb, resource, namespace).await?, "may {verb} {resource} in {namespace}");
        }
        for namespace in NAMESPACES {
            let granted = granted(&cluster, namespace).await?;
            let wanted = if namespace == "istio-ingress" { "pods [] [] [list watch]" } else { "" };
            ensure!(granted == wanted, "in {namespace} the account may {granted:?}");
        }
        Ok(())
    });
}

/// What the account may in a namespace beyond what every account may, as `kubectl` lists it.
async fn granted(cluster: &Cluster, namespace: &str) -> Result<String> {
    let who = format!("system:serviceaccount:{ACCOUNT}");
    let words = ["auth", "can-i", "--list", "--as", &who, "-n", namespace, "--no-headers"];
    let said = cluster.kubectl(words).await?.ended_with(0)?.stdout;
    let of_all = ["authorization.k8s.io", "authentication.k8s.io", "[/"];
    let lines = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    Ok(lines.filter(|line| of_all.iter().all(|known| !line.contains(known))).collect::<Vec<_>>().join("; "))
}

/// The folder that a kubelet mounts for an account: its token, and the authority of the API server.
async fn account(cluster: &Cluster) -> Result<(PathBuf, Vec<(String, String)>)> {
    let config: Value = serde_json::from_slice(&fs::read(cluster.kubeconfig())?)?;
    let known = &config["clusters"][0]["cluster"];
    let server = known["server"].as_str().and_then(|server| server.strip_prefix("https://")).context("a server")?;
    let (host, port) = server.split_once(':').context("an address")?;
    let folder = cluster.folder().join("account");
    fs::create_dir(&folder)?;
    fs::copy(known["certificate-authority"].as_str().context("an authority")?, folder.join("ca.crt"))?;
    let made = cluster.kubectl(["-n", "colorfast", "create", "token", "colorfast"]).await?.ended_with(0)?;
    fs::write(folder.join("token"), made.stdout.trim())?;
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Ok((folder, vec![variable("KUBERNETES_SERVICE_HOST", host), variable("KUBERNETES_SERVICE_PORT", port)]))
}

fn node(pod: &str) -> String {
    format!("router~127.0.0.1~{pod}.istio-ingress~istio-ingress.svc.cluster.local")
}

/// The pods of the status, each with how many members it has, and why they are not watched.
async fn seen(mesh: &Mesh) -> Result<(Vec<(String, u64)>, Option<String>)> {
    let status = mesh.status().await?;
    let pods = status["pods"]["pods"].as_array().context("no pods in the status")?;
    let one = |pod: &Value| Some((pod["pod"].as_str()?.to_owned(), pod["members"].as_u64()?));
    let trouble = status["pods"]["trouble"].as_str().map(str::to_owned);
    Ok((pods.iter().filter_map(one).collect(), trouble))
}

/// Confirmed: pods of the gateway are named in the status, with their members; a proxy whose pod is deleted is a member no
/// more at once, so that no verb waits for it. Where the account may not watch them that is said, and the proxy is a member
/// until it was silent for the ttl.
#[test]
fn members_leave_with_their_pods() {
    scenario(async {
        let cluster = Cluster::start("pods").await?;
        cluster.install_crds().await?;
        cluster.namespaces(["colorfast", "istio-ingress"]).await?;
        cluster.apply_files([shipped("sidecar")]).await?;
        let pod = |name: &str, label: &str| {
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": "istio-ingress", "labels": {"istio": label}},
                "spec": {"containers": [{"name": "proxy", "image": "proxy"}]}})
        };
        cluster.apply(&[pod("gw-1", "ingress"), pod("gw-2", "ingress"), pod("other", "else")]).await?;
        cluster.until("the pods", ["-n", "istio-ingress", "wait", "--for=condition=Ready", "pod", "--all"]).await?;

        let (folder, environment) = account(&cluster).await?;
        let flags = ["--pods-namespace=istio-ingress", "--pods-selector=istio=ingress", "--member-ttl=20s"];
        let mut flags: Vec<_> = flags.map(str::to_owned).into();
        flags.push(format!("--pods-account={}", folder.display()));
        let mut mesh =
            Mesh::over(Sidecar::start_with(&flags, &[], &environment).await?, json!({}), &integration::mesh::SLOTS)
                .await?;
        let mut gone = mesh.envoy(&node("gw-1")).await?;
        let wanted = vec![("gw-1".to_owned(), 1), ("gw-2".to_owned(), 0)];
        wait::until_ok("the pods in the status", wait::LIMIT, || async {
            let (pods, trouble) = seen(&mesh).await?;
            ensure!(pods == wanted && trouble.is_none(), "{pods:?} {trouble:?}");
            Ok(())
        })
        .await?;
        let status = mesh.text("status").await?.ended_with(0)?.stdout;
        ensure!(status.contains("pod gw-2 (ready) has no member"), "{status}");
        let mut stays = mesh.envoy(&node("gw-2")).await?;

        // It dies without a word, and its pod with it.
        gone.kill();
        let deleted = Instant::now();
        cluster.kubectl(["-n", "istio-ingress", "delete", "pod", "gw-1"]).await?.ended_with(0)?;
        let members = mesh.until_current(1).await?;
        let took = deleted.elapsed();
        ensure!(members[0].node == node("gw-2"), "{members:?}");
        ensure!(took < Duration::from_secs(15), "the member left after {took:?}: its ttl is 20 s");
        let done = mesh.does("switch green").await?;
        println!(
            "a member left {took:?} after `kubectl delete pod` was given; a switch was then confirmed after {:?}",
            done.confirmed_after
        );

        // Without the right to watch: by the ttl, and the status says so.
        cluster.kubectl(["-n", "istio-ingress", "delete", "rolebinding", "colorfast-pods"]).await?.ended_with(0)?;
        mesh.sidecar.restart().await?;
        wait::until_ok("the status to say that pods are not watched", wait::LIMIT, || async {
            let (pods, trouble) = seen(&mesh).await?;
            ensure!(pods.is_empty() && trouble.as_ref().is_some_and(|said| said.contains("forbidden")), "{trouble:?}");
            Ok(())
        })
        .await?;
        mesh.until_current(1).await?;
        let said = mesh.text("status").await?.ended_with(0)?.stdout;
        ensure!(said.contains("pods of istio-ingress are not watched (") && said.contains("--member-ttl"), "{said}");
        stays.kill();
        cluster.kubectl(["-n", "istio-ingress", "delete", "pod", "gw-2"]).await?.ended_with(0)?;
        ensure!(mesh.members().await?.len() == 1, "it is a member still");
        wait::until_ok("the member to lapse", Duration::from_secs(60), || async {
            ensure!(mesh.members().await?.is_empty(), "it is a member still");
            Ok(())
        })
        .await?;

        // With it again the sidecar finds that out by itself.
        cluster.apply_files([shipped("sidecar")]).await?;
        wait::until_ok("the pods to be watched again", Duration::from_secs(60), || async {
            let (_, trouble) = seen(&mesh).await?;
            ensure!(trouble.is_none(), "{trouble:?}");
            Ok(())
        })
        .await
    });
}
