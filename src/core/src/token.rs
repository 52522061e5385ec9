//! Signed tokens: what pins, preview tokens and run tokens have in common.
//!
//! All are base64url without padding of these bytes, numbers big-endian:
//!
//! ```text
//!  0      1        3 …                            16 from the end
//!  ├ kind ┼ key id ┼ what the token says, by kind ┼ MAC (128 bit) ┤
//! ```
//!
//! The MAC is HMAC-SHA-256 (RFC 2104), cut to its left half as its section 5 allows, over the domain name of the kind,
//! the scope (a service, or nothing) and the bytes before it. The scope enters the MAC only, so that a token is of no
//! use with another service. Times are Unix seconds in 32 bits. Only one spelling of a token is accepted.

pub mod pin;
pub mod preview;
pub mod run;

use std::marker::PhantomData;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use hmac::Mac as _;

use crate::ids::{KeyId, ServiceName};
use crate::keys::{self, Mac, Secret};
use crate::time::UnixSeconds;

/// Bytes of the longest token: a run token of the longest bundle id.
const BYTES_MAX: usize = 96;
const TAG: usize = 16;

/// The kinds of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// [`pin`].
    Pin,
    /// [`preview`].
    Preview,
    /// [`run`].
    Run,
}

impl TokenKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Pin, Self::Preview, Self::Run];

    /// The word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Preview => "preview",
            Self::Run => "run",
        }
    }
}

/// What a token says: its form between kind and MAC.
pub trait Claims: Sized {
    /// What its MAC begins with, so that no token is taken for one of another kind.
    const DOMAIN: &'static [u8];

    /// The byte that tells the kind.
    fn kind(&self) -> u8;

    /// Writes everything else.
    fn write(&self, body: &mut Body);

    /// Reads what [`Self::write`] wrote; `None` where it wrote no such thing.
    fn read(kind: u8, rest: &[u8]) -> Option<Self>;
}

/// The bytes of a token as they are written.
#[derive(Debug)]
pub struct Body {
    bytes: [u8; BYTES_MAX],
    length: usize,
}

impl Body {
    /// Adds bytes; what does not fit is left out, which no reader accepts.
    pub fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(field) = self.bytes.get_mut(self.length..end) {
            field.copy_from_slice(bytes);
            self.length = end;
        }
    }

    /// Adds a time; those past the year 2106 are held at its end.
    pub fn put_seconds(&mut self, time: UnixSeconds) {
        self.put(&u32::try_from(time.0).unwrap_or(u32::MAX).to_be_bytes());
    }

    fn written(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The time that [`Body::put_seconds`] wrote.
fn seconds(bytes: [u8; 4]) -> UnixSeconds {
    UnixSeconds(u32::from_be_bytes(bytes).into())
}

/// Why a token is none of this ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// Not base64url of the form of its kind.
    Malformed,
    /// Signed by a key that the ring does not hold.
    UnknownKey,
    /// Altered, forged, or of another service.
    BadMac,
}

/// The keys of a ring, ready to sign and to verify tokens of one kind.
#[derive(Clone)]
pub struct Signer<C> {
    keys: Keys,
    signs: PhantomData<fn(&C)>,
}

impl<C> std::fmt::Debug for Signer<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<_> = self.keys.verifying.iter().map(|(id, _)| id.0).collect();
        write!(f, "Signer(signing {}, verifying {ids:?})", self.keys.signing)
    }
}

impl<C: Claims> Signer<C> {
    /// A signer for `service` that signs with `signing` and verifies with all of `ring`.
    /// `None` where `signing` is not in the ring.
    pub fn new<'a>(
        service: &ServiceName,
        signing: KeyId,
        ring: impl IntoIterator<Item = (KeyId, &'a Secret<32>)>,
    ) -> Option<Self> {
        let ring: Vec<_> = ring.into_iter().collect();
        let keys = Keys::new(C::DOMAIN, service.as_str(), signing, &ring)?;
        Some(Self { keys, signs: PhantomData })
    }

    /// A signer whose tokens hold for every service that shares the ring.
    pub fn of_application<'a>(signing: KeyId, ring: impl IntoIterator<Item = (KeyId, &'a Secret<32>)>) -> Option<Self> {
        let ring: Vec<_> = ring.into_iter().collect();
        Some(Self { keys: Keys::new(C::DOMAIN, "", signing, &ring)?, signs: PhantomData })
    }

    /// The token that says `claims`, signed by the signing key.
    pub fn mint(&self, claims: &C) -> String {
        let mut body = Body { bytes: [0; BYTES_MAX], length: 0 };
        body.put(&[claims.kind()]);
        body.put(&self.keys.signing.0.to_be_bytes());
        claims.write(&mut body);
        self.keys.seal(body)
    }

    /// What `token` says, and which key signed it. Times, and what it names, are the caller's to judge.
    ///
    /// # Errors
    /// Says why the token is none of this ring. The MAC is compared in constant time.
    pub fn read(&self, token: &[u8]) -> Result<(C, KeyId), Invalid> {
        let mut bytes = [0; BYTES_MAX];
        let (body, tag) = decode(token, &mut bytes).ok_or(Invalid::Malformed)?;
        let (claims, key) = Self::parse(body).ok_or(Invalid::Malformed)?;
        self.keys.verify(key, body, tag)?;
        Ok((claims, key))
    }

    /// Whether `key` is the one that signs.
    pub fn signs_with(&self, key: KeyId) -> bool {
        self.keys.signing == key
    }

    fn parse(body: &[u8]) -> Option<(C, KeyId)> {
        let (kind, rest) = body.split_first()?;
        let (key, rest) = rest.split_first_chunk()?;
        Some((C::read(*kind, rest)?, KeyId(u16::from_be_bytes(*key))))
    }
}

/// The bytes of a token, parted before its MAC.
fn decode<'b>(token: &[u8], bytes: &'b mut [u8; BYTES_MAX]) -> Option<(&'b [u8], &'b [u8])> {
    let bytes = Base64UrlUnpadded::decode(token, bytes).ok()?;
    bytes.split_at_checked(bytes.len().checked_sub(TAG)?)
}

/// Key schedules. Apart from the kinds of tokens and never inlined, since the MAC, built for speed, is large: once for
/// each kind and use it would be a third of the filter.
#[derive(Clone)]
struct Keys {
    signing: KeyId,
    verifying: Vec<(KeyId, Mac)>,
}

impl Keys {
    #[inline(never)]
    fn new(domain: &[u8], scope: &str, signing: KeyId, ring: &[(KeyId, &Secret<32>)]) -> Option<Self> {
        // What all tokens of the scope share is absorbed once.
        let keyed = |key: &Secret<32>| keys::mac(key).chain_update(domain).chain_update(scope).chain_update([0]);
        let verifying: Vec<_> = ring.iter().map(|(id, key)| (*id, keyed(key))).collect();
        verifying.iter().any(|(id, _)| *id == signing).then_some(Self { signing, verifying })
    }

    /// The token of these bytes.
    #[inline(never)]
    fn seal(&self, mut body: Body) -> String {
        if let Some(mac) = self.key(self.signing) {
            let full = mac.clone().chain_update(body.written()).finalize().into_bytes();
            body.put(full.get(..TAG).unwrap_or_default());
        }
        Base64UrlUnpadded::encode_string(body.written())
    }

    #[inline(never)]
    fn verify(&self, key: KeyId, body: &[u8], tag: &[u8]) -> Result<(), Invalid> {
        let mac = self.key(key).ok_or(Invalid::UnknownKey)?;
        mac.clone().chain_update(body).verify_truncated_left(tag).map_err(|_| Invalid::BadMac)
    }

    fn key(&self, id: KeyId) -> Option<&Mac> {
        self.verifying.iter().find(|(known, _)| *known == id).map(|(_, mac)| mac)
    }
}

/// What every kind of token is tested for.
#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    /// Characters of the longest token.
    const CHARS_MAX: usize = BYTES_MAX / 3 * 4;

    /// The signer of `chat` whose keys are made of their ids.
    pub fn signer<C: Claims>(service: &str, ids: &[u16], signing: u16) -> Signer<C> {
        let ring: Vec<_> = ids.iter().map(|id| (KeyId(*id), Secret::new([*id as u8; 32]))).collect();
        Signer::new(&service.parse().unwrap(), KeyId(signing), ring.iter().map(|(id, key)| (*id, key))).unwrap()
    }

    /// What was minted reads back, from any ring that holds the key; of another service or key it does not.
    pub fn reads_what_it_minted<C: Claims + PartialEq + Debug>(claims: C) {
        let token = signer("chat", &[1, 2], 2).mint(&claims);
        let read = |service, ids, signing| signer::<C>(service, ids, signing).read(token.as_bytes());
        assert!(token.len() <= CHARS_MAX);
        assert_eq!(read("other", &[2], 2), Err(Invalid::BadMac));
        assert_eq!(read("chat", &[1], 1), Err(Invalid::UnknownKey));
        assert_eq!(read("chat", &[1, 2, 3], 3), Ok((claims, KeyId(2))));
    }

    /// One changed character is never accepted, whatever it is changed to; nor is a token cut or made longer.
    pub fn refuses_every_alteration<C: Claims + PartialEq + Debug>(claims: C, at: usize, to: u8) {
        let signer = signer("chat", &[1], 1);
        let good = signer.mint(&claims).into_bytes();
        let mut altered = good.clone();
        let at = at % good.len();
        if altered[at] != to {
            altered[at] = to;
            assert!(signer.read(&altered).is_err());
        }
        assert!(signer.read(&good[..at]).is_err());
        assert!(signer.read(&[good.as_slice(), &[to]].concat()).is_err());
    }

    /// The unused bits of the last character are zero: there is no second spelling of the same bytes.
    pub fn refuses_a_second_spelling<C: Claims + PartialEq + Debug>(claims: C) {
        let signer = signer("chat", &[1], 1);
        let mut token = signer.mint(&claims).into_bytes();
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = token.last_mut().unwrap();
        let index = alphabet.iter().position(|c| c == last).unwrap();
        *last = alphabet[index + 1];
        assert!(signer.read(&token).is_err());
    }
}
