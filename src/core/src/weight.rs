//! The share of new sessions that a slot takes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ParseError;
use crate::json::{Error, FromTree, Tree};

/// Parts of 10,000 of the new sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(u16);

impl Weight {
    /// No new session.
    pub const NONE: Self = Self(0);
    /// Every new session.
    pub const ALL: Self = Self(10_000);

    /// The number of parts, 0 to 10,000.
    pub fn parts(self) -> u16 {
        self.0
    }

    /// Whether any new session comes here.
    pub fn takes_sessions(self) -> bool {
        self.0 > 0
    }

    /// The sum of two shares, if it is a share.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::try_from(u32::from(self.0) + u32::from(other.0)).ok()
    }

    /// What is left for others.
    pub fn rest(self) -> Self {
        Self(Self::ALL.0.saturating_sub(self.0))
    }
}

impl FromTree for Weight {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        Ok(u32::from_tree(tree)?.try_into()?)
    }
}

impl TryFrom<u32> for Weight {
    type Error = ParseError;

    fn try_from(parts: u32) -> Result<Self, ParseError> {
        u16::try_from(parts)
            .ok()
            .filter(|parts| *parts <= Self::ALL.0)
            .map(Self)
            .ok_or_else(|| ParseError::new(&parts.to_string(), WANTED))
    }
}

const WANTED: &str = "a weight: parts of 10,000 (0 to 10000), or a percentage as in 2.5%";

impl From<Weight> for u32 {
    fn from(weight: Weight) -> u32 {
        u32::from(weight.0)
    }
}

impl FromStr for Weight {
    type Err = ParseError;

    /// Reads parts of 10,000 (`250`) or a percentage with at most two decimals (`2.5%`).
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = || ParseError::new(text, WANTED);
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let parts = match text.strip_suffix('%') {
            None if digits(text) => text.parse().map_err(|_| refuse())?,
            None => return Err(refuse()),
            Some(percent) => {
                let (whole, fraction) = percent.split_once('.').unwrap_or((percent, "0"));
                if !digits(whole) || !digits(fraction) || !(1..=2).contains(&fraction.len()) {
                    return Err(refuse());
                }
                let whole: u32 = whole.parse().map_err(|_| refuse())?;
                let hundredths: u32 = format!("{fraction:0<2}").parse().map_err(|_| refuse())?;
                whole.checked_mul(100).and_then(|n| n.checked_add(hundredths)).ok_or_else(refuse)?
            }
        };
        Self::try_from(parts).map_err(|_| refuse())
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, hundredths) = (self.0 / 100, self.0 % 100);
        match hundredths {
            0 => write!(f, "{whole}%"),
            n if n % 10 == 0 => write!(f, "{whole}.{}%", n / 10),
            n => write!(f, "{whole}.{n:02}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights read back what they print, and nothing over 100 % is one.
    #[test]
    fn reads_parts_and_percentages() {
        for parts in 0..=10_000u32 {
            let weight = Weight::try_from(parts).unwrap();
            assert_eq!(weight.to_string().parse::<Weight>().unwrap(), weight);
            assert_eq!(parts.to_string().parse::<Weight>().unwrap(), weight);
        }
        for bad in
            ["10001", "-1", "100.01%", "1.234%", "%", ".5%", "5.%", "1e2%", "", "ten", "+5%", "+5", "99999999999"]
        {
            assert!(bad.parse::<Weight>().is_err(), "{bad} was taken");
        }
    }
}
