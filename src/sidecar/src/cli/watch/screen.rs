//! The part of the terminal that is redrawn.

use console::Term;

use crate::cli::error::Failure;
use crate::cli::output::Output;

/// The alternate screen; the terminal is as it was once this is dropped.
pub struct Screen {
    output: Output,
    terminal: Term,
}

/// Without a cursor, and without wrapping: a line that went on in the next row would be one row more than was counted.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Where it cannot be written to.
    pub fn enter(output: Output) -> Result<Self, Failure> {
        output.text(ENTER)?;
        Ok(Self { output, terminal: Term::stdout() })
    }

    /// Shows a page from its top; what does not fit is cut, and said to be.
    ///
    /// # Errors
    /// Where the terminal is gone.
    pub fn show(&mut self, page: &str) -> Result<(), Failure> {
        let (height, _) = self.terminal.size();
        self.output.text(&frame(page, usize::from(height)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs no cleaning.
        let _ = self.output.text(LEAVE);
    }
}

/// A page as one write: each line wipes what was right of it, the last wipes what was below. Nothing flickers.
fn frame(page: &str, height: usize) -> String {
    let room = height.saturating_sub(1).max(1);
    let cut = page.lines().count() > room;
    let shown = page.lines().take(if cut { room.saturating_sub(1) } else { room });
    let footer = if cut { "… (the terminal is too low for the rest)  Ctrl-C ends" } else { "Ctrl-C ends" };
    let lines: Vec<_> = shown.chain(std::iter::once(footer)).map(|line| format!("{line}\x1b[K")).collect();
    format!("\x1b[H{}\x1b[J", lines.join("\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page never scrolls the terminal: its top stays in sight.
    #[test]
    fn pages_are_cut_to_the_terminal() {
        let page = "1\n2\n3\n4\n5\n";
        let tall = frame(page, 24);
        assert!(tall.contains("5\x1b[K") && tall.ends_with("Ctrl-C ends\x1b[K\x1b[J"), "{tall:?}");
        let low = frame(page, 4);
        assert!(low.starts_with("\x1b[H1\x1b[K\r\n2\x1b[K\r\n…") && !low.contains('3'), "{low:?}");
        assert!(low.lines().count() < 4);
    }

    /// Whatever is switched for the live view is switched back after it.
    #[test]
    fn the_terminal_is_left_as_it_was() {
        for mode in ["?1049", "?25", "?7"] {
            let (high, low) = (format!("\x1b[{mode}h"), format!("\x1b[{mode}l"));
            assert!(ENTER.contains(&high) != ENTER.contains(&low), "{mode}");
            assert_eq!((ENTER.contains(&high), ENTER.contains(&low)), (LEAVE.contains(&low), LEAVE.contains(&high)));
        }
        assert!(ENTER.contains("\x1b[?7l"), "long lines would wrap");
    }
}
