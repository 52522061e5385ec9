//! Colours, or none.

use std::env;

use owo_colors::{OwoColorize as _, Style};

use super::world::{GREEN, Side};

/// Whether colours are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// They are.
    On,
    /// They are not.
    Off,
}

impl Paint {
    /// Colours on a terminal, unless `NO_COLOR` is set.
    #[must_use]
    pub fn of(terminal: bool) -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if terminal && !refused { Self::On } else { Self::Off }
    }

    /// What matters less.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }

    /// What matters more.
    #[must_use]
    pub fn strong(self, text: &str) -> String {
        self.with(Style::new().bold(), text)
    }

    /// What went well.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.with(Style::new().green().bold(), text)
    }

    /// What went wrong.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.with(Style::new().red().bold(), text)
    }

    /// What belongs to a side, in its colour.
    #[must_use]
    pub fn side(self, side: &Side, text: &str) -> String {
        let style = Style::new();
        self.with(if side.slot == GREEN.slot { style.bright_green() } else { style.bright_blue() }, text)
    }

    fn with(self, style: Style, text: &str) -> String {
        match self {
            Self::On => text.style(style).to_string(),
            Self::Off => text.to_owned(),
        }
    }
}
