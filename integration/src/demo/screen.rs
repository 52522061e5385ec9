//! Where the demo tells what happens: on a terminal with a picture that redraws itself under the story, elsewhere
//! in sober lines.

use std::io::{IsTerminal as _, Write as _, stderr, stdout};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::paint::Paint;
use super::picture::Picture;

/// Which stream the story goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error, where standard output is for a program.
    Err,
}

/// The stream, and the picture where somebody looks at it.
#[derive(Debug)]
pub struct Screen {
    stream: Stream,
    paint: Paint,
    live: Option<Live>,
}

/// A picture at the bottom of a terminal.
#[derive(Debug)]
struct Live {
    all: MultiProgress,
    lines: Vec<ProgressBar>,
}

impl Screen {
    /// A screen on a stream: live where that is a terminal.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        let (terminal, target) = match stream {
            Stream::Out => (stdout().is_terminal(), ProgressDrawTarget::stdout()),
            Stream::Err => (stderr().is_terminal(), ProgressDrawTarget::stderr()),
        };
        let live = terminal && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let live = live.then(|| Live { all: MultiProgress::with_draw_target(target), lines: Vec::new() });
        Self { stream, paint: Paint::of(terminal), live }
    }

    /// The colours of it.
    #[must_use]
    pub fn paint(&self) -> Paint {
        self.paint
    }

    /// Begins a part of the story.
    pub fn tell(&self, text: &str) {
        self.print(&format!("\n{}", self.paint.strong(text)));
    }

    /// Shows a command before it is run.
    pub fn command(&self, command: &str) {
        self.print(&format!("  {} {command}", self.paint.dim("$")));
    }

    /// Shows what a command answered, or anything else of less weight than the story.
    pub fn answer(&self, text: &str) {
        for line in text.lines() {
            self.print(&format!("  {line}"));
        }
    }

    /// Shows the picture of this moment, where it is live.
    pub fn draw(&mut self, picture: &Picture) {
        let Some(live) = &mut self.live else { return };
        while live.lines.len() < Picture::height() {
            let line = live.all.add(ProgressBar::new_spinner());
            live.lines.push(line.with_style(
                ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
            ));
        }
        for (line, text) in live.lines.iter().zip(picture.lines(self.paint)) {
            line.set_message(text);
        }
    }

    /// Shows where a step has led to, where the picture is not live.
    pub fn note(&self, picture: &Picture) {
        if self.live.is_none() {
            self.answer(&picture.line());
        }
    }

    /// Leaves the last picture standing; from now on there is only text.
    pub fn freeze(&mut self, picture: &Picture) {
        if let Some(live) = self.live.take() {
            // The bars go; what they showed comes back as text, which nothing draws over.
            let _ = live.all.clear();
            drop(live);
            for line in picture.lines(self.paint) {
                self.print(&line);
            }
        }
    }

    /// Writes a line.
    pub fn print(&self, line: &str) {
        // Whoever has stopped to read misses nothing that matters: the exit code says it all.
        let _ = match (&self.live, self.stream) {
            (Some(live), _) => live.all.println(line),
            (None, Stream::Out) => writeln!(stdout(), "{line}"),
            (None, Stream::Err) => writeln!(stderr(), "{line}"),
        };
    }
}
