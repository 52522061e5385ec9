//! From what a request shows to a decision: `decide` is asked, given what it needs, and asked again.

use colorfast_core::decide::{Decision, Need, NeedSet, Step, View, decide};
use colorfast_core::ids::Sid;
use colorfast_core::memory::Remembered;
use colorfast_core::seen::Presence;
use colorfast_core::time::UnixMillis;

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
    /// When the fleet was asked: a session that begins with it begins then, however often it is decided.
    asked: Option<UnixMillis>,
    /// What was given up.
    without: NeedSet,
    /// What it waits for.
    pub waits: Waits,
    /// Whether its session was only now heard of.
    news: Presence,
    /// What the fleet is asked after its session.
    pub inquiry: Inquiry,
}

/// What one try goes by, and has found. Looked up anew at each try, since another worker may have met the session since.
#[derive(Debug)]
pub struct Found<'a> {
    /// Where the session stands, or would.
    pub place: Option<Place>,
    view: View<'a>,
}

impl Resolver {
    /// For a request of the stream `context`, with a random number.
    pub fn new(context: u32, draw: u64) -> Self {
        Self {
            draw,
            asked: None,
            without: NeedSet::default(),
            waits: Waits::default(),
            news: Presence::Absent,
            inquiry: Inquiry::new(context),
        }
    }

    /// What a try begins with.
    pub fn begin<'a>(&self, case: &Case<'a>) -> Found<'a> {
        let observed = case.observed;
        let view = View {
            down: case.current.down(case.now),
            kept: observed.earlier.kept(),
            news: self.news,
            unread_body: if observed.told == Told::Open { Presence::Present } else { Presence::Absent },
            without: self.without,
            ..observed.seen.view(observed.client.as_deref())
        };
        Found { place: None, view }
    }

    /// Decides; none where the request must wait.
    pub fn resolve(&mut self, case: &Case<'_>, found: &mut Found<'_>) -> Option<Decision> {
        loop {
            let step = decide(case.plan(), &found.view, self.asked.unwrap_or(case.now), self.draw);
            // What was met of late is enough to go on by, but not to write down or to ask.
            if let Some(id) = step.writes().filter(|id| !found.stands_at(*id)) {
                found.look_up(case, id);
                continue;
            }
            match step {
                Step::Decided(decision) => return Some(decision),
                Step::Needs(Need::Memory(id)) => found.recall(case, id),
                Step::Needs(need @ Need::Fleet(id, proposal)) => {
                    self.asked = self.asked.or(Some(case.now));
                    match self.inquiry.word(case, id, proposal, found.place.as_mut()) {
                        Word::Waits => return None,
                        Word::Knows(session) => self.follow(session, found),
                        Word::Nothing => {}
                    }
                    found.view.without = found.view.without.with(need);
                }
                Step::Needs(need) if self.waits.begin_or_go_on(case, need) => return None,
                Step::Needs(need) => {
                    self.waits.give_up(case.service, need, case.now);
                    self.without = self.without.with(need);
                    found.view.without = found.view.without.with(need);
                }
            }
        }
    }

    /// The session is where somebody else has put it.
    pub fn follow(&mut self, session: Remembered, found: &mut Found<'_>) {
        self.news = Presence::Present;
        (found.view.memory, found.view.news) = (Some(session), Presence::Present);
    }

    /// Whether the body was waited for, and given up.
    pub fn does_without_body(&self) -> bool {
        self.without.contains(Need::Body)
    }
}

impl Found<'_> {
    /// The keyed hash of the session id that the request names.
    pub fn named(&self) -> Option<Sid> {
        self.view.sid.get().copied()
    }

    /// What is remembered under `id`: a copy of what this worker has met of late, else what stands in shared data.
    fn recall(&mut self, case: &Case<'_>, id: Sid) {
        self.view.memory = case.service.memory.recall(id);
        if self.view.memory.is_none() {
            self.look_up(case, id);
        }
    }

    fn stands_at(&self, id: Sid) -> bool {
        self.place.as_ref().is_some_and(|place| place.id() == id)
    }

    /// Looks into shared data for what is remembered under `id`, so that it can be written there, too.
    fn look_up(&mut self, case: &Case<'_>, id: Sid) {
        let place = case.service.memory.look_up(&case.plan().settings, id);
        (self.view.memory, self.place) = (place.known(), Some(place));
        self.view.without = self.view.without.with(Need::Memory(id));
    }
}
