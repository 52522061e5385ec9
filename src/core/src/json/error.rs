//! What is wrong with a document, and where: the place is put together on the way out.

use std::fmt;

use crate::error::{FieldError, ParseError};

/// An error within a document. Boxed, so that the way of all that is well stays short.
#[derive(Debug)]
pub struct Error(Box<FieldError>);

impl Error {
    /// A broken rule, here.
    pub fn new(rule: fmt::Arguments<'_>) -> Self {
        Self(Box::new(FieldError { field: String::new(), rule: fmt::format(rule) }))
    }

    /// The error, seen from the object that has it in its field `name`.
    pub fn in_field(self, name: &str) -> Self {
        self.within(name.to_owned())
    }

    /// The error, seen from the list that has it in this place.
    pub fn in_item(self, index: usize) -> Self {
        self.within(format!("[{index}]"))
    }

    fn within(mut self, mut place: String) -> Self {
        let field = &mut self.0.field;
        if !field.is_empty() && !field.starts_with('[') {
            place.push('.');
        }
        place.push_str(field);
        *field = place;
        self
    }

    /// The error of the whole document.
    pub(super) fn into_field(self) -> FieldError {
        let mut error = *self.0;
        if error.field.is_empty() {
            error.field.push_str("the document");
        }
        error
    }
}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        Self::new(format_args!("{error}"))
    }
}
