//! How often keys are rotated.

use serde::{Deserialize, Serialize};

use crate::json::{Error, FromTree, Tree};

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

impl FromTree for KeyRotationSeconds {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        u32::from_tree(tree).map(Self)
    }
}
