//! Logs: structured, to standard error. A thread of their own writes them, so that a reader who stalls stalls nobody.

use std::io::{IsTerminal, Write, stderr};

use anyhow::{Context, Result};
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::LogFormat;

/// Which events are written, in the syntax of `tracing`; `info` where it is not set.
const ENV: &str = "COLORFAST_LOG";

/// Lines that wait to be written; those that come on top are lost.
const LINES_MAX: usize = 8_192;

/// Starts logging. What waits is written when the answer is dropped, where that takes no longer than a second.
///
/// # Errors
/// Where the environment names no filter.
pub fn start(format: LogFormat) -> Result<WorkerGuard> {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).with_env_var(ENV);
    let filter = filter.from_env().with_context(|| format!("{ENV} is no filter, as in `info` or `colorfast=debug`"))?;
    let (writer, guard) = behind(stderr());
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    match format {
        LogFormat::Text => logs.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    Ok(guard)
}

fn behind(out: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX).thread_name("log").finish(out)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A reader that takes nothing until it is let go.
    struct Stalled {
        go: mpsc::Receiver<()>,
        taken: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.go.recv().ok();
            self.taken.send(bytes.to_vec()).ok();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Nobody waits for a reader of the log that stalls; what waited is written once it reads on.
    #[test]
    fn a_stalled_reader_stalls_nobody() {
        let (go, wait) = mpsc::channel();
        let (taken, lines) = mpsc::channel();
        let (mut writer, guard) = behind(Stalled { go: wait, taken });
        for _ in 0..LINES_MAX * 2 {
            writer.write_all(b"line\n").unwrap();
        }
        assert!(lines.try_recv().is_err());
        drop(go);
        drop(guard);
        assert!((LINES_MAX..LINES_MAX * 2).contains(&lines.try_iter().count()));
    }
}
