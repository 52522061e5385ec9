//! Where output goes: standard output for results, standard error for progress and failures.

use std::io::{self, IsTerminal as _, Write as _};

use colorfast_core::release::Phase;
use comfy_table::{ContentArrangement, Table, presets};
use owo_colors::{OwoColorize as _, Style};
use serde::Serialize;

use crate::cli::args::Color;
use crate::cli::error::{Exit, Failure};
use crate::cli::words;

/// Who reads the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// People.
    Text,
    /// Programs.
    Json,
}

/// The two streams, and how they are to be written.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Who reads standard output.
    pub format: Format,
    /// The colours of standard output.
    pub paint: Paint,
    err: Paint,
    terminal: bool,
    #[cfg(test)]
    sink: Sink,
}

impl Output {
    /// `no_color` is whether NO_COLOR is set.
    pub fn new(format: Format, color: Color, no_color: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let paint = |terminal: bool| match color {
            Color::Always => Paint::On,
            Color::Auto if terminal && !no_color => Paint::On,
            _ => Paint::Off,
        };
        Self {
            format,
            paint: paint(terminal),
            err: paint(io::stderr().is_terminal()),
            terminal,
            #[cfg(test)]
            sink: Sink::Nowhere,
        }
    }

    /// Whether somebody looks at standard output.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes text for people, as it stands.
    ///
    /// # Errors
    /// Where nobody reads any more.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        let mut out = self.out();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::usage(format!("cannot write to standard output: {error}")),
        })
    }

    /// Writes a line for people.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn line(&self, line: &str) -> Result<(), Failure> {
        self.text(&format!("{line}\n"))
    }

    /// Writes a document for programs, the only one of its command.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn document(&self, document: &impl Serialize) -> Result<(), Failure> {
        self.line(&serde_json::to_string_pretty(document).map_err(unwritable)?)
    }

    /// Writes one of many documents for programs, on a line of its own.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn document_line(&self, document: &impl Serialize) -> Result<(), Failure> {
        self.line(&serde_json::to_string(document).map_err(unwritable)?)
    }

    /// Ends a command whose outcome is known: what cannot be written is told, and changes nothing about the outcome.
    pub fn end(&self, exit: Exit, written: Result<(), Failure>) -> Exit {
        if let Err(failure) = written {
            self.failure(&failure);
        }
        exit
    }

    /// Tells a failure on standard error.
    pub fn failure(&self, failure: &Failure) {
        let Failure::Told(told) = failure else { return };
        let text = match (self.format, serde_json::to_string_pretty(&told.problem)) {
            (Format::Json, Ok(problem)) => format!("{problem}\n"),
            _ => {
                let detail = words::tame_lines(&told.problem.detail).replace('\n', "\n  ");
                let mut text = format!("{} {detail}\n", self.err.bad("error:"));
                for step in &told.next {
                    text.push_str(&format!("{}  {}\n", self.err.dim("next:"), words::tame(step)));
                }
                text
            }
        };
        // Nobody is left to tell that nobody could be told.
        let _ = self.err().write_all(text.as_bytes());
    }

    #[cfg(not(test))]
    fn out(&self) -> impl io::Write {
        io::stdout().lock()
    }

    #[cfg(not(test))]
    fn err(&self) -> impl io::Write {
        io::stderr().lock()
    }

    /// A sober table: no borders, as wide as the terminal at most.
    pub fn table(&self, header: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if self.terminal {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.force_no_tty();
        }
        table.set_header(header.iter().map(|title| self.paint.dim(title)));
        table
    }
}

fn unwritable(error: serde_json::Error) -> Failure {
    Failure::outage(format!("the answer cannot be written as JSON: {error}"))
}

/// A table as text, indented by one.
pub fn render(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Whether colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// They are.
    On,
    /// They are not.
    Off,
}

impl Paint {
    fn with(self, style: Style, text: &str) -> String {
        match self {
            Self::On => text.style(style).to_string(),
            Self::Off => text.to_owned(),
        }
    }

    /// What went well.
    pub fn good(self, text: &str) -> String {
        self.with(Style::new().green(), text)
    }

    /// What wants a look.
    pub fn warn(self, text: &str) -> String {
        self.with(Style::new().yellow(), text)
    }

    /// What went wrong.
    pub fn bad(self, text: &str) -> String {
        self.with(Style::new().red().bold(), text)
    }

    /// What matters less.
    pub fn dim(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }

    /// What matters more.
    pub fn strong(self, text: &str) -> String {
        self.with(Style::new().bold(), text)
    }

    /// A phase in the colour that it has everywhere.
    pub fn phase(self, phase: Phase) -> String {
        let style = Style::new();
        let style = match phase {
            Phase::Idle => style.dimmed(),
            Phase::Staged => style.cyan(),
            Phase::Candidate => style.yellow(),
            Phase::Live => style.green().bold(),
            Phase::Draining => style.blue(),
            Phase::Condemned => style.red(),
        };
        self.with(style, phase.as_str())
    }
}

/// What stands in the place of the two streams in tests.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
enum Sink {
    Nowhere,
    Broken(io::ErrorKind),
}

#[cfg(test)]
impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Nowhere => Ok(bytes.len()),
            Self::Broken(kind) => Err((*kind).into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
impl Output {
    /// Output for people who see no colours.
    pub fn plain() -> Self {
        Self { format: Format::Text, paint: Paint::Off, err: Paint::Off, terminal: false, sink: Sink::Nowhere }
    }

    fn out(&self) -> impl io::Write {
        self.sink
    }

    fn err(&self) -> impl io::Write {
        self.sink
    }

    /// Output that cannot be written.
    pub fn broken(format: Format, kind: io::ErrorKind) -> Self {
        Self { format, sink: Sink::Broken(kind), ..Self::plain() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NO_COLOR is obeyed, and overruled by the flag alone.
    #[test]
    fn colours_by_wish() {
        for (color, no_color, wanted) in
            [(Color::Always, true, Paint::On), (Color::Never, false, Paint::Off), (Color::Auto, true, Paint::Off)]
        {
            assert_eq!(Output::new(Format::Text, color, no_color).paint, wanted);
        }
        assert_eq!(Paint::Off.phase(Phase::Live), "live");
        assert!(Paint::On.phase(Phase::Live).contains("\x1b["));
    }
}
