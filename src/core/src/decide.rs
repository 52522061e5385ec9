//! Which slot a request goes to. One pure step, called again with more to go by until it decides.
//!
//! The rules stand in the order of the design: `preview`, `run`, `pin`, `memory`, `hash`, `random`; the first that
//! applies wins. A rule that lacks something it could be given says so ([`Step::Needs`]); the caller fetches it, or
//! says that it is not to be had ([`View::without`]), and calls again on the newest plan. So a step never waits.

use std::fmt;

use crate::ids::{AssignmentId, Sid};
use crate::pin::{Claims, Invalid, Kind};
use crate::plan::{Plan, Secrets, SlotIndex, SlotSet};
use crate::rendezvous::{self, Key};
use crate::seen::Pins;
use crate::settings::Sessionless;
use crate::time::{UnixMillis, UnixSeconds};

/// Clocks of proxies differ: a pin from this far in the future is still a pin.
const SKEW_SECONDS: u64 = 60;

/// What a request shows of itself.
#[derive(Debug, Clone, Default)]
pub struct View<'a> {
    /// The session id that the request names.
    pub session_id: Option<&'a [u8]>,
    /// The pins that the request carries.
    pub pins: Pins<'a>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// Why a token did not decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not a token.
    Malformed,
    /// Signed by a key that is not in the ring.
    UnknownKey,
    /// Altered, forged, or of another service.
    BadMac,
    /// Past max-age.
    Expired,
    /// Past the idle timeout.
    Idle,
    /// From the future, beyond what clocks differ.
    Future,
    /// Of an assignment that is honoured no more.
    Broken,
    /// Bound to another session id than the request's: a shared cookie jar, no forgery.
    OtherSession,
    /// Of an assignment that no snapshot has brought in time; the client keeps it.
    Newer,
    /// Of a slot that is down: the session goes on elsewhere.
    SlotDown,
}

impl Refusal {
    /// Every cause.
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::UnknownKey,
        Self::BadMac,
        Self::Expired,
        Self::Idle,
        Self::Future,
        Self::Broken,
        Self::OtherSession,
        Self::Newer,
        Self::SlotDown,
    ];

    /// The word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::BadMac => "bad_mac",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::Future => "future",
            Self::Broken => "broken",
            Self::OtherSession => "other_session",
            Self::Newer => "newer",
            Self::SlotDown => "slot_down",
        }
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Malformed => Self::Malformed,
            Invalid::UnknownKey => Self::UnknownKey,
            Invalid::BadMac => Self::BadMac,
        }
    }
}

/// How many tokens of a request were refused, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals([u8; Refusal::ALL.len()]);

impl Refusals {
    /// Counts one more.
    pub fn count(&mut self, refusal: Refusal) {
        if let Some(n) = self.0.get_mut(refusal as usize) {
            *n = n.saturating_add(1);
        }
    }

    /// The causes that occurred, with their number.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u8)> {
        Refusal::ALL.into_iter().zip(self.0).filter(|(_, n)| *n > 0)
    }
}

/// Takes one step: decides by `plan` what `view` is to get, or says what is needed for it.
///
/// `now` is the time of the decision; `draw` is one uniformly random number for this request, the same in every step.
pub fn decide(plan: &Plan, view: &View<'_>, now: UnixMillis, draw: u64) -> Step {
    if let Some(kept) = view.kept {
        let pin = if kept.reason.begins_a_session() {
            begin(plan, kept.slot, view.session_id, now.seconds(), draw)
        } else {
            PinAction::Keep
        };
        return Step::Decided(Decision { chosen: Some(kept), pin, refusals: Refusals::default() });
    }
    let bootstrap = Need::Snapshot(Why::Bootstrap);
    if plan.is_bootstrap() && !view.without.contains(bootstrap) {
        return Step::Needs(bootstrap);
    }
    // Where every slot that takes new sessions is down there is nowhere to go, and pins hold on.
    let down = if plan.has_taker_beyond(view.down) { view.down } else { SlotSet::default() };
    let mut refusals = Refusals::default();
    let mut leave_pins_alone = false;
    if let Some(secrets) = plan.secrets() {
        let named = view.session_id.map(|id| secrets.sid.sid(id));
        for (_, token) in view.pins.iter() {
            match judge(plan, secrets, token, named, now.seconds()) {
                Verdict::Holds(slot, _) if down.contains(slot) => refusals.count(Refusal::SlotDown),
                Verdict::Holds(slot, pin) => {
                    return Step::Decided(Decision {
                        chosen: Some(Chosen { slot, reason: Reason::Pin }),
                        pin,
                        refusals,
                    });
                }
                Verdict::Newer(assignment) => {
                    let need = Need::Snapshot(Why::Newer(assignment));
                    if !view.without.contains(need) {
                        return Step::Needs(need);
                    }
                    leave_pins_alone = true;
                    refusals.count(Refusal::Newer);
                }
                Verdict::Refused(refusal) => refusals.count(refusal),
            }
        }
    }
    let (key, reason) = match (view.session_id, view.client) {
        (Some(id), _) => (Key::of(id), Reason::Hash),
        (None, Some(client)) if plan.settings.sessionless == Sessionless::Client => (Key::of(client), Reason::Random),
        _ => (Key(draw), Reason::Random),
    };
    let slot = plan.place(key, down);
    let chosen = slot.map(|slot| Chosen { slot, reason });
    let pin = match chosen {
        Some(chosen) if !leave_pins_alone => begin(plan, chosen.slot, view.session_id, now.seconds(), draw),
        _ => PinAction::Keep,
    };
    Step::Decided(Decision { chosen, pin, refusals })
}

/// What a pin is worth.
enum Verdict {
    Holds(SlotIndex, PinAction),
    Newer(AssignmentId),
    Refused(Refusal),
}

/// Judges one pin: its signature first, then whose it is, then its age, and what it names last.
fn judge(plan: &Plan, secrets: &Secrets, token: &[u8], named: Option<Sid>, now: UnixSeconds) -> Verdict {
    let (claims, key) = match secrets.signer.read(token) {
        Ok(read) => read,
        Err(invalid) => return Verdict::Refused(invalid.into()),
    };
    if claims.kind == Kind::Bound && named.is_some_and(|sid| sid != claims.sid) {
        return Verdict::Refused(Refusal::OtherSession);
    }
    let settings = &plan.settings.pin;
    let horizon = now.plus(SKEW_SECONDS);
    if claims.began > horizon || claims.refreshed > horizon {
        return Verdict::Refused(Refusal::Future);
    }
    if now.since(claims.began) >= u64::from(settings.max_age_seconds) {
        return Verdict::Refused(Refusal::Expired);
    }
    let idle = now.since(claims.refreshed);
    if idle >= u64::from(settings.idle_timeout_seconds) {
        return Verdict::Refused(Refusal::Idle);
    }
    let Some(slot) = plan.honours(claims.assignment) else {
        let newer = plan.is_newer(claims.assignment);
        return if newer { Verdict::Newer(claims.assignment) } else { Verdict::Refused(Refusal::Broken) };
    };
    let stale = idle >= u64::from(settings.idle_timeout_seconds).div_ceil(4) || !secrets.signer.signs_with(key);
    let pin = if stale { PinAction::Issue(Claims { refreshed: now, ..claims }) } else { PinAction::Keep };
    Verdict::Holds(slot, pin)
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
