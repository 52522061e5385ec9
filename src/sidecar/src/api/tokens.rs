//! Tokens: who may do what. A control token has a role, a discovery token is for nodes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use colorfast_core::error::ParseError;
use colorfast_core::time::UnixMillis;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// `POST /v1/tokens`: a token to be made. It has either a role or a node pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// Its name: the principal that the log names.
    pub name: TokenName,
    /// What its holder may do at the control API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The nodes that its holder may be at discovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodePattern>,
    /// The subject alternative name of a client certificate that stands for the token; no secret is made then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<SubjectName>,
    /// How long it is good for; absent: until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_162_240_000_u64))]
    pub expires_in_seconds: Option<u64>,
}

/// One element of `GET /v1/tokens`: all but the secret, which is shown once and not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenStatus {
    /// The public part of the token's text; names a certificate's binding, too.
    pub id: TokenId,
    /// Its name.
    pub name: TokenName,
    /// What its holder may do at the control API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The nodes that its holder may be at discovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodePattern>,
    /// The certificate that stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<SubjectName>,
    /// When it was made.
    pub made: UnixMillis,
    /// By whom.
    pub made_by: String,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<UnixMillis>,
    /// When it was used last, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<UnixMillis>,
}

/// The answer to [`CreateToken`].
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct CreatedToken {
    /// The token itself, this once; absent where a certificate stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What is kept of it.
    #[serde(flatten)]
    pub status: TokenStatus,
}

impl fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedToken").field("status", &self.status).finish_non_exhaustive()
    }
}

/// What the holder of a control token may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Hold leases for runs.
    Agent,
    /// Give verbs.
    Operator,
    /// Make and revoke tokens.
    Admin,
}

impl Role {
    /// Every role, from the least.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Agent, Self::Operator, Self::Admin];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Agent => "agent",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == text);
        known.ok_or_else(|| ParseError::new(text, "a role: viewer, agent, operator or admin"))
    }
}

/// Declares a validated string of the API: its type, what it is called in errors, the rule it keeps, and
/// that rule as a pattern.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $wanted:literal, $pattern:literal, $rule:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

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
                if rule(text) { Ok(Self(text.to_owned())) } else { Err(ParseError::new(text, $wanted)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseError;

            fn try_from(text: String) -> Result<Self, ParseError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $wanted, "pattern": $pattern })
            }
        }
    };
}

pub(super) use text;

text! {
    /// The name of a token, and of whoever holds it.
    TokenName, "a token name: 1 to 64 of A-Z a-z 0-9 . _ @ + -", "^[A-Za-z0-9._@+-]{1,64}$", |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@+-".contains(&b))
    }
}

text! {
    /// The public part of a token.
    TokenId, "a token id: 8 of a-z 2-7", "^[a-z2-7]{8}$", |text| {
        text.len() == 8 && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))
    }
}

text! {
    /// A node id, or a pattern of node ids: `*` stands for any characters, none included.
    NodePattern, "a node id or a pattern of node ids: 1 to 256 printable ASCII characters, * for any", "^[ -~]{1,256}$", |text| {
        (1..=256).contains(&text.len()) && text.bytes().all(|b| (0x20..0x7f).contains(&b))
    }
}

text! {
    /// A subject alternative name of a certificate: a DNS name, or a URI.
    SubjectName, "a subject alternative name: a DNS name in lower case without *, or a URI, 1 to 512 characters", "^([a-z0-9._-]{1,512}|(?=.*://)[!-~]{1,512})$", |text| {
        let uri = text.contains("://");
        (1..=512).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic())
            && (uri || text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')))
    }
}

impl NodePattern {
    /// The pattern that every node fits.
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// Whether `node` fits. Takes time in proportion to the product of the lengths at most.
    pub fn fits(&self, node: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| node.strip_prefix(first)) else { return false };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            let Some((_, behind)) = rest.split_once(part) else { return false };
            rest = behind;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pattern admits what it says and nothing else.
    #[test]
    fn patterns_fit() {
        let cases = [
            ("*", "anything", true),
            ("edge-1", "edge-1", true),
            ("edge-1", "edge-10", false),
            ("edge-1", "xedge-1", false),
            ("edge-*", "edge-", true),
            ("edge-*", "edge-eu-1", true),
            ("edge-*", "Edge-1", false),
            ("*-eu", "edge-eu", true),
            ("*-eu", "edge-eu-1", false),
            ("edge-*-eu-*", "edge-7-eu-1", true),
            ("edge-*-eu-*", "edge-7-us-1", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("**", "x", true),
        ];
        for (pattern, node, wanted) in cases {
            assert_eq!(pattern.parse::<NodePattern>().unwrap().fits(node), wanted, "{pattern} {node}");
        }
    }

    /// Each role may do what those before it may, and is read as it is written.
    #[test]
    fn roles_are_ordered() {
        assert!(Role::ALL.is_sorted());
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert!("root".parse::<Role>().unwrap_err().to_string().contains("viewer, agent, operator or admin"));
    }

    /// Names that could be taken for something else are refused with the rule.
    #[test]
    fn names_keep_their_rule() {
        for good in ["ci", "ada@example.com", "Release_1.2"] {
            assert!(good.parse::<TokenName>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "a\nb", "ä"] {
            assert!(bad.parse::<TokenName>().is_err(), "{bad}");
        }
        for good in ["ops.example.com", "spiffe://example.com/ns/a/sa/Ops"] {
            assert!(good.parse::<SubjectName>().is_ok(), "{good}");
        }
        for bad in ["", "*.example.com", "Ops.example.com", "a b"] {
            assert!(bad.parse::<SubjectName>().is_err(), "{bad}");
        }
    }
}
