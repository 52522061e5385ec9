//! Reads JSON into the types that the filter needs, in little code.
//!
//! Every worker compiles the module of the filter, and what serde derives is compiled anew for each type and each
//! reader: it would be a third of it. So here a text becomes a tree, once, and types are read off the tree by
//! [`FromTree`], field by field. None of this is on the way of a request. Errors name the field, as the rules do.
//!
//! Both readers are held together by tests: what one takes the other takes, and means the same by it.

mod error;
mod fields;
mod tree;

pub use error::Error;
pub use fields::{Fields, FromTree, Key, Unknown, word};
pub(crate) use fields::{newtype, record, words};
pub use tree::Tree;

use crate::error::FieldError;

/// Why a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no JSON from here on; both count from 1.
    #[error("line {line}, column {column}: is not JSON")]
    NotJson {
        /// The line.
        line: usize,
        /// The column, in bytes.
        column: usize,
    },
    /// A field breaks a rule.
    #[error(transparent)]
    Field(FieldError),
}

/// Reads a document.
///
/// # Errors
/// Names the field that breaks a rule, or the place where the JSON ends to be JSON.
pub fn read<T: FromTree>(json: &[u8]) -> Result<T, Unreadable> {
    let tree = Tree::parse(json)?;
    T::from_tree(&tree).map_err(|error| Unreadable::Field(error.into_field()))
}

#[cfg(test)]
mod tests;
