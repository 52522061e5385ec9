//! The pin: a signed token that binds a session to an assignment.
//!
//! 43 bytes, 58 characters of base64url without padding. All numbers big-endian:
//!
//! ```text
//!  0      1        3            11     19       23          27              43
//!  ├ kind ┼ key id ┼ assignment ┼ sid ─┼ began ─┼ refreshed ┼ MAC (128 bit) ┤
//! ```
//!
//! The MAC is HMAC-SHA-256 (RFC 2104), cut to its left half as its section 5 allows, over a domain name, the service
//! and the 27 bytes before it. The service enters the MAC only, so that a pin is of no use with another service.
//! Times are Unix seconds in 32 bits. Only one spelling of a token is accepted.

use data_encoding::BASE64URL_NOPAD;
use hmac::Mac as _;

use crate::ids::{AssignmentId, KeyId, ServiceName, Sid};
use crate::keys::{self, Mac, Secret};
use crate::time::UnixSeconds;

/// Characters of a pin.
const PIN_CHARS: usize = 58;

const BODY: usize = 27;
const TAG: usize = 16;
const TOKEN: usize = BODY + TAG;
const DOMAIN: &[u8] = b"colorfast/pin/1\0";

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

    fn byte(self) -> u8 {
        match self {
            Self::Free => Self::FREE,
            Self::Bound => Self::BOUND,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        match byte {
            Self::FREE => Some(Self::Free),
            Self::BOUND => Some(Self::Bound),
            _ => None,
        }
    }
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

/// Why a token is no pin of this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// Not 58 characters of base64url that start with a known kind.
    Malformed,
    /// Signed by a key that the ring does not hold.
    UnknownKey,
    /// Altered, forged, or of another service.
    BadMac,
}

/// The keys of a service, ready to sign and to verify.
#[derive(Clone)]
pub struct Signer {
    signing: KeyId,
    keys: Vec<(KeyId, Mac)>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<_> = self.keys.iter().map(|(id, _)| id.0).collect();
        write!(f, "Signer(signing {}, verifying {ids:?})", self.signing)
    }
}

impl Signer {
    /// A signer for `service` that signs with `signing` and verifies with all of `ring`.
    /// `None` where `signing` is not in the ring.
    pub fn new<'a>(
        service: &ServiceName,
        signing: KeyId,
        ring: impl IntoIterator<Item = (KeyId, &'a Secret<32>)>,
    ) -> Option<Self> {
        let keyed = |key: &Secret<32>| {
            // What all tokens of the service share is absorbed once.
            keys::mac(key).chain_update(DOMAIN).chain_update(service.as_str()).chain_update([0])
        };
        let keys: Vec<_> = ring.into_iter().map(|(id, key)| (id, keyed(key))).collect();
        keys.iter().any(|(id, _)| *id == signing).then_some(Self { signing, keys })
    }

    /// The token that says `claims`, signed by the signing key.
    pub fn mint(&self, claims: &Claims) -> String {
        let mut token = [0; TOKEN];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(field) = token.get_mut(at..at + bytes.len()) {
                field.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        put(&[claims.kind.byte()]);
        put(&self.signing.0.to_be_bytes());
        put(&claims.assignment.0.to_be_bytes());
        put(&claims.sid.0.to_be_bytes());
        put(&seconds32(claims.began).to_be_bytes());
        put(&seconds32(claims.refreshed).to_be_bytes());
        let (body, tag) = token.split_at_mut(BODY);
        if let Some(mac) = self.key(self.signing) {
            let full = mac.clone().chain_update(&*body).finalize().into_bytes();
            tag.iter_mut().zip(full).for_each(|(to, from)| *to = from);
        }
        BASE64URL_NOPAD.encode(&token)
    }

    /// What `token` says, and which key signed it. Time and assignment are the caller's to judge.
    ///
    /// # Errors
    /// Says why the token is no pin of this service. The MAC is compared in constant time.
    pub fn read(&self, token: &[u8]) -> Result<(Claims, KeyId), Invalid> {
        let mut bytes = [0; TOKEN];
        if token.len() != PIN_CHARS || BASE64URL_NOPAD.decode_mut(token, &mut bytes) != Ok(TOKEN) {
            return Err(Invalid::Malformed);
        }
        let (body, tag) = bytes.split_at(BODY);
        let (claims, key) = Self::parse(body).ok_or(Invalid::Malformed)?;
        let mac = self.key(key).ok_or(Invalid::UnknownKey)?;
        mac.clone().chain_update(body).verify_truncated_left(tag).map_err(|_| Invalid::BadMac)?;
        Ok((claims, key))
    }

    /// Whether `key` is the one that signs.
    pub fn signs_with(&self, key: KeyId) -> bool {
        self.signing == key
    }

    fn parse(body: &[u8]) -> Option<(Claims, KeyId)> {
        let (kind, rest) = body.split_first()?;
        let (key, rest) = rest.split_first_chunk()?;
        let (assignment, rest) = rest.split_first_chunk()?;
        let (sid, rest) = rest.split_first_chunk()?;
        let (began, rest) = rest.split_first_chunk()?;
        let refreshed: [u8; 4] = rest.try_into().ok()?;
        let claims = Claims {
            kind: Kind::of(*kind)?,
            sid: Sid(u64::from_be_bytes(*sid)),
            assignment: AssignmentId(u64::from_be_bytes(*assignment)),
            began: UnixSeconds(u32::from_be_bytes(*began).into()),
            refreshed: UnixSeconds(u32::from_be_bytes(refreshed).into()),
        };
        Some((claims, KeyId(u16::from_be_bytes(*key))))
    }

    fn key(&self, id: KeyId) -> Option<&Mac> {
        self.keys.iter().find(|(known, _)| *known == id).map(|(_, mac)| mac)
    }
}

/// Seconds as they stand in a token; times past the year 2106 are held at its end.
fn seconds32(time: UnixSeconds) -> u32 {
    u32::try_from(time.0).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn signer(service: &str, ids: &[u16], signing: u16) -> Signer {
        let ring: Vec<_> = ids.iter().map(|id| (KeyId(*id), Secret::new([*id as u8; 32]))).collect();
        Signer::new(&service.parse().unwrap(), KeyId(signing), ring.iter().map(|(id, key)| (*id, key))).unwrap()
    }

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
        /// Unforgeable: what was minted reads back, from any ring that holds the key.
        #[test]
        fn reads_what_it_minted(claims in claims()) {
            let token = signer("chat", &[1, 2], 2).mint(&claims);
            prop_assert_eq!(token.len(), PIN_CHARS);
            prop_assert!(token.len() <= 80);
            prop_assert_eq!(signer("chat", &[1, 2, 3], 3).read(token.as_bytes()), Ok((claims, KeyId(2))));
        }

        /// Unforgeable: one changed character is never accepted, whatever it is changed to.
        #[test]
        fn refuses_every_alteration(claims in claims(), at in 0..PIN_CHARS, to: u8) {
            let signer = signer("chat", &[1], 1);
            let mut token = signer.mint(&claims).into_bytes();
            prop_assume!(token[at] != to);
            token[at] = to;
            prop_assert!(signer.read(&token).is_err());
        }

        /// Total: no input makes the reader panic or succeed by accident.
        #[test]
        fn refuses_noise(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(signer("chat", &[1], 1).read(&noise).is_err());
        }
    }

    /// Unforgeable: a pin of another service or of a forgotten key is refused, with the cause.
    #[test]
    fn refuses_foreign_pins_by_cause() {
        let claims = Claims {
            kind: Kind::Bound,
            sid: Sid(7),
            assignment: AssignmentId(9),
            began: UnixSeconds(1),
            refreshed: UnixSeconds(2),
        };
        let token = signer("chat", &[1], 1).mint(&claims);
        assert_eq!(signer("other", &[1], 1).read(token.as_bytes()), Err(Invalid::BadMac));
        assert_eq!(signer("chat", &[2], 2).read(token.as_bytes()), Err(Invalid::UnknownKey));
        assert_eq!(signer("chat", &[1], 1).read(&token.as_bytes()[1..]), Err(Invalid::Malformed));
        // The last character carries two bits that must be zero: a second spelling of the same bytes.
        let mut respelt = token.into_bytes();
        let last = respelt[PIN_CHARS - 1];
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let index = alphabet.iter().position(|c| *c == last).unwrap();
        respelt[PIN_CHARS - 1] = alphabet[index + 1];
        assert_eq!(signer("chat", &[1], 1).read(&respelt), Err(Invalid::Malformed));
    }
}
