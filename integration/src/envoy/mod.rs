//! A real Envoy on loopback, run from an edited copy of the configuration that users copy.

mod admin;
mod config;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

pub use admin::Admin;
pub use config::{EnvoyConfig, INERT_FILTER};

use config::Log;

use crate::access_log::AccessLog;
use crate::paths;
use crate::ports::Port;
use crate::process::Process;
use crate::wait;

/// From the start to the first request, compiling the filter in V8 on a busy machine included.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long Envoy may take to end after SIGTERM before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// A running Envoy: its ports, folder and logs stay the same over every restart.
#[derive(Debug)]
pub struct Envoy {
    config: EnvoyConfig,
    ports: BTreeMap<String, Port>,
    first: String,
    admin: Option<Admin>,
    process: Option<Process>,
    folder: TempDir,
}

impl Envoy {
    /// Starts an Envoy and waits until it takes requests.
    ///
    /// # Errors
    /// Where it ends by itself (its log is in the message) or is not ready in time.
    pub async fn start(config: EnvoyConfig) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("colorfast-envoy-").tempdir()?;
        let names = config.listeners();
        let first = names.first().cloned().context("the configuration has no listener")?;
        let ports = names.into_iter().map(|name| Ok((name, Port::reserve()?))).collect::<Result<_>>()?;
        let mut envoy = Self { config, ports, first, admin: None, process: None, folder };
        envoy.launch().await?;
        Ok(envoy)
    }

    /// Starts an Envoy whose listener a control plane sends, on a port that it has been told.
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub async fn start_managed(config: EnvoyConfig, port: Port) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("colorfast-envoy-").tempdir()?;
        let first = "managed".to_owned();
        let ports = BTreeMap::from([(first.clone(), port)]);
        let mut envoy = Self { config, ports, first, admin: None, process: None, folder };
        envoy.launch().await?;
        Ok(envoy)
    }

    /// Has Envoy check a configuration without running it, and answers what it said.
    ///
    /// # Errors
    /// Where Envoy cannot be run at all, or the configuration cannot be edited so.
    pub fn validate(config: &EnvoyConfig) -> Result<Output> {
        let folder = tempfile::Builder::new().prefix("colorfast-envoy-").tempdir()?;
        let file = write_config(config, &BTreeMap::new(), folder.path())?;
        let mut command = Command::new(paths::envoy()?);
        command.args(["--mode", "validate", "--disable-hot-restart", "-c"]).arg(file);
        set_environment(&mut command, config);
        command.output().context("cannot run Envoy")
    }

    /// Where the first listener takes requests.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.ports[&self.first].addr()
    }

    /// Where a listener takes requests.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn listener(&self, name: &str) -> Result<SocketAddr> {
        self.ports.get(name).map(Port::addr).with_context(|| format!("there is no listener {name}"))
    }

    /// The admin interface.
    ///
    /// # Errors
    /// Where Envoy does not run.
    pub fn admin(&self) -> Result<Admin> {
        self.admin.context("this Envoy does not run")
    }

    /// Counters and gauges whose name matches a regular expression, by name.
    ///
    /// # Errors
    /// Where Envoy does not run or does not answer.
    pub async fn stats(&self, filter: &str) -> Result<BTreeMap<String, u64>> {
        self.admin()?.stats(filter).await
    }

    /// Waits until so many requests are within this Envoy, paused by the filter or out at an agent.
    ///
    /// # Errors
    /// Where there are never so many.
    pub async fn until_active(&self, requests: u64) -> Result<()> {
        let admin = self.admin()?;
        wait::until_ok(&format!("{requests} requests to be within Envoy"), wait::LIMIT, || async move {
            let active = admin.stat("http.agents.downstream_rq_active").await?;
            ensure!(active == Some(requests), "{active:?} are");
            Ok(())
        })
        .await
    }

    /// Fails where a VM of the filter has crashed since Envoy was started: a crash leaves a rebuilt VM, or one that is
    /// missing, and its words in the log.
    ///
    /// # Errors
    /// Says what tells so.
    pub async fn expect_no_crash(&self) -> Result<()> {
        let rebuilt = self.stats("^wasm\\..*vm_reload").await?;
        ensure!(rebuilt.values().all(|count| *count == 0), "VMs were rebuilt: {rebuilt:?}");
        // One for each worker, one for the main thread, and the one that all were cloned from.
        let alive = self.admin()?.stat("wasm.envoy.wasm.runtime.v8.active").await?;
        ensure!(alive == Some(u64::from(self.config.concurrency) + 2), "{alive:?} VMs are alive");
        let log = self.log()?;
        let told = log.lines().find(|line| line.contains("panicked") || line.contains("Wasm VM failed"));
        ensure!(told.is_none(), "the log says: {told:?}");
        Ok(())
    }

    /// The process id, of the runner where there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The access log, over all restarts.
    #[must_use]
    pub fn access_log(&self) -> AccessLog {
        AccessLog::at(&self.access_log_path())
    }

    /// What Envoy and the filter have logged so far, over all restarts.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = fs::read(self.log_path()).context("cannot read Envoy's log")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Stops Envoy's clock (SIGSTOP): it keeps its connections and answers nothing.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn pause(&mut self) -> Result<()> {
        self.running()?.pause()
    }

    /// Lets a paused Envoy go on.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn resume(&mut self) -> Result<()> {
        self.running()?.resume()
    }

    /// Kills Envoy without a word (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
        self.admin = None;
    }

    /// Asks Envoy to end (SIGTERM), and kills it where it does not.
    ///
    /// # Errors
    /// Where the system does not say how it ended.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(STOP_GRACE).await?;
        }
        self.admin = None;
        Ok(())
    }

    /// Starts Envoy again on the same ports, after stopping it where it still runs.
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.launch().await
    }

    /// Starts Envoy again on the same ports with another configuration (of the same listeners).
    ///
    /// # Errors
    /// As [`Envoy::start`], and where the listeners are others.
    pub async fn restart_with(&mut self, config: EnvoyConfig) -> Result<()> {
        let names: BTreeSet<String> = config.listeners().into_iter().collect();
        if !names.iter().eq(self.ports.keys()) {
            bail!("a restart keeps the listeners, and {names:?} are others");
        }
        self.config = config;
        self.restart().await
    }

    async fn launch(&mut self) -> Result<()> {
        let own = self.config.listeners();
        let ports = self.ports.iter().filter(|(name, _)| own.contains(name));
        let addresses = ports.map(|(name, port)| (name.clone(), port.addr())).collect();
        let file = write_config(&self.config, &addresses, self.folder.path())?;
        let admin_file = self.folder.path().join("admin-address");
        // What an earlier run wrote must not be taken for the new one's.
        let _ = fs::remove_file(&admin_file);

        let mut command = command(self.folder.path())?;
        command.arg("-c").arg(file).arg("--admin-address-path").arg(&admin_file);
        command.args(["--concurrency", &self.config.concurrency.to_string()]);
        command.args(["--log-level", &self.config.log_level, "--component-log-level", "wasm:info"]);
        // Without shared memory, Envoys run side by side and leave nothing behind when they are killed.
        command.args(["--disable-hot-restart", "--file-flush-interval-msec", "50"]);
        set_environment(&mut command, &self.config);
        let log = self.log_path();
        let output = if self.config.log == Log::Printed { self.access_log_path() } else { log.clone() };
        let mut process = Process::spawn_apart("envoy", &mut command, &output, &log)?;

        let admin = wait::until_ok("Envoy to take requests", START_LIMIT, || {
            let seen = process.must_run().and_then(|()| Admin::from_file(&admin_file));
            async move {
                let admin = seen?;
                admin.must_be_ready().await?;
                Ok(admin)
            }
        })
        .await?;
        self.process = Some(process);
        self.admin = Some(admin);
        Ok(())
    }

    fn running(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("this Envoy does not run")
    }

    fn access_log_path(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("envoy.log")
    }
}

/// Envoy itself, or `func-e run` with that same Envoy where `COLORFAST_RUNNER=func-e`.
fn command(folder: &Path) -> Result<Command> {
    let binary = paths::envoy()?;
    match env::var("COLORFAST_RUNNER").as_deref() {
        Err(_) | Ok("" | "envoy") => Ok(Command::new(binary)),
        Ok("func-e") => {
            let mut command = Command::new("func-e");
            command.arg("run").env("ENVOY_PATH", binary);
            for kind in ["CONFIG_HOME", "DATA_HOME", "STATE_HOME", "RUNTIME_DIR"] {
                command.env(format!("FUNC_E_{kind}"), folder.join("func-e").join(kind));
            }
            Ok(command)
        }
        Ok(other) => bail!("COLORFAST_RUNNER={other}: there are `envoy` (the default) and `func-e`"),
    }
}

/// Gives Envoy the variables that the configuration names, and none of ours that happen to be set.
fn set_environment(command: &mut Command, config: &EnvoyConfig) {
    command.env_remove("COLORFAST_TOKEN").env_remove("COLORFAST_KEYS").envs(&config.environment);
}

fn write_config(config: &EnvoyConfig, ports: &BTreeMap<String, SocketAddr>, folder: &Path) -> Result<PathBuf> {
    let file = folder.join("envoy.json");
    let document = config.rendered(ports, folder)?;
    fs::write(&file, serde_json::to_vec_pretty(&document)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
