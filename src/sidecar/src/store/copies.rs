//! Copies of all that a store keeps.

use std::fmt;
use std::path::PathBuf;

use super::Answer;

/// A store that can be copied while it is written to.
pub trait Copies: fmt::Debug + Send + Sync {
    /// Writes the store as it is at one moment into `file`, which is empty, as a SQLite file.
    fn copy_to(&self, file: PathBuf) -> Answer<'_, ()>;
}
