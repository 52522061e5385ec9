//! The one thing that is repeated.

use std::hint::black_box;

use colorfast_core::ids::{AssignmentId, KeyId, Sid};
use colorfast_core::keys::Secret;
use colorfast_core::time::UnixSeconds;
use colorfast_core::token::pin::{Claims, Kind, Signer};
use serde::Deserialize;

use crate::host::{self, Map};

/// As long as the version that every request reads.
const SHARED_VALUE: &[u8] = &[7; 16];
const SHARED_KEY: &str = "bench/version";
/// What the answer says of where it came from.
const DETAILS: &str = "response\0code_details";
/// As long as the values of our stamps, about.
const VALUE: &str = "blue-1.2.3";
/// What is kept of a decision, about.
const DECIDED: &str = "chat/blue/pin/1764000000000.12/blue-1.2.3";

/// The callback in which work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The request's headers have come.
    Request,
    /// The response's headers have come.
    Response,
}

/// What can be repeated: host calls by what they do, and the check of a pin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Repeat {
    #[default]
    Nothing,
    GetHeaders,
    GetHeader,
    GetResponseHeader,
    SetHeader,
    AddResponseHeader,
    RemoveHeader,
    GetProperty,
    SetProperty,
    GetSharedData,
    SetSharedData,
    GetTime,
    IncrementMetric,
    Mac,
    /// Every call that the filter makes for a request that its pin keeps, and the check of that pin.
    Pinned,
}

impl Repeat {
    fn phase(self) -> Phase {
        match self {
            Self::GetResponseHeader | Self::AddResponseHeader | Self::GetProperty => Phase::Response,
            _ => Phase::Request,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Configuration {
    repeat: Repeat,
    times: usize,
}

/// What a stream does, made ready once.
#[derive(Debug)]
pub struct Work {
    repeat: Repeat,
    /// A header and a property for each time, so that each is a new one, as in the filter.
    names: Vec<(String, String)>,
    metric: u32,
    signer: Signer,
    token: String,
}

impl Work {
    /// Reads a plugin configuration; `None` where it is broken.
    pub fn read(json: &[u8]) -> Option<Self> {
        let Configuration { repeat, times } =
            if json.is_empty() { Configuration::default() } else { serde_json::from_slice(json).ok()? };
        host::set_shared(SHARED_KEY, SHARED_VALUE);
        let key = Secret::new([1; 32]);
        let signer = Signer::new(&"chat".parse().ok()?, KeyId(1), [(KeyId(1), &key)])?;
        let now = UnixSeconds(1_764_000_000);
        let assignment = AssignmentId(1_764_000_000);
        let claims = Claims { kind: Kind::Bound, sid: Sid(7), assignment, began: now, refreshed: now };
        Some(Self {
            repeat,
            names: (0..times).map(|n| (format!("x-bench-{n}"), format!("bench.{n}"))).collect(),
            metric: host::define_counter("bench.requests"),
            token: signer.mint(&claims),
            signer,
        })
    }

    /// Does the work, where this is its callback.
    pub fn repeat(&self, phase: Phase) {
        if self.repeat.phase() != phase {
            return;
        }
        for (header, property) in &self.names {
            match self.repeat {
                Repeat::Nothing => {}
                Repeat::GetHeaders => drop(black_box(host::headers())),
                Repeat::GetHeader => drop(black_box(host::header(Map::Request, "x-agent-session"))),
                Repeat::GetResponseHeader => drop(black_box(host::header(Map::Response, "cache-control"))),
                Repeat::SetHeader => host::set_header(header, VALUE),
                Repeat::AddResponseHeader => host::add_header(header, VALUE),
                Repeat::RemoveHeader => host::remove_header(header),
                Repeat::GetProperty => drop(black_box(host::property(DETAILS))),
                Repeat::SetProperty => host::set_property(property, VALUE),
                Repeat::GetSharedData => drop(black_box(host::shared(SHARED_KEY))),
                Repeat::SetSharedData => host::set_shared(SHARED_KEY, SHARED_VALUE),
                Repeat::GetTime => drop(black_box(host::time())),
                Repeat::IncrementMetric => host::increment(self.metric),
                Repeat::Mac => self.check_pin(),
                Repeat::Pinned => self.pinned_request(),
            }
        }
    }

    fn check_pin(&self) {
        let _ = black_box(self.signer.read(black_box(self.token.as_bytes())));
    }

    /// In the order of the filter; nothing is read of what comes back.
    fn pinned_request(&self) {
        drop(black_box(host::headers()));
        drop(black_box(host::shared(SHARED_KEY)));
        let _ = black_box(host::time());
        self.check_pin();
        host::increment(self.metric);
        host::remove_header("x-agent-pin");
        host::set_property("colorfast.decided", DECIDED);
        host::set_header("x-agent-decision", "pin");
        host::set_header("x-agent-bundle", VALUE);
        host::set_header("x-agent-slot", "blue");
    }
}
