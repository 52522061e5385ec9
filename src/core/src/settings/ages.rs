//! How long things last: spans of time in seconds, each with its default.

use serde::{Deserialize, Serialize};

use crate::json::newtype;

/// Seconds that a key signs, thirty days unless set; 0: until a command rotates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct KeyRotationSeconds(#[cfg_attr(feature = "schema", schemars(range(max = super::AGE_MAX_SECONDS)))] pub u32);

impl Default for KeyRotationSeconds {
    fn default() -> Self {
        Self(30 * 24 * 3600)
    }
}

/// Seconds that a slot drains at most; 0, unless set: for as long as its sessions last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct DrainDeadlineSeconds(#[cfg_attr(feature = "schema", schemars(range(max = super::AGE_MAX_SECONDS)))] pub u32);

/// Seconds that a session holds its slot before it has come back, ten minutes unless set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct FirstReturnSeconds(
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = super::AGE_MAX_SECONDS)))] pub u32,
);

impl Default for FirstReturnSeconds {
    fn default() -> Self {
        Self(600)
    }
}

newtype!(KeyRotationSeconds, u32);

newtype!(DrainDeadlineSeconds, u32);

newtype!(FirstReturnSeconds, u32);
