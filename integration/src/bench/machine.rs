//! What the figures were taken on.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::paths;

/// A machine, without anything that names it.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The model of the processor.
    pub cpu: String,
    /// Its cores that this process may use.
    pub cores: usize,
    /// Its memory in MiB.
    pub memory_mib: u64,
    /// Operating system, release of the kernel, and architecture.
    pub system: String,
    /// How many processes ran or wanted to when the run began, on average over a minute: more than what the benchmark
    /// itself takes makes figures waver.
    pub load_before: f64,
    /// The Envoy that was measured.
    pub envoy: String,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// Where Envoy does not say what it is.
    pub fn this() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (cpus, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let memory = memory.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        let system = nix::sys::utsname::uname()?;
        let word = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        Ok(Self {
            cpu: cpu.map_or_else(|| "unknown".to_owned(), |(_, model)| model.to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            memory_mib: memory.unwrap_or_default() / 1024,
            system: [system.sysname(), system.release(), system.machine()].map(word).join(" "),
            load_before: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default(),
            envoy: envoy_version()?,
        })
    }
}

/// `<release>/<build>` out of what `envoy --version` says: `…: <commit>/<release>/<tree>/<build>/<TLS>`.
fn envoy_version() -> Result<String> {
    let out = Command::new(paths::envoy()?).arg("--version").output().context("cannot run Envoy")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let parts: Vec<&str> = text.trim().split('/').collect();
    match parts.as_slice() {
        [.., release, _, build, _] => Ok(format!("{release} {build}")),
        _ => anyhow::bail!("Envoy says of itself {text:?}"),
    }
}
