//! Where the things are that tests start: built by this workspace, or given by the environment.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// The root of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.parent().unwrap_or(here).to_owned()
    })
}

/// The configuration that users copy: every test's Envoy runs an edited copy of it.
#[must_use]
pub fn bootstrap() -> PathBuf {
    workspace().join("envoy/bootstrap.yaml")
}

/// The Envoy binary: `$ENVOY`, else `envoy` on the path, else the one that `envoy/fetch.py` downloads, once.
///
/// # Errors
/// Where there is none and none can be had; the script's own words are in the message.
pub fn envoy() -> Result<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(|| fetch_envoy().map_err(|e| format!("{e:#}"))).as_deref().map_err(|e| anyhow::anyhow!("{e}"))
}

fn fetch_envoy() -> Result<PathBuf> {
    let script = workspace().join("envoy/fetch.py");
    let out = Command::new("python3").arg(&script).output().context("cannot run python3, which finds Envoy")?;
    let path = String::from_utf8_lossy(&out.stdout).lines().last().map(PathBuf::from);
    match path {
        Some(path) if out.status.success() && path.is_file() => Ok(path),
        _ => bail!("{} found no Envoy: {}", script.display(), String::from_utf8_lossy(&out.stderr).trim()),
    }
}

/// The sidecar and command line in one: `$COLORFAST_BIN`, else the debug build.
///
/// # Errors
/// Where it has not been built.
pub fn colorfast() -> Result<PathBuf> {
    built("COLORFAST_BIN", "debug/colorfast", "cargo build -p colorfast")
}

/// The filter: `$COLORFAST_WASM`, else the build of the `wasm` profile.
///
/// # Errors
/// Where it has not been built.
pub fn filter() -> Result<PathBuf> {
    built(
        "COLORFAST_WASM",
        "wasm32-wasip1/wasm/colorfast_filter.wasm",
        "cargo build --profile wasm --target wasm32-wasip1 -p colorfast-filter",
    )
}

/// The filter that dies at a request to a bundle whose id begins with `crash`: `$COLORFAST_CRASH_WASM`, else the build
/// of the `crash` profile.
///
/// # Errors
/// Where it has not been built.
pub fn crashing_filter() -> Result<PathBuf> {
    built("COLORFAST_CRASH_WASM", "wasm32-wasip1/crash/colorfast_filter.wasm", "make wasm-crash")
}

/// The filters that the benchmark measures ours by: `$COLORFAST_BENCH_WASM`, else the build of the `wasm` profile.
///
/// # Errors
/// Where they have not been built.
pub fn bench_filter() -> Result<PathBuf> {
    built(
        "COLORFAST_BENCH_WASM",
        "wasm32-wasip1/wasm/bench_filter.wasm",
        "cargo build --profile wasm --target wasm32-wasip1 -p bench-filter",
    )
}

/// Where this workspace is built.
#[must_use]
pub fn target() -> PathBuf {
    // Cargo takes a relative target folder from where it was called; from there or from the root, mostly the same.
    workspace().join(env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from))
}

fn built(variable: &str, under_target: &str, how: &str) -> Result<PathBuf> {
    if let Some(named) = env::var_os(variable) {
        let path = PathBuf::from(named);
        if !path.is_file() {
            bail!("{variable} names {}, where there is no file", path.display());
        }
        return Ok(path);
    }
    let path = target().join(under_target);
    if !path.is_file() {
        bail!("{} does not exist; build it with `{how}`, or set {variable}", path.display());
    }
    Ok(path)
}
