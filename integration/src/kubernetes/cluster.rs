//! A Kubernetes control plane: everything but machines that run containers.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::api::Api;
use super::credentials::Credentials;
use super::tools;
use crate::command::Outcome;
use crate::paths;
use crate::ports::Port;
use crate::process::Process;
use crate::wait;

/// How long one of its processes may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(90);
/// The nodes on which pods come to be ready, though nothing runs.
const NODES: [&str; 2] = ["node-1", "node-2"];

/// etcd, the API server, its controllers, the scheduler, and kwok in the place of kubelets.
///
/// They end in this order, so that none asks what has gone.
#[derive(Debug)]
pub struct Cluster {
    api: Api,
    _kwok: Process,
    _scheduler: Process,
    _controllers: Process,
    _server: Process,
    _etcd: Process,
    credentials: Credentials,
    folder: TempDir,
    logs: PathBuf,
    _ports: Vec<Port>,
}

impl Cluster {
    /// Starts a control plane, and waits until its nodes are ready. Its logs are in `target/mesh/<name>` from then on.
    ///
    /// # Errors
    /// Where a process is missing, ends by itself (its log is in the message) or is not ready in time.
    pub async fn start(name: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("colorfast-mesh-").tempdir()?;
        let logs = paths::target().join("mesh").join(name);
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        let ports = (0..3).map(|_| Port::reserve()).collect::<Result<Vec<_>>>()?;
        let [store, peers, secure] = [&ports[0], &ports[1], &ports[2]].map(Port::addr);
        let credentials = Credentials::make(folder.path(), &format!("https://{secure}"))?;
        let plane = Plane { folder: folder.path(), logs: &logs, credentials: &credentials };

        let store = format!("http://{store}");
        let etcd = plane.etcd(&store, &format!("http://{peers}"))?;
        let mut server = plane.server(&store, secure.port())?;
        wait::until_ok("the API server to be ready", START_LIMIT, || {
            let seen = server.must_run();
            async {
                seen?;
                plane.kubectl(["get", "--raw=/readyz"]).await?.ended_with(0)
            }
        })
        .await?;
        let controllers = plane.controllers()?;
        let scheduler = plane.scheduler()?;
        let kwok = plane.kwok()?;
        let api = Api::start(&credentials.kubeconfig, &logs.join("proxy.log")).await?;
        let cluster = Self {
            api,
            _kwok: kwok,
            _scheduler: scheduler,
            _controllers: controllers,
            _server: server,
            _etcd: etcd,
            credentials,
            folder,
            logs,
            _ports: ports,
        };
        cluster.apply(&NODES.map(node)).await?;
        cluster.until("its nodes to be ready", ["wait", "--for=condition=Ready", "node", "--all"]).await?;
        Ok(cluster)
    }

    /// The API without kubectl in between.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.credentials.kubeconfig
    }

    /// Where the processes write what they log.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// A folder of this control plane that vanishes with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs kubectl as the administrator.
    ///
    /// # Errors
    /// Where it cannot be run; a command that fails is an answer.
    pub async fn kubectl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Outcome> {
        kubectl(&self.credentials.kubeconfig, self.folder.path(), arguments).await
    }

    /// Applies documents of the test's own, by server-side apply.
    ///
    /// # Errors
    /// Where one is refused.
    pub async fn apply(&self, documents: &[Value]) -> Result<()> {
        let file = self.write("documents.json", &json!({"apiVersion": "v1", "kind": "List", "items": documents}))?;
        self.apply_files([&file]).await
    }

    /// Applies files, folders or kustomizations (a folder that has one), as a user does.
    ///
    /// # Errors
    /// Where one is refused.
    pub async fn apply_files<P: AsRef<Path>>(&self, paths: impl IntoIterator<Item = P>) -> Result<()> {
        self.kubectl(with_files(&["apply", "--server-side"], paths)).await?.ended_with(0)?;
        Ok(())
    }

    /// Has the API validate a file (`-f`) or a kustomization (`-k`) strictly, and change nothing.
    ///
    /// # Errors
    /// Where kubectl cannot be run; a refusal is an answer.
    pub async fn validate(&self, flag: &str, path: &Path) -> Result<Outcome> {
        let words = ["apply", "--server-side", "--dry-run=server", "--validate=strict", flag].map(AsRef::as_ref);
        self.kubectl(words.into_iter().chain([path.as_os_str()])).await
    }

    /// Fails where the API has anything else than the files say.
    ///
    /// # Errors
    /// Shows the difference.
    pub async fn expect_no_diff<P: AsRef<Path>>(&self, paths: impl IntoIterator<Item = P>) -> Result<()> {
        let outcome = self.kubectl(with_files(&["diff", "--server-side"], paths)).await?.ended_with(0)?;
        ensure!(outcome.stdout.is_empty(), "{}", outcome.stdout);
        Ok(())
    }

    /// Makes namespaces.
    ///
    /// # Errors
    /// Where one is refused.
    pub async fn namespaces<const N: usize>(&self, names: [&str; N]) -> Result<()> {
        let namespace = |name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.apply(&names.map(namespace)).await
    }

    /// Installs the CRDs of Istio, of the Gateway API and of the Prometheus operator, as their modules have them.
    ///
    /// # Errors
    /// Where they are refused or not established.
    pub async fn install_crds(&self) -> Result<()> {
        self.apply_files([tools::files("crds")?]).await?;
        self.until("the CRDs", ["wait", "--for=condition=Established", "crd", "--all"]).await
    }

    /// Whether an account may do something: `verb` to `resource` (as in `pods`, `leases.coordination.k8s.io` or
    /// `secrets/name`) in a namespace.
    ///
    /// # Errors
    /// Where kubectl does not say.
    pub async fn may(&self, account: &str, verb: &str, resource: &str, namespace: &str) -> Result<bool> {
        let who = format!("system:serviceaccount:{account}");
        let outcome = self.kubectl(["auth", "can-i", verb, resource, "--as", &who, "-n", namespace]).await?;
        match outcome.stdout.trim() {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => outcome.ended_with(0).and_then(|said| anyhow::bail!("neither yes nor no: {said:?}")),
        }
    }

    /// Waits with `kubectl wait` or `kubectl rollout status`.
    ///
    /// # Errors
    /// Where that does not come.
    pub async fn until<const N: usize>(&self, what: &str, command: [&str; N]) -> Result<()> {
        // What is to be waited for may not be there yet, and then kubectl does not wait.
        wait::until_ok(what, START_LIMIT, || async {
            self.kubectl(command.into_iter().chain(["--timeout", "30s"])).await?.ended_with(0)
        })
        .await?;
        Ok(())
    }

    /// Writes a file, and answers where.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, name: &str, document: &Value) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, document.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// A command of kubectl on files, folders or kustomizations.
fn with_files<P: AsRef<Path>>(command: &[&str], paths: impl IntoIterator<Item = P>) -> Vec<std::ffi::OsString> {
    let mut words: Vec<_> = command.iter().map(std::ffi::OsString::from).collect();
    for path in paths {
        let path = path.as_ref();
        let flag = if path.join("kustomization.yaml").is_file() { "-k" } else { "-Rf" };
        words.extend([flag.into(), path.into()]);
    }
    words
}

async fn kubectl<S: AsRef<OsStr>>(
    kubeconfig: &Path,
    folder: &Path,
    arguments: impl IntoIterator<Item = S>,
) -> Result<Outcome> {
    let mut command = tokio::process::Command::new(tools::program("kubectl")?);
    command.args(arguments).env("KUBECONFIG", kubeconfig).env("KUBECACHEDIR", folder.join("cache"));
    Outcome::of("kubectl", &mut command).await
}

fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        "status": {"capacity": {"cpu": "32", "memory": "64Gi", "pods": "110"}},
    })
}

/// What the processes are started from.
struct Plane<'c> {
    folder: &'c Path,
    logs: &'c Path,
    credentials: &'c Credentials,
}

impl Plane<'_> {
    fn spawn(&self, name: &str, flags: &[&str], paths: &[(&str, &Path)]) -> Result<Process> {
        let mut command = Command::new(tools::program(name)?);
        command.args(flags);
        for (flag, path) in paths {
            command.arg(flag).arg(path);
        }
        Process::spawn(name, &mut command, &self.logs.join(format!("{name}.log")))
    }

    async fn kubectl<const N: usize>(&self, arguments: [&str; N]) -> Result<Outcome> {
        kubectl(&self.credentials.kubeconfig, self.folder, arguments).await
    }

    fn etcd(&self, clients: &str, peers: &str) -> Result<Process> {
        let cluster = format!("default={peers}");
        let flags = [
            // Nothing here outlives the test.
            "--unsafe-no-fsync",
            "--log-level=warn",
            "--listen-client-urls",
            clients,
            "--advertise-client-urls",
            clients,
            "--listen-peer-urls",
            peers,
            "--initial-advertise-peer-urls",
            peers,
            "--initial-cluster",
            &cluster,
        ];
        self.spawn("etcd", &flags, &[("--data-dir", &self.folder.join("etcd"))])
    }

    fn server(&self, store: &str, port: u16) -> Result<Process> {
        let port = port.to_string();
        let flags = [
            "--etcd-servers",
            store,
            "--bind-address=127.0.0.1",
            "--secure-port",
            &port,
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            // The address of an API server in a cluster is never loopback, and nobody asks for it here.
            "--endpoint-reconciler-type=none",
        ];
        let Credentials { account_key, account_public, tokens, certificates, .. } = self.credentials;
        let paths: [(&str, &Path); 4] = [
            ("--service-account-signing-key-file", account_key),
            ("--service-account-key-file", account_public),
            ("--token-auth-file", tokens),
            ("--cert-dir", certificates),
        ];
        self.spawn("kube-apiserver", &flags, &paths)
    }

    fn controllers(&self) -> Result<Process> {
        let Credentials { account_key, kubeconfig, certificates, .. } = self.credentials;
        let authority = certificates.join("apiserver.crt");
        let paths: [(&str, &Path); 3] = [
            ("--kubeconfig", kubeconfig),
            ("--service-account-private-key-file", account_key),
            ("--root-ca-file", &authority),
        ];
        self.spawn("kube-controller-manager", &["--leader-elect=false", "--secure-port=0"], &paths)
    }

    fn scheduler(&self) -> Result<Process> {
        let paths: [(&str, &Path); 1] = [("--kubeconfig", &self.credentials.kubeconfig)];
        self.spawn("kube-scheduler", &["--leader-elect=false", "--secure-port=0"], &paths)
    }

    fn kwok(&self) -> Result<Process> {
        let stages = tools::files("stages")?;
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(&stages).with_context(|| format!("cannot read {}", stages.display()))? {
            files.push(entry?.path());
        }
        let mut paths: Vec<(&str, &Path)> = files.iter().map(|file| ("--config", file.as_path())).collect();
        paths.push(("--kubeconfig", &self.credentials.kubeconfig));
        self.spawn("kwok", &["--manage-all-nodes=true", "--node-ip=127.0.0.1"], &paths)
    }
}
