//! What is compared, each at listeners of its own in one Envoy, on the shipped configuration without its access log and its
//! tracing.
//!
//! | variant | what stands at its listener |
//! | --- | --- |
//! | none | nothing of ours: one agent, no filter |
//! | stripping | the early header mutation that the shipped configuration has in front of the filter |
//! | empty | that, and a wasm filter of the same SDK that does nothing |
//! | calls | that, and a wasm filter that makes the host calls of a pinned request, checks a pin, and does nothing else |
//! | weighted | weighted clusters by a hash of the session id: Envoy's own split, which keeps nobody |
//! | stateful | a stateful session by cookie: Envoy's own stickiness, which keeps a host |
//! | lua | stripping, and the filter's job in Lua without its MAC |
//! | hash, pin | stripping, and the filter, with requests of new sessions and of pinned ones |
//! | hash alone, memory, looked up | the same for two services that differ in their keys: without them nothing is remembered |

use serde::Serialize;

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Leg {
    /// The route itself.
    Direct,
    /// An agent.
    Upstream,
}

impl Leg {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Direct, Self::Upstream];

    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Upstream => "over an agent",
        }
    }
}

/// Which build of the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Build {
    /// The one that is measured.
    Now,
    /// An earlier one, which runs beside it.
    Before,
}

/// What decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Nothing.
    None,
    /// Nothing, but stamps are stripped early.
    Stripping,
    /// An empty wasm filter.
    Empty,
    /// A wasm filter that makes the same host calls, and nothing else.
    Calls,
    /// Weighted clusters by hash.
    Weighted,
    /// A stateful session by cookie.
    Stateful,
    /// Lua.
    Lua,
    /// The filter: a new session.
    Hash,
    /// The filter: a session that its pin keeps.
    Pin,
    /// The filter for a service without keys, which remembers nothing: a session by its hash, and nothing else.
    HashAlone,
    /// The filter: a session that it remembers, whose client echoes nothing, and that the worker has met of late.
    Memory,
    /// The same for more sessions than a worker has copies of: each has to be looked up in shared data.
    LookedUp,
}

impl Variant {
    /// Those that are the filter.
    pub const OURS: [Self; 5] = [Self::Hash, Self::Pin, Self::HashAlone, Self::Memory, Self::LookedUp];

    /// Every variant of a leg. Weighted clusters choose an upstream: without one there is nothing to measure.
    pub fn of(leg: Leg) -> impl Iterator<Item = Self> {
        let others = [Self::None, Self::Stripping, Self::Empty, Self::Calls, Self::Weighted, Self::Stateful, Self::Lua];
        let there = move |variant: &Self| leg == Leg::Upstream || *variant != Self::Weighted;
        others.into_iter().chain(Self::OURS).filter(there)
    }

    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::None => "no filter",
            Self::Stripping => "no filter, early stripping",
            Self::Empty => "empty wasm filter",
            Self::Calls => "the host calls of a pinned request, nothing else",
            Self::Weighted => "weighted clusters by hash",
            Self::Stateful => "stateful session cookie",
            Self::Lua => "Lua, the same job without the MAC",
            Self::Hash => "colorfast, by hash",
            Self::Pin => "colorfast, by pin",
            Self::HashAlone => "colorfast, by hash alone",
            Self::Memory => "colorfast, by memory",
            Self::LookedUp => "colorfast, by memory, not met of late",
        }
    }

    /// Whether it is the filter.
    #[must_use]
    pub fn is_ours(self) -> bool {
        Self::OURS.contains(&self)
    }

    /// The builds that it is measured of.
    pub fn builds(self, before: Option<Build>) -> impl Iterator<Item = Build> {
        [Build::Now].into_iter().chain(before.filter(|_| self.is_ours()))
    }

    /// The variant whose listener it is asked at: by hash and by pin are two requests to one, and so are by hash alone and
    /// by memory.
    #[must_use]
    pub fn stands_at(self) -> Self {
        match self {
            Self::Pin => Self::Hash,
            Self::Memory | Self::LookedUp => Self::HashAlone,
            other => other,
        }
    }

    /// What it adds to: nothing of ours, or early stripping where it has that.
    #[must_use]
    pub fn stands_on(self) -> Self {
        match self {
            Self::None | Self::Stripping | Self::Weighted | Self::Stateful => Self::None,
            _ => Self::Stripping,
        }
    }
}
