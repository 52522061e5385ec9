//! A real sidecar on loopback, and its command line.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tempfile::TempDir;

use crate::command::Outcome;
use crate::paths;
use crate::ports::Port;
use crate::process::Process;
use crate::wait;

const START_LIMIT: Duration = Duration::from_secs(30);
/// How long it may take to end after SIGTERM before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// What the program is called in messages.
const NAME: &str = "colorfast";

/// `colorfast serve` in a data folder of its own: folder and ports stay the same over every restart.
#[derive(Debug)]
pub struct Sidecar {
    binary: PathBuf,
    discovery: Port,
    control: Port,
    process: Option<Process>,
    folder: TempDir,
    manner: Box<Manner>,
}

/// How the sidecar and its commands are started.
#[derive(Debug)]
struct Manner {
    flags: Vec<String>,
    client_flags: Vec<String>,
    environment: Vec<(String, String)>,
}

/// What `colorfast serve` writes once it listens.
#[derive(Deserialize)]
struct Serving {
    pid: u32,
    discovery: String,
    control: String,
}

impl Sidecar {
    /// Starts a sidecar with an empty data folder and waits until it listens.
    ///
    /// # Errors
    /// Where it ends by itself (its log is in the message) or does not listen in time.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[], &[], &[]).await
    }

    /// [`Sidecar::start`] with more flags, flags of every command that is run against it, and variables of its own.
    ///
    /// # Errors
    /// As [`Sidecar::start`].
    pub async fn start_with(
        flags: &[String],
        client_flags: &[String],
        environment: &[(String, String)],
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("colorfast-sidecar-").tempdir()?;
        fs::create_dir(folder.path().join("data"))?;
        let (discovery, control) = (Port::reserve()?, Port::reserve()?);
        let mut sidecar = Self {
            binary: paths::colorfast()?,
            discovery,
            control,
            process: None,
            folder,
            manner: Box::new(Manner {
                flags: flags.to_vec(),
                client_flags: client_flags.to_vec(),
                environment: environment.to_vec(),
            }),
        };
        sidecar.launch().await?;
        Ok(sidecar)
    }

    /// Where proxies ask for snapshots.
    #[must_use]
    pub fn discovery(&self) -> SocketAddr {
        self.discovery.addr()
    }

    /// Where operators command.
    #[must_use]
    pub fn control(&self) -> SocketAddr {
        self.control.addr()
    }

    /// The data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The bearer token of proxies.
    ///
    /// # Errors
    /// Where the sidecar has written none.
    pub fn discovery_token(&self) -> Result<String> {
        self.token("discovery.token")
    }

    /// The bearer token of operators.
    ///
    /// # Errors
    /// Where the sidecar has written none.
    pub fn control_token(&self) -> Result<String> {
        self.token("control.token")
    }

    /// What the sidecar has logged so far, over all restarts.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = fs::read(self.log_path()).context("cannot read the sidecar's log")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Stops the sidecar's clock (SIGSTOP): it takes connections and answers nothing.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn pause(&mut self) -> Result<()> {
        self.process.as_mut().context("the sidecar does not run")?.pause()
    }

    /// Lets a paused sidecar go on.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn resume(&mut self) -> Result<()> {
        self.process.as_mut().context("the sidecar does not run")?.resume()
    }

    /// Kills the sidecar without a word (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Asks the sidecar to end (SIGTERM).
    ///
    /// # Errors
    /// Where it does not end in time, or ends with a failure: a shutdown is graceful or it is a bug.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            let status = process.stop(STOP_GRACE).await?;
            if !status.success() {
                bail!("the sidecar did not end gracefully ({status}); its log ends:\n{}", process.tail());
            }
        }
        Ok(())
    }

    /// Starts the sidecar again with the same data and ports, after stopping it where it still runs.
    ///
    /// # Errors
    /// As [`Sidecar::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.launch().await
    }

    /// Runs a command against this sidecar, with `--json`. It is killed where its future is dropped.
    ///
    /// # Errors
    /// Where it cannot be run or does not end; a command that ends with a failure is an answer, not an error.
    pub async fn cli<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Outcome> {
        Outcome::of(NAME, self.command(arguments).args(&self.manner.client_flags).arg("--json")).await
    }

    /// Runs a command with no flags but the ones given and the data folder.
    ///
    /// # Errors
    /// As [`Sidecar::cli`].
    pub async fn cli_bare<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Outcome> {
        Outcome::of(NAME, &mut self.command(arguments)).await
    }

    /// Runs a command as a person does, without `--json`.
    ///
    /// # Errors
    /// As [`Sidecar::cli`].
    pub async fn cli_text<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Outcome> {
        Outcome::of(NAME, self.command(arguments).args(&self.manner.client_flags)).await
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.binary);
        command.args(arguments).arg("--data-dir").arg(self.data_dir());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("COLORFAST_")) {
            command.env_remove(name);
        }
        command
    }

    async fn launch(&mut self) -> Result<()> {
        let ready = self.data_dir().join("serve.json");
        let mut command = Command::new(&self.binary);
        command.arg("serve").arg("--data-dir").arg(self.data_dir());
        command.arg("--discovery").arg(self.discovery().to_string());
        command.arg("--control").arg(self.control().to_string());
        command.args(&self.manner.flags).env_remove("COLORFAST_DATA_DIR").envs(self.manner.environment.iter().cloned());
        let mut process = Process::spawn("the sidecar", &mut command, &self.log_path())?;
        wait::until_ok("the sidecar to listen", START_LIMIT, || {
            let seen = process.must_run().and_then(|()| self.serving(&ready, process.pid()));
            async move { seen }
        })
        .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Whether the file was written by this very process, and says what it was told.
    fn serving(&self, ready: &Path, pid: u32) -> Result<()> {
        let text = fs::read(ready).with_context(|| format!("cannot read {}", ready.display()))?;
        let serving: Serving = serde_json::from_slice(&text).with_context(|| format!("{}", ready.display()))?;
        if serving.pid != pid {
            bail!("{} is of the process {}, not of {pid}", ready.display(), serving.pid);
        }
        let scheme = if self.manner.flags.iter().any(|flag| flag == "--tls-cert") { "https" } else { "http" };
        let wanted = (format!("{scheme}://{}", self.discovery()), format!("{scheme}://{}", self.control()));
        if (&serving.discovery, &serving.control) != (&wanted.0, &wanted.1) {
            bail!("it listens on {} and {}, and was told {wanted:?}", serving.discovery, serving.control);
        }
        Ok(())
    }

    fn token(&self, file: &str) -> Result<String> {
        let path = self.data_dir().join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.trim_end().to_owned())
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("sidecar.log")
    }
}
