//! The control API's documents, shared by the server and the command line.

pub mod runs;
pub mod tokens;

use std::borrow::Cow;
use std::collections::BTreeMap;

use colorfast_core::bundle::Bundle;
use colorfast_core::ids::{AssignmentId, BundleId, HeaderName, KeyId, PresetName, ServiceName, SlotName};
use colorfast_core::release::{Entry, KeyDuty, Phase, Verb};
use colorfast_core::settings::ServiceSettings;
use colorfast_core::time::{UnixMillis, UnixSeconds};
use colorfast_core::weight::Weight;
use colorfast_core::wire::reports::{Bodies, Chain};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// `POST /v1/services/{service}/verbs` or `POST /v1/application/verbs`: one act of an operator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerbRequest<V = Verb> {
    /// The version that the operator has seen; a stale one is refused (409). Absent: whatever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
    /// The act.
    #[serde(flatten)]
    pub verb: V,
}

/// The answer to a verb: it is in the log.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct VerbResponse {
    /// The version of the service after the verb.
    pub version: u64,
    /// Whether the verb changed anything; one that asks for what is so already does not.
    pub changed: bool,
    /// Whether the verb was carried out earlier, under the same idempotency key: `version` and `changed` are of then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub repeated: bool,
    /// How proxies got ready before any weight moved; absent where there was nothing to get ready for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preparation: Option<Preparation>,
    /// The service now.
    pub status: ServiceStatus,
    /// How far the proxies are with `version`.
    pub confirmation: Confirmation,
}

/// The answer to a verb on what is of all services: it is in the log.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ApplicationVerbResponse {
    /// The version of every service after the verb.
    pub version: u64,
    /// Whether the verb changed anything.
    pub changed: bool,
    /// Whether the verb was carried out earlier, under the same idempotency key: `version` and `changed` are of then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub repeated: bool,
    /// The application now.
    pub status: ApplicationStatus,
    /// How far the proxies of all services are with `version`.
    pub confirmation: Confirmation,
}

/// The first part of a verb that moves weight or frees a slot: proxies ask the fleet from then on, and have told it what
/// they know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Preparation {
    /// The version that asked them to.
    pub version: u64,
    /// How long it was waited for, one second at most.
    pub took_ms: Millis,
    /// The members that were not ready by then, in order of name: sessions begun there just before may move.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub laggards: Vec<String>,
}

/// The header that makes a verb safe to send again: 1 to 128 printable ASCII characters, bare or as a quoted string.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// `GET /v1/services/{service}/confirmations/{version}?wait_ms=N`: which members have obeyed a version; of all services
/// under `/v1/application/confirmations/{version}`.
/// With `wait_ms` (at most 30,000) the answer is held until it differs from the one at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Confirmation {
    /// The version asked for.
    pub version: u64,
    /// The sum of it.
    pub outcome: Outcome,
    /// From the append to the last acknowledgement, where confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_after_ms: Option<Millis>,
    /// Every member that is asked, in order of name.
    pub members: Vec<MemberProgress>,
}

impl Confirmation {
    /// Whether waiting for these members is over: what is confirmed stays so, and who refused a version that it could
    /// read goes on refusing it. Who refused what was damaged on the way is asked again, and may yet obey.
    pub fn is_settled(&self) -> bool {
        self.outcome != Outcome::Pending || !self.members.iter().any(|member| member.progress.may_move())
    }

    /// The sum of what the services tell: a proxy has obeyed where it has for each service that it asks for.
    pub fn of_all<'a>(version: u64, services: impl IntoIterator<Item = (&'a ServiceName, Self)>) -> Self {
        let mut members: BTreeMap<String, MemberProgress> = BTreeMap::new();
        let mut confirmed_after_ms = Some(None);
        for (service, Self { members: told, outcome, confirmed_after_ms: after, .. }) in services {
            if outcome != Outcome::NoMembers {
                confirmed_after_ms = confirmed_after_ms.zip(after).map(|(longest, after)| longest.max(Some(after)));
            }
            for MemberProgress { member, progress, .. } in told {
                let known = members.entry(member.clone());
                let acknowledged = || MemberProgress { member, progress: Progress::Acknowledged, services: Vec::new() };
                let known = known.or_insert_with(acknowledged);
                if progress != Progress::Acknowledged {
                    known.services.push(service.clone());
                }
                if progress.gravity() > known.progress.gravity() {
                    known.progress = progress;
                }
            }
        }
        let members: Vec<_> = members.into_values().collect();
        let outcome = match members.as_slice() {
            [] => Outcome::NoMembers,
            all if all.iter().all(|member| member.progress == Progress::Acknowledged) => Outcome::Confirmed,
            _ => Outcome::Pending,
        };
        let confirmed_after_ms = confirmed_after_ms.flatten().filter(|_| outcome == Outcome::Confirmed);
        Self { version, outcome, confirmed_after_ms, members }
    }
}

/// A span of time: whole microseconds here, milliseconds with their fraction on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct Millis(pub u64);

impl JsonSchema for Millis {
    fn schema_name() -> Cow<'static, str> {
        "Millis".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "description": "Milliseconds, with their fraction." })
    }
}

impl From<f64> for Millis {
    fn from(millis: f64) -> Self {
        Self((millis * 1000.0).round() as u64)
    }
}

impl From<Millis> for f64 {
    fn from(millis: Millis) -> f64 {
        millis.0 as f64 / 1000.0
    }
}

/// Whether the members have obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every member has acknowledged.
    Confirmed,
    /// Some member has not yet; the others have, or may.
    Pending,
    /// There is no member.
    NoMembers,
}

/// How far one member is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberProgress {
    /// `<node id>/<process id>`.
    pub member: String,
    /// What it did.
    pub progress: Progress,
    /// In a confirmation of all services: those that it has not acknowledged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceName>,
}

/// What a member did about a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Progress {
    /// It decides by the version, or by a newer one.
    Acknowledged,
    /// It has been heard since, but decides by an older version.
    Lagging,
    /// It has not been heard since.
    Silent,
    /// It refused the version.
    Refused {
        /// The field and the rule.
        error: String,
        /// Whether it is asked again: the version was damaged on the way, so this is not its last word.
        #[serde(default, skip_serializing_if = "is_false")]
        retried: bool,
    },
}

impl Progress {
    /// Whether the member may yet acknowledge without a newer version.
    fn may_move(&self) -> bool {
        match self {
            Self::Lagging | Self::Silent => true,
            Self::Refused { retried, .. } => *retried,
            Self::Acknowledged => false,
        }
    }

    /// Of two, the graver is told.
    fn gravity(&self) -> u8 {
        match self {
            Self::Acknowledged => 0,
            Self::Lagging => 1,
            Self::Silent => 2,
            Self::Refused { .. } => 3,
        }
    }
}

fn is_none(number: &u64) -> bool {
    *number == 0
}

fn is_false(value: &bool) -> bool {
    !value
}

/// `GET /v1/services/{service}`, and one element of `GET /v1/services`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ServiceStatus {
    /// The service.
    pub service: ServiceName,
    /// The log.
    pub epoch: UnixMillis,
    /// The version of its snapshot.
    pub version: u64,
    /// Its slots, in the order of its settings.
    pub slots: Vec<SlotStatus>,
    /// The slot that `rollback` would step back to after a switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_back: Option<SlotName>,
    /// Its keys, by their numbers.
    #[serde(default)]
    pub keys: Vec<KeyStatus>,
    /// Its proxies.
    pub members: Vec<MemberStatus>,
    /// The pods of gateways, where the sidecar is told to watch them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodsStatus>,
    /// Its settings, whole.
    pub settings: ServiceSettings,
    /// The preset that they came from; they hold all that it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<PresetName>,
}

/// `GET /v1/application`: what is of all services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApplicationStatus {
    /// The last entry of the log that is of all services.
    pub version: u64,
    /// The keys that run tokens are signed with, by their numbers.
    pub keys: Vec<KeyStatus>,
}

/// One key: of a service for pins and preview tokens, of the application for run tokens. The key itself is shown nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyStatus {
    /// Its number.
    pub key: KeyId,
    /// What it does.
    pub duty: KeyDuty,
    /// Since when.
    pub since: UnixMillis,
    /// When it goes by itself; absent while it signs, or may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retires: Option<UnixMillis>,
}

/// One slot.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SlotStatus {
    /// The slot.
    pub slot: SlotName,
    /// What it is doing.
    pub phase: Phase,
    /// When it came into this phase.
    pub since: UnixMillis,
    /// Its share of new sessions.
    pub weight: Weight,
    /// What it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleId>,
    /// What its pins name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<AssignmentId>,
    /// Until when it is kept as a rollback target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine_until: Option<UnixMillis>,
    /// When its last sessions are made to leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_until: Option<UnixMillis>,
    /// The sessions that it holds, as proxies have reported within the last seconds; absent where it runs nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Sessions>,
    /// Runs that hold it by leases.
    #[serde(default, skip_serializing_if = "is_none")]
    pub runs: u64,
    /// When the last of these leases ends, unless it is renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_until: Option<UnixMillis>,
    /// What proxies have seen of its agent, under this assignment; absent where it runs nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<Serving>,
}

/// The sessions of a slot: at most two in a hundred are miscounted, and none is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sessions {
    /// Those that have come back at least once, and are not idle.
    pub held: u64,
    /// Those that were handed out and have not come back yet: each holds the slot for `pin.first_return_seconds`.
    pub issued: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// When the oldest of those held began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<UnixSeconds>,
    /// When all of them have ended, unless one comes back until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMillis>,
}

/// What proxies have seen of the agent in a slot. Numbers are of the answers that they looked at: all while something
/// is wrong, else a sample.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Serving {
    /// Answers that the agent gave.
    pub answered: u64,
    /// Answers that Envoy gave itself, since the upstream could not be had.
    pub unavailable: u64,
    /// Answers whose agent said that it runs the bundle that is staged.
    pub matched: u64,
    /// Answers whose agent said that it runs another.
    pub mismatched: u64,
    /// The last of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_mismatch: Option<Mismatched>,
    /// The last minute alone.
    pub last_minute: Recent,
}

/// An answer whose agent said that it runs another bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mismatched {
    /// What it said.
    pub found: String,
    /// When that was reported.
    pub at: UnixMillis,
}

/// Answers of the last minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recent {
    /// The agent's.
    pub answered: u64,
    /// Envoy's own, since the upstream could not be had.
    pub unavailable: u64,
}

/// One proxy of a service.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct MemberStatus {
    /// `<node id>/<process id>`.
    pub member: String,
    /// Envoy's node id.
    pub node: String,
    /// Tells apart processes of one node id.
    pub process: String,
    /// The pod that it runs in, where pods are watched and its node id names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The version that it decides by (`<epoch>.<version>`); empty before its first.
    pub version_info: String,
    /// Whether that is the newest.
    pub current: bool,
    /// When it was heard last.
    pub last_seen: UnixMillis,
    /// The version that it refused last, and why, while it has taken no newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedVersion>,
    /// Its VM instances, by their hello.
    pub instances: Vec<InstanceStatus>,
}

/// The pods that are watched: a proxy leaves with its pod.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PodsStatus {
    /// Their namespace.
    pub namespace: String,
    /// Their labels; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The pods, by name.
    pub pods: Vec<PodStatus>,
    /// Why they are not watched now: members lapse by their ttl then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// One pod.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PodStatus {
    /// Its name.
    pub pod: String,
    /// `starting`, `ready`, `ending` or `ended`.
    pub state: String,
    /// How many proxies of it are members of the service.
    pub members: usize,
}

/// A snapshot that a member refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedVersion {
    /// The version.
    pub version: u64,
    /// The field and the rule.
    pub error: String,
}

/// One VM instance of a member.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct InstanceStatus {
    /// The instance.
    pub instance: String,
    /// Release of the filter.
    pub filter_version: String,
    /// The version that it decided by when it reported last.
    pub version_info: String,
    /// Whether it can read and mint pins.
    pub keyed: bool,
    /// Whether the filter stands alone in its chain.
    #[serde(default, skip_serializing_if = "Chain::is_single")]
    pub chain: Chain,
    /// Whether bodies come to requests that wait for them.
    #[serde(default, skip_serializing_if = "Bodies::is_read")]
    pub bodies: Bodies,
    /// When it reported last.
    pub last_seen: UnixMillis,
}

/// `POST /v1/services/{service}/why`: where a request goes, and what every rule says of it. The answer is an
/// [`Explanation`](colorfast_core::why::Explanation).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhyRequest {
    /// The request.
    pub request: colorfast_core::why::Request,
    /// The version of the service to decide by; the newest, unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The time to decide for; now, unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixMillis>,
}

/// `POST /v1/services/{service}/preview-tokens`: a token by which a request reaches a slot whatever its phase.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewTokenRequest {
    /// The slot; it must run a bundle.
    pub slot: SlotName,
    /// How long the token holds: an hour, unless it is said; a day at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = colorfast_core::token::preview::TTL_MAX_SECONDS))]
    pub ttl_seconds: Option<u32>,
}

/// A preview token. It is a secret: whoever holds it reaches the slot.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct PreviewToken {
    /// The token.
    pub token: String,
    /// The request header that carries it.
    pub header: HeaderName,
    /// The slot that it reaches.
    pub slot: SlotName,
    /// What runs there now.
    pub bundle: BundleId,
    /// When it ends.
    pub expires: UnixSeconds,
}

impl std::fmt::Debug for PreviewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PreviewToken({}, redacted)", self.slot)
    }
}

/// `GET /v1/services/{service}/bundles`: every bundle, by id.
pub type Bundles = BTreeMap<BundleId, Bundle>;

/// `GET /v1/events?service=S&after=SEQ&limit=N`: entries of the log, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Events {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The last entry of the whole log.
    pub head: u64,
}

/// `GET /v1/log/verification`: the whole log, read again and folded anew.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    /// Entries that are in order.
    pub entries: u64,
    /// The hash of the last of them.
    pub hash: String,
    /// What is wrong with the next one; absent where the log is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One change of a service, as it is told to who has not seen it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The version that it made.
    pub version: u64,
    /// What happened: the `type` of the event.
    pub event: String,
    /// Who asked for it.
    pub principal: String,
    /// When.
    pub at: UnixMillis,
}

/// What every [`Problem::kind`] begins with; its code follows.
pub const PROBLEM_PREFIX: &str = "urn:colorfast:problem:";

/// The codes of problems that are not refusals of the release state (those bring their own).
pub mod problem_code {
    /// No token, or another one.
    pub const UNAUTHENTICATED: &str = "unauthenticated";
    /// Authentication has failed too often.
    pub const FAILURES: &str = "too-many-failures";
    /// Who asks may not ask this.
    pub const FORBIDDEN: &str = "forbidden";
    /// The token is for other nodes.
    pub const OTHER_NODE: &str = "other-node";
    /// The member's ticket is missing, or is another's.
    pub const TICKET: &str = "ticket";
    /// There is a token of that name.
    pub const TOKEN_EXISTS: &str = "token-exists";
    /// There are too many tokens.
    pub const TOKENS_FULL: &str = "too-many-tokens";
    /// Nothing is there.
    pub const NOT_FOUND: &str = "not-found";
    /// Something is there, but not by this method.
    pub const METHOD: &str = "method-not-allowed";
    /// The body is no document of its kind.
    pub const BODY: &str = "invalid-body";
    /// The query is not one of the resource.
    pub const QUERY: &str = "invalid-query";
    /// The body is too long.
    pub const TOO_LARGE: &str = "too-large";
    /// The body did not come.
    pub const TOO_SLOW: &str = "too-slow";
    /// A value breaks a rule.
    pub const FIELD: &str = "invalid-field";
    /// The operator has seen another version.
    pub const STALE: &str = "stale-version";
    /// The header is no idempotency key.
    pub const KEY: &str = "invalid-idempotency-key";
    /// The idempotency key was used for another verb.
    pub const KEY_REUSED: &str = "idempotency-key-reused";
    /// Only members report.
    pub const NOT_MEMBER: &str = "not-member";
    /// The sidecar cannot do it now.
    pub const OUTAGE: &str = "outage";
}

/// RFC 9457 problem document, `application/problem+json`; every error of the API has this form.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// A stable word: [`PROBLEM_PREFIX`] and a code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of problem this is.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What was wrong, where, and what would be right.
    pub detail: String,
    /// The field that breaks a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The version of the service now (a verb that was refused).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<u64>,
    /// What happened to the service since the expected version (stale-version), at most the last ten changes; else
    /// the last change (every other refusal by the release state).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// The version that members must acknowledge first (not-introduced, 409).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaited_version: Option<u64>,
    /// The members that have not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// When it makes sense to try again (too-many-failures, 429).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}
