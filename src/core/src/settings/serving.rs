//! Settings about slots that cannot serve.

use serde::{Deserialize, Serialize};

use crate::error::FieldError;
use crate::json::{newtype, record, words};

/// What becomes of the sessions of a slot whose upstream is unavailable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnSlotDown {
    /// They are answered by Envoy's error, and stay on their bundle.
    #[default]
    Fail,
    /// They go on in another slot that takes new sessions, and stay there.
    Reassign,
}

words!(OnSlotDown, "fail" => Fail, "reassign" => Reassign);

/// What becomes of a session whose bundle is gone: its assignment was broken, or its slot recycled. It holds for pins,
/// envelopes and run tokens, and for sessions that are remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnBundleGone {
    /// Where its id came in an envelope its requests are answered 404, as MCP has it; any other begins anew.
    #[default]
    ByProtocol,
    /// It begins anew, on a bundle that takes new sessions.
    New,
    /// Its requests are answered 404.
    NotFound,
    /// Its requests are answered 409.
    Refuse,
}

words!(OnBundleGone, "by_protocol" => ByProtocol, "new" => New, "not_found" => NotFound, "refuse" => Refuse);

impl OnBundleGone {
    /// Whether a client that shows an id alone is answered: then proxies ask the fleet after ids at all times.
    pub fn answers_ids(self) -> bool {
        matches!(self, Self::NotFound | Self::Refuse)
    }
}

/// How the sidecar sees for itself that a slot can serve: a request through a proxy, with a preview token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The proxy: `http://` or `https://`, host and port.
    #[cfg_attr(
        feature = "schema",
        schemars(length(max = 520), regex(pattern = r"^https?://[A-Za-z0-9._:\[\]-]{1,512}$"))
    )]
    pub address: String,
    /// The host to ask for; that of `address` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 512), regex(pattern = r"^[A-Za-z0-9._:\[\]-]{1,512}$")))]
    pub host: Option<String>,
    /// The path to ask for, query and all.
    #[serde(default = "root", skip_serializing_if = "is_root")]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r#"^/[!"$-~]{0,511}$"#)))]
    pub path: String,
    /// How long the answer may take.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub timeout_ms: ProbeTimeoutMs,
    /// The status that says that all is well; any from 200 to 299 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 200, max = 599)))]
    pub expect_status: Option<u16>,
}

record!(Probe, Refused, (), [address], [host, path, timeout_ms, expect_status], |fields| Self {
    address: String::new(),
    host: None,
    path: root(),
    timeout_ms: ProbeTimeoutMs::default(),
    expect_status: None
});

/// Milliseconds that a probe waits for its answer, two seconds unless set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ProbeTimeoutMs(#[cfg_attr(feature = "schema", schemars(range(min = 1, max = TIMEOUT_MAX_MS)))] pub u32);

newtype!(ProbeTimeoutMs, u32);

impl Default for ProbeTimeoutMs {
    fn default() -> Self {
        Self(2000)
    }
}

/// Longest wait for the answer to a probe: the command line waits 10 seconds for the answer to a verb.
const TIMEOUT_MAX_MS: u32 = 8_000;
/// Longest address, host and path.
const TEXT_MAX: usize = 512;

fn root() -> String {
    "/".to_owned()
}

fn is_root(path: &str) -> bool {
    path == "/"
}

impl Probe {
    /// Checks what the types alone do not.
    ///
    /// # Errors
    /// Names the first field that breaks a rule.
    pub(super) fn validate(&self) -> Result<(), FieldError> {
        let authority = ["http://", "https://"].iter().find_map(|scheme| self.address.strip_prefix(scheme));
        if !authority.is_some_and(is_authority) {
            let rule = "is not the address of a proxy, as in http://127.0.0.1:10000 (scheme, host and port, no path)";
            return Err(FieldError::new("probe.address", rule));
        }
        if !self.host.as_deref().is_none_or(is_authority) {
            return Err(FieldError::new(
                "probe.host",
                "is not a host, as in chat.example.com or chat.example.com:8443",
            ));
        }
        let is_path = self.path.starts_with('/') && self.path.len() <= TEXT_MAX;
        if !is_path || !self.path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return Err(FieldError::new("probe.path", "is not a path: a slash, then printable ASCII without #"));
        }
        if !(1..=TIMEOUT_MAX_MS).contains(&self.timeout_ms.0) {
            let found = self.timeout_ms.0;
            return Err(FieldError::new("probe.timeout_ms", format!("{found} is not within 1 to {TIMEOUT_MAX_MS}")));
        }
        if let Some(status) = self.expect_status.filter(|status| !(200..=599).contains(status)) {
            return Err(FieldError::new("probe.expect_status", format!("{status} is not within 200 to 599")));
        }
        Ok(())
    }
}

/// A host with or without a port. Whether it can be reached, a probe will tell.
fn is_authority(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    !text.is_empty() && text.len() <= TEXT_MAX && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A probe needs an address alone; what could never be asked is refused with the field and the rule.
    #[test]
    fn probes_are_checked_by_field() {
        let read = |json: &str| serde_json::from_str::<Probe>(json).map_err(|error| error.to_string());
        let probe = read(r#"{"address":"http://127.0.0.1:10000"}"#).unwrap();
        assert_eq!(probe.validate(), Ok(()));
        assert_eq!((probe.path.as_str(), probe.timeout_ms.0, probe.expect_status), ("/", 2000, None));
        assert_eq!(serde_json::to_string(&probe).unwrap(), r#"{"address":"http://127.0.0.1:10000"}"#);
        assert!(read("{}").unwrap_err().contains("missing field `address`"));
        assert!(read(r#"{"address":"http://a","url":"b"}"#).unwrap_err().contains("unknown field `url`"));
        let cases = [
            (r#""address":"127.0.0.1:10000""#, "probe.address"),
            (r#""address":"ftp://a""#, "probe.address"),
            (r#""address":"http://""#, "probe.address"),
            (r#""address":"http://a/b""#, "probe.address"),
            (r#""address":"http://user@a""#, "probe.address"),
            (r#""address":"http://a","host":"a/b""#, "probe.host"),
            (r#""address":"http://a","host":"""#, "probe.host"),
            (r#""address":"http://a","path":"healthz""#, "probe.path"),
            (r#""address":"http://a","path":"/a b""#, "probe.path"),
            (r#""address":"http://a","timeout_ms":0"#, "probe.timeout_ms"),
            (r#""address":"http://a","timeout_ms":8001"#, "probe.timeout_ms"),
            (r#""address":"http://a","expect_status":99"#, "probe.expect_status"),
        ];
        for (fields, field) in cases {
            assert_eq!(read(&format!("{{{fields}}}")).unwrap().validate().unwrap_err().field, field, "{fields}");
        }
        for good in ["https://[::1]:8443", "http://chat.example.com"] {
            assert_eq!(
                read(&format!(r#"{{"address":"{good}","host":"a:1","path":"/x?y=1"}}"#)).unwrap().validate(),
                Ok(())
            );
        }
    }
}
