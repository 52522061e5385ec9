//! How long slots drain.

use serde::{Deserialize, Serialize};

use crate::json::{Error, FromTree, Tree};

/// Seconds that a slot drains at most; 0, unless set: for as long as its sessions last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct DrainDeadlineSeconds(#[cfg_attr(feature = "schema", schemars(range(max = super::AGE_MAX_SECONDS)))] pub u32);

impl FromTree for DrainDeadlineSeconds {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        u32::from_tree(tree).map(Self)
    }
}
