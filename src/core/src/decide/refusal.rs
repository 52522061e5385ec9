//! Why tokens did not decide, and how often.

use crate::token::{Invalid, TokenKind};

/// Why a token did not decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not a token.
    Malformed,
    /// Signed by a key that is not in the ring.
    UnknownKey,
    /// Altered, forged, or of another service.
    BadMac,
    /// Past its end, or past max-age.
    Expired,
    /// Past the idle timeout.
    Idle,
    /// From the future, beyond what clocks differ; or good for longer than any that is minted.
    Future,
    /// Of an assignment that is honoured no more.
    Broken,
    /// Bound to another session id than the request's: a shared cookie jar, no forgery.
    OtherSession,
    /// Of an assignment that no snapshot has brought in time; the client keeps it.
    Newer,
    /// Of a slot that is down: the session goes on elsewhere.
    SlotDown,
    /// Of a slot that runs nothing, or that there is not.
    NoSlot,
}

impl Refusal {
    /// Every cause.
    pub const ALL: [Self; 11] = [
        Self::Malformed,
        Self::UnknownKey,
        Self::BadMac,
        Self::Expired,
        Self::Idle,
        Self::Future,
        Self::Broken,
        Self::OtherSession,
        Self::Newer,
        Self::SlotDown,
        Self::NoSlot,
    ];

    /// The word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::BadMac => "bad_mac",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::Future => "future",
            Self::Broken => "broken",
            Self::OtherSession => "other_session",
            Self::Newer => "newer",
            Self::SlotDown => "slot_down",
            Self::NoSlot => "no_slot",
        }
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Malformed => Self::Malformed,
            Invalid::UnknownKey => Self::UnknownKey,
            Invalid::BadMac => Self::BadMac,
        }
    }
}

/// How many tokens of a request were refused, by kind and cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals([[u8; Refusal::ALL.len()]; TokenKind::ALL.len()]);

impl Refusals {
    /// Counts one more.
    pub fn count(&mut self, kind: TokenKind, refusal: Refusal) {
        if let Some(n) = self.0.get_mut(kind as usize).and_then(|causes| causes.get_mut(refusal as usize)) {
            *n = n.saturating_add(1);
        }
    }

    /// What occurred, with its number.
    pub fn iter(&self) -> impl Iterator<Item = (TokenKind, Refusal, u8)> {
        TokenKind::ALL.into_iter().zip(self.0).flat_map(|(kind, causes)| {
            Refusal::ALL.into_iter().zip(causes).filter(|(_, n)| *n > 0).map(move |(refusal, n)| (kind, refusal, n))
        })
    }
}
