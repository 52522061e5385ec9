//! Logs: structured, to standard error. A thread of their own writes them, so that a reader who stalls stalls nobody.
//!
//! Every line says which release wrote it; what is logged while a request is answered says who asked.

use std::fmt::{self, Write as _};
use std::future::Future;
use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;

use anyhow::{Context, Result};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::LogFormat;

/// Which events are written, in the syntax of `tracing`; `info` where it is not set.
const ENV: &str = "COLORFAST_LOG";

/// Lines that wait to be written; those that come on top are lost.
const LINES_MAX: usize = 8_192;

/// The release that writes.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

tokio::task_local! {
    /// Who asked for what this task does.
    static PRINCIPAL: Arc<str>;
}

/// Does `work` for `principal`: its lines in the log say so.
pub async fn of_principal<T>(principal: Arc<str>, work: impl Future<Output = T>) -> T {
    PRINCIPAL.scope(principal, work).await
}

/// Starts logging. What waits is written when the answer is dropped, where that takes no longer than a second.
///
/// # Errors
/// Where the environment names no filter.
pub fn start(log_format: LogFormat) -> Result<WorkerGuard> {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).with_env_var(ENV);
    let filter = filter.from_env().with_context(|| format!("{ENV} is no filter, as in `info` or `colorfast=debug`"))?;
    let (writer, guard) = behind(stderr());
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match log_format {
        LogFormat::Text => logs.event_format(Stamped::text(stderr().is_terminal())).init(),
        LogFormat::Json => logs.json().event_format(Stamped::json()).init(),
    }
    Ok(guard)
}

/// A format whose lines say which release wrote them, and for whom.
struct Stamped<F> {
    inner: F,
    stamp: fn(&mut String, &str, &str),
}

impl Stamped<format::Format> {
    fn text(ansi: bool) -> Self {
        let stamp = |line: &mut String, name: &str, value: &str| {
            line.truncate(line.trim_end().len());
            let _ = writeln!(line, " {name}={value}");
        };
        Self { inner: format::format().with_target(false).with_ansi(ansi), stamp }
    }
}

impl Stamped<format::Format<format::Json>> {
    fn json() -> Self {
        // Names and values are of letters that JSON takes as they are.
        let stamp = |line: &mut String, name: &str, value: &str| line.insert_str(1, &format!(r#""{name}":"{value}","#));
        Self { inner: format::format().json().flatten_event(true).with_target(false), stamp }
    }
}

impl<S, N, F> FormatEvent<S, N> for Stamped<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        (self.stamp)(&mut line, "release", RELEASE);
        let mut named = Named(false);
        event.record(&mut named);
        // A line that names somebody itself is about another task's work.
        if !named.0 {
            let _ = PRINCIPAL.try_with(|principal| (self.stamp)(&mut line, "principal", principal));
        }
        writer.write_str(&line)
    }
}

/// Whether an event names its principal itself.
struct Named(bool);

impl Visit for Named {
    fn record_debug(&mut self, field: &Field, _: &dyn fmt::Debug) {
        self.0 |= field.name() == "principal";
    }
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

    /// What stands in the place of standard error.
    #[derive(Clone, Default)]
    struct Book(Arc<parking_lot::Mutex<Vec<u8>>>);

    impl Write for Book {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that a request of `ci` writes in some format, and one that nobody asked for.
    fn lines(subscriber: impl Fn(Book) -> tracing::Dispatch) -> Vec<String> {
        let book = Book::default();
        let log = || {
            tracing::info!(a = 1, "within");
            tracing::info!(principal = "ada", "named");
        };
        tracing::dispatcher::with_default(&subscriber(book.clone()), || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(of_principal("ci".into(), async { log() }));
            tracing::info!("outside");
        });
        let text = String::from_utf8(book.0.lock().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Every line says which release wrote it, and who asked where somebody did, for people and for programs.
    #[test]
    fn lines_name_release_and_principal() {
        let text = lines(|book| {
            let logs = tracing_subscriber::fmt().with_writer(move || book.clone());
            logs.event_format(Stamped::text(false)).finish().into()
        });
        let ends = [
            format!("within a=1 release={RELEASE} principal=ci"),
            format!("named principal=\"ada\" release={RELEASE}"),
            format!("outside release={RELEASE}"),
        ];
        assert_eq!(text.len(), ends.len(), "{text:?}");
        for (line, end) in text.iter().zip(&ends) {
            assert!(line.ends_with(end), "{line}");
        }
        let json = lines(|book| {
            let logs = tracing_subscriber::fmt().with_writer(move || book.clone());
            logs.json().event_format(Stamped::json()).finish().into()
        });
        let json: Vec<serde_json::Value> = json.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        for (line, (message, principal)) in
            json.iter().zip([("within", Some("ci")), ("named", Some("ada")), ("outside", None)])
        {
            let found = (line["message"].as_str(), line["release"].as_str(), line["principal"].as_str());
            assert_eq!(found, (Some(message), Some(RELEASE), principal), "{line}");
        }
    }
}
