//! How long slots drain.

use serde::{Deserialize, Serialize};

/// Seconds that a slot drains at most; 0, unless set: for as long as its sessions last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct DrainDeadlineSeconds(#[cfg_attr(feature = "schema", schemars(range(max = super::AGE_MAX_SECONDS)))] pub u32);
