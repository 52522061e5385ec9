//! From what a request shows to a decision: `decide` is asked, given what it needs, and asked again.

use colorfast_core::decide::{Decision, Need, NeedSet, Step, View, decide};
use colorfast_core::ids::Sid;
use colorfast_core::memory::Remembered;
use colorfast_core::plan::SlotSet;
use colorfast_core::seen::Presence;

use super::body::Told;
use super::case::Case;
use super::inquiry::{Inquiry, Word};
use super::wait::Waits;
use crate::host::shared::memory::Place;

/// How far a request is with what its decision needs, from one try to the next.
#[derive(Debug)]
pub struct Resolver {
    /// One random number for the request.
    draw: u64,
    /// What was given up.
    without: NeedSet,
    /// What it waits for.
    pub waits: Waits,
    /// Whether its session was only now heard of.
    news: Presence,
    /// What the fleet is asked after its session.
    pub inquiry: Inquiry,
}

/// What one try has found. Looked up anew at each try, since another worker may have met the session since.
#[derive(Debug)]
pub struct Found {
    /// Where the session stands, or would.
    pub place: Option<Place>,
    remembered: Option<Remembered>,
    without: NeedSet,
    down: SlotSet,
}

impl Resolver {
    /// For a request of the stream `context`, with a random number.
    pub fn new(context: u32, draw: u64) -> Self {
        Self {
            draw,
            without: NeedSet::default(),
            waits: Waits::default(),
            news: Presence::Absent,
            inquiry: Inquiry::new(context),
        }
    }

    /// What a try begins with.
    pub fn begin(&self, case: &Case<'_>) -> Found {
        Found { place: None, remembered: None, without: self.without, down: case.current.down(case.now) }
    }

    /// Decides; none where the request must wait.
    pub fn resolve(&mut self, case: &Case<'_>, found: &mut Found) -> Option<Decision> {
        loop {
            let view = self.view(case, found);
            let step = decide(case.plan(), &view, case.now, self.draw);
            // What was met of late is enough to go on by, but not to write down or to ask.
            if let (None, Some(id)) = (&found.place, step.writes()) {
                found.look_up(case, id);
                continue;
            }
            match step {
                Step::Decided(decision) => return Some(decision),
                Step::Needs(need @ Need::Memory(id)) => {
                    found.remembered = case.service.memory.recall(id);
                    if found.remembered.is_none() {
                        found.look_up(case, id);
                        found.without = found.without.with(need);
                    }
                }
                Step::Needs(need @ Need::Fleet(id)) => {
                    let alone = View { without: view.without.with(need), ..view };
                    let proposal = match decide(case.plan(), &alone, case.now, self.draw) {
                        Step::Decided(decision) => decision.session,
                        Step::Needs(_) => None,
                    };
                    match self.inquiry.word(case, (id, proposal), found.place.as_mut()) {
                        Word::Waits => return None,
                        Word::Knows(session) => self.follow(session, found),
                        Word::Nothing => {}
                    }
                    found.without = found.without.with(need);
                }
                Step::Needs(need) if self.waits.begin_or_go_on(case, need) => return None,
                Step::Needs(need) => {
                    self.waits.give_up(case.service, need, case.now);
                    self.without = self.without.with(need);
                    found.without = found.without.with(need);
                }
            }
        }
    }

    /// The session is where somebody else has put it.
    pub fn follow(&mut self, session: Remembered, found: &mut Found) {
        (found.remembered, self.news) = (Some(session), Presence::Present);
    }

    /// Whether the body was waited for, and given up.
    pub fn does_without_body(&self) -> bool {
        self.without.contains(Need::Body)
    }

    fn view<'a>(&self, case: &Case<'a>, found: &Found) -> View<'a> {
        let observed = case.observed;
        View {
            down: found.down,
            kept: observed.earlier.kept(),
            memory: found.remembered,
            news: self.news,
            unread_body: if observed.told == Told::Open { Presence::Present } else { Presence::Absent },
            without: found.without,
            ..observed.seen.view(observed.client.as_deref())
        }
    }
}

impl Found {
    /// Looks into shared data for what is remembered under `id`, so that it can be written there, too.
    fn look_up(&mut self, case: &Case<'_>, id: Sid) {
        let place = case.service.memory.look_up(&case.plan().settings, id);
        (self.remembered, self.place) = (place.known(), Some(place));
        self.without = self.without.with(Need::Memory(id));
    }
}
