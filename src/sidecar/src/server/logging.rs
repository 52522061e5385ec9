//! Logs: structured, to standard error.

use std::io::{IsTerminal, stderr};

use anyhow::{Context, Result};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use super::LogFormat;

/// Which events are written, in the syntax of `tracing`; `info` where it is not set.
const ENV: &str = "COLORFAST_LOG";

/// Starts logging.
///
/// # Errors
/// Where the environment names no filter.
pub fn start(format: LogFormat) -> Result<()> {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).with_env_var(ENV);
    let filter = filter.from_env().with_context(|| format!("{ENV} is no filter, as in `info` or `colorfast=debug`"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_target(false);
    match format {
        LogFormat::Text => logs.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    Ok(())
}
