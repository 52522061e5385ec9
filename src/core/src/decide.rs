//! Which slot a request goes to. One pure step, called again with more to go by until it decides.
//!
//! The rules stand in the order of the design: `preview`, `run`, `pin`, `memory`, `hash`, `random`; the first that
//! applies wins. A rule that lacks something it could be given says so ([`Step::Needs`]); the caller fetches it, or
//! says that it is not to be had ([`View::without`]), and calls again on the newest plan. So a step never waits.

mod observer;
mod refusal;
mod tokens;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::observer::{Observer, PlacedBy};
pub use self::refusal::{Refusal, Refusals};

use self::tokens::Pinned;
use crate::ids::{AssignmentId, RunId, Sid};
use crate::plan::{Plan, Secrets, SlotIndex, SlotSet};
use crate::rendezvous::{self, Key};
use crate::seen::{Few, Pins};
use crate::settings::{RunMint, Sessionless};
use crate::time::{UnixMillis, UnixSeconds};
use crate::token::pin::{Claims, Kind};
use crate::token::{TokenKind, run};

/// Clocks of proxies differ: a pin from this far in the future is still a pin.
const SKEW_SECONDS: u64 = 60;

/// What a request shows of itself.
#[derive(Debug, Clone, Default)]
pub struct View<'a> {
    /// The session id that the request names.
    pub session_id: Option<&'a [u8]>,
    /// The pins that the request carries.
    pub pins: Pins<'a>,
    /// Its preview token.
    pub preview: Option<&'a [u8]>,
    /// Its run tokens: one, unless somebody has tampered with them.
    pub runs: Few<'a>,
    /// The client's trusted address and user agent, where the settings hash by them.
    pub client: Option<&'a [u8]>,
    /// What an earlier pass of the same request came to, over an internal redirect. The pins have been taken off it.
    pub kept: Option<Chosen>,
    /// The slots whose upstream is unavailable, where the settings have their sessions go on elsewhere.
    pub down: SlotSet,
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
    /// What this proxy remembers of a session.
    Memory(Sid),
    /// What the fleet remembers of a session.
    Fleet(Sid),
}

impl Need {
    /// The word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot(Why::Bootstrap) => "bootstrap",
            Self::Snapshot(Why::Newer(_)) => "newer_snapshot",
            Self::Body => "body",
            Self::Memory(_) => "memory",
            Self::Fleet(_) => "fleet",
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
            Need::Fleet(_) => 8,
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

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Where it goes; none where no slot is live: no stamp then, and the default route.
    pub chosen: Option<Chosen>,
    /// What to do about its pin.
    pub pin: PinAction,
    /// What to do about its run token.
    pub run: RunAction,
    /// The tokens that were not honoured.
    pub refusals: Refusals,
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
    Issue(Claims),
}

/// What becomes of the run tokens of a request, on its way to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunAction {
    /// They stay as they are.
    Keep,
    /// All are taken off but this one, by its place among them; all, where there is none.
    Only(Option<usize>),
    /// All are taken off, and one that says this is put on.
    Issue(run::Claims),
}

/// Takes one step: decides by `plan` what `view` is to get, or says what is needed for it.
///
/// `now` is the time of the decision; `draw` is one uniformly random number for this request, the same in every step.
pub fn decide(plan: &Plan, view: &View<'_>, now: UnixMillis, draw: u64) -> Step {
    decide_watched(plan, view, now, draw, &mut ())
}

/// The same step, watched.
pub fn decide_watched(plan: &Plan, view: &View<'_>, now: UnixMillis, draw: u64, watch: &mut impl Observer) -> Step {
    watch.begins();
    if let Some(kept) = view.kept {
        watch.kept(kept);
        let pin = if kept.reason.begins_a_session() {
            begin(plan, kept.slot, view.session_id, now.seconds(), draw)
        } else {
            PinAction::Keep
        };
        let refusals = Refusals::default();
        return Step::Decided(Decision { chosen: Some(kept), pin, run: RunAction::Keep, refusals });
    }
    let bootstrap = Need::Snapshot(Why::Bootstrap);
    if plan.is_bootstrap() && !view.without.contains(bootstrap) {
        return Step::Needs(bootstrap);
    }
    // Where every slot that takes new sessions is down there is nowhere to go, and pins hold on.
    let down = if plan.has_taker_beyond(view.down) { view.down } else { SlotSet::default() };
    let mut refusals = Refusals::default();
    let mut by_token = None;
    let mut leave_pins_alone = false;
    let mut runs = Runs::default();
    match plan.secrets() {
        None => watch.unkeyed(),
        Some(secrets) => {
            by_token = preview(plan, secrets, view, now.seconds(), &mut refusals, watch);
            // Judged whatever was decided: a forged one must not go on to the agent.
            runs = Runs::judge(plan, secrets, view, now.seconds(), &mut refusals, watch);
            if let Some(slot) = runs.slot.filter(|_| by_token.is_none()) {
                match down.contains(slot) {
                    true => refusals.count(TokenKind::Run, Refusal::SlotDown),
                    false => by_token = Some((slot, Reason::Run, PinAction::Keep)),
                }
            }
            if by_token.is_none() {
                match pins(plan, secrets, view, down, now.seconds(), &mut refusals, watch) {
                    Pinning::Decides(slot, pin) => by_token = Some((slot, Reason::Pin, pin)),
                    Pinning::Needs(need) => return Step::Needs(need),
                    Pinning::Newer => leave_pins_alone = true,
                    Pinning::None => {}
                }
            }
        }
    }
    let (chosen, pin) = match by_token {
        Some((slot, reason, pin)) => (Some(Chosen { slot, reason }), pin),
        None => {
            let run = runs.id.map(|run| run.0.to_be_bytes());
            let (by, key) = key(plan, view, run.as_ref(), draw);
            let slot = plan.place(key, down);
            watch.placed(by, key, slot);
            let reason = if matches!(by, PlacedBy::Session | PlacedBy::Run) { Reason::Hash } else { Reason::Random };
            let id = view.session_id.or(run.as_ref().map(|run| run.as_slice()));
            let pin = match slot {
                Some(slot) if !leave_pins_alone => begin(plan, slot, id, now.seconds(), draw),
                _ => PinAction::Keep,
            };
            (slot.map(|slot| Chosen { slot, reason }), pin)
        }
    };
    let run = runs.action(plan, chosen, now.seconds(), draw);
    Step::Decided(Decision { chosen, pin, run, refusals })
}

/// What a request that no token decides for is placed by.
fn key(plan: &Plan, view: &View<'_>, run: Option<&[u8; 8]>, draw: u64) -> (PlacedBy, Key) {
    match (view.session_id, run, view.client) {
        (Some(id), ..) => (PlacedBy::Session, Key::of(id)),
        (None, Some(run), _) => (PlacedBy::Run, Key::of(run)),
        (None, None, Some(client)) if plan.settings.sessionless == Sessionless::Client => {
            (PlacedBy::Client, Key::of(client))
        }
        _ => (PlacedBy::Draw, Key(draw)),
    }
}

/// A slot, the rule that chose it, and what becomes of the pin.
type ByToken = (SlotIndex, Reason, PinAction);

/// Rule `preview`: mints no pin, and writes nothing.
fn preview(
    plan: &Plan,
    secrets: &Secrets,
    view: &View<'_>,
    now: UnixSeconds,
    refusals: &mut Refusals,
    watch: &mut impl Observer,
) -> Option<ByToken> {
    let (claims, judged) = tokens::preview(plan, secrets, view.preview?, now);
    watch.preview(claims.as_ref(), judged);
    match judged {
        Ok(slot) => Some((slot, Reason::Preview, PinAction::Keep)),
        Err(refusal) => {
            refusals.count(TokenKind::Preview, refusal);
            None
        }
    }
}

/// Rule `run`: what the run tokens of a request come to. Without a key of runs they are somebody else's to judge.
#[derive(Default)]
struct Runs {
    /// Where the run goes on.
    slot: Option<SlotIndex>,
    /// The run.
    id: Option<RunId>,
    /// The place of the token that is good.
    good: Option<usize>,
    count: usize,
}

impl Runs {
    fn judge(
        plan: &Plan,
        secrets: &Secrets,
        view: &View<'_>,
        now: UnixSeconds,
        refusals: &mut Refusals,
        watch: &mut impl Observer,
    ) -> Self {
        let mut runs = Self::default();
        let Some(signer) = &secrets.runs else { return runs };
        for (place, token) in view.runs.iter().enumerate() {
            runs.count += 1;
            if runs.good.is_some() {
                continue;
            }
            let (claims, judged) = tokens::run(plan, signer, token, now);
            watch.run(claims.as_ref(), judged);
            match judged {
                Ok(slot) => (runs.slot, runs.id, runs.good) = (slot, claims.map(|claims| claims.run), Some(place)),
                Err(refusal) => refusals.count(TokenKind::Run, refusal),
            }
        }
        runs
    }

    fn action(&self, plan: &Plan, chosen: Option<Chosen>, now: UnixSeconds, draw: u64) -> RunAction {
        let clean =
            if self.count > usize::from(self.good.is_some()) { RunAction::Only(self.good) } else { RunAction::Keep };
        let mints = plan.settings.runs.mint == RunMint::Always
            && self.good.is_none()
            && plan.secrets().is_some_and(|secrets| secrets.runs.is_some());
        let Some(chosen) = chosen.filter(|chosen| mints && chosen.reason != Reason::Preview) else { return clean };
        let Some(bundle) = plan.slot(chosen.slot).and_then(|slot| slot.bundle.as_ref()) else { return clean };
        // Apart from the draws that chose the slot and the sid.
        let run = RunId(rendezvous::mix(draw ^ 0xd1b5_4a32_d192_ed03));
        RunAction::Issue(run::Claims { run, began: now, bundle: bundle.id.clone() })
    }
}

/// What the pins of a request come to.
enum Pinning {
    Decides(SlotIndex, PinAction),
    Needs(Need),
    /// One is newer than the plan, and what is newer is not to be had.
    Newer,
    None,
}

/// Rule `pin`: the first that holds.
fn pins(
    plan: &Plan,
    secrets: &Secrets,
    view: &View<'_>,
    down: SlotSet,
    now: UnixSeconds,
    refusals: &mut Refusals,
    watch: &mut impl Observer,
) -> Pinning {
    let mut come_to = Pinning::None;
    let named = view.session_id.map(|id| secrets.sid.sid(id));
    for (carrier, token) in view.pins.iter() {
        let (claims, judged) = tokens::pin(plan, secrets, token, named, now);
        let refusal = match judged {
            Pinned::Holds(slot, _) if down.contains(slot) => Refusal::SlotDown,
            Pinned::Holds(slot, pin) => {
                watch.pin(carrier, claims.as_ref(), Ok(slot));
                return Pinning::Decides(slot, pin);
            }
            Pinned::Newer(assignment) => {
                let need = Need::Snapshot(Why::Newer(assignment));
                if !view.without.contains(need) {
                    return Pinning::Needs(need);
                }
                come_to = Pinning::Newer;
                Refusal::Newer
            }
            Pinned::Refused(refusal) => refusal,
        };
        watch.pin(carrier, claims.as_ref(), Err(refusal));
        refusals.count(TokenKind::Pin, refusal);
    }
    come_to
}

/// The pin of a session that begins now in `slot`.
fn begin(plan: &Plan, slot: SlotIndex, session_id: Option<&[u8]>, now: UnixSeconds, draw: u64) -> PinAction {
    let Some(secrets) = plan.secrets().filter(|_| plan.uses_header() || plan.uses_cookie()) else {
        return PinAction::Keep;
    };
    let Some(assignment) = plan.slot(slot).and_then(|slot| slot.assignment) else { return PinAction::Keep };
    let (kind, sid) = match session_id {
        Some(id) => (Kind::Bound, secrets.sid.sid(id)),
        // Apart from the draw that chose the slot, so that a sid says nothing of the split.
        None => (Kind::Free, Sid(rendezvous::mix(draw ^ 0x9e37_79b9_7f4a_7c15))),
    };
    PinAction::Issue(Claims { kind, sid, assignment, began: now, refreshed: now })
}
