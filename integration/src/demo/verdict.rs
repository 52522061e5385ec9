//! What became of each conversation, in figures.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::operator::{Step, Told};
use super::paint::Paint;
use super::world::{BLUE, GREEN};
use crate::report::{Record, Report};

/// When the steps that matter were taken.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    switch: Option<Told>,
    rollback: Option<Told>,
}

impl Marks {
    /// Notes how a step went.
    pub fn note(&mut self, step: Step, told: &Told) {
        match step {
            Step::Switch => self.switch = Some(told.clone()),
            Step::Rollback => self.rollback = Some(told.clone()),
            Step::Stage | Step::Ramp => {}
        }
    }

    fn rolled_back_by(&self, moment: Instant) -> bool {
        self.rollback.as_ref().is_some_and(|rollback| moment >= rollback.began)
    }

    /// Whether a turn belongs to the time between the switch and the rollback, wholly.
    fn within_the_switch(&self, record: &Record) -> bool {
        let switched = self.switch.as_ref().is_some_and(|switch| record.started >= switch.ended);
        switched && !self.rolled_back_by(record.ended())
    }
}

/// The figures of the whole demo.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// In a word.
    pub outcome: Outcome,
    /// Conversations that an agent answered at all.
    pub conversations: u64,
    /// Those that one agent served from their first turn to their last.
    pub kept: u64,
    /// Those of the kept ones that began on blue and went on there after the switch.
    pub kept_through_switch: u64,
    /// Those that were served by green and left it for blue after the rollback was given, as it asks.
    pub moved_on_purpose: u64,
    /// Those that were served by another agent for any other reason, or by one that did not know them.
    pub broken: u64,
    /// Conversations that began on blue between the confirmed switch and the rollback.
    pub newcomers_on_old_slot: u64,
    /// Requests that were sent.
    pub requests: u64,
    /// Those that got no answer of an agent.
    pub requests_failed: u64,
    /// How long it took every proxy to confirm the switch, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch_confirmed_ms: Option<f64>,
    /// How long it took every proxy to confirm the rollback, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_confirmed_ms: Option<f64>,
    /// How long clients talked.
    pub seconds: f64,
}

/// The verdict in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nobody lost the thread.
    Kept,
    /// Somebody did, or got no answer.
    Broken,
}

/// What became of one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Moved,
    Broken,
}

impl Verdict {
    /// Judges all that the clients saw.
    #[must_use]
    pub fn of(reports: &[Report], marks: &Marks, talked: Duration) -> Self {
        let millis =
            |told: &Option<Told>| told.as_ref()?.confirmed_after.map(|after| tenths(after.as_secs_f64() * 1000.0));
        let mut verdict = Self {
            outcome: Outcome::Kept,
            conversations: 0,
            kept: 0,
            kept_through_switch: 0,
            moved_on_purpose: 0,
            broken: 0,
            newcomers_on_old_slot: 0,
            requests: 0,
            requests_failed: 0,
            switch_confirmed_ms: millis(&marks.switch),
            rollback_confirmed_ms: millis(&marks.rollback),
            seconds: tenths(talked.as_secs_f64()),
        };
        for report in reports {
            verdict.requests += report.records().len() as u64;
            verdict.requests_failed += report.failures().len() as u64;
            for turns in report.by_session().into_values() {
                let answered: Vec<&Record> = turns.into_iter().filter(|turn| turn.outcome.is_ok()).collect();
                verdict.judge(&answered, marks);
            }
        }
        if !verdict.holds() {
            verdict.outcome = Outcome::Broken;
        }
        verdict
    }

    /// Whether every conversation was kept that was to be kept, and every request answered.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.broken == 0 && self.newcomers_on_old_slot == 0 && self.requests_failed == 0
    }

    fn judge(&mut self, turns: &[&Record], marks: &Marks) {
        let (Some(first), Some(last)) = (turns.first(), turns.last()) else { return };
        self.conversations += 1;
        match fate(turns, marks) {
            Fate::Broken => self.broken += 1,
            Fate::Moved => self.moved_on_purpose += 1,
            Fate::Kept => {
                self.kept += 1;
                let before = marks.switch.as_ref().is_some_and(|switch| first.ended() < switch.began);
                let after = marks.switch.as_ref().is_some_and(|switch| last.started >= switch.ended);
                self.kept_through_switch += u64::from(before && after && first.bundle() == Some(BLUE.bundle));
            }
        }
        let stray = marks.within_the_switch(first) && first.bundle() == Some(BLUE.bundle);
        self.newcomers_on_old_slot += u64::from(stray);
    }

    /// The figures for people, and the verdict in a sentence.
    #[must_use]
    pub fn text(&self, paint: Paint) -> String {
        let plain = |figure: &str| paint.strong(&format!("{figure:>10}"));
        let none = |count: u64| {
            let figure = format!("{count:>10}");
            if count == 0 { paint.good(&figure) } else { paint.bad(&figure) }
        };
        let time =
            |millis: Option<f64>| plain(&millis.map_or_else(|| "never".to_owned(), |millis| format!("{millis} ms")));
        let through = format!("{} of them on blue, through the switch", self.kept_through_switch);
        let rows = [
            ("conversations kept", plain(&self.kept.to_string()), through.as_str()),
            ("moved on purpose", plain(&self.moved_on_purpose.to_string()), "off green, by the rollback"),
            ("broken", none(self.broken), "served by an agent that does not know them"),
            ("new on the old slot", none(self.newcomers_on_old_slot), "after the switch was confirmed"),
            ("requests", plain(&self.requests.to_string()), ""),
            ("requests failed", none(self.requests_failed), ""),
            ("switch confirmed", time(self.switch_confirmed_ms), "after it was given, by every proxy"),
            ("rollback confirmed", time(self.rollback_confirmed_ms), "after it was given, by every proxy"),
        ];
        let mut text = format!("\n{}\n", paint.strong("Verdict"));
        for (name, figure, note) in rows {
            let line = format!("  {name:<20}{figure}   {}", paint.dim(note));
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&match self.outcome {
            Outcome::Kept => paint.good("Every conversation kept its colour."),
            Outcome::Broken => paint.bad(&self.blame()),
        });
        text
    }

    fn blame(&self) -> String {
        let counts = [
            (self.broken, "broken conversations"),
            (self.newcomers_on_old_slot, "new ones on the old slot"),
            (self.requests_failed, "failed requests"),
        ];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let counts: Vec<String> = counts.map(|(count, what)| format!("{what} {count}")).collect();
        format!("Not kept: {}.", counts.join(", "))
    }
}

/// What became of a conversation, by its answered turns.
fn fate(turns: &[&Record], marks: &Marks) -> Fate {
    let mut fate = Fate::Kept;
    let mut earlier: Option<&Record> = None;
    for turn in turns {
        let from = earlier.and_then(Record::bundle);
        let hopped = from.is_some() && from != turn.bundle();
        // Decided after the rollback was given, the turn may have been sent before.
        let asked =
            from == Some(GREEN.bundle) && turn.bundle() == Some(BLUE.bundle) && marks.rolled_back_by(turn.ended());
        let lost = turn.outcome.as_ref().is_ok_and(|served| served.broken);
        match hopped {
            true if asked => fate = Fate::Moved,
            _ if hopped || lost => return Fate::Broken,
            _ => {}
        }
        earlier = Some(turn);
    }
    fate
}

/// To a tenth, downwards as the command line does it: more digits would say nothing.
fn tenths(number: f64) -> f64 {
    (number * 10.0).floor() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Echo, Failure, Manner, Naming};
    use crate::http::Protocol;
    use crate::report::{Served, Session};

    const BLUE_AGENT: &str = BLUE.bundle;
    const GREEN_AGENT: &str = GREEN.bundle;

    /// Turns at 0, 1, 2, … seconds; the switch is given at 2.5 s and the rollback at 5.5 s.
    struct Stage {
        start: Instant,
        sessions: Vec<Session>,
        records: Vec<Record>,
    }

    impl Stage {
        fn new() -> Self {
            Self { start: Instant::now(), sessions: Vec::new(), records: Vec::new() }
        }

        /// A conversation that begins at a second; an agent's name in brackets is one that does not know it.
        fn talk(mut self, from: u64, agents: &[&str]) -> Self {
            let manner = Manner { protocol: Protocol::Http1, naming: Naming::Header, echo: Echo::Header };
            let session = self.sessions.len();
            self.sessions.push(Session { name: session.to_string(), client: session, manner });
            for (nth, agent) in (0_u32..).zip(agents) {
                let bundle: &str = agent.trim_matches(['(', ')']);
                let served = Served {
                    bundle: bundle.into(),
                    slot: "".into(),
                    stamped: "".into(),
                    decision: "".into(),
                    broken: agent.starts_with('('),
                };
                let outcome = if *agent == "503" { Err(Failure::Status(503, String::new())) } else { Ok(served) };
                let started = self.start + Duration::from_secs(from) + Duration::from_secs(1) * nth;
                let took = Duration::from_millis(1);
                self.records.push(Record { session, turn: nth + 1, target: 0, started, took, outcome });
            }
            self
        }

        fn verdict(self) -> Verdict {
            let at = |millis: u64| Told {
                command: None,
                answer: String::new(),
                began: self.start + Duration::from_millis(millis),
                ended: self.start + Duration::from_millis(millis + 100),
                confirmed_after: Some(Duration::from_micros(34_149)),
            };
            let marks = Marks { switch: Some(at(2_500)), rollback: Some(at(5_500)) };
            Verdict::of(&[Report::new(self.sessions, self.records)], &marks, Duration::from_secs(9))
        }
    }

    /// Kept is kept, and to leave green after the rollback is on purpose.
    #[test]
    fn kept_and_moved_conversations_hold() {
        let verdict = Stage::new()
            .talk(0, &[BLUE_AGENT; 9])
            .talk(0, &[BLUE_AGENT; 2])
            .talk(3, &[GREEN_AGENT, GREEN_AGENT, GREEN_AGENT, "(chat-2.3)", BLUE_AGENT])
            .verdict();
        let Verdict { conversations, kept, kept_through_switch, moved_on_purpose, .. } = verdict;
        assert_eq!((conversations, kept, kept_through_switch, moved_on_purpose), (3, 2, 1, 1));
        assert_eq!((verdict.outcome, verdict.switch_confirmed_ms), (Outcome::Kept, Some(34.1)));
        assert!(verdict.text(Paint::Off).ends_with("Every conversation kept its colour."));
    }

    /// Every other hop is a break, and so is an agent that has lost its memory.
    #[test]
    fn hops_break_unless_the_rollback_asks_for_them() {
        let conversations: [(u64, &[&str]); 5] = [
            (0, &[BLUE_AGENT, BLUE_AGENT, BLUE_AGENT, "(chat-2.4)"]),
            (3, &[GREEN_AGENT, "(chat-2.3)"]),
            (3, &[GREEN_AGENT, GREEN_AGENT, GREEN_AGENT, "(chat-2.3)", "(chat-2.4)"]),
            (6, &[BLUE_AGENT, "(chat-2.4)"]),
            (0, &[BLUE_AGENT, "(chat-2.3)"]),
        ];
        for (from, agents) in conversations {
            let verdict = Stage::new().talk(from, agents).verdict();
            assert_eq!((verdict.broken, verdict.outcome), (1, Outcome::Broken), "{agents:?}");
        }
    }

    /// A failed request is a failure though its conversation is kept, and so is a newcomer on the slot left behind.
    #[test]
    fn failures_and_stray_newcomers_are_seen() {
        let failed = Stage::new().talk(0, &[BLUE_AGENT, "503", BLUE_AGENT]).verdict();
        assert_eq!((failed.kept, failed.requests, failed.requests_failed, failed.holds()), (1, 3, 1, false));
        assert!(failed.text(Paint::Off).ends_with("Not kept: failed requests 1."));
        let stray = Stage::new().talk(3, &[BLUE_AGENT]).talk(6, &[BLUE_AGENT]).talk(1, &[BLUE_AGENT; 6]).verdict();
        assert_eq!((stray.newcomers_on_old_slot, stray.broken, stray.holds()), (1, 0, false));
    }
}
