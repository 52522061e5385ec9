//! The run token: which task execution a request belongs to, and the bundle that the run began on. It crosses the
//! services of an application, so it names the bundle and no slot.
//!
//! ```text
//!  0      1        3        11      15          up to 79
//!  ├ kind ┼ key id ┼ run id ┼ began ┼ bundle id ┼ MAC (128 bit) ┤
//! ```

use super::{Body, seconds};
use crate::ids::{BundleId, RunId};
use crate::time::UnixSeconds;

/// Signs run tokens.
pub type Signer = super::Signer<Claims>;

const KIND: u8 = 0x30;

/// What a run token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The run.
    pub run: RunId,
    /// When it began; bounds max-age.
    pub began: UnixSeconds,
    /// The bundle that it began on.
    pub bundle: BundleId,
}

impl super::Claims for Claims {
    const DOMAIN: &'static [u8] = b"colorfast/run/1\0";

    fn kind(&self) -> u8 {
        KIND
    }

    fn write(&self, body: &mut Body) {
        body.put(&self.run.0.to_be_bytes());
        body.put_seconds(self.began);
        body.put(self.bundle.as_str().as_bytes());
    }

    fn read(kind: u8, rest: &[u8]) -> Option<Self> {
        let (run, rest) = rest.split_first_chunk()?;
        let (began, bundle) = rest.split_first_chunk()?;
        let bundle = str::from_utf8(bundle).ok()?.parse().ok()?;
        let claims = Self { run: RunId(u64::from_be_bytes(*run)), began: seconds(*began), bundle };
        (kind == KIND).then_some(claims)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests as token;
    use super::*;

    prop_compose! {
        fn claims()(run: u64, began: u32, bundle in "[A-Za-z0-9._@+-]{1,64}") -> Claims {
            Claims { run: RunId(run), began: UnixSeconds(began.into()), bundle: bundle.parse().unwrap() }
        }
    }

    proptest! {
        /// Unforgeable: what was minted reads back, with its own application and keys alone.
        #[test]
        fn reads_what_it_minted(claims in claims()) {
            token::reads_what_it_minted(claims);
        }

        /// Unforgeable: nothing that was done to a run token is accepted.
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
}
