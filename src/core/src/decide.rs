//! Which slot a request goes to. One pure step, called again with more to go by until it decides.
//!
//! The rules stand in the order of the design: `preview`, `run`, `pin`, `memory`, `hash`, `random`; the first that
//! applies wins. A rule that lacks something it could be given says so ([`Step::Needs`]); the caller fetches it, or
//! says that it is not to be had ([`View::without`]), and calls again on the newest plan. So a step never waits.

mod memory;
mod observer;
mod refusal;
mod tokens;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::memory::alias;
pub use self::observer::{Observer, PlacedBy};
pub use self::refusal::{Refusal, Refusals};

use self::tokens::Pinned;
use crate::ids::{AssignmentId, RunId, Sid};
use crate::memory::{Certainty, Remembered, Visits};
use crate::plan::{Plan, Secrets, SlotIndex, SlotSet};
use crate::rendezvous::{self, Key};
use crate::seen::{Carrier, Few, Pins, Presence};
use crate::settings::{DeadEnvelope, OnBundleGone, RunMint, Sessionless};
use crate::time::{UnixMillis, UnixSeconds};
use crate::token::pin::{Claims, Kind};
use crate::token::{TokenKind, run};

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
    /// What the caller could not fetch.
    pub without: NeedSet,
}

impl View<'_> {
    fn lacks_body(&self) -> bool {
        self.unread_body.is_present() && !self.without.contains(Need::Body)
    }
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
    /// What the fleet remembers under it.
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

impl Step {
    /// Under which id something is to be written down, now or once the fleet has answered.
    pub fn writes(&self) -> Option<Sid> {
        match self {
            Self::Decided(decision) => decision.remember,
            Self::Needs(Need::Fleet(id)) => Some(*id),
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
    fn nowhere(way: Way, run: RunAction, refusals: Refusals) -> Self {
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
    let at = now.seconds();
    if let Some(kept) = view.kept {
        watch.kept(kept);
        let begun = kept.reason.begins_a_session().then(|| begin(plan, kept.slot, view.session_id, at, draw)).flatten();
        return Step::Decided(Decision {
            way: Way::Goes,
            chosen: Some(kept),
            pin: begun.map_or(PinAction::Keep, |session| issue(plan, &session, kind_of(view.session_id), at)),
            run: RunAction::Keep,
            session: begun,
            remember: None,
            refusals: Refusals::default(),
        });
    }
    let bootstrap = Need::Snapshot(Why::Bootstrap);
    if plan.is_bootstrap() && !view.without.contains(bootstrap) {
        return Step::Needs(bootstrap);
    }
    // Where every slot that takes new sessions is down there is nowhere to go, and pins hold on.
    let down = if plan.has_taker_beyond(view.down) { view.down } else { SlotSet::default() };
    let mut refusals = Refusals::default();
    let mut ruled = None;
    // What is newer than the plan, and not to be had, stays as it is until it is known.
    let mut leave_alone = false;
    let mut runs = Runs::default();
    let mut id = None;
    match plan.secrets() {
        None => watch.unkeyed(),
        Some(secrets) => {
            ruled = preview(plan, secrets, view, at, &mut refusals, watch);
            // Judged whatever was decided: a forged one must not go on to the agent.
            runs = Runs::judge(plan, secrets, view, at, &mut refusals, watch);
            if let Some(slot) = runs.slot.filter(|_| ruled.is_none()) {
                match down.contains(slot) {
                    true => refusals.count(TokenKind::Run, Refusal::SlotDown),
                    false => {
                        let session = runs.session(plan, slot, at);
                        ruled = Some(Ruled { session, ..Ruled::by_token(slot, Reason::Run) });
                    }
                }
            }
            if ruled.is_none() && view.lacks_body() {
                return Step::Needs(Need::Body);
            }
            if ruled.is_none() {
                id = view.session_id.map(|id| secrets.sid.sid(id));
                match pins(plan, secrets, view, id, down, at, &mut refusals, watch) {
                    Pinning::Decides(by_pin) => ruled = Some(by_pin),
                    Pinning::Needs(need) => return Step::Needs(need),
                    Pinning::Newer => leave_alone = true,
                    Pinning::Gone => {
                        return Step::Decided(Decision::nowhere(Way::Gone, RunAction::Keep, refusals));
                    }
                    Pinning::Ended => {
                        return Step::Decided(Decision::nowhere(Way::Ended, RunAction::Keep, refusals));
                    }
                    Pinning::None => {}
                }
            }
            id = id.or(runs.id.map(|run| secrets.sid.sid(&run.0.to_be_bytes())));
            if let (None, Some(id)) = (&ruled, id) {
                match memory::rule(plan, view, id, down, at, watch) {
                    memory::Found::Holds(slot, session) => {
                        ruled = Some(memory::ruled(plan, view, id, slot, session, at, leave_alone));
                    }
                    memory::Found::Needs(need) => return Step::Needs(need),
                    memory::Found::Newer => leave_alone = true,
                    memory::Found::Nothing => {}
                }
            }
        }
    }
    if ruled.is_none() && view.lacks_body() {
        return Step::Needs(Need::Body);
    }
    let ruled = ruled.or_else(|| {
        let run = runs.id.map(|run| run.0.to_be_bytes());
        let (by, key) = key(plan, view, run.as_ref(), draw);
        let slot = plan.place(key, down);
        watch.placed(by, key, slot);
        let named = matches!(by, PlacedBy::Session | PlacedBy::Run);
        let session_id = view.session_id.or(run.as_ref().map(|run| run.as_slice()));
        let session = begin(plan, slot?, session_id, at, draw).filter(|_| !leave_alone);
        Some(Ruled {
            chosen: Chosen { slot: slot?, reason: if named { Reason::Hash } else { Reason::Random } },
            pin: session.map_or(PinAction::Keep, |session| issue(plan, &session, kind_of(session_id), at)),
            remember: id.filter(|_| session.is_some()),
            session,
        })
    });
    let run = runs.action(plan, ruled.as_ref().map(|ruled| ruled.chosen), at, draw);
    Step::Decided(match ruled {
        Some(Ruled { chosen, pin, session, remember }) => {
            Decision { way: Way::Goes, chosen: Some(chosen), pin, run, session, remember, refusals }
        }
        None => Decision::nowhere(Way::Goes, run, refusals),
    })
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

/// What the rule that applies comes to.
struct Ruled {
    chosen: Chosen,
    pin: PinAction,
    session: Option<Remembered>,
    remember: Option<Sid>,
}

impl Ruled {
    /// By a token that is no session's.
    fn by_token(slot: SlotIndex, reason: Reason) -> Self {
        Self { chosen: Chosen { slot, reason }, pin: PinAction::Keep, session: None, remember: None }
    }
}

/// Rule `preview`: mints no pin, and writes nothing.
fn preview(
    plan: &Plan,
    secrets: &Secrets,
    view: &View<'_>,
    now: UnixSeconds,
    refusals: &mut Refusals,
    watch: &mut impl Observer,
) -> Option<Ruled> {
    let (claims, judged) = tokens::preview(plan, secrets, view.preview?, now);
    watch.preview(claims.as_ref(), judged);
    match judged {
        Ok(slot) => Some(Ruled::by_token(slot, Reason::Preview)),
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
    /// When it began.
    began: UnixSeconds,
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
                Ok(slot) => {
                    (runs.slot, runs.good) = (slot, Some(place));
                    if let Some(claims) = claims {
                        (runs.id, runs.began) = (Some(claims.run), claims.began);
                    }
                }
                Err(refusal) => refusals.count(TokenKind::Run, refusal),
            }
        }
        runs
    }

    /// The run as a session of the slot in which it goes on.
    fn session(&self, plan: &Plan, slot: SlotIndex, now: UnixSeconds) -> Option<Remembered> {
        let (RunId(run), assignment) = (self.id?, plan.slot(slot)?.assignment?);
        let (certainty, visits) = (Certainty::Fact, Visits::Returned);
        Some(Remembered { assignment, sid: Sid(run), began: self.began, seen: now, certainty, visits })
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
    Decides(Ruled),
    Needs(Need),
    /// One is newer than the plan, and what is newer is not to be had.
    Newer,
    /// One was broken, and its session is not to begin anew by itself.
    Gone,
    /// That of the envelope is not honoured, and its session is not to begin anew under the same id.
    Ended,
    None,
}

/// Rule `pin`: the first that holds. `id` stands for the session id of the request.
#[allow(clippy::too_many_arguments, reason = "one rule of a decision, apart for reading")]
fn pins(
    plan: &Plan,
    secrets: &Secrets,
    view: &View<'_>,
    id: Option<Sid>,
    down: SlotSet,
    now: UnixSeconds,
    refusals: &mut Refusals,
    watch: &mut impl Observer,
) -> Pinning {
    let mut come_to = Pinning::None;
    let refuses = plan.settings.on_bundle_gone == OnBundleGone::Refuse;
    let ends = plan.settings.pin.dead_envelope == DeadEnvelope::NotFound;
    for (carrier, token) in view.pins.iter() {
        // What an envelope says is as old as its session: what memory knows goes first.
        if let (Carrier::Envelope, Some(id)) = (carrier, id) {
            match memory::instead_of_envelope(plan, view, id, down, now) {
                Ok(None) => {}
                Ok(Some(ruled)) => return Pinning::Decides(ruled),
                Err(need) => return Pinning::Needs(need),
            }
        }
        let (claims, judged) = tokens::pin(plan, secrets, token, id, carrier, now);
        let refusal = match judged {
            Pinned::Holds(slot, ..) if down.contains(slot) => Refusal::SlotDown,
            Pinned::Holds(slot, held, pin) => match memory::beside_pin(plan, view, id, &held, pin, now) {
                Ok(remember) => {
                    watch.pin(carrier, claims.as_ref(), Ok(slot));
                    let session = Some(Remembered { seen: now, ..memory::of_pin(&held) });
                    let chosen = Chosen { slot, reason: Reason::Pin };
                    return Pinning::Decides(Ruled { chosen, pin, session, remember });
                }
                Err(memory::Beside::Needs(need)) => return Pinning::Needs(need),
                Err(memory::Beside::Another) => Refusal::OtherSession,
            },
            Pinned::Newer(assignment) => {
                let need = Need::Snapshot(Why::Newer(assignment));
                if !view.without.contains(need) {
                    return Pinning::Needs(need);
                }
                come_to = Pinning::Newer;
                Refusal::Newer
            }
            Pinned::Refused(refusal) if carrier == Carrier::Envelope && ends && matches!(come_to, Pinning::None) => {
                come_to = Pinning::Ended;
                refusal
            }
            Pinned::Refused(Refusal::Broken) if refuses && matches!(come_to, Pinning::None) => {
                come_to = Pinning::Gone;
                Refusal::Broken
            }
            Pinned::Refused(refusal) => refusal,
        };
        watch.pin(carrier, claims.as_ref(), Err(refusal));
        refusals.count(TokenKind::Pin, refusal);
    }
    come_to
}

/// The session that begins now in `slot`; none where keys or assignments are missing.
fn begin(plan: &Plan, slot: SlotIndex, session_id: Option<&[u8]>, now: UnixSeconds, draw: u64) -> Option<Remembered> {
    let secrets = plan.secrets()?;
    let assignment = plan.slot(slot)?.assignment?;
    let sid = match session_id {
        Some(id) => secrets.sid.sid(id),
        // Apart from the draw that chose the slot, so that a sid says nothing of the split.
        None => Sid(rendezvous::mix(draw ^ 0x9e37_79b9_7f4a_7c15)),
    };
    let (certainty, visits) = (Certainty::Guess, Visits::First);
    Some(Remembered { assignment, sid, began: now, seen: now, certainty, visits })
}

/// The kind of pin of a session that begins with a request that names this id.
fn kind_of(session_id: Option<&[u8]>) -> Kind {
    if session_id.is_some() { Kind::Bound } else { Kind::Free }
}

/// The pin of `session`, where pins travel.
fn issue(plan: &Plan, session: &Remembered, kind: Kind, now: UnixSeconds) -> PinAction {
    if !plan.uses_header() && !plan.uses_cookie() && plan.settings.pin.envelope_header.is_none() {
        return PinAction::Keep;
    }
    let Remembered { assignment, sid, began, .. } = *session;
    PinAction::Issue(Claims { kind, sid, assignment, began, refreshed: now })
}
