//! Service settings: all that changes a decision or a stamp.
//!
//! Unknown fields are refused, in the operator's file as in a snapshot: a proxy that does not know a setting
//! must say so (NACK) rather than decide without it. Settings at their default are not written, so that a
//! newer sidecar and an older proxy understand each other until somebody uses what is new.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bundle::Part;
use crate::error::FieldError;
use crate::ids::{CookieName, HeaderName, ServiceName, SlotName};
use crate::json::{newtype, record, words};
use crate::names;

mod ages;
pub mod former;
mod memory;
mod serving;
mod session_source;

pub use ages::{DrainDeadlineSeconds, FirstReturnSeconds, KeyRotationSeconds};
pub use memory::{AskWaitMs, MemorySettings, SessionRoom, TellWaitMs};
pub use serving::{OnBundleGone, OnSlotDown, Probe, ProbeTimeoutMs};
pub use session_source::{AnswerSource, BodySettings, SessionSource};

/// Most slots of one service.
const SLOTS_MAX: usize = 8;

/// The settings of one service. Every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ServiceSettings {
    /// The slots, 1 to 8.
    #[serde(skip_serializing_if = "is_default_slots")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 8), extend("uniqueItems" = true)))]
    pub slots: Vec<SlotName>,
    /// Where a request names its session; the first source that has an id wins.
    #[serde(skip_serializing_if = "is_default_sources")]
    #[cfg_attr(feature = "schema", schemars(length(max = 32), extend("uniqueItems" = true)))]
    pub session_sources: Vec<SessionSource>,
    /// Where an answer hands out a session id of the agent's making: each that is found is the session's from then on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 32), extend("uniqueItems" = true)))]
    pub learn_from: Vec<AnswerSource>,
    /// The response header by which the agent says that its session has ended; none: it says so nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_end_header: Option<HeaderName>,
    /// How bodies are read for session ids, where a source says so.
    #[serde(skip_serializing_if = "is_default")]
    pub body: BodySettings,
    /// How a request that names no session and carries no pin gets its slot.
    #[serde(skip_serializing_if = "is_default")]
    pub sessionless: Sessionless,
    /// How pins are carried and how long they hold.
    #[serde(skip_serializing_if = "is_default")]
    pub pin: PinSettings,
    /// Whether run tokens are minted.
    #[serde(skip_serializing_if = "is_default")]
    pub runs: RunSettings,
    /// How sessions are remembered whose clients echo nothing.
    #[serde(skip_serializing_if = "is_default")]
    pub memory: MemorySettings,
    /// Names of the headers that colorfast sets.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: Headers,
    /// Request headers that carry the version of a bundle's part to the agent: two slots can share
    /// one upstream and differ only in these.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::part_headers"))]
    pub part_headers: BTreeMap<Part, HeaderName>,
    /// How long a slot that was live stays a rollback target at least.
    #[serde(skip_serializing_if = "is_default")]
    pub quarantine_seconds: QuarantineSeconds,
    /// How long a slot drains before the sidecar makes its last sessions leave; 0: until they end by themselves.
    #[serde(skip_serializing_if = "is_default")]
    pub drain_deadline_seconds: DrainDeadlineSeconds,
    /// How long after the first configuration of a proxy its requests wait for a snapshot, at most.
    #[serde(skip_serializing_if = "is_default")]
    pub bootstrap_wait_ms: BootstrapWaitMs,
    /// What becomes of the sessions of a slot whose upstream is unavailable.
    #[serde(skip_serializing_if = "is_default")]
    pub on_slot_down: OnSlotDown,
    /// What becomes of a session whose bundle is gone.
    #[serde(skip_serializing_if = "is_default")]
    pub on_bundle_gone: OnBundleGone,
    /// How the sidecar sees for itself that a slot can serve, before a verb gives it sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

record!(
    ServiceSettings,
    Refused,
    [
        slots,
        session_sources,
        learn_from,
        session_end_header,
        body,
        sessionless,
        pin,
        runs,
        memory,
        headers,
        part_headers,
        quarantine_seconds,
        drain_deadline_seconds,
        bootstrap_wait_ms,
        on_slot_down,
        on_bundle_gone,
        probe
    ]
);

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            slots: default_slots(),
            session_sources: default_sources(),
            learn_from: Vec::new(),
            session_end_header: None,
            body: BodySettings::default(),
            sessionless: Sessionless::default(),
            pin: PinSettings::default(),
            runs: RunSettings::default(),
            memory: MemorySettings::default(),
            headers: Headers::default(),
            part_headers: BTreeMap::new(),
            quarantine_seconds: QuarantineSeconds::default(),
            drain_deadline_seconds: DrainDeadlineSeconds::default(),
            bootstrap_wait_ms: BootstrapWaitMs::default(),
            on_slot_down: OnSlotDown::default(),
            on_bundle_gone: OnBundleGone::default(),
            probe: None,
        }
    }
}

/// What decides for a request that names no session and carries no pin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Sessionless {
    /// A random draw by weight.
    #[default]
    Random,
    /// A hash of the client's trusted address and its user agent.
    Client,
}

words!(Sessionless, "random" => Random, "client" => Client);

/// How pins are carried and how long they hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PinSettings {
    /// Whether the pin goes out in (and is read from) the header.
    #[serde(skip_serializing_if = "is_default")]
    pub header: HeaderCarrier,
    /// When the pin goes out in (and is read from) a cookie.
    #[serde(skip_serializing_if = "is_default")]
    pub cookie: CookieCarrier,
    /// Name of the cookie; `agent-pin-<service>` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie_name: Option<CookieName>,
    /// Path attribute of the cookie.
    #[serde(skip_serializing_if = "is_default")]
    pub cookie_path: CookiePath,
    /// SameSite attribute of the cookie.
    #[serde(skip_serializing_if = "is_default")]
    pub cookie_same_site: SameSite,
    /// When the cookie is marked Secure.
    #[serde(skip_serializing_if = "is_default")]
    pub cookie_secure: CookieSecure,
    /// The header in which the agent issues a session id that the client must echo: the pin rides inside it. It names
    /// the session, too, where no source does before. `null`: no envelope.
    #[serde(skip_serializing_if = "is_default_envelope")]
    pub envelope_header: Option<HeaderName>,
    /// A pin holds this long from the session's beginning, whatever happens.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = AGE_MAX_SECONDS)))]
    pub max_age_seconds: u32,
    /// A pin holds this long from its last refresh; it is re-issued after a quarter of it.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = AGE_MAX_SECONDS)))]
    pub idle_timeout_seconds: u32,
    /// How long a session that was handed out and has not come back holds its slot.
    #[serde(skip_serializing_if = "is_default")]
    pub first_return_seconds: FirstReturnSeconds,
    /// How long a key signs before the sidecar rotates it; 0: it is rotated by command alone. Keys of run tokens, which are
    /// of all services, follow the shortest of all.
    #[serde(skip_serializing_if = "is_default")]
    pub key_rotation_seconds: KeyRotationSeconds,
}

record!(
    PinSettings,
    Refused,
    [
        header,
        cookie,
        cookie_name,
        cookie_path,
        cookie_same_site,
        cookie_secure,
        envelope_header,
        max_age_seconds,
        idle_timeout_seconds,
        first_return_seconds,
        key_rotation_seconds
    ]
);

impl Default for PinSettings {
    fn default() -> Self {
        Self {
            header: HeaderCarrier::default(),
            cookie: CookieCarrier::default(),
            cookie_name: None,
            cookie_path: CookiePath::default(),
            cookie_same_site: SameSite::default(),
            cookie_secure: CookieSecure::default(),
            envelope_header: default_envelope(),
            max_age_seconds: 7 * 24 * 3600,
            idle_timeout_seconds: 24 * 3600,
            first_return_seconds: FirstReturnSeconds::default(),
            key_rotation_seconds: KeyRotationSeconds::default(),
        }
    }
}

/// What becomes of runs: task executions that cross the services of an application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RunSettings {
    /// Whether a request without a run token gets one.
    pub mint: RunMint,
    /// The response header by which the agent says how the run of the request came out; none: it says so nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_header: Option<HeaderName>,
}

record!(RunSettings, Refused, [mint, status_header]);

/// Whether a run has come to its end, by what its agent says of it.
pub fn has_run_ended(status: &[u8]) -> bool {
    matches!(status.trim_ascii(), b"completed" | b"failed")
}

/// Whether a request without a run token gets one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RunMint {
    /// No; one that it has is obeyed all the same.
    #[default]
    Never,
    /// Yes: a run begins with it.
    Always,
}

words!(RunMint, "never" => Never, "always" => Always);

/// Whether the pin travels in a header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HeaderCarrier {
    /// Yes.
    #[default]
    Always,
    /// No.
    Never,
}

words!(HeaderCarrier, "always" => Always, "never" => Never);

/// When the pin travels in a cookie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CookieCarrier {
    /// Where the service has no source of session ids.
    #[default]
    Sessionless,
    /// On every service.
    Always,
    /// Not at all.
    Never,
}

words!(CookieCarrier, "sessionless" => Sessionless, "always" => Always, "never" => Never);

/// SameSite attribute of the pin cookie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// Sent on top-level navigation from elsewhere.
    #[default]
    Lax,
    /// Sent from the same site only.
    Strict,
    /// Sent from everywhere; browsers demand Secure with it.
    None,
}

words!(SameSite, "lax" => Lax, "strict" => Strict, "none" => None);

/// When the pin cookie is marked Secure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CookieSecure {
    /// Where the downstream scheme is https.
    #[default]
    Auto,
    /// Always: TLS ends before this proxy.
    Always,
}

words!(CookieSecure, "auto" => Auto, "always" => Always);

/// Path attribute of a cookie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct CookiePath(
    #[cfg_attr(feature = "schema", schemars(regex(pattern = crate::schema::COOKIE_PATH)))] pub String,
);

newtype!(CookiePath, String);

impl Default for CookiePath {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

/// Names of the headers that colorfast sets, and of the one that it reads off answers. Whoever changes the name of a
/// stamp changes the listener's early mutation with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Headers {
    /// The chosen slot.
    pub slot: HeaderName,
    /// The bundle in it.
    pub bundle: HeaderName,
    /// The reason.
    pub decision: HeaderName,
    /// The pin.
    pub pin: HeaderName,
    /// The preview token.
    pub preview: HeaderName,
    /// On answers: the bundle that the agent says it runs.
    pub attestation: HeaderName,
}

record!(Headers, Refused, [slot, bundle, decision, pin, preview, attestation]);

impl Headers {
    /// The headers that carry the stamps: what a client must never be believed under.
    pub fn stamps(&self) -> [&HeaderName; 3] {
        [&self.slot, &self.bundle, &self.decision]
    }

    /// Every header name with the field that holds it.
    pub fn all(&self) -> [(&'static str, &HeaderName); 6] {
        [
            ("slot", &self.slot),
            ("bundle", &self.bundle),
            ("decision", &self.decision),
            ("pin", &self.pin),
            ("preview", &self.preview),
            ("attestation", &self.attestation),
        ]
    }
}

impl Default for Headers {
    fn default() -> Self {
        Self {
            slot: well_known(names::HEADER_SLOT),
            bundle: well_known(names::HEADER_BUNDLE),
            decision: well_known(names::HEADER_DECISION),
            pin: well_known(names::HEADER_PIN),
            preview: well_known(names::HEADER_PREVIEW),
            attestation: well_known(names::HEADER_ATTESTATION),
        }
    }
}

/// Seconds of quarantine, one hour unless set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct QuarantineSeconds(#[cfg_attr(feature = "schema", schemars(range(max = AGE_MAX_SECONDS)))] pub u32);

newtype!(QuarantineSeconds, u32);

impl Default for QuarantineSeconds {
    fn default() -> Self {
        Self(3600)
    }
}

/// Milliseconds that a fresh proxy's first requests wait, two seconds unless set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct BootstrapWaitMs(#[cfg_attr(feature = "schema", schemars(range(max = BOOTSTRAP_WAIT_MAX_MS)))] pub u32);

newtype!(BootstrapWaitMs, u32);

impl Default for BootstrapWaitMs {
    fn default() -> Self {
        Self(2000)
    }
}

/// Longest wait of a fresh proxy's first requests.
const BOOTSTRAP_WAIT_MAX_MS: u32 = 30_000;
/// Ten years: longer ages are typing errors, and pins keep their times in 32 bits.
pub const AGE_MAX_SECONDS: u32 = 10 * 366 * 24 * 3600;

impl ServiceSettings {
    /// Checks what the types alone do not. `service` is whose settings they are: the pin cookie is named after it.
    ///
    /// # Errors
    /// Names the first field that breaks a rule.
    pub fn validate(&self, service: &ServiceName) -> Result<(), FieldError> {
        if self.slots.is_empty() || self.slots.len() > SLOTS_MAX {
            let found = self.slots.len();
            return Err(FieldError::new("slots", format!("has {found} entries, 1 to {SLOTS_MAX} are allowed")));
        }
        for (index, slot) in self.slots.iter().enumerate() {
            if self.slots.iter().take(index).any(|earlier| earlier == slot) {
                return Err(FieldError::new(format!("slots[{index}]"), format!("{slot} stands twice")));
            }
        }
        self.pin.validate()?;
        self.memory.validate()?;
        self.validate_headers()?;
        session_source::validate(&self.session_sources, &self.cookie_name(service))?;
        session_source::validate_answers(&self.learn_from)?;
        self.body.validate()?;
        self.probe.as_ref().map_or(Ok(()), Probe::validate)?;
        if self.bootstrap_wait_ms.0 > BOOTSTRAP_WAIT_MAX_MS {
            return Err(FieldError::new("bootstrap_wait_ms", format!("is over {BOOTSTRAP_WAIT_MAX_MS}")));
        }
        if self.quarantine_seconds.0 > AGE_MAX_SECONDS {
            return Err(FieldError::new("quarantine_seconds", format!("is over {AGE_MAX_SECONDS} (ten years)")));
        }
        if self.drain_deadline_seconds.0 > AGE_MAX_SECONDS {
            return Err(FieldError::new("drain_deadline_seconds", format!("is over {AGE_MAX_SECONDS} (ten years)")));
        }
        Ok(())
    }

    /// No two things may share a header, or one would overwrite the other.
    fn validate_headers(&self) -> Result<(), FieldError> {
        let set = self.headers.all().into_iter().map(|(field, name)| (format!("headers.{field}"), name));
        let parts = self.part_headers.iter().map(|(part, name)| (format!("part_headers.{}", part.as_str()), name));
        let sources = self.session_sources.iter().enumerate().filter_map(|(index, source)| match source {
            SessionSource::Header(name) => Some((format!("session_sources[{index}].header"), name)),
            _ => None,
        });
        let written: Vec<_> = set.chain(parts).collect();
        if let Some((field, name)) = written.iter().find(|(_, name)| is_reserved(name.as_str())) {
            return Err(FieldError::new(field, format!("{name} has a meaning of its own and cannot be used here")));
        }
        let mut taken: Vec<(&str, String)> = Vec::new();
        for (field, name) in written.into_iter().chain(sources) {
            if let Some((_, earlier)) = taken.iter().find(|(taken, _)| *taken == name.as_str()) {
                return Err(FieldError::new(field, format!("{name} is already the name of {earlier}")));
            }
            taken.push((name.as_str(), field));
        }
        Ok(())
    }

    /// Whether pins travel in a cookie.
    pub fn uses_cookie(&self) -> bool {
        match self.pin.cookie {
            CookieCarrier::Always => true,
            CookieCarrier::Never => false,
            CookieCarrier::Sessionless => self.session_sources.is_empty(),
        }
    }

    /// The name of the pin cookie.
    pub fn cookie_name(&self, service: &ServiceName) -> String {
        self.pin.cookie_name.as_ref().map_or_else(|| names::pin_cookie(service), |name| name.as_str().to_owned())
    }
}

/// Headers that HTTP, Envoy or tracing reads: to overwrite or remove one would break what is not ours.
fn is_reserved(name: &str) -> bool {
    const NAMES: [&str; 25] = [
        "accept",
        "accept-encoding",
        "authorization",
        "baggage",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "origin",
        "proxy-authorization",
        "proxy-connection",
        "set-cookie",
        "te",
        "trailer",
        "traceparent",
        "tracestate",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-request-id",
        names::HEADER_CLIENT_SENT,
    ];
    NAMES.contains(&name) || ["x-forwarded-", "x-envoy-"].iter().any(|prefix| name.starts_with(prefix))
}

impl PinSettings {
    /// How long it stays as it was written down when a session was seen: a quarter of the idle timeout.
    pub fn stale_seconds(&self) -> u64 {
        u64::from(self.idle_timeout_seconds).div_ceil(4)
    }

    fn validate(&self) -> Result<(), FieldError> {
        let ages =
            [("pin.max_age_seconds", self.max_age_seconds), ("pin.idle_timeout_seconds", self.idle_timeout_seconds)];
        for (field, seconds) in ages {
            if !(1..=AGE_MAX_SECONDS).contains(&seconds) {
                return Err(FieldError::new(
                    field,
                    format!("{seconds} is not within 1 to {AGE_MAX_SECONDS} (ten years)"),
                ));
            }
        }
        if self.idle_timeout_seconds > self.max_age_seconds {
            let (idle, max) = (self.idle_timeout_seconds, self.max_age_seconds);
            return Err(FieldError::new(
                "pin.idle_timeout_seconds",
                format!("{idle} is over pin.max_age_seconds, which is {max}"),
            ));
        }
        if !(1..=AGE_MAX_SECONDS).contains(&self.first_return_seconds.0) {
            let seconds = self.first_return_seconds.0;
            let rule = format!("{seconds} is not within 1 to {AGE_MAX_SECONDS} (ten years)");
            return Err(FieldError::new("pin.first_return_seconds", rule));
        }
        if self.key_rotation_seconds.0 > AGE_MAX_SECONDS {
            return Err(FieldError::new("pin.key_rotation_seconds", format!("is over {AGE_MAX_SECONDS} (ten years)")));
        }
        let path = &self.cookie_path.0;
        if !path.starts_with('/') || path.len() > 256 || !path.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b';') {
            return Err(FieldError::new(
                "pin.cookie_path",
                "is not a path: a slash, then at most 255 printable characters without ;",
            ));
        }
        if self.cookie_same_site == SameSite::None && self.cookie_secure == CookieSecure::Auto {
            return Err(FieldError::new(
                "pin.cookie_secure",
                "must be always where pin.cookie_same_site is none: browsers drop such a cookie",
            ));
        }
        Ok(())
    }
}

fn default_slots() -> Vec<SlotName> {
    ["blue", "green"].iter().filter_map(|name| name.parse().ok()).collect()
}

fn default_sources() -> Vec<SessionSource> {
    vec![SessionSource::Header(well_known(names::HEADER_SESSION))]
}

#[allow(clippy::expect_used, reason = "takes only the constants of `names`; a test reads each")]
fn well_known(name: &str) -> HeaderName {
    name.parse().expect("a header name of `names`")
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_default_slots(slots: &Vec<SlotName>) -> bool {
    *slots == default_slots()
}

fn default_envelope() -> Option<HeaderName> {
    Some(well_known(names::HEADER_MCP_SESSION))
}

fn is_default_envelope(header: &Option<HeaderName>) -> bool {
    *header == default_envelope()
}

fn is_default_sources(sources: &Vec<SessionSource>) -> bool {
    *sources == default_sources()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<ServiceSettings, String> {
        let settings: ServiceSettings = serde_json::from_str(json).map_err(|error| error.to_string())?;
        settings.validate(&"chat".parse().unwrap()).map(|()| settings).map_err(|error| error.to_string())
    }

    /// Defaults are valid, and are not written, so that older proxies understand newer sidecars.
    #[test]
    fn defaults_are_valid_and_silent() {
        let settings = read("{}").unwrap();
        assert_eq!(settings, ServiceSettings::default());
        assert_eq!(serde_json::to_string(&settings).unwrap(), "{}");
        let explicit = serde_json::to_string(&settings.headers).unwrap();
        assert_eq!(serde_json::from_str::<Headers>(&explicit).unwrap(), settings.headers);
    }

    /// Bad settings are refused with the field and the rule.
    #[test]
    fn refuses_bad_settings_by_field() {
        let cases = [
            (r#"{"slots":[]}"#, "slots: has 0"),
            (r#"{"slots":["a","b","a"]}"#, "slots[2]: a stands twice"),
            (r#"{"slots":["Blue"]}"#, "is not a slot name"),
            (r#"{"colour":"red"}"#, "unknown field `colour`"),
            (r#"{"pin":{"max_age":1}}"#, "unknown field `max_age`"),
            (r#"{"pin":{"max_age_seconds":0}}"#, "pin.max_age_seconds: 0"),
            (r#"{"pin":{"max_age_seconds":60}}"#, "pin.idle_timeout_seconds: 86400 is over"),
            (r#"{"pin":{"cookie_path":"x"}}"#, "pin.cookie_path"),
            (r#"{"pin":{"cookie_path":"/;secure"}}"#, "pin.cookie_path"),
            (r#"{"pin":{"cookie_same_site":"none"}}"#, "pin.cookie_secure"),
            (r#"{"headers":{"slot":"x-agent-bundle"}}"#, "headers.bundle: x-agent-bundle is already"),
            (r#"{"headers":{"pin":"cookie"}}"#, "headers.pin: cookie has a meaning"),
            (r#"{"headers":{"pin":"authorization"}}"#, "headers.pin: authorization has a meaning"),
            (
                r#"{"part_headers":{"code":"x-envoy-max-retries"}}"#,
                "part_headers.code: x-envoy-max-retries has a meaning",
            ),
            (
                r#"{"session_sources":[{"cookie":"agent-pin-chat"}]}"#,
                "session_sources[0].cookie: agent-pin-chat is the cookie",
            ),
            (
                r#"{"session_sources":[{"header":"x-a"},{"baggage":"agent.run"}]}"#,
                "session_sources[1].baggage: agent.run is the member",
            ),
            (r#"{"session_sources":[{"body":"id"}]}"#, "is not a JSON pointer"),
            (r#"{"body":{"prefix_bytes":0}}"#, "body.prefix_bytes: 0 is not within 1 to 16777216"),
            (r#"{"body":{"held_bytes":1048575}}"#, "body.held_bytes: 1048575 is not within 1048576 to 1073741824"),
            (r#"{"body":{"wait_ms":30001}}"#, "body.wait_ms: 30001 is not"),
            (
                r#"{"learn_from":[{"body":"/id"},{"header":"set-cookie"}]}"#,
                "learn_from[1].header: set-cookie holds more",
            ),
            (r#"{"session_sources":[{"header":"cookie"}]}"#, "session_sources[0].header: cookie holds every"),
            (r#"{"session_sources":[{"query":"a&b"}]}"#, "is not a parameter name"),
            (r#"{"session_sources":[{"path":"/threads/{id}"}]}"#, "is not a path template"),
            (r#"{"headers":{"pin":"X-Pin"}}"#, "is not a header name"),
            (r#"{"session_sources":[{"header":"x-agent-pin"}]}"#, "session_sources[0].header"),
            (r#"{"part_headers":{"prompts":"x-agent-slot"}}"#, "part_headers.prompts: x-agent-slot is already"),
            (r#"{"headers":{"attestation":"x-agent-pin"}}"#, "headers.attestation: x-agent-pin is already"),
            (r#"{"bootstrap_wait_ms":30001}"#, "bootstrap_wait_ms"),
            (r#"{"memory":{"sessions":1023}}"#, "memory.sessions: is 1023"),
            (r#"{"memory":{"ask_wait_ms":5001}}"#, "memory.ask_wait_ms: is over 5000"),
            (r#"{"memory":{"tell_wait_ms":5001}}"#, "memory.tell_wait_ms: is over 5000"),
            (r#"{"on_slot_down":"wait"}"#, "unknown variant `wait`"),
            (r#"{"quarantine_seconds":-1}"#, "invalid value"),
        ];
        for (json, wanted) in cases {
            let error = read(json).unwrap_err();
            assert!(error.contains(wanted), "{json}: {error}");
        }
    }

    /// The pin goes out as cookie only where it must, unless the operator says otherwise.
    #[test]
    fn cookie_by_need() {
        assert!(!read("{}").unwrap().uses_cookie());
        assert!(read(r#"{"session_sources":[]}"#).unwrap().uses_cookie());
        assert!(read(r#"{"pin":{"cookie":"always"}}"#).unwrap().uses_cookie());
        assert!(!read(r#"{"session_sources":[],"pin":{"cookie":"never"}}"#).unwrap().uses_cookie());
    }
}
