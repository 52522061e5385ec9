//! Names and numbers of things. Parsed once, at the edge, and valid from then on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ParseError;
use crate::json::{Error, FromTree, Key, Tree, newtype};
use crate::time::UnixMillis;

/// Declares a validated string: its type, what it is called in errors, the rule it keeps, and that rule as a pattern.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $wanted:literal, $pattern:literal, $rule:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let rule: fn(&str) -> bool = $rule;
                if rule(text) { Ok(Self(text.into())) } else { Err(ParseError::new(text, $wanted)) }
            }
        }

        impl FromTree for $name {
            fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
                Self::from_key(tree.text()?)
            }
        }

        impl Key for $name {
            fn from_key(text: &str) -> Result<Self, Error> {
                Ok(text.parse()?)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseError;

            fn try_from(text: String) -> Result<Self, ParseError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": crate::schema::sentence($wanted), "pattern": $pattern })
            }
        }
    };
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && text.len() <= 32
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_pointer(text: &str) -> bool {
    let is_token = |token: &str| {
        let length = token.len() - token.matches('~').count();
        let escapes = token.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        (1..=64).contains(&length) && escapes && token.bytes().all(|b| (0x20..0x7f).contains(&b))
    };
    let tokens = text.strip_prefix('/').map(|tokens| tokens.split('/'));
    tokens.is_some_and(|mut tokens| tokens.clone().count() <= 8 && tokens.all(is_token))
}

fn is_parameter(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

text_id! {
    /// The name of a service: one agent with its own release state.
    ServiceName, "a service name: a lower-case letter, then up to 31 of a-z 0-9 -", "^[a-z][a-z0-9-]{0,31}$", is_name
}

text_id! {
    /// The name of a slot, a colour.
    SlotName, "a slot name: a lower-case letter, then up to 31 of a-z 0-9 -", "^[a-z][a-z0-9-]{0,31}$", is_name
}

text_id! {
    /// The name of a preset with its version. A log may name one that this build does not know.
    PresetName, "a preset with its version, as in mcp/1", "^[a-z][a-z0-9-]{0,31}/[1-9][0-9]{0,3}$", |text| {
        let digits = |text: &str| (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.split_once('/').is_some_and(|(name, version)| {
            is_name(name) && digits(version) && !version.starts_with('0')
        })
    }
}

text_id! {
    /// The id of a bundle: a release tag.
    BundleId, "a bundle id: 1 to 64 of A-Z a-z 0-9 . _ @ + -", "^[A-Za-z0-9._@+-]{1,64}$", |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@+-".contains(&b))
    }
}

text_id! {
    /// `sha256:` and 64 lower-case hex digits.
    Digest, "a digest: sha256: and 64 lower-case hex digits", "^sha256:[0-9a-f]{64}$", |text| {
        text.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    }
}

text_id! {
    /// What tells a verb that is sent again from one that is meant anew.
    IdempotencyKey, "an idempotency key: 1 to 128 printable ASCII characters", "^[ -~]{1,128}$", |text| {
        (1..=128).contains(&text.len()) && text.bytes().all(|b| (0x20..0x7f).contains(&b))
    }
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        let hash = sha2::Sha256::digest(bytes);
        Self(format!("sha256:{}", base16ct::lower::encode_string(&hash)).into())
    }
}

text_id! {
    /// An HTTP header name in the lower-case form that HTTP/2 and Envoy use.
    HeaderName, "a header name: 1 to 64 of a-z 0-9 - _", "^[a-z0-9_-]{1,64}$", |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    }
}

text_id! {
    /// A cookie name (RFC 6265 token, kept to its unambiguous characters).
    CookieName, "a cookie name: 1 to 64 of A-Z a-z 0-9 . _ -", "^[A-Za-z0-9._-]{1,64}$", is_parameter
}

text_id! {
    /// The name of a query parameter, or the key of a member of W3C baggage.
    ParameterName, "a parameter name: 1 to 64 of A-Z a-z 0-9 . _ -", "^[A-Za-z0-9._-]{1,64}$", is_parameter
}

text_id! {
    /// Where in a path a session id stands.
    PathTemplate,
    "a path template: a segment with {session} among at most 8 on either side, each * or 1 to 64 of A-Z a-z 0-9 . _ ~ : @ -, as in /threads/{session}/runs, /**/tasks/{session}:cancel or /threads/{session!search!count}",
    r"^(/\*\*)?(/(\*|[A-Za-z0-9._~:@-]{1,64})){0,8}/[A-Za-z0-9._~:@-]{0,64}\{session(![A-Za-z0-9._~:@-]{1,64}){0,16}\}[A-Za-z0-9._~:@-]{0,64}(/(\*|[A-Za-z0-9._~:@-]{1,64})){0,8}$",
    crate::path::is_template
}

text_id! {
    /// Where in a JSON document something stands (RFC 6901), within bounds.
    JsonPointer,
    "a JSON pointer of 1 to 8 keys or indexes, as in /metadata/thread_id, each of at most 64 printable ASCII characters",
    "^(/([ -.0-}]|~[01]){1,64}){1,8}$",
    is_pointer
}

/// "This bundle in this slot, this time": given by the log at every stage and every break, always counting up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct AssignmentId(pub u64);

newtype!(AssignmentId, u64);

impl fmt::Display for AssignmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a key within its ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct KeyId(pub u16);

newtype!(KeyId, u16);

impl Key for KeyId {
    fn from_key(key: &str) -> Result<Self, Error> {
        key.parse().map(Self).map_err(|_| Error::new(format_args!("has a key that is no number of a key")))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 64 bits that stand for a session in pins and memory, never the session id itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sid(pub u64);

/// 64 bits that name a run in its token, drawn when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunId(pub u64);

/// The log that a snapshot comes from: Unix milliseconds of its genesis event; 0 for bootstrap snapshots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Epoch(pub UnixMillis);

newtype!(Epoch, UnixMillis);

impl Epoch {
    /// The epoch of snapshots that stand in a plugin configuration.
    pub const BOOTSTRAP: Self = Self(UnixMillis(0));
}

/// Which snapshot of a service: ordered by the log first, then by the place in that log.
///
/// As text (`version_info` of discovery) it is `<epoch>.<version>`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotVersion {
    /// The log.
    pub epoch: Epoch,
    /// The sequence number of the service's last event in that log.
    pub version: u64,
}

impl SnapshotVersion {
    /// The form in which the version stands in shared data: two little-endian 64-bit numbers.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (epoch, version) = bytes.split_at_mut(8);
        epoch.copy_from_slice(&self.epoch.0.0.to_le_bytes());
        version.copy_from_slice(&self.version.to_le_bytes());
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (epoch, version) = bytes.split_first_chunk()?;
        let epoch = Epoch(UnixMillis(u64::from_le_bytes(*epoch)));
        Some(Self { epoch, version: u64::from_le_bytes(version.try_into().ok()?) })
    }
}

impl fmt::Display for SnapshotVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch.0.0, self.version)
    }
}

impl FromStr for SnapshotVersion {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = || ParseError::new(text, "a snapshot version: <epoch>.<version>, two whole numbers");
        let (epoch, version) = text.split_once('.').ok_or_else(refuse)?;
        let number = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u64>().ok().filter(|_| digits).ok_or_else(refuse)
        };
        Ok(Self { epoch: Epoch(UnixMillis(number(epoch)?)), version: number(version)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bad names are refused with the rule; good ones are kept to the letter.
    #[test]
    fn names_keep_their_rule() {
        for good in ["a", "blue", "a-1", &"x".repeat(32)] {
            assert_eq!(good.parse::<SlotName>().unwrap().as_str(), good);
        }
        for bad in ["", "Blue", "1a", "-a", "a_b", "ä", "a b", &"x".repeat(33)] {
            let error = bad.parse::<SlotName>().unwrap_err().to_string();
            assert!(error.contains("a slot name"), "{error}");
        }
        for good in ["v1.2.3", "2026-11-21@a+b_c", &"x".repeat(64)] {
            assert!(good.parse::<BundleId>().is_ok());
        }
        for bad in ["", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(bad.parse::<BundleId>().is_err());
        }
    }

    /// Versions are ordered by log first: a restored log is newer, whatever its count.
    #[test]
    fn versions_order_by_epoch_first() {
        let at = |epoch, version| SnapshotVersion { epoch: Epoch(UnixMillis(epoch)), version };
        assert!(at(2, 1) > at(1, 99));
        assert!(at(2, 2) > at(2, 1));
        let version = at(1_763_000_000_123, 42);
        assert_eq!(version.to_string().parse(), Ok(version));
        assert_eq!(SnapshotVersion::from_bytes(&version.to_bytes()), Some(version));
        assert_eq!(SnapshotVersion::from_bytes(&[0; 15]), None);
        assert_eq!(SnapshotVersion::from_bytes(&[0; 17]), None);
        for bad in ["", ".", "1", "1.", ".1", "+1.+2", "1.2.3", "1.-2", "99999999999999999999.1"] {
            assert!(bad.parse::<SnapshotVersion>().is_err(), "{bad}");
        }
    }
}
