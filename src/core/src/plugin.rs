//! The plugin configuration: what stands in the listener, and which service a request belongs to.

use serde::{Deserialize, Serialize};

use crate::error::FieldError;
use crate::ids::{Epoch, ServiceName};
use crate::json::{Error, Fields, FromTree, Tree, Unknown, record, words};
use crate::snapshot::Snapshot;

/// The configuration of one filter in one listener. Never a key, never a setting: those come with snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
// An egress listener decides nothing; every other names its services and where to ask for them.
#[cfg_attr(feature = "schema", schemars(
    extend("if" = {"required": ["direction"], "properties": {"direction": {"const": "egress"}}}),
    extend("then" = {"properties": {"services": {"maxItems": 0}}}),
    extend("else" = {
        "required": ["services"],
        "properties": {"services": {"minItems": 1}},
        "anyOf": [
            {"required": ["sidecar_cluster"], "properties": {"sidecar_cluster": {"minLength": 1}}},
            {"properties": {"services": {"items": {"required": ["snapshot"]}}}},
        ],
    }),
))]
pub struct PluginConfig {
    /// The services of the listener; the first that matches a request has it.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub services: Vec<ServiceConfig>,
    /// The Envoy cluster that reaches the sidecar's discovery address; not needed where every service has a snapshot.
    #[serde(default)]
    pub sidecar_cluster: String,
    /// Which way the requests of the listener go.
    #[serde(default)]
    pub direction: Direction,
}

record!(PluginConfig, Refused, (), [], [services, sidecar_cluster, direction], |fields| Self {
    services: Vec::new(),
    sidecar_cluster: String::new(),
    direction: Direction::default()
});

/// Which way the requests of a listener go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To agents: they are decided and stamped.
    #[default]
    Ingress,
    /// Out of the house: run tokens end here, and nothing is decided.
    Egress,
}

words!(Direction, "ingress" => Ingress, "egress" => Egress);

/// One service of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Its name at the sidecar.
    pub name: ServiceName,
    /// Which requests are its.
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// What to decide by until a sidecar has been heard.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("properties" = {"epoch": {"const": 0}})))]
    pub bootstrap: Option<Snapshot>,
    /// What a log has made, pushed by configuration: taken for the whole process unless it has a newer one.
    #[serde(default)]
    pub snapshot: Option<Snapshot>,
}

impl FromTree for ServiceConfig {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        let fields = Fields::of(tree, &["name", "match", "bootstrap", "snapshot"], Unknown::Refused)?;
        let (matches, bootstrap, snapshot) = (Match::default(), None, None);
        let mut service = Self { name: fields.required("name")?, matches, bootstrap, snapshot };
        fields.may("match", &mut service.matches)?;
        fields.may("bootstrap", &mut service.bootstrap)?;
        fields.may("snapshot", &mut service.snapshot)?;
        Ok(service)
    }
}

/// Which requests belong to a service. An empty list matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Hosts without port, in lower case; `*.example.com` takes every host below `example.com`.
    #[cfg_attr(feature = "schema", schemars(inner(regex(pattern = crate::schema::HOST))))]
    pub hosts: Vec<String>,
    /// Prefixes of the path; `/chat` takes `/chat`, `/chat/x` and `/chat?x`, not `/chats`.
    #[cfg_attr(feature = "schema", schemars(inner(regex(pattern = "^/"))))]
    pub path_prefixes: Vec<String>,
}

record!(Match, Refused, [hosts, path_prefixes]);

/// Most services of one listener.
const SERVICES_MAX: usize = 64;

impl PluginConfig {
    /// Checks what the types alone do not.
    ///
    /// # Errors
    /// Names the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), FieldError> {
        if self.direction == Direction::Egress {
            let rule = "decides nothing in an egress listener: leave it out";
            return if self.services.is_empty() { Ok(()) } else { Err(FieldError::new("services", rule)) };
        }
        if self.services.is_empty() || self.services.len() > SERVICES_MAX {
            let found = self.services.len();
            return Err(FieldError::new("services", format!("has {found} entries, 1 to {SERVICES_MAX} are allowed")));
        }
        if !self.has_sidecar() && self.services.iter().any(|service| service.snapshot.is_none()) {
            return Err(FieldError::new(
                "sidecar_cluster",
                "is empty: name the cluster of the sidecar's discovery address, or give every service a snapshot",
            ));
        }
        for (index, service) in self.services.iter().enumerate() {
            let at = format!("services[{index}]");
            if self.services.iter().take(index).any(|earlier| earlier.name == service.name) {
                return Err(FieldError::new(format!("{at}.name"), format!("{} stands twice", service.name)));
            }
            service.validate(&at)?;
        }
        Ok(())
    }

    /// Whether there is a sidecar to ask.
    pub fn has_sidecar(&self) -> bool {
        !self.sidecar_cluster.is_empty()
    }

    /// The index of the service that `host` (with or without port) and `path` belong to.
    pub fn service_of(&self, host: &[u8], path: &[u8]) -> Option<usize> {
        self.services.iter().position(|service| service.matches.takes(host, path))
    }
}

impl ServiceConfig {
    fn validate(&self, at: &str) -> Result<(), FieldError> {
        for (index, host) in self.matches.hosts.iter().enumerate() {
            if !is_host_pattern(host) {
                let rule = format!("{host:?} is not a host in lower case without port, or *. and a domain");
                return Err(FieldError::new(format!("{at}.match.hosts[{index}]"), rule));
            }
        }
        for (index, prefix) in self.matches.path_prefixes.iter().enumerate() {
            if !prefix.starts_with('/') {
                let rule = format!("{prefix:?} does not begin with a slash");
                return Err(FieldError::new(format!("{at}.match.path_prefixes[{index}]"), rule));
            }
        }
        for (field, snapshot) in [("bootstrap", &self.bootstrap), ("snapshot", &self.snapshot)] {
            let Some(snapshot) = snapshot else { continue };
            let inside = |error: FieldError| FieldError::new(format!("{at}.{field}.{}", error.field), error.rule);
            if snapshot.service != self.name {
                let rule = format!("is {}, but it stands under the service {}", snapshot.service, self.name);
                return Err(inside(FieldError::new("service", rule)));
            }
            let by_hand = snapshot.epoch == Epoch::BOOTSTRAP;
            if by_hand != (field == "bootstrap") {
                let rule = if by_hand {
                    "is 0: what is of no log is a bootstrap"
                } else {
                    "must be 0: a bootstrap comes from no log"
                };
                return Err(inside(FieldError::new("epoch", rule)));
            }
            snapshot.validate().map_err(inside)?;
        }
        Ok(())
    }
}

impl Match {
    fn takes(&self, host: &[u8], path: &[u8]) -> bool {
        let host = without_port(host);
        (self.hosts.is_empty() || self.hosts.iter().any(|pattern| host_matches(pattern.as_bytes(), host)))
            && (self.path_prefixes.is_empty()
                || self.path_prefixes.iter().any(|prefix| path_matches(prefix.as_bytes(), path)))
    }
}

/// A host name or an IPv6 address in brackets, or `*.` and a domain.
fn is_host_pattern(pattern: &str) -> bool {
    let name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b))
    };
    // Its letters alone: a parser of addresses is large, and what no authority has matches nothing.
    let address = |text: &str| text.contains(':') && text.bytes().all(|b| b.is_ascii_hexdigit() || b":.".contains(&b));
    let bracketed = pattern.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bracketed.is_some_and(address) || name(pattern.strip_prefix("*.").unwrap_or(pattern))
}

/// The host of an authority; a colon inside brackets belongs to an IPv6 address.
fn without_port(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|b| *b == b':') {
        Some(colon) if authority.last() != Some(&b']') => authority.get(..colon).unwrap_or(authority),
        _ => authority,
    }
}

fn host_matches(pattern: &[u8], host: &[u8]) -> bool {
    match pattern.strip_prefix(b"*") {
        None => host.eq_ignore_ascii_case(pattern),
        Some(domain) => {
            let split = host.len().checked_sub(domain.len()).filter(|at| *at > 0);
            let tail = split.and_then(|at| host.get(at..));
            tail.is_some_and(|tail| tail.eq_ignore_ascii_case(domain))
        }
    }
}

fn path_matches(prefix: &[u8], path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(prefix) else { return false };
    prefix.ends_with(b"/") || matches!(rest.first(), None | Some(b'/' | b'?' | b'#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> PluginConfig {
        serde_json::from_str(json).unwrap()
    }

    /// Two services behind one listener: the first match has the request; one of neither belongs to nobody.
    #[test]
    fn first_match_wins() {
        let config = config(
            r#"{"sidecar_cluster":"s","services":[
                {"name":"chat","match":{"hosts":["chat.example.com","*.chat.example.com"],"path_prefixes":["/v1/"]}},
                {"name":"code","match":{"path_prefixes":["/code"]}}]}"#,
        );
        assert_eq!(config.validate(), Ok(()));
        let cases = [
            ("chat.example.com", "/v1/turn", Some(0)),
            ("CHAT.example.com:8443", "/v1/", Some(0)),
            ("eu.chat.example.com", "/v1/turn", Some(0)),
            (".chat.example.com", "/v1/turn", None),
            ("badchat.example.com", "/v1/turn", None),
            ("chat.example.com", "/v1", None),
            ("chat.example.com", "/code/x", Some(1)),
            ("anything", "/code", Some(1)),
            ("[::1]:80", "/code?x=1", Some(1)),
            ("[::1]", "/code", Some(1)),
            ("anything", "/codex", None),
            ("", "", None),
        ];
        for (host, path, wanted) in cases {
            assert_eq!(config.service_of(host.as_bytes(), path.as_bytes()), wanted, "{host} {path}");
        }
    }

    /// A pattern that would match nothing, or more than it seems to, is refused.
    #[test]
    fn host_patterns() {
        for good in ["a.example.com", "*.example.com", "localhost", "10.0.0.1", "[::1]", "a_b.svc"] {
            assert!(is_host_pattern(good), "{good}");
        }
        for bad in ["", "*", "*.", "*a.com", "a*b", "a.*", "x?y", "A.b", "a:80", "::1", "[::1", "[x]", "a/b", "a b"] {
            assert!(!is_host_pattern(bad), "{bad}");
        }
    }

    /// A bad configuration is refused with the field and the rule.
    #[test]
    fn refuses_bad_configurations_by_field() {
        let slots =
            r#"[{"name":"blue","phase":"live","weight":10000,"bundle":{"id":"v1"}},{"name":"green","phase":"idle"}]"#;
        let with = |bootstrap: String| {
            format!(r#"{{"sidecar_cluster":"s","services":[{{"name":"chat","bootstrap":{bootstrap}}}]}}"#)
        };
        let pushed = |json: String| json.replace("bootstrap", "snapshot");
        let good = with(format!(r#"{{"format":1,"service":"chat","slots":{slots}}}"#));
        assert_eq!(config(&good).validate(), Ok(()));
        assert_eq!(config(r#"{"direction":"egress"}"#).validate(), Ok(()));
        let cases = [
            (r#"{"sidecar_cluster":"s","services":[]}"#.to_owned(), "services"),
            (r#"{"direction":"egress","services":[{"name":"a"}]}"#.to_owned(), "services"),
            (r#"{"sidecar_cluster":"","services":[{"name":"chat"}]}"#.to_owned(), "sidecar_cluster"),
            (r#"{"sidecar_cluster":"s","services":[{"name":"a"},{"name":"a"}]}"#.to_owned(), "services[1].name"),
            (
                r#"{"sidecar_cluster":"s","services":[{"name":"a","match":{"hosts":["A.b"]}}]}"#.to_owned(),
                "services[0].match.hosts[0]",
            ),
            (
                r#"{"sidecar_cluster":"s","services":[{"name":"a","match":{"path_prefixes":["x"]}}]}"#.to_owned(),
                "services[0].match.path_prefixes[0]",
            ),
            (with(format!(r#"{{"format":2,"service":"chat","slots":{slots}}}"#)), "services[0].bootstrap.format"),
            (with(format!(r#"{{"format":1,"service":"code","slots":{slots}}}"#)), "services[0].bootstrap.service"),
            (
                with(format!(r#"{{"format":1,"epoch":5,"service":"chat","slots":{slots}}}"#)),
                "services[0].bootstrap.epoch",
            ),
            (with(r#"{"format":1,"service":"chat","slots":[]}"#.to_owned()), "services[0].bootstrap.slots"),
            (pushed(with(format!(r#"{{"format":1,"service":"chat","slots":{slots}}}"#))), "services[0].snapshot.epoch"),
            (
                pushed(with(format!(r#"{{"format":1,"epoch":5,"service":"chat","slots":{slots}}}"#))),
                "services[0].snapshot.ring",
            ),
            (r#"{"services":[{"name":"chat"}]}"#.to_owned(), "sidecar_cluster"),
        ];
        for (json, field) in cases {
            assert_eq!(config(&json).validate().unwrap_err().field, field);
        }
    }
}
