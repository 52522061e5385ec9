//! Writes down what rules say, in words.

use super::spans::span;
use super::{RuleSaid, Verdict};
use crate::baggage;
use crate::decide::{Observer, PlacedBy, Reason, Refusal, Way};
use crate::memory::Remembered;
use crate::plan::{Plan, SlotIndex};
use crate::rendezvous::Key;
use crate::seen::{Carrier, Seen};
use crate::settings::SessionSource;
use crate::time::UnixSeconds;
use crate::token::pin::Kind;
use crate::token::{pin, preview, run};

/// What rules said so far.
pub struct Watcher<'p> {
    plan: &'p Plan,
    now: UnixSeconds,
    knows_memory: bool,
    unkeyed: bool,
    preview: Vec<String>,
    run: Vec<String>,
    pin: Vec<String>,
    memory: Option<String>,
    placed: Option<(PlacedBy, Key)>,
}

impl<'p> Watcher<'p> {
    /// One that knows the fleet's memory, or does not.
    pub fn new(plan: &'p Plan, now: UnixSeconds, knows_memory: bool) -> Self {
        Self {
            plan,
            now,
            knows_memory,
            unkeyed: false,
            preview: Vec::new(),
            run: Vec::new(),
            pin: Vec::new(),
            memory: None,
            placed: None,
        }
    }

    /// What the request was placed by, where no token decided.
    pub fn placed_by(&self) -> Option<PlacedBy> {
        self.placed.map(|(by, _)| by)
    }

    /// Every rule, with what it said.
    pub fn rules(self, way: Way, chosen: Option<Reason>, seen: &Seen<'_>) -> Vec<RuleSaid> {
        let mut decided = false;
        let rule = |rule: Reason| {
            let verdict = match chosen {
                Some(chosen) if chosen == rule => Verdict::Applied,
                _ if decided => Verdict::NotAsked,
                _ => Verdict::DidNotApply,
            };
            // Where the client is answered that the bundle is gone, later rules are not asked.
            let ends = if self.memory.is_some() { Reason::Memory } else { Reason::Pin };
            decided |= verdict == Verdict::Applied || (way != Way::Goes && rule == ends);
            let said = if verdict == Verdict::NotAsked { "not asked".to_owned() } else { self.said(rule, seen) };
            RuleSaid { rule, verdict, said }
        };
        Reason::ALL.into_iter().map(rule).collect()
    }

    fn said(&self, rule: Reason, seen: &Seen<'_>) -> String {
        let headers = &self.plan.settings.headers;
        let told = |told: &[String], none: String| match told {
            [] if self.unkeyed => "no keys are known, so no token can be read".to_owned(),
            [] => none,
            told => told.join("; "),
        };
        match rule {
            Reason::Preview => told(&self.preview, format!("no token in {}", headers.preview)),
            Reason::Run if seen.runs.iter().next().is_some() => {
                told(&self.run, "the application has no keys of runs, so none can be read".to_owned())
            }
            Reason::Run => told(&self.run, format!("no {} in the baggage", baggage::MEMBER)),
            Reason::Pin => told(&self.pin, format!("no pin in {}", self.carriers())),
            Reason::Memory if self.unkeyed => "no keys are known, so nothing is remembered".to_owned(),
            Reason::Memory if seen.session_id.is_none() && !self.is_placed_by_run() => {
                "the request names no session".to_owned()
            }
            Reason::Memory => self.memory.clone().unwrap_or_else(|| self.not_remembered().to_owned()),
            Reason::Hash => match self.placed {
                Some((PlacedBy::Session, key)) => format!("the session id is placed by weight: {}", self.scores(key)),
                Some((PlacedBy::Run, key)) => format!("the run's id is placed by weight: {}", self.scores(key)),
                _ => format!("the request names no session in {}", self.sources()),
            },
            Reason::Random => match self.placed {
                Some((PlacedBy::Client, key)) => format!("the client is placed by weight: {}", self.scores(key)),
                _ => match self.weights().as_str() {
                    "" => "no slot is live, so nothing takes new sessions".to_owned(),
                    weights => format!("by chance and weight: {weights}"),
                },
            },
        }
    }

    fn not_remembered(&self) -> &'static str {
        match self.knows_memory {
            true => "the fleet remembers no session of this id",
            false => "what was remembered then is not known: a proxy that had seen the session kept it where it began",
        }
    }

    fn is_placed_by_run(&self) -> bool {
        self.placed_by() == Some(PlacedBy::Run)
    }

    /// Where pins are looked for.
    fn carriers(&self) -> String {
        let header = self.plan.uses_header().then(|| self.plan.settings.headers.pin.to_string());
        let cookie = self.plan.uses_cookie().then(|| format!("the cookie {}", self.plan.cookie));
        let carriers: Vec<_> = header.into_iter().chain(cookie).collect();
        if carriers.is_empty() { "any carrier: the settings have none".to_owned() } else { carriers.join(" or ") }
    }

    /// Where session ids are looked for.
    fn sources(&self) -> String {
        let of = |source: &SessionSource| match source {
            SessionSource::Header(name) => name.to_string(),
            SessionSource::Cookie(name) => format!("the cookie {name}"),
            SessionSource::Query(name) => format!("the query parameter {name}"),
            SessionSource::Path(template) => format!("the path {template}"),
            SessionSource::Body(pointer) => format!("{pointer} of the body"),
            SessionSource::Baggage(key) => format!("the baggage member {key}"),
        };
        let sources: Vec<_> = self.plan.settings.session_sources.iter().map(of).collect();
        if sources.is_empty() { "any source: the settings have none".to_owned() } else { sources.join(" or ") }
    }

    fn scores(&self, key: Key) -> String {
        let scores: Vec<_> = self
            .plan
            .scores(key)
            .map(|(slot, score)| format!("{} scores {score:.0} (weight {})", slot.name, slot.weight))
            .collect();
        match scores.as_slice() {
            [] => "no slot is live".to_owned(),
            [_] => format!("{} alone takes new sessions", self.weights()),
            scores => format!("{}; the highest wins", scores.join(", ")),
        }
    }

    fn weights(&self) -> String {
        let takes = self.plan.slots().filter(|(_, slot)| slot.weight.takes_sessions());
        takes.map(|(_, slot)| format!("{} {}", slot.name, slot.weight)).collect::<Vec<_>>().join(", ")
    }

    /// The assignments that are honoured, slot by slot.
    fn honoured(&self) -> String {
        let slots = self.plan.slots().filter_map(|(_, slot)| Some(format!("{} is at {}", slot.name, slot.assignment?)));
        slots.collect::<Vec<_>>().join(", ")
    }

    fn name(&self, slot: SlotIndex) -> String {
        self.plan.slot(slot).map(|slot| slot.name.to_string()).unwrap_or_default()
    }

    fn ago(&self, time: UnixSeconds) -> String {
        match time > self.now {
            true => format!("in {}", span(time.since(self.now))),
            false => format!("{} ago", span(self.now.since(time))),
        }
    }

    /// What can be said of a token that cannot be read.
    fn unreadable(refusal: Refusal) -> &'static str {
        match refusal {
            Refusal::UnknownKey => "it is signed by a key that is not in the ring",
            Refusal::BadMac => "it was altered or forged, or is another service's",
            _ => "it is no such token",
        }
    }

    fn pin_said(&self, claims: Option<&pin::Claims>, judged: Result<SlotIndex, Refusal>) -> String {
        let settings = &self.plan.settings.pin;
        let Some(claims) = claims else {
            return Self::unreadable(judged.err().unwrap_or(Refusal::Malformed)).to_owned();
        };
        let (assignment, began, refreshed) = (claims.assignment, self.ago(claims.began), self.ago(claims.refreshed));
        match judged {
            Ok(slot) => {
                let kind = if claims.kind == Kind::Bound { "bound to its session id" } else { "free" };
                format!(
                    "it names assignment {assignment}, which {} holds ({kind}, began {began}, refreshed {refreshed})",
                    self.name(slot)
                )
            }
            Err(Refusal::Broken) => {
                format!("it names assignment {assignment}, which is broken or gone: {}", self.honoured())
            }
            Err(Refusal::Newer) => {
                let newest = self.plan.newest_assignment().map_or("none".to_owned(), |newest| newest.to_string());
                format!("it names assignment {assignment}, newer than any of this version (newest: {newest})")
            }
            Err(Refusal::OtherSession) => "it is bound to another session id than the request's".to_owned(),
            Err(Refusal::Expired) => {
                let max = u64::from(settings.max_age_seconds);
                let since = self.now.since(claims.began).saturating_sub(max);
                format!("expired since {}: its session began {began}, and a pin holds {}", span(since), span(max))
            }
            Err(Refusal::Idle) => {
                let max = u64::from(settings.idle_timeout_seconds);
                format!("idle for too long: it was refreshed {refreshed}, and a pin rests {} at most", span(max))
            }
            Err(Refusal::Future) => format!("it is from the future: its session begins {began}, refreshed {refreshed}"),
            Err(Refusal::SlotDown) => format!("it names assignment {assignment}, whose slot is down"),
            Err(other) => Self::unreadable(other).to_owned(),
        }
    }

    fn memory_said(&self, session: &Remembered, judged: Result<SlotIndex, Refusal>) -> String {
        let (assignment, began, seen) = (session.assignment, self.ago(session.began), self.ago(session.seen));
        let holds = format!("the session holds assignment {assignment} (began {began}, seen {seen})");
        let comes_to = match judged {
            Ok(slot) => format!("{} is at it", self.name(slot)),
            Err(Refusal::Broken) => format!("it is broken or gone: {}", self.honoured()),
            Err(Refusal::Newer) => "it is newer than any of this version".to_owned(),
            Err(Refusal::Expired) => "it began longer ago than max-age".to_owned(),
            Err(Refusal::Idle) => "it was idle for too long".to_owned(),
            Err(Refusal::SlotDown) => "its slot is down".to_owned(),
            Err(_) => "it is from the future".to_owned(),
        };
        format!("{holds}: {comes_to}")
    }
}

impl Observer for Watcher<'_> {
    fn begins(&mut self) {
        *self = Self::new(self.plan, self.now, self.knows_memory);
    }

    fn unkeyed(&mut self) {
        self.unkeyed = true;
    }

    fn preview(&mut self, claims: Option<&preview::Claims>, judged: Result<SlotIndex, Refusal>) {
        let said = match (claims, judged) {
            (Some(claims), Ok(_)) => format!("the token names {}, and ends {}", claims.slot, self.ago(claims.expires)),
            (Some(claims), Err(Refusal::Expired)) => format!("the token ended {}", self.ago(claims.expires)),
            (Some(claims), Err(Refusal::NoSlot)) => format!("the token names {}, which runs nothing", claims.slot),
            (Some(_), Err(_)) => "the token is good for longer than any that is minted".to_owned(),
            (None, judged) => Self::unreadable(judged.err().unwrap_or(Refusal::Malformed)).to_owned(),
        };
        self.preview.push(said);
    }

    fn run(&mut self, claims: Option<&run::Claims>, judged: Result<Option<SlotIndex>, Refusal>) {
        let said = match (claims, judged) {
            (None, judged) => Self::unreadable(judged.err().unwrap_or(Refusal::Malformed)).to_owned(),
            (Some(claims), judged) => {
                let (bundle, began) = (&claims.bundle, self.ago(claims.began));
                let comes_to = match judged {
                    Ok(Some(slot)) => format!("{} runs that", self.name(slot)),
                    Ok(None) => "no slot runs that, so its id serves a request that names no session".to_owned(),
                    Err(Refusal::Expired) => "longer ago than max-age".to_owned(),
                    Err(_) => "which is in the future".to_owned(),
                };
                format!("the run began on {bundle} {began}: {comes_to}")
            }
        };
        self.run.push(said);
    }

    fn pin(&mut self, carrier: Carrier, claims: Option<&pin::Claims>, judged: Result<SlotIndex, Refusal>) {
        let carrier = match carrier {
            Carrier::Header => self.plan.settings.headers.pin.to_string(),
            Carrier::Cookie => format!("the cookie {}", self.plan.cookie),
            Carrier::Envelope => "the envelope of the session id".to_owned(),
        };
        let said = self.pin_said(claims, judged);
        self.pin.push(format!("the pin in {carrier}: {said}"));
    }

    fn memory(&mut self, session: &Remembered, judged: Result<SlotIndex, Refusal>) {
        self.memory = Some(self.memory_said(session, judged));
    }

    fn placed(&mut self, by: PlacedBy, key: Key, _: Option<SlotIndex>) {
        self.placed = Some((by, key));
    }
}
