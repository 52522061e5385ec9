//! The preview token: an operator's word that a request is to go to a slot, whatever else it shows. It ends soon.
//!
//! ```text
//!  0      1        3         7           up to 39
//!  ├ kind ┼ key id ┼ expires ┼ slot name ┼ MAC (128 bit) ┤
//! ```

use super::{Body, seconds};
use crate::ids::SlotName;
use crate::time::UnixSeconds;

/// Signs preview tokens.
pub type Signer = super::Signer<Claims>;

/// The longest that a preview token may hold: a day.
pub const TTL_MAX_SECONDS: u32 = 24 * 3600;

const KIND: u8 = 0x20;

/// What a preview token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// When it ends.
    pub expires: UnixSeconds,
    /// Where its requests go.
    pub slot: SlotName,
}

impl super::Claims for Claims {
    const DOMAIN: &'static [u8] = b"colorfast/preview/1\0";

    fn kind(&self) -> u8 {
        KIND
    }

    fn write(&self, body: &mut Body) {
        body.put_seconds(self.expires);
        body.put(self.slot.as_str().as_bytes());
    }

    fn read(kind: u8, rest: &[u8]) -> Option<Self> {
        let (expires, slot) = rest.split_first_chunk()?;
        let slot = str::from_utf8(slot).ok()?.parse().ok()?;
        (kind == KIND).then_some(Self { expires: seconds(*expires), slot })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests as token;
    use super::*;

    prop_compose! {
        fn claims()(expires: u32, slot in "[a-z][a-z0-9-]{0,31}") -> Claims {
            Claims { expires: UnixSeconds(expires.into()), slot: slot.parse().unwrap() }
        }
    }

    proptest! {
        /// Unforgeable: what was minted reads back, with its own service and keys alone.
        #[test]
        fn reads_what_it_minted(claims in claims()) {
            token::reads_what_it_minted(claims);
        }

        /// Unforgeable: nothing that was done to a preview token is accepted.
        #[test]
        fn refuses_every_alteration(claims in claims(), at: usize, to: u8) {
            token::refuses_every_alteration(claims, at, to);
        }

        /// Total: no input makes the reader panic or succeed by accident.
        #[test]
        fn refuses_noise(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(token::signer::<Claims>("chat", &[1], 1).read(&noise).is_err());
        }
    }

    /// Unforgeable: a pin of the same key is no preview token, nor the other way about.
    #[test]
    fn kinds_do_not_mix() {
        use super::super::{Invalid, pin};
        let preview = Claims { expires: UnixSeconds(9), slot: "green".parse().unwrap() };
        let preview = token::signer("chat", &[1], 1).mint(&preview);
        assert_eq!(token::signer::<pin::Claims>("chat", &[1], 1).read(preview.as_bytes()), Err(Invalid::Malformed));
        let pin = pin::Claims {
            kind: pin::Kind::Free,
            sid: crate::ids::Sid(1),
            assignment: crate::ids::AssignmentId(2),
            began: UnixSeconds(3),
            refreshed: UnixSeconds(4),
        };
        let pin = token::signer("chat", &[1], 1).mint(&pin);
        assert_eq!(token::signer::<Claims>("chat", &[1], 1).read(pin.as_bytes()), Err(Invalid::Malformed));
    }
}
