//! One shape for "this field breaks that rule".

use std::fmt;

/// A value that breaks a rule: where it stands and what would be right.
///
/// `field` is a path as in `slots[1].weight`; `rule` is a lower-case phrase that says
/// what was found and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct FieldError {
    /// Path of the offending field, from the root of its document.
    pub field: String,
    /// What was found and what would be right.
    pub rule: String,
}

impl FieldError {
    /// An error at `field` that breaks `rule`.
    pub fn new(field: impl Into<String>, rule: impl fmt::Display) -> Self {
        Self { field: field.into(), rule: rule.to_string() }
    }
}

/// A text that is no valid value of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not {wanted}")]
pub struct ParseError {
    found: String,
    wanted: &'static str,
}

impl ParseError {
    /// `found` was given where `wanted` (a phrase with its article) is required. Long input is cut.
    pub fn new(found: &str, wanted: &'static str) -> Self {
        Self { found: found.chars().take(80).collect(), wanted }
    }
}
