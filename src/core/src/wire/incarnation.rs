//! The incarnation of a sidecar: which of its lives speaks.
//!
//! It is drawn at every start. A proxy that hears another one than before tells again what the sidecar may have lost.

use serde::{Deserialize, Serialize};

use crate::json::newtype;

/// An incarnation, opaque to proxies: 16 hex digits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Incarnation(#[cfg_attr(feature = "schema", schemars(regex(pattern = crate::schema::DRAWN)))] String);

newtype!(Incarnation, String);

impl Incarnation {
    /// The incarnation of this number.
    pub fn of(drawn: u64) -> Self {
        Self(format!("{drawn:016x}"))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
