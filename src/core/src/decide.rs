//! Which slot a request goes to. One pure step, called again with more to go by until it decides.
//!
//! The rules stand in the order of the design: `preview`, `run`, `pin`, `memory`, `hash`, `random`; the first that
//! applies wins. Each is a file of its own, takes one [`Context`](rule::Context), and decides, needs something, or passes.
//! A rule that lacks something it could be given says so ([`Step::Needs`]); the caller fetches it, or says that it cannot
//! ([`View::without`]), and calls again on the newest plan. So a step never waits.

mod gone;
mod hash;
mod lasting;
mod memory;
mod names;
mod observer;
mod pin;
mod placing;
mod preview;
mod random;
mod refusal;
mod rule;
mod run;
mod tokens;

use std::cell::OnceCell;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::lasting::{InUse, in_use};
pub use self::names::{alias, further};
pub use self::observer::{Observer, PlacedBy};
pub use self::refusal::{Refusal, Refusals};

use self::rule::{Context, Verdict};
use crate::ids::{AssignmentId, Sid};
use crate::memory::Remembered;
use crate::plan::{Plan, SlotIndex, SlotSet};
use crate::seen::{Beginning, Few, Pins, Presence, Token};
use crate::time::UnixMillis;
use crate::token::{pin as pin_token, preview as preview_token, run as run_token};

/// What a request shows of itself.
#[derive(Debug, Clone, Default)]
pub struct View<'a> {
    /// The session id that the request names.
    pub session_id: Option<&'a [u8]>,
    /// The keyed hash of the session id, once a rule has asked for it.
    pub sid: OnceCell<Sid>,
    /// The pins that the request carries.
    pub pins: Option<&'a Pins<'a>>,
    /// Its preview token.
    pub preview: Option<&'a Token<'a, preview_token::Claims>>,
    /// Its run tokens: one, unless somebody has tampered with them.
    pub runs: Option<&'a Few<'a, run_token::Claims>>,
    /// The client's trusted address and user agent, where the settings hash by them.
    pub client: Option<&'a [u8]>,
    /// What is remembered of the session that it names; none where nothing is, as far as was looked.
    pub memory: Option<Remembered>,
    /// Whether that was only now heard of, from another request or from the fleet: the client may hold no pin of it.
    pub news: Presence,
    /// What an earlier pass of the same request came to, over an internal redirect. The pins have been taken off it.
    pub kept: Option<Chosen>,
    /// The slots whose upstream is unavailable, where the settings have their sessions go on elsewhere.
    pub down: SlotSet,
    /// Whether there is a body that may name the session, and has not been read far enough.
    pub unread_body: Presence,
    /// Whether it may begin a session. What it carries decides its slot all the same.
    pub beginning: Beginning,
    /// What the caller could not fetch.
    pub without: NeedSet,
}

/// What a decision may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A newer snapshot.
    Snapshot(Why),
    /// The request's body, for a session id in it.
    Body,
    /// What this proxy remembers under the keyed hash of a session id.
    Memory(Sid),
    /// What the fleet remembers under it. Where that is nothing, or cannot be had, the session is as proposed.
    Fleet(Sid, Remembered),
}

impl Need {
    /// The word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot(Why::Bootstrap) => "bootstrap",
            Self::Snapshot(Why::Newer(_)) => "newer_snapshot",
            Self::Body => "body",
            Self::Memory(_) => "memory",
            Self::Fleet(..) => "fleet",
        }
    }
}

/// Why a newer snapshot is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There is only the snapshot of the configuration.
    Bootstrap,
    /// A valid pin names an assignment that the log gave later.
    Newer(AssignmentId),
}

/// A set of kinds of [`Need`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NeedSet(u8);

impl NeedSet {
    /// This set and the kind of `need`.
    pub fn with(self, need: Need) -> Self {
        Self(self.0 | Self::bit(need))
    }

    /// Whether the kind of `need` is in the set.
    pub fn contains(self, need: Need) -> bool {
        self.0 & Self::bit(need) != 0
    }

    fn bit(need: Need) -> u8 {
        match need {
            Need::Snapshot(Why::Bootstrap) => 1,
            Need::Snapshot(Why::Newer(_)) => 16,
            Need::Body => 2,
            Need::Memory(_) => 4,
            Need::Fleet(..) => 8,
        }
    }
}

/// The outcome of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Go there.
    Decided(Decision),
    /// Fetch this, or say that it is not to be had, and call again.
    Needs(Need),
}

impl Step {
    /// Under which id something is to be written down, now or once the fleet has answered.
    pub fn writes(&self) -> Option<Sid> {
        match self {
            Self::Decided(decision) => decision.remember,
            Self::Needs(Need::Fleet(id, _)) => Some(*id),
            Self::Needs(_) => None,
        }
    }
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it goes on at all.
    pub way: Way,
    /// Where it goes; none where no slot is live: no stamp then, and the default route.
    pub chosen: Option<Chosen>,
    /// What to do about its pin.
    pub pin: PinAction,
    /// What to do about its run token.
    pub run: RunAction,
    /// The session that it is of, as far as this decision knows it: none by a preview token, and where nothing can be
    /// remembered. A run token's is the run.
    pub session: Option<Remembered>,
    /// The keyed hash of a session id under which `session` is to be written down, unless another one than
    /// [`View::memory`] stands there by now: then that one is to be decided by. None where memory stays as it is.
    pub remember: Option<Sid>,
    /// The tokens that were not honoured.
    pub refusals: Refusals,
}

impl Decision {
    /// No slot, and no session.
    pub(crate) fn nowhere(way: Way, run: RunAction, refusals: Refusals) -> Self {
        Self { way, chosen: None, pin: PinAction::Keep, run, session: None, remember: None, refusals }
    }
}

/// Whether a request goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It does.
    Goes,
    /// The bundle of its session is gone, and the settings have it refused for that.
    Gone,
    /// Its session has ended, and the settings have the client told.
    Ended,
}

/// A slot and the rule that chose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// The slot.
    pub slot: SlotIndex,
    /// The rule.
    pub reason: Reason,
}

/// The rule that chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// An operator's signed token.
    Preview,
    /// A signed run token.
    Run,
    /// A pin.
    Pin,
    /// A session id seen before.
    Memory,
    /// The hash of a session id.
    Hash,
    /// Nothing to hash.
    Random,
}

impl Reason {
    /// Every reason, in the order of the rules.
    pub const ALL: [Self; 6] = [Self::Preview, Self::Run, Self::Pin, Self::Memory, Self::Hash, Self::Random];

    /// Whether a request chosen so begins a session, and its answer hands out a pin.
    pub fn begins_a_session(self) -> bool {
        matches!(self, Self::Hash | Self::Random)
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// The word for headers, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preview => "preview",
            Self::Run => "run",
            Self::Pin => "pin",
            Self::Memory => "memory",
            Self::Hash => "hash",
            Self::Random => "random",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the response tells the client of its pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinAction {
    /// Nothing.
    Keep,
    /// Hand out a pin that says this.
    Issue(pin_token::Claims),
}

/// What becomes of the run tokens of a request, on its way to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunAction {
    /// They stay as they are.
    Keep,
    /// All are taken off but this one, by its place among them; all, where there is none.
    Only(Option<usize>),
    /// All are taken off, and one that says this is put on.
    Issue(run_token::Claims),
}

/// Takes one step: decides by `plan` what `view` is to get, or says what is needed for it.
///
/// `now` is the time of the decision; `draw` is one uniformly random number for this request, the same in every step.
pub fn decide(plan: &Plan, view: &View<'_>, now: UnixMillis, draw: u64) -> Step {
    decide_watched(plan, view, now, draw, &mut ())
}

/// The same step, watched.
pub fn decide_watched<O: Observer>(plan: &Plan, view: &View<'_>, now: UnixMillis, draw: u64, watch: &mut O) -> Step {
    watch.begins();
    let mut context = Context::new(plan, view, now.seconds(), draw, watch);
    if let Some(kept) = view.kept {
        return Step::Decided(placing::kept(&mut context, kept));
    }
    let bootstrap = Need::Snapshot(Why::Bootstrap);
    if plan.is_bootstrap() && !view.without.contains(bootstrap) {
        return Step::Needs(bootstrap);
    }
    let rules: [fn(&mut Context<'_, O>) -> Verdict; 6] =
        [preview::rule, run::rule, pin::rule, memory::rule, hash::rule, random::rule];
    for rule in rules {
        match rule(&mut context) {
            Verdict::Decides(ruled) => return Step::Decided(context.decision(Some(ruled))),
            Verdict::Needs(need) => return Step::Needs(need),
            Verdict::Ends(way) => return Step::Decided(Decision::nowhere(way, RunAction::Keep, context.refusals)),
            Verdict::Passes => {}
        }
    }
    Step::Decided(context.decision(None))
}

#[cfg(test)]
mod tests;
