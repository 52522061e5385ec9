//! Keys of a service: a ring that signs pins and preview tokens, one that signs run tokens, and the key of `sid` that never rotates.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hasher;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use hmac::{Hmac, KeyInit};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

use crate::error::ParseError;
use crate::ids::{KeyId, Sid};
use crate::json::{Error, Fields, FromTree, Tree, Unknown, record};

/// Which keys of a ring are in use. The log and the snapshot hold ids only, never a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ring {
    /// The key that signs.
    pub signing: KeyId,
    /// All keys that verify, the signing one among them.
    pub verifying: Vec<KeyId>,
}

impl FromTree for Ring {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        let fields = Fields::of(tree, &["signing", "verifying"], Unknown::PassedOver)?;
        Ok(Self { signing: fields.required("signing")?, verifying: fields.required("verifying")? })
    }
}

/// `N` secret bytes; base64url without padding in JSON, never shown in debug output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    /// A secret of these bytes, which the caller drew from the system's entropy.
    pub fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// The bytes, for key schedules.
    pub(crate) fn bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

impl<const N: usize> TryFrom<String> for Secret<N> {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        // The error must not repeat what may be a real key with one letter wrong.
        let refuse = || ParseError::new("(redacted)", "a key of the right length in base64url without padding");
        let mut bytes = [0; N];
        match Base64UrlUnpadded::decode(&text, &mut bytes) {
            Ok(all) if all.len() == N => Ok(Self(bytes)),
            _ => Err(refuse()),
        }
    }
}

impl<const N: usize> FromTree for Secret<N> {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        Ok(tree.text()?.to_owned().try_into()?)
    }
}

impl<const N: usize> From<Secret<N>> for String {
    fn from(secret: Secret<N>) -> String {
        Base64UrlUnpadded::encode_string(&secret.0)
    }
}

/// The key material of one service, as it travels beside a snapshot and in `COLORFAST_KEYS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ServiceKeys {
    /// 128 bits that turn session ids into [`Sid`]s.
    pub sid: Secret<16>,
    /// 256 bits a key, by id.
    pub ring: BTreeMap<KeyId, Secret<32>>,
    /// 256 bits a key, by id: those of run tokens, the same for every service of an application.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub runs: BTreeMap<KeyId, Secret<32>>,
}

record!(ServiceKeys, Refused, (sid), [ring], [runs], |fields| Self {
    sid: fields.required("sid")?,
    ring: BTreeMap::new(),
    runs: BTreeMap::new()
});

/// Turns session ids into sids: SipHash-2-4 (Aumasson and Bernstein, 2012), a keyed hash made for hostile input.
#[derive(Clone)]
pub struct SidHasher(SipHasher24);

impl SidHasher {
    /// A hasher with the key schedule done.
    pub fn new(key: &Secret<16>) -> Self {
        Self(SipHasher24::new_with_key(key.bytes()))
    }

    /// The sid of a session id.
    pub fn sid(&self, session_id: &[u8]) -> Sid {
        let mut hasher = self.0;
        hasher.write(session_id);
        Sid(hasher.finish())
    }
}

impl fmt::Debug for SidHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SidHasher(redacted)")
    }
}

/// HMAC-SHA-256 with its key schedule done.
pub(crate) type Mac = Hmac<sha2::Sha256>;

/// The key schedule of `key`.
pub(crate) fn mac(key: &Secret<32>) -> Mac {
    // HMAC fills a short key up to the block of its hash with zeros (RFC 2104); a whole block cannot be refused.
    let mut block = [0; 64];
    block.iter_mut().zip(key.bytes()).for_each(|(to, from)| *to = *from);
    Mac::new(&block.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key never shows itself, not in debug output and not in the error that refuses it.
    #[test]
    fn keys_stay_silent() {
        let json = format!(r#"{{"sid":"{}","ring":{{"1":"{}"}}}}"#, "A".repeat(22), "A".repeat(43));
        let keys: ServiceKeys = serde_json::from_str(&json).unwrap();
        assert!(!format!("{keys:?}").contains("AAAA"));
        assert_eq!(serde_json::to_string(&keys).unwrap(), json);
        let error = serde_json::from_str::<Secret<16>>("\"AAAAAAAA-secret\"").unwrap_err().to_string();
        assert!(error.contains("base64url") && !error.contains("secret\""), "{error}");
    }

    /// The sid is a function of key and id alone (reference vector of SipHash-2-4).
    #[test]
    fn sid_is_siphash() {
        let key = Secret::new(std::array::from_fn(|i| i as u8));
        let input: Vec<u8> = (0..15).collect();
        assert_eq!(SidHasher::new(&key).sid(&input), Sid(0xa129_ca61_49be_45e5));
    }
}
