//! The pin: a signed token that binds a session to an assignment. 43 bytes, 58 characters:
//!
//! ```text
//!  0      1        3            11     19       23          27              43
//!  ├ kind ┼ key id ┼ assignment ┼ sid ─┼ began ─┼ refreshed ┼ MAC (128 bit) ┤
//! ```

use super::{Body, seconds};
use crate::ids::{AssignmentId, Sid};
use crate::time::UnixSeconds;

/// Characters of a pin.
pub const LENGTH: usize = 58;

/// Signs pins.
pub type Signer = super::Signer<Claims>;

/// Whether the sid of a pin stands for the id that its requests carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The sid was drawn: the request that began the session named none.
    Free,
    /// The sid is the keyed hash of the session id.
    Bound,
}

impl Kind {
    const FREE: u8 = 0x10;
    const BOUND: u8 = 0x11;
}

/// What a pin says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// Bound or free.
    pub kind: Kind,
    /// The session.
    pub sid: Sid,
    /// The bundle in its slot that the session holds.
    pub assignment: AssignmentId,
    /// When the session began; never changes, bounds max-age.
    pub began: UnixSeconds,
    /// When the pin was issued last; bounds idle time.
    pub refreshed: UnixSeconds,
}

impl super::Claims for Claims {
    const DOMAIN: &'static [u8] = b"colorfast/pin/1\0";

    fn kind(&self) -> u8 {
        match self.kind {
            Kind::Free => Kind::FREE,
            Kind::Bound => Kind::BOUND,
        }
    }

    fn write(&self, body: &mut Body) {
        body.put(&self.assignment.0.to_be_bytes());
        body.put(&self.sid.0.to_be_bytes());
        body.put_seconds(self.began);
        body.put_seconds(self.refreshed);
    }

    fn read(kind: u8, rest: &[u8]) -> Option<Self> {
        let kind = match kind {
            Kind::FREE => Kind::Free,
            Kind::BOUND => Kind::Bound,
            _ => return None,
        };
        let (assignment, rest) = rest.split_first_chunk()?;
        let (sid, rest) = rest.split_first_chunk()?;
        let (began, rest) = rest.split_first_chunk()?;
        Some(Self {
            kind,
            sid: Sid(u64::from_be_bytes(*sid)),
            assignment: AssignmentId(u64::from_be_bytes(*assignment)),
            began: seconds(*began),
            refreshed: seconds(rest.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests as token;
    use super::*;

    prop_compose! {
        fn claims()(bound: bool, sid: u64, assignment: u64, began: u32, refreshed: u32) -> Claims {
            Claims {
                kind: if bound { Kind::Bound } else { Kind::Free },
                sid: Sid(sid),
                assignment: AssignmentId(assignment),
                began: UnixSeconds(began.into()),
                refreshed: UnixSeconds(refreshed.into()),
            }
        }
    }

    proptest! {
        /// Unforgeable: what was minted reads back, with its own service and keys alone; it fits a cookie easily.
        #[test]
        fn reads_what_it_minted(claims in claims()) {
            prop_assert_eq!(token::signer("chat", &[1], 1).mint(&claims).len(), LENGTH);
            token::reads_what_it_minted(claims);
        }

        /// Unforgeable: nothing that was done to a pin is accepted.
        #[test]
        fn refuses_every_alteration(claims in claims(), at: usize, to: u8) {
            token::refuses_every_alteration(claims, at, to);
            token::refuses_a_second_spelling(claims);
        }

        /// Total: no input makes the reader panic or succeed by accident.
        #[test]
        fn refuses_noise(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(token::signer::<Claims>("chat", &[1], 1).read(&noise).is_err());
        }
    }
}
