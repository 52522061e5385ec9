//! The form of the tables in `tests/scenarios`.
//!
//! A table is YAML: what is `given` to all its rows, and the rows. A row may be given something else; fields that it
//! does not name are those of the table. Times are seconds before the request (below 0: after it).

use std::collections::BTreeMap;

use colorfast_core::decide::Reason;
use colorfast_core::ids::{AssignmentId, KeyId, Sid};
use colorfast_core::keys::{Ring, ServiceKeys};
use colorfast_core::memory::Remembered;
use colorfast_core::settings::ServiceSettings;
use colorfast_core::snapshot::{SlotSnapshot, Snapshot};
use colorfast_core::time::UnixSeconds;
use serde::Deserialize;

use super::memory;
use super::pins::PinGiven;
use super::tokens::{PreviewGiven, RunGiven};
use crate::releases;

/// One table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    #[serde(default)]
    given: Given,
    /// The rows.
    pub cases: Vec<Case>,
}

/// One row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it is about.
    pub name: String,
    /// The promise that it keeps.
    pub promise: String,
    /// What the proxy knows.
    #[serde(default)]
    pub given: Given,
    /// What the request shows.
    #[serde(default)]
    pub request: Asked,
    /// What must come of it.
    pub wanted: Wanted,
}

/// What the proxy knows.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Given {
    /// Where the snapshot comes from; the sidecar, unless it is named.
    pub origin: Option<Origin>,
    /// The slots, as they stand in the snapshot.
    pub slots: Option<Vec<SlotSnapshot>>,
    /// The settings; their slots are those above.
    pub settings: Option<ServiceSettings>,
    /// The newest assignment that the log has given; the highest of the slots, unless it is named.
    pub newest_assignment: Option<AssignmentId>,
    /// The keys in use; key 1 alone, unless they are named.
    pub ring: Option<Ring>,
    /// Whether the proxy has the keys; it does, unless it is said.
    pub keys: Option<Keys>,
    /// The sessions that it remembers.
    pub remembered: Option<Vec<memory::Given>>,
}

/// Where a snapshot comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The plugin configuration: no sidecar was heard.
    Bootstrap,
    /// The sidecar.
    Sidecar,
}

/// Whether the proxy has keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// It has.
    Known,
    /// It has none.
    Unknown,
}

/// What the request shows.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Asked {
    /// The id in `x-agent-session`.
    pub session: Option<Bytes>,
    /// A cookie line of the client's own.
    pub cookie: Option<String>,
    /// The pins in `x-agent-pin`.
    pub pins: Vec<PinGiven>,
    /// The pins in the cookie, which must be on.
    pub cookie_pins: Vec<PinGiven>,
    /// The preview token in `x-agent-preview`.
    pub preview: Option<PreviewGiven>,
    /// The run tokens in the baggage, before the client's own.
    pub runs: Vec<RunGiven>,
    /// The client's own baggage.
    pub baggage: Option<String>,
    /// Whom it comes from.
    pub client: Option<Client>,
    /// What it came to before an internal redirect.
    pub earlier_pass: Option<Earlier>,
}

/// Whom a request comes from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// The address that Envoy trusts, with its port.
    pub address: String,
    /// The `user-agent` header.
    pub user_agent: String,
}

/// What a request came to before an internal redirect.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    /// The slot.
    pub slot: String,
    /// The bundle.
    pub bundle: String,
    /// The reason.
    pub decision: String,
}

/// Bytes of any kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, rename_all = "snake_case")]
pub enum Bytes {
    /// Text.
    Text(String),
    /// Hexadecimal digits.
    Hex {
        /// Two a byte.
        hex: String,
    },
    /// A text several times.
    Long {
        /// The text.
        repeat: String,
        /// How often.
        times: usize,
    },
}

impl Bytes {
    /// The bytes themselves.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Hex { hex } => {
                let digits: Vec<_> = hex.bytes().map(|digit| (digit as char).to_digit(16).unwrap() as u8).collect();
                digits.chunks(2).map(|byte| byte[0] << 4 | byte[1]).collect()
            }
            Self::Long { repeat, times } => repeat.repeat(*times).into_bytes(),
        }
    }
}

/// What must come of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The slot, or those that chance picks from; none where nothing is live.
    #[serde(default)]
    pub slot: Slots,
    /// The reason.
    #[serde(default)]
    pub decision: Option<String>,
    /// The pin that is handed out; none where the client keeps what it has.
    #[serde(default)]
    pub pin: Option<PinWanted>,
    /// What is remembered of the session that the request names; anything, unless it is said.
    #[serde(default)]
    pub remembered: Option<memory::Wanted>,
    /// What becomes of the run tokens; they stay, unless it is said.
    #[serde(default)]
    pub runs: RunsWanted,
    /// The tokens that are refused: pins by cause, others by `<kind>.<cause>`.
    #[serde(default)]
    pub refused: BTreeMap<String, u8>,
    /// What it waits for in vain, one after the other.
    #[serde(default)]
    pub waits_for: Vec<Wait>,
}

/// What becomes of run tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunsWanted {
    /// All go on as they came.
    #[default]
    Kept,
    /// The last alone goes on.
    Last,
    /// None goes on.
    Removed,
    /// A new one goes on.
    Issued,
}

/// One slot or several.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
pub enum Slots {
    /// None.
    #[default]
    None,
    /// This one.
    One(String),
    /// Any of these.
    Any(Vec<String>),
}

impl Slots {
    /// The slots that are right; empty where there is to be none.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::None => Vec::new(),
            Self::One(slot) => vec![slot],
            Self::Any(slots) => slots.iter().map(String::as_str).collect(),
        }
    }
}

/// A pin that is handed out: it is refreshed now.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinWanted {
    /// The assignment that it names; that of the chosen slot where several are right.
    pub assignment: Option<u64>,
    /// The session id that it is bound to; a free pin where there is none.
    #[serde(default)]
    pub bound_to: Option<Bytes>,
    /// When its session began; with the decision, unless it is said.
    #[serde(default)]
    pub began: Option<i64>,
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// A snapshot of the sidecar's.
    Bootstrap,
    /// A snapshot that knows the pin's assignment.
    NewerSnapshot,
}

impl Wait {
    /// The longest that it takes, in milliseconds.
    pub fn limit_ms(self) -> u64 {
        match self {
            Self::Bootstrap => 2_000,
            Self::NewerSnapshot => 500,
        }
    }

    /// The word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::NewerSnapshot => "newer_snapshot",
        }
    }
}

impl Table {
    /// Reads a table, and gives each row what the table gives to all.
    pub fn parse(yaml: &str) -> Self {
        let mut table: Self = serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}"));
        let all = &table.given;
        for case in &mut table.cases {
            case.given.fill(all);
            case.check();
        }
        table
    }
}

impl Case {
    fn check(&self) {
        if let Some(decision) = &self.wanted.decision {
            let known = Reason::ALL.iter().any(|reason| reason.as_str() == decision);
            assert!(known, "{}: there is no decision {decision}", self.name);
        }
        let decided = self.wanted.decision.is_some();
        assert_eq!(decided, !self.wanted.slot.names().is_empty(), "{}: slot and decision go together", self.name);
    }

    /// The id that the request names, by the first source of the settings that has one.
    pub fn session_id(&self) -> Option<Vec<u8>> {
        self.request.session.as_ref().map(Bytes::bytes).filter(|id| !id.is_empty())
    }
}

impl Given {
    fn fill(&mut self, all: &Self) {
        fn fill<T: Clone>(own: &mut Option<T>, all: &Option<T>) {
            if own.is_none() {
                own.clone_from(all);
            }
        }
        fill(&mut self.origin, &all.origin);
        fill(&mut self.slots, &all.slots);
        fill(&mut self.settings, &all.settings);
        fill(&mut self.newest_assignment, &all.newest_assignment);
        fill(&mut self.ring, &all.ring);
        fill(&mut self.keys, &all.keys);
        fill(&mut self.remembered, &all.remembered);
    }

    /// The keys of the ring: the one that signs, and all.
    pub fn ring(&self) -> Ring {
        self.ring.clone().unwrap_or_else(|| Ring { signing: KeyId(1), verifying: vec![KeyId(1)] })
    }

    /// The keys that the proxy has.
    pub fn keys(&self) -> Option<ServiceKeys> {
        let ids: Vec<_> = self.ring().verifying.iter().map(|id| id.0).collect();
        (self.keys != Some(Keys::Unknown)).then(|| releases::keys(&ids))
    }

    /// What the proxy remembers, by the keyed hash of the id.
    pub fn remembered(&self, now: UnixSeconds) -> Vec<(Sid, Remembered)> {
        self.remembered.iter().flatten().map(|given| given.remembered(now)).collect()
    }

    /// The snapshot that the proxy decides by.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = releases::blue_live(7);
        if let Some(slots) = &self.slots {
            snapshot.slots.clone_from(slots);
        }
        snapshot.settings = self.settings.clone().unwrap_or_default();
        snapshot.settings.slots = snapshot.slots.iter().map(|slot| slot.name.clone()).collect();
        let highest = snapshot.slots.iter().filter_map(|slot| slot.assignment).max();
        snapshot.newest_assignment = self.newest_assignment.or(highest);
        snapshot.ring = Some(self.ring());
        snapshot.run_ring = Some(Ring { signing: KeyId(1), verifying: vec![KeyId(1)] });
        match self.origin {
            Some(Origin::Bootstrap) => releases::as_bootstrap(snapshot),
            Some(Origin::Sidecar) | None => snapshot,
        }
    }
}
