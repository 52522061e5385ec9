//! What every rule is given, and what it may come to.

use super::run::Runs;
use super::{Chosen, Decision, Need, Observer, PinAction, Reason, Refusals, View, Way, hash};
use crate::ids::Sid;
use crate::memory::Remembered;
use crate::plan::{Plan, Secrets, SlotIndex, SlotSet};
use crate::seen::Beginning;
use crate::time::UnixSeconds;
use crate::token::pin::{Claims, Kind};

/// One request on its way through the rules, with what the rules before have found out.
pub struct Context<'c, O> {
    /// What is decided by.
    pub plan: &'c Plan,
    /// The keys; without them no token can be read and nothing is remembered.
    pub secrets: Option<&'c Secrets>,
    /// What the request shows.
    pub view: &'c View<'c>,
    /// The time of the decision.
    pub at: UnixSeconds,
    /// The random number of the request.
    pub draw: u64,
    /// The slots that are down. None where every slot that takes new sessions is: there is nowhere to go, and pins hold on.
    pub down: SlotSet,
    /// Who watches.
    pub watch: &'c mut O,
    /// The tokens that were not honoured so far.
    pub refusals: Refusals,
    /// What is newer than the plan, and cannot be had, stays as it is until it is known.
    pub newer: Newer,
    /// A pin that would hold but for its last refresh: its session may have been in use all the same, by a stream.
    pub idle: Option<Claims>,
    /// The session that holds a slot which is down: it goes on elsewhere as the same one.
    pub moves: Option<Remembered>,
    /// What becomes of the request where no token decides: the bundle of its session is gone.
    pub gone: Option<Way>,
    runs: Option<Runs>,
}

/// Whether something of the request is newer than the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newer {
    /// Nothing is.
    Nothing,
    /// A pin or a remembered session is.
    Something,
}

/// What one rule comes to.
pub enum Verdict {
    /// It applies.
    Decides(Ruled),
    /// It cannot say before this is fetched.
    Needs(Need),
    /// The request goes no further.
    Ends(Way),
    /// It does not apply.
    Passes,
}

/// What the rule that applies comes to.
pub struct Ruled {
    /// The slot, and the rule.
    pub chosen: Chosen,
    /// What the answer tells of the pin.
    pub pin: PinAction,
    /// The session.
    pub session: Option<Remembered>,
    /// Under which id it is to be written down.
    pub remember: Option<Sid>,
}

impl Ruled {
    /// By a token that is no session's.
    pub fn by_token(slot: SlotIndex, reason: Reason) -> Self {
        Self { chosen: Chosen { slot, reason }, pin: PinAction::Keep, session: None, remember: None }
    }
}

impl<'c, O: Observer> Context<'c, O> {
    /// Before the first rule.
    pub fn new(plan: &'c Plan, view: &'c View<'c>, at: UnixSeconds, draw: u64, watch: &'c mut O) -> Self {
        let secrets = plan.secrets();
        if secrets.is_none() && view.kept.is_none() {
            watch.unkeyed();
        }
        Self {
            plan,
            secrets,
            view,
            at,
            draw,
            down: if plan.has_taker_beyond(view.down) { view.down } else { SlotSet::default() },
            watch,
            refusals: Refusals::default(),
            newer: Newer::Nothing,
            idle: None,
            moves: None,
            gone: None,
            runs: None,
        }
    }

    /// The keyed hash of the session id that the request names.
    pub fn sid(&self) -> Option<Sid> {
        let (secrets, id) = (self.secrets?, self.view.session_id?);
        Some(*self.view.sid.get_or_init(|| secrets.sid.sid(id)))
    }

    /// The name under which the session begins, and is remembered: the session id, else the run.
    pub fn name(&mut self) -> Option<Sid> {
        let run = || Some(self.secrets?.sid.sid(&self.runs.as_ref()?.id?.0.to_be_bytes()));
        self.sid().or_else(run)
    }

    /// The run tokens, judged once.
    pub fn runs(&mut self) -> &Runs {
        if self.runs.is_none() {
            self.runs = Some(Runs::judge(self));
        }
        self.runs.get_or_insert_default()
    }

    /// `need`, unless it cannot be had.
    pub fn lacks(&self, need: Need) -> Option<Need> {
        (!self.view.without.contains(need)).then_some(need)
    }

    /// The body, where it may name the session and has not been read far enough.
    pub fn lacks_body(&self) -> Option<Need> {
        self.view.unread_body.is_present().then(|| self.lacks(Need::Body)).flatten()
    }

    /// What the fleet is to be asked for under `id`: with the proposal of the rules behind, or what a token says. None
    /// where there is nothing to propose, or the fleet cannot be asked.
    pub fn fleet(&mut self, id: Sid, proposal: Option<Remembered>) -> Option<Need> {
        if !self.plan.asks_after_ids() {
            return None;
        }
        let proposal = proposal.or_else(|| hash::proposal(self))?;
        self.lacks(Need::Fleet(id, proposal))
    }

    /// The pin of `session`, where pins travel.
    pub fn issue(&self, session: &Remembered, kind: Kind) -> PinAction {
        let plan = self.plan;
        if !plan.uses_header() && !plan.uses_cookie() && plan.settings.pin.envelope_header.is_none() {
            return PinAction::Keep;
        }
        let Remembered { assignment, sid, began, .. } = *session;
        PinAction::Issue(Claims { kind, sid, assignment, began, refreshed: self.at })
    }

    /// The decision that `ruled` makes; none goes nowhere.
    pub fn decision(mut self, ruled: Option<Ruled>) -> Decision {
        let (plan, at, draw) = (self.plan, self.at, self.draw);
        // A run begins where a session might. Tokens are judged whatever was decided: a forged one must not go on to the agent.
        let chosen = ruled.as_ref().map(|ruled| ruled.chosen);
        let begins = chosen.filter(|_| self.view.beginning == Beginning::Session);
        let run = self.runs().action(plan, begins, at, draw);
        match ruled {
            Some(Ruled { chosen, pin, session, remember }) => {
                Decision { way: Way::Goes, chosen: Some(chosen), pin, run, session, remember, refusals: self.refusals }
            }
            None => Decision::nowhere(Way::Goes, run, self.refusals),
        }
    }
}
