//! What is being done, on standard error: a line that moves on a terminal, else a line now and then.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How many lines a long part says where there is no terminal.
const LINES: u64 = 10;

/// The progress of one run.
#[derive(Clone, Debug)]
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// A line that moves where standard error is a terminal.
    #[must_use]
    pub fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(Some(bar))
    }

    /// The next thing is done.
    pub fn step(&self, what: &str) {
        match &self.0 {
            Some(bar) => bar.set_message(what.to_owned()),
            None => eprintln!("bench: {what}"),
        }
    }

    /// So much of something long is done.
    pub fn part(&self, what: &str, done: u64, of: u64) {
        match &self.0 {
            Some(bar) => bar.set_message(format!("{what}: {done} of {of}")),
            None if done.is_multiple_of((of / LINES).max(1)) => eprintln!("bench: {what}: {done} of {of}"),
            None => {}
        }
    }

    /// Nothing more is done.
    pub fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
