//! Errors of the APIs: each is a problem document (RFC 9457) that says what was wrong, where, and what would be right.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use colorfast_core::error::FieldError;
use colorfast_core::release::Refusal;

use super::authority::VerbError;
use crate::api::{Change, PROBLEM_PREFIX, Problem, problem_code};
use crate::store::Outage;

/// An error on its way to the client.
#[derive(Debug)]
pub struct ApiError(Box<Problem>);

/// What kind of problem: its stable word, its status, its title, and what to do about it.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    code: &'static str,
    status: StatusCode,
    title: &'static str,
    remedy: &'static str,
}

/// Declares every kind, once: `docs/api.md` and the OpenAPI document list what stands here.
macro_rules! kinds {
    ($($name:ident = $code:expr, $status:ident, $title:literal, $remedy:literal;)*) => {
        impl Kind {
            $(
                #[doc = $title]
                pub const $name: Self =
                    Self { code: $code, status: StatusCode::$status, title: $title, remedy: $remedy };
            )*
            /// Every kind that there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

kinds! {
    UNAUTHENTICATED = problem_code::UNAUTHENTICATED, UNAUTHORIZED, "The bearer token is missing or wrong",
        "Send `authorization: Bearer TOKEN` with a token of this address.";
    FAILURES = problem_code::FAILURES, TOO_MANY_REQUESTS, "Authentication has failed too often",
        "Wait for `retry_after_seconds`, then try with another token.";
    FORBIDDEN = problem_code::FORBIDDEN, FORBIDDEN, "The token is not for this",
        "`detail` names the role that is needed; an admin makes a token that has it.";
    OTHER_NODE = problem_code::OTHER_NODE, FORBIDDEN, "The token is for other nodes",
        "Ask with a token whose pattern has this node id in it.";
    TICKET = problem_code::TICKET, FORBIDDEN, "The ticket of the member is missing or wrong",
        "Show the ticket that came with the first answer to this proxy.";
    TOKEN_EXISTS = problem_code::TOKEN_EXISTS, CONFLICT, "There is a token of that name",
        "Take another name, or revoke that token first.";
    TOKENS_FULL = problem_code::TOKENS_FULL, CONFLICT, "There are too many tokens", "Revoke some first.";
    NOT_FOUND = problem_code::NOT_FOUND, NOT_FOUND, "There is no such thing",
        "Compare the path with this document, and names with `colorfast status`.";
    METHOD = problem_code::METHOD, METHOD_NOT_ALLOWED, "The resource has no such method",
        "Use one of the methods in the `allow` header.";
    BODY = problem_code::BODY, BAD_REQUEST, "The body cannot be read",
        "`field` names the place, `detail` what stands there and what would be right.";
    QUERY = problem_code::QUERY, BAD_REQUEST, "The query cannot be read",
        "`field` names the parameter; parameters that are not in this document are refused.";
    TOO_LARGE = problem_code::TOO_LARGE, PAYLOAD_TOO_LARGE, "The body is too long",
        "Send less: settings and manifests are a few hundred bytes.";
    TOO_SLOW = problem_code::TOO_SLOW, REQUEST_TIMEOUT, "The body did not come in time",
        "Send it again, within ten seconds. Nothing was carried out.";
    FIELD = problem_code::FIELD, UNPROCESSABLE_ENTITY, "A value breaks a rule",
        "`field` names the value, `detail` the rule. Nothing was carried out.";
    STALE = problem_code::STALE, CONFLICT, "The service, or the application, has changed since",
        "Look at `changes`: what others did since `expected_version`. Decide anew, and expect `current_version`.";
    KEY = problem_code::KEY, BAD_REQUEST, "The idempotency key cannot be read",
        "Send 1 to 128 printable ASCII characters, once, bare or as a quoted string.";
    KEY_REUSED = problem_code::KEY_REUSED, UNPROCESSABLE_ENTITY, "The idempotency key belongs to another verb",
        "Draw a new key for each verb, and repeat a key with the very same document only.";
    LAST_EVENT_ID = "invalid-last-event-id", BAD_REQUEST, "The header Last-Event-ID cannot be read",
        "Send the `id` of the last event, or none.";
    NOT_MEMBER = problem_code::NOT_MEMBER, CONFLICT, "The proxy is no member",
        "Ask for a snapshot first: that makes a member.";
    OUTAGE = problem_code::OUTAGE, SERVICE_UNAVAILABLE, "The sidecar cannot do it now",
        "Ask again later; repeat a verb with its idempotency key, which carries it out once.";
    NO_SERVICE = "no-service", NOT_FOUND, "There is no such service",
        "`colorfast service apply FILE` (the verb `apply`) creates one.";
    NO_SLOT = "no-slot", NOT_FOUND, "There is no such slot", "Name one of the slots of the service's settings.";
    NO_BUNDLE = "no-bundle", NOT_FOUND, "There is no such bundle", "`colorfast bundle add FILE` adds one.";
    BUNDLE_EXISTS = "bundle-exists", CONFLICT, "The bundle has other parts",
        "A bundle never changes: take another id.";
    WRONG_PHASE = "wrong-phase", CONFLICT, "The phase of the slot does not allow it",
        "`detail` names the phase and those that would do; `changes` says who brought it there.";
    NOTHING_LIVE = "nothing-live", CONFLICT, "No slot is live", "`switch` makes the first slot live.";
    OVER_ALL = "weight-over-all", CONFLICT, "The candidates would take more than everything",
        "Lower another candidate first.";
    ALREADY_LIVE = "already-live", CONFLICT, "The slot is live already", "Nothing is to be done.";
    NO_WAY_BACK = "no-way-back", CONFLICT, "No slot was live before", "Name a slot in `to`.";
    WAY_BACK_GONE = "way-back-gone", CONFLICT, "The slot that was live before is no target any more",
        "Name another slot in `to`.";
    NOT_INTRODUCED = "not-introduced", CONFLICT, "Not every member knows the assignment",
        "Wait until the confirmation of `awaited_version` is complete, or forget the members that are gone.";
    ATTESTATION = "attestation-mismatch", CONFLICT, "The agent says that it runs another bundle",
        "Start the bundle that is staged there and stage the slot anew, or force it with a reason.";
    CANNOT_SERVE = "cannot-serve", CONFLICT, "The slot cannot serve",
        "`detail` says what was seen. Mend the upstream, or force it with a reason.";
    QUARANTINE = "quarantine", CONFLICT, "The slot is kept as a rollback target",
        "Wait, or force it with a reason.";
    BUNDLE_GONE = "bundle-gone", CONFLICT, "No slot runs the bundle of the run", "End the run, or begin it anew.";
    RUN_OVER_AGE = "run-over-age", CONFLICT, "The run has lasted longer than any may", "End the run.";
    RUNS_HOLD = "runs-hold", CONFLICT, "Runs hold the slot by leases",
        "Wait until they end, or force it with a reason.";
    SLOT_HELD = "slot-held", CONFLICT, "The slot still has sessions or requests",
        "Wait until they have ended, migrate it, or force it with a reason.";
    NOT_ACCOUNTED = "not-accounted", CONFLICT, "The slot may still hold sessions that were not reported",
        "Wait until `members` have reported, forget those that are gone, or force it with a reason.";
    ROTATION = "rotation-under-way", CONFLICT, "A rotation of keys is under way",
        "Wait until every member has acknowledged it: one rotation at a time.";
    RING_FULL = "ring-full", CONFLICT, "There are too many keys", "Wait until the oldest is retired, or retire it.";
    NO_KEY = "no-key", NOT_FOUND, "There is no such key", "Name one of `keys` of the service, or of the application.";
    KEY_SIGNS = "key-signs", CONFLICT, "The key signs", "Rotate keys first.";
    KEY_IN_USE = "key-in-use", CONFLICT, "What the key signed may still hold", "Wait, or force it with a reason.";
    SLOT_IN_USE = "slot-in-use", CONFLICT, "A slot in use cannot leave the settings", "Recycle the slot first.";
}

impl Kind {
    /// What refusals by the release state come to.
    pub const REFUSALS: &'static [Self] = &[
        Self::FIELD,
        Self::NO_SERVICE,
        Self::NO_SLOT,
        Self::NO_BUNDLE,
        Self::BUNDLE_EXISTS,
        Self::WRONG_PHASE,
        Self::NOTHING_LIVE,
        Self::OVER_ALL,
        Self::ALREADY_LIVE,
        Self::NO_WAY_BACK,
        Self::WAY_BACK_GONE,
        Self::NOT_INTRODUCED,
        Self::ATTESTATION,
        Self::CANNOT_SERVE,
        Self::QUARANTINE,
        Self::RUNS_HOLD,
        Self::SLOT_HELD,
        Self::NOT_ACCOUNTED,
        Self::ROTATION,
        Self::RING_FULL,
        Self::NO_KEY,
        Self::KEY_SIGNS,
        Self::KEY_IN_USE,
        Self::SLOT_IN_USE,
    ];

    /// What refusals of a verb on the application come to.
    pub const APPLICATION_REFUSALS: &'static [Self] =
        &[Self::FIELD, Self::ROTATION, Self::RING_FULL, Self::NO_KEY, Self::KEY_SIGNS, Self::KEY_IN_USE];

    /// Its stable word, behind the prefix of all.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The status that it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What kind of problem it is.
    pub fn title(&self) -> &'static str {
        self.title
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        self.remedy
    }

    /// The kind of a refusal; one that has none does not compile.
    fn of(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NoService(_) => Self::NO_SERVICE,
            Refusal::NoSlot { .. } => Self::NO_SLOT,
            Refusal::NoBundle(_) => Self::NO_BUNDLE,
            Refusal::BundleExists { .. } => Self::BUNDLE_EXISTS,
            Refusal::Field(_) => Self::FIELD,
            Refusal::WrongPhase { .. } => Self::WRONG_PHASE,
            Refusal::NothingLive(_) | Refusal::NothingToRollBack => Self::NOTHING_LIVE,
            Refusal::OverAll { .. } => Self::OVER_ALL,
            Refusal::AlreadyLive(_) => Self::ALREADY_LIVE,
            Refusal::NoWayBack { .. } => Self::NO_WAY_BACK,
            Refusal::WayBackGone { .. } => Self::WAY_BACK_GONE,
            Refusal::NotIntroduced { .. } => Self::NOT_INTRODUCED,
            Refusal::AttestationMismatch { .. } => Self::ATTESTATION,
            Refusal::CannotServe { .. } => Self::CANNOT_SERVE,
            Refusal::Quarantine { .. } => Self::QUARANTINE,
            Refusal::RunsHold { .. } => Self::RUNS_HOLD,
            Refusal::SlotHeld { .. } => Self::SLOT_HELD,
            Refusal::NotAccounted { .. } | Refusal::Unknown(_) => Self::NOT_ACCOUNTED,
            Refusal::RotationUnderWay { .. } => Self::ROTATION,
            Refusal::RingFull { .. } => Self::RING_FULL,
            Refusal::NoKey { .. } => Self::NO_KEY,
            Refusal::KeySigns { .. } => Self::KEY_SIGNS,
            Refusal::KeyInUse { .. } => Self::KEY_IN_USE,
            Refusal::SlotInUse { .. } => Self::SLOT_IN_USE,
        }
    }
}

impl ApiError {
    /// A problem of `kind`; `detail` says what was wrong and what would be right.
    pub fn new(kind: Kind, detail: impl ToString) -> Self {
        Self(Box::new(Problem {
            kind: format!("{PROBLEM_PREFIX}{}", kind.code),
            title: kind.title.to_owned(),
            status: kind.status.as_u16(),
            detail: detail.to_string(),
            field: None,
            current_version: None,
            changes: Vec::new(),
            awaited_version: None,
            members: Vec::new(),
            retry_after_seconds: None,
        }))
    }

    /// It makes no sense to try again sooner.
    pub fn retry_after(mut self, rest: Duration) -> Self {
        let seconds = rest.as_secs() + u64::from(rest.subsec_nanos() > 0);
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// The problem stands at `field`.
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }
}

impl ApiError {
    /// The service is at `version` now, after `changes`; the last of them is told in words, too.
    pub fn after(mut self, version: u64, changes: Vec<Change>) -> Self {
        if let Some(Change { version, event, principal, at }) = changes.last() {
            let at = jiff::Timestamp::from_millisecond(i64::try_from(at.0).unwrap_or(i64::MAX));
            let at = at.map_or_else(|_| String::new(), |at| format!(" at {at}"));
            self.0.detail.push_str(&format!("; the last change was {event} (v{version}) by {principal}{at}"));
        }
        self.0.current_version = Some(version);
        self.0.changes = changes;
        self
    }
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        Self::new(Kind::FIELD, &error).at(error.field)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let mut error = Self::new(Kind::of(&refusal), &refusal);
        match refusal {
            Refusal::Field(field) => error.0.field = Some(field.field),
            Refusal::SlotInUse { .. } => error.0.field = Some("settings.slots".to_owned()),
            Refusal::NotIntroduced { version, members, .. } => {
                error.0.awaited_version = Some(version);
                error.0.members = members;
            }
            Refusal::NotAccounted { members, .. } => error.0.members = members,
            _ => {}
        }
        error
    }
}

impl From<Outage> for ApiError {
    fn from(outage: Outage) -> Self {
        Self::new(Kind::OUTAGE, outage)
    }
}

impl From<VerbError> for ApiError {
    fn from(error: VerbError) -> Self {
        match error {
            VerbError::Stale { current, .. } => {
                let mut stale = Self::new(Kind::STALE, error);
                stale.0.current_version = Some(current);
                stale
            }
            VerbError::KeyReused(_) => Self::new(Kind::KEY_REUSED, error),
            VerbError::Refused(refusal) => refusal.into(),
            VerbError::Outage(outage) => outage.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(&*self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
