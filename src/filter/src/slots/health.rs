//! What this VM sees of a slot: whether its agent answers, what that says it runs, and who holds it.

use std::cell::Cell;
use std::rc::Rc;

use colorfast_core::decide::Reason;
use colorfast_core::ids::{AssignmentId, BundleId, ServiceName, SlotName};
use colorfast_core::memory::Remembered;
use colorfast_core::names::metric;
use colorfast_core::plan::Plan;
use colorfast_core::settings::PinSettings;
use colorfast_core::sketch;
use colorfast_core::time::{UnixMillis, UnixSeconds};
use colorfast_core::wire::reports::SlotReport;

use super::open::OpenStream;
use super::sessions::{Flight, InFlight, Sessions};
use crate::cell::SharedCell;
use crate::metrics::Metrics;

/// While all is well, answers are looked at no more often than this: looking costs a host call.
const LOOK_EVERY_MS: u64 = 10;
/// So many answers in a row that Envoy gave itself tell that a slot is down …
const DOWN_AFTER: u32 = 3;
/// … where they came within this time.
const DOWN_WITHIN_MS: u64 = 5_000;
/// How often a request is let through to a slot that is down, to find out whether it still is.
const TRY_EVERY_MS: u64 = 1_000;

/// One assignment, watched. It is the same watch in every snapshot that names the assignment.
#[derive(Debug)]
pub struct Watch {
    /// The slot.
    pub slot: SlotName,
    /// What runs in it.
    pub assignment: AssignmentId,
    counts: Counts,
    /// What the agent said last that is not the bundle.
    found: SharedCell<Option<String>>,
    untold: Untold,
    reported: Cell<Mood>,
    looked: Cell<Option<UnixMillis>>,
    health: Cell<Health>,
    sessions: SharedCell<Sessions>,
    in_flight: InFlight,
    told_in_flight: Cell<u32>,
}

/// The watches of one service: one for each assignment of the newest snapshot.
#[derive(Debug, Default)]
pub struct Watches(SharedCell<Vec<Rc<Watch>>>);

impl Watches {
    /// The watches on the slots of `plan`, in their order. Those of assignments that it names no more are let go: the
    /// sidecar asks for what runs now.
    pub fn of(&self, plan: &Plan) -> Vec<Option<Rc<Watch>>> {
        let before = self.all();
        let watch = |slot: &SlotName, assignment| {
            let known = before.iter().find(|watch| watch.slot == *slot && watch.assignment == assignment);
            // Requests of what ran there before are still under way.
            let in_flight = || before.iter().find(|watch| watch.slot == *slot).map(|watch| Rc::clone(&watch.in_flight));
            let new = || Rc::new(Watch::new(slot.clone(), assignment, in_flight().unwrap_or_default()));
            known.map_or_else(new, Rc::clone)
        };
        let watches: Vec<_> =
            plan.slots().map(|(_, slot)| slot.assignment.map(|assignment| watch(&slot.name, assignment))).collect();
        self.0.with(|all| *all = watches.iter().flatten().map(Rc::clone).collect());
        watches
    }

    /// Every watch.
    pub fn all(&self) -> Vec<Rc<Watch>> {
        self.0.with(|all| all.clone()).unwrap_or_default()
    }
}

/// What was seen since the last report.
#[derive(Debug, Default)]
struct Counts {
    answered: Cell<u32>,
    unavailable: Cell<u32>,
    matched: Cell<u32>,
    mismatched: Cell<u32>,
}

/// What metrics have yet to be told: at the tick, so that no answer pays for it.
#[derive(Debug, Default)]
struct Untold {
    unavailable: Cell<u32>,
    matched: Cell<u32>,
    mismatched: Cell<u32>,
}

/// How the last report of a watch was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// There was none.
    Unknown,
    /// All answers were the agent's, and it ran what it should.
    Well,
    /// Not so.
    Ill,
}

/// Whether the upstream can be had, as far as answers tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// It answered last, or was not asked yet.
    Up,
    /// So many answers in a row were Envoy's own, the first of them then.
    Failing { times: u32, since: UnixMillis },
    /// It is down; a request was let through last then.
    Down { tried: UnixMillis },
}

/// What an answer says of the slot that it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The agent gave it, and said that it runs this; empty where it said nothing.
    OfAgent(&'a [u8]),
    /// Envoy gave it, since the upstream could not be had.
    Unavailable,
    /// Envoy gave it for another reason, which says nothing of the slot.
    OfEnvoy,
}

fn add(cell: &Cell<u32>) {
    cell.set(cell.get().saturating_add(1));
}

impl Watch {
    /// A watch on what runs in `slot` as `assignment`.
    pub fn new(slot: SlotName, assignment: AssignmentId, in_flight: InFlight) -> Self {
        Self {
            slot,
            assignment,
            counts: Counts::default(),
            found: SharedCell::new(None),
            untold: Untold::default(),
            reported: Cell::new(Mood::Unknown),
            looked: Cell::new(None),
            health: Cell::new(Health::Up),
            sessions: SharedCell::new(Sessions::default()),
            in_flight,
            told_in_flight: Cell::new(0),
        }
    }

    /// Whether an answer that comes now is to be looked at: each, unless all is well and one was looked at just now.
    pub fn is_due(&self, now: UnixMillis) -> bool {
        self.health.get() != Health::Up || !self.looked.get().is_some_and(|then| now.is_within(LOOK_EVERY_MS, then))
    }

    /// Notes an answer of a slot in which `bundle` is staged.
    pub fn note(&self, answer: Answer<'_>, bundle: Option<&BundleId>, now: UnixMillis) {
        match answer {
            Answer::OfAgent(says) => {
                add(&self.counts.answered);
                self.looked.set(Some(now));
                self.health.set(Health::Up);
                if let Some(bundle) = bundle.filter(|_| !says.is_empty()) {
                    self.compare(says, bundle);
                }
            }
            Answer::Unavailable => {
                add(&self.counts.unavailable);
                add(&self.untold.unavailable);
                self.health.set(self.health.get().failed(now));
            }
            Answer::OfEnvoy => {}
        }
    }

    fn compare(&self, says: &[u8], bundle: &BundleId) {
        if says == bundle.as_str().as_bytes() {
            add(&self.counts.matched);
            add(&self.untold.matched);
            return;
        }
        add(&self.counts.mismatched);
        add(&self.untold.mismatched);
        // Whatever an agent says, it is told as a short word of printable characters.
        let printable = |b: &u8| if b.is_ascii_graphic() { char::from(*b) } else { '?' };
        let found = says.iter().take(SlotReport::FOUND_MAX).map(printable).collect();
        self.found.with(|last| *last = Some(found));
    }

    /// Whether requests are to be kept from the slot. Now and then one is not, to find out.
    pub fn is_down(&self, now: UnixMillis) -> bool {
        matches!(self.health.get(), Health::Down { tried } if now.is_within(TRY_EVERY_MS, tried))
    }

    /// Notes that a request goes to the slot: where it is down, this is the one that finds out.
    pub fn sends(&self, now: UnixMillis) {
        if let Health::Down { .. } = self.health.get() {
            self.health.set(Health::Down { tried: now });
        }
    }

    /// Notes a session that holds the slot, by a request of it or by a stream that lasts.
    pub fn counts(&self, session: &Remembered, reason: Reason, settings: &PinSettings, now: UnixMillis) {
        self.sessions.with(|sessions| sessions.note(session, reason, settings, now));
    }

    /// Notes that a request begins, as this stream of its session.
    pub fn begins(&self, stream: Option<Rc<OpenStream>>) -> Flight {
        Flight::begin(&self.in_flight, stream)
    }

    /// What was told of who holds the slot may be lost: it is told again.
    pub fn tell_again(&self) {
        self.sessions.with(Sessions::tell_again);
    }

    /// Whether who holds the slot has changed since the last report.
    pub fn has_sessions(&self) -> bool {
        self.in_flight.get() != self.told_in_flight.get()
            || self.sessions.with(|sessions| sessions.has_news()) == Some(true)
    }

    /// Whether something was counted that no report has told.
    pub fn has_news(&self) -> bool {
        let Counts { answered, unavailable, matched: _, mismatched: _ } = &self.counts;
        answered.get() > 0 || unavailable.get() > 0
    }

    /// Whether that is worth a report of its own: the first word of an assignment, bad news, and that they are over.
    pub fn is_urgent(&self) -> bool {
        self.has_news() && (self.mood() == Mood::Ill || self.reported.get() != Mood::Well)
    }

    fn mood(&self) -> Mood {
        let ill = self.counts.unavailable.get() > 0 || self.counts.mismatched.get() > 0;
        if ill { Mood::Ill } else { Mood::Well }
    }

    /// Takes what was counted since the last time, for a report.
    ///
    /// Requests that are under way are told each time, since the sidecar forgets them with the instance. `marks` is how
    /// many sessions the report has room for.
    pub fn take(&self, service: &ServiceName, marks: &mut usize) -> Option<SlotReport> {
        let in_flight = self.in_flight.get();
        if !self.has_news() && !self.has_sessions() && in_flight == 0 {
            return None;
        }
        if self.has_news() {
            self.reported.set(self.mood());
        }
        self.told_in_flight.set(in_flight);
        let (held, issued, oldest) = self.sessions.with(|sessions| sessions.take(marks)).unwrap_or_default();
        Some(SlotReport {
            service: service.clone(),
            slot: self.slot.clone(),
            assignment: self.assignment,
            answered: self.counts.answered.take(),
            unavailable: self.counts.unavailable.take(),
            matched: self.counts.matched.take(),
            mismatched: self.counts.mismatched.take(),
            found: self.found.with(Option::take).flatten(),
            in_flight,
            oldest: if held.is_empty() { UnixSeconds::default() } else { oldest },
            held: sketch::text(&held),
            issued: sketch::text(&issued),
        })
    }

    /// Tells metrics what was counted since the last time.
    pub fn tell(&self, metrics: &Metrics, service: &ServiceName) {
        let tell = |count: &Cell<u32>, name: &dyn Fn() -> String| match count.take() {
            0 => {}
            by => metrics.count(&name(), by),
        };
        tell(&self.untold.unavailable, &|| metric::upstream_unavailable(service, &self.slot));
        tell(&self.untold.matched, &|| metric::attestations(service, &self.slot, "match"));
        tell(&self.untold.mismatched, &|| metric::attestations(service, &self.slot, "mismatch"));
    }
}

impl Health {
    /// After one more answer that was Envoy's own.
    fn failed(self, now: UnixMillis) -> Self {
        match self {
            Self::Down { .. } => Self::Down { tried: now },
            Self::Failing { times, since } if now.is_within(DOWN_WITHIN_MS, since) => match times + 1 {
                DOWN_AFTER => Self::Down { tried: now },
                times => Self::Failing { times, since },
            },
            Self::Up | Self::Failing { .. } => Self::Failing { times: 1, since: now },
        }
    }
}
