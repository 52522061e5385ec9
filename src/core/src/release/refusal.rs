//! Why a verb is not carried out: each cause with what would be right, and its stable word.

use crate::error::FieldError;
use crate::ids::{BundleId, KeyId, ServiceName, SlotName};
use crate::release::phase::Phase;
use crate::release::ring::{KeyDuty, Signs};
use crate::time::UnixMillis;

/// Why a verb was not carried out. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such service.
    #[error("there is no service {0}: `colorfast service apply FILE` creates one")]
    NoService(ServiceName),
    /// There is no such slot.
    #[error("there is no slot {slot}, only {}", names(.known))]
    NoSlot {
        /// The slot that was named.
        slot: SlotName,
        /// The slots that are.
        known: Vec<SlotName>,
    },
    /// There is no such bundle.
    #[error("there is no bundle {0}: `colorfast bundle add FILE` adds one")]
    NoBundle(BundleId),
    /// A bundle is immutable.
    #[error("bundle {id} was added with other parts ({digest}): a bundle never changes, take another id")]
    BundleExists {
        /// The id.
        id: BundleId,
        /// What it stands for.
        digest: String,
    },
    /// A value breaks a rule.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The slot's phase does not allow it.
    #[error("{slot} is {phase}, but {verb} needs {wanted}")]
    WrongPhase {
        /// The slot.
        slot: SlotName,
        /// Its phase.
        phase: Phase,
        /// The verb.
        verb: &'static str,
        /// What would do.
        wanted: &'static str,
    },
    /// A ramp splits what a live slot takes.
    #[error("no slot is live: `colorfast switch {0}` makes the first")]
    NothingLive(SlotName),
    /// More than everything.
    #[error("the candidates would take {sum} parts of 10000: lower another one first")]
    OverAll {
        /// The sum.
        sum: u32,
    },
    /// Nothing to step back from.
    #[error("no slot is live, so there is nothing to roll back: `colorfast switch SLOT` makes the first")]
    NothingToRollBack,
    /// The slot is live already.
    #[error("{0} is live already")]
    AlreadyLive(SlotName),
    /// No way back is known.
    #[error("no slot was live before {live}: `colorfast rollback --to SLOT` names one")]
    NoWayBack {
        /// The slot that is live.
        live: SlotName,
    },
    /// The way back is gone.
    #[error("{slot} was live before, but {gone}: `colorfast rollback --to SLOT` names another")]
    WayBackGone {
        /// The slot.
        slot: SlotName,
        /// Why it is no target any more.
        gone: &'static str,
    },
    /// Not every member knows the assignment.
    #[error("{} not acknowledged that {slot} was staged (version {version}): wait, or `colorfast member forget`", have(.members))]
    NotIntroduced {
        /// The slot.
        slot: SlotName,
        /// The version to wait for.
        version: u64,
        /// The members that lack it.
        members: Vec<String>,
    },
    /// What would serve is not what is staged.
    #[error(
        "{slot} is staged with {bundle}, but its agent says that it runs {found} ({times} of the answers looked at): \
         start {bundle} there, then recycle and stage the slot anew"
    )]
    AttestationMismatch {
        /// The slot.
        slot: SlotName,
        /// What is staged in it.
        bundle: String,
        /// What its agent said last.
        found: String,
        /// How often.
        times: u64,
    },
    /// Nothing would serve.
    #[error("{slot} cannot serve: {cause}")]
    CannotServe {
        /// The slot.
        slot: SlotName,
        /// Why not.
        cause: String,
    },
    /// It would be no rollback target any more.
    #[error("{slot} is a rollback target until {} (Unix ms): wait, or --force --reason", .until.0)]
    Quarantine {
        /// The slot.
        slot: SlotName,
        /// The end of quarantine.
        until: UnixMillis,
    },
    /// Runs work in it.
    #[error("{slot} is held by {}{}: wait, or --force --reason", number(.runs), still(.until))]
    RunsHold {
        /// The slot.
        slot: SlotName,
        /// How many.
        runs: u64,
        /// When the last lease ends, unless it is renewed.
        until: Option<UnixMillis>,
    },
    /// Sessions or requests are in it.
    #[error("{slot} still has {}{}: wait, migrate it, or --force --reason", contents(.sessions, .issued, .in_flight), still(.until))]
    SlotHeld {
        /// The slot.
        slot: SlotName,
        /// Sessions that have come back at least once.
        sessions: u64,
        /// Sessions that may yet come back.
        issued: u64,
        /// Requests under way.
        in_flight: u64,
        /// When all of the sessions have ended, unless one comes back until then.
        until: Option<UnixMillis>,
    },
    /// Who may know of sessions has not told.
    #[error("{slot} may still hold sessions: {} not reported lately: wait, `colorfast member forget`, or --force --reason", have(.members))]
    NotAccounted {
        /// The slot.
        slot: SlotName,
        /// The members that have not.
        members: Vec<String>,
    },
    /// Nobody tells what is in it.
    #[error(
        "what {0} holds is not known offline, since no proxy reports here: see by your own metrics that nothing is left, then --force --reason"
    )]
    Unknown(SlotName),
    /// One rotation at a time.
    #[error("key {key} is still {}: wait until every member has acknowledged version {version}, or `colorfast member forget`", .duty.as_str())]
    RotationUnderWay {
        /// The key of the rotation before.
        key: KeyId,
        /// What it does.
        duty: KeyDuty,
        /// The version to wait for.
        version: u64,
    },
    /// A ring has an end.
    #[error("the ring has {keys} keys already: wait until the oldest is retired, or `colorfast keys retire KEY{}`", .signs.flag())]
    RingFull {
        /// How many it has.
        keys: usize,
        /// What they sign.
        signs: Signs,
    },
    /// There is no such key.
    #[error("there is no key {key}, only {}", key_ids(.known))]
    NoKey {
        /// The key that was named.
        key: KeyId,
        /// The keys that are.
        known: Vec<KeyId>,
    },
    /// Without a key that signs no token could be made.
    #[error("key {key} signs: `colorfast keys rotate{}` lets another one sign first", .signs.flag())]
    KeySigns {
        /// The key.
        key: KeyId,
        /// What it signs.
        signs: Signs,
    },
    /// Tokens that it signed may still hold.
    #[error("key {key} is {}, and what it signed may still hold{}: wait, or --force --reason", .duty.as_str(), still(.until))]
    KeyInUse {
        /// The key.
        key: KeyId,
        /// What it does.
        duty: KeyDuty,
        /// Until when it verifies, where that is known.
        until: Option<UnixMillis>,
    },
    /// A slot in use cannot leave the settings.
    #[error("settings.slots: lacks {slot}, which is {phase}: recycle it first")]
    SlotInUse {
        /// The slot.
        slot: SlotName,
        /// Its phase.
        phase: Phase,
    },
}

/// What is in a slot, in words.
fn contents(sessions: &u64, issued: &u64, in_flight: &u64) -> String {
    let of = |number: u64, one: &str, more: &str| match number {
        0 => None,
        1 => Some(format!("1 {one}")),
        number => Some(format!("{number} {more}")),
    };
    let parts = [
        of(*sessions, "session", "sessions"),
        of(*issued, "session that has not come back yet", "sessions that have not come back yet"),
        of(*in_flight, "request under way", "requests under way"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn number(runs: &u64) -> String {
    if *runs == 1 { "a run".to_owned() } else { format!("{runs} runs") }
}

fn key_ids(keys: &[KeyId]) -> String {
    keys.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", ")
}

fn still(until: &Option<UnixMillis>) -> String {
    until.map_or_else(String::new, |until| format!(" until {} (Unix ms)", until.0))
}

fn names(slots: &[SlotName]) -> String {
    slots.iter().map(SlotName::as_str).collect::<Vec<_>>().join(", ")
}

fn have(members: &[String]) -> String {
    format!("{} {}", members.join(", "), if members.len() == 1 { "has" } else { "have" })
}

impl Refusal {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoService(_) => "no-service",
            Self::NoSlot { .. } => "no-slot",
            Self::NoBundle(_) => "no-bundle",
            Self::BundleExists { .. } => "bundle-exists",
            Self::Field(_) => "invalid-field",
            Self::WrongPhase { .. } => "wrong-phase",
            Self::NothingLive(_) => "nothing-live",
            Self::OverAll { .. } => "weight-over-all",
            Self::NothingToRollBack => "nothing-live",
            Self::AlreadyLive(_) => "already-live",
            Self::NoWayBack { .. } => "no-way-back",
            Self::WayBackGone { .. } => "way-back-gone",
            Self::NotIntroduced { .. } => "not-introduced",
            Self::AttestationMismatch { .. } => "attestation-mismatch",
            Self::CannotServe { .. } => "cannot-serve",
            Self::Quarantine { .. } => "quarantine",
            Self::RunsHold { .. } => "runs-hold",
            Self::SlotHeld { .. } => "slot-held",
            Self::NotAccounted { .. } => "not-accounted",
            Self::Unknown(_) => "not-accounted",
            Self::RotationUnderWay { .. } => "rotation-under-way",
            Self::RingFull { .. } => "ring-full",
            Self::NoKey { .. } => "no-key",
            Self::KeySigns { .. } => "key-signs",
            Self::KeyInUse { .. } => "key-in-use",
            Self::SlotInUse { .. } => "slot-in-use",
        }
    }
}
