//! What went wrong, told so that a failing test needs no debugger.

use std::fmt;

use crate::{LogLevel, Status};

/// The result of everything that runs guest code.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A line that the guest logged, through the proxy or through its standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Severity; standard output counts as info, standard error as error, as in Envoy.
    pub level: LogLevel,
    /// The context whose callback was running.
    pub context: u32,
    /// The text, without the newline at its end.
    pub text: String,
}

/// A host call that Envoy refuses, or accepts and then punishes. A guest that checks statuses lives
/// on, so a test that cares looks at [`Vm::complaints`](crate::Vm::complaints).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Name of the host call.
    pub import: &'static str,
    /// The context that the call was about.
    pub context: u32,
    /// What the guest was told.
    pub status: Status,
    /// What was wrong with it.
    pub why: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { import, context, status, why } = self;
        write!(f, "{import} for context {context}: {why} ({status:?})")
    }
}

/// Why guest code could not run, or did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The file is not a module that this host can start.
    Module(String),
    /// The guest trapped: a panic, or memory read out of bounds.
    Trap(String),
    /// The guest spent its whole budget of instructions in one callback.
    Endless {
        /// The budget.
        fuel: u64,
    },
    /// The guest called an import that this host does not play.
    UnknownImport(String),
    /// The guest ended its own process.
    Exit(u32),
    /// The guest answered that it cannot start, or refuses its configuration.
    Refused,
    /// The VM failed earlier; this is what of.
    Dead(Box<Cause>),
    /// The test asks for what no proxy would do.
    Misuse(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Module(why) => write!(f, "not a module that can be started: {why}"),
            Cause::Trap(why) => write!(f, "the guest trapped: {why}"),
            Cause::Endless { fuel } => write!(f, "the guest did not end within {fuel} steps"),
            Cause::UnknownImport(name) => {
                write!(f, "the guest called {name}, which this host does not play")
            }
            Cause::Exit(code) => write!(f, "the guest called proc_exit({code})"),
            Cause::Refused => write!(f, "the guest answered false"),
            Cause::Dead(first) => write!(f, "the VM is dead since an earlier call: {first}"),
            Cause::Misuse(why) => f.write_str(why),
        }
    }
}

/// A call into a VM that failed. Unless it is [`Cause::Misuse`], the VM is dead from here on.
#[derive(Clone)]
pub struct Error {
    /// What it was.
    pub cause: Cause,
    /// The callback that ran, such as `proxy_on_tick`.
    pub during: String,
    /// The host call that the guest made last.
    pub last_import: Option<&'static str>,
    /// The host call that this callback was refused last: most often what the guest panicked about.
    pub complaint: Option<Box<Complaint>>,
    /// The last lines of the log, oldest first.
    pub log: Vec<LogLine>,
}

impl Error {
    /// An error that comes before any guest code ran.
    pub(crate) fn before(during: &str, cause: Cause) -> Self {
        Self { cause, during: during.to_owned(), last_import: None, complaint: None, log: Vec::new() }
    }

    /// Whether the last lines of the log hold this text, such as a panic's message.
    pub fn logged(&self, text: &str) -> bool {
        self.log.iter().any(|line| line.text.contains(text))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.during, self.cause)?;
        if let Some(import) = self.last_import {
            write!(f, "\n  last host call: {import}")?;
        }
        if let Some(complaint) = &self.complaint {
            write!(f, "\n  last refused: {complaint}")?;
        }
        for line in &self.log {
            write!(f, "\n  log [{}] {:?}: {}", line.context, line.level, line.text)?;
        }
        Ok(())
    }
}

/// The same story as the display form: `unwrap` in a test shows it as written.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}
