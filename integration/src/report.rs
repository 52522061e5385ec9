//! What a load saw: each request, and the questions that tests ask about all of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::client::{Failure, Manner};
use crate::http::Fault;

/// How many examples an error shows.
const SHOWN: usize = 8;

/// One session of the load.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id, which the client may or may not have sent.
    pub name: String,
    /// The client that held it.
    pub client: usize,
    /// How that client behaves.
    pub manner: Manner,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Record {
    /// The session, an index into [`Report::sessions`].
    pub session: usize,
    /// The turn, from 1.
    pub turn: u32,
    /// Which of the plan's targets was asked.
    pub target: usize,
    /// When it was sent.
    pub started: Instant,
    /// How long it took.
    pub took: Duration,
    /// Who served it, or why nobody did.
    pub outcome: Result<Served, Failure>,
}

impl Record {
    /// When its answer was complete.
    #[must_use]
    pub fn ended(&self) -> Instant {
        self.started + self.took
    }

    /// The bundle that served it, where one did.
    #[must_use]
    pub fn bundle(&self) -> Option<&str> {
        self.outcome.as_ref().ok().map(|served| &*served.bundle)
    }
}

/// Who served a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The bundle of the agent that answered.
    pub bundle: Arc<str>,
    /// The slot that the request was stamped with; empty for none.
    pub slot: Arc<str>,
    /// The bundle that the request was stamped with; empty for none.
    pub stamped: Arc<str>,
    /// The decision that the request was stamped with; empty for none.
    pub decision: Arc<str>,
    /// The agent did not know the conversation.
    pub broken: bool,
}

/// Two turns of one session that followed each other on different bundles.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'r> {
    /// The session.
    pub session: &'r Session,
    /// The last turn on the old bundle.
    pub from: &'r Record,
    /// The first turn on the new one.
    pub to: &'r Record,
}

/// All that a load saw, or a part of it.
#[derive(Clone, Debug)]
pub struct Report {
    sessions: Vec<Session>,
    records: Vec<Record>,
}

impl Report {
    pub(crate) fn new(sessions: Vec<Session>, records: Vec<Record>) -> Self {
        Self { sessions, records }
    }

    /// Every session that was begun.
    #[must_use]
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// Every request, in the order in which they ended.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The session of a record.
    #[must_use]
    pub fn session(&self, record: &Record) -> &Session {
        &self.sessions[record.session]
    }

    /// The part whose sessions are of some manner.
    #[must_use]
    pub fn of(&self, wanted: impl Fn(&Manner) -> bool) -> Self {
        self.part(|record| wanted(&self.sessions[record.session].manner))
    }

    /// The part that was sent in a window: from its start on, before its end.
    #[must_use]
    pub fn sent(&self, window: std::ops::Range<Instant>) -> Self {
        self.part(|record| window.contains(&record.started))
    }

    /// The part that was sent at a moment or later.
    #[must_use]
    pub fn sent_since(&self, moment: Instant) -> Self {
        self.part(|record| record.started >= moment)
    }

    /// Any other part.
    #[must_use]
    pub fn part(&self, wanted: impl Fn(&Record) -> bool) -> Self {
        let records = self.records.iter().filter(|record| wanted(record)).cloned().collect();
        Self { sessions: self.sessions.clone(), records }
    }

    /// How many answers came from which bundle.
    #[must_use]
    pub fn by_bundle(&self) -> BTreeMap<String, usize> {
        self.count(|served| &served.bundle)
    }

    /// How many answers came by which decision.
    #[must_use]
    pub fn by_decision(&self) -> BTreeMap<String, usize> {
        self.count(|served| &served.decision)
    }

    fn count(&self, what: impl Fn(&Served) -> &Arc<str>) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for served in self.records.iter().filter_map(|record| record.outcome.as_ref().ok()) {
            *counts.entry(what(served).to_string()).or_default() += 1;
        }
        counts
    }

    /// The requests that no agent replied to.
    #[must_use]
    pub fn failures(&self) -> Vec<&Record> {
        self.records.iter().filter(|record| record.outcome.is_err()).collect()
    }

    /// How many of the failures were no connection at all (nothing was sent).
    #[must_use]
    pub fn unconnected(&self) -> usize {
        self.failed_by(|failure| matches!(failure, Failure::Fault(Fault::NoConnection(_))))
    }

    /// How many of the failures were exchanges cut off halfway.
    #[must_use]
    pub fn cut(&self) -> usize {
        self.failed_by(|failure| matches!(failure, Failure::Fault(Fault::Cut(_))))
    }

    /// How many of the failures were answers of 500 and above.
    #[must_use]
    pub fn server_errors(&self) -> usize {
        self.failed_by(|failure| matches!(failure, Failure::Status(500.., _)))
    }

    fn failed_by(&self, wanted: impl Fn(&Failure) -> bool) -> usize {
        self.records.iter().filter_map(|record| record.outcome.as_ref().err()).filter(|failure| wanted(failure)).count()
    }

    /// The turns that an agent could not follow.
    #[must_use]
    pub fn broken(&self) -> Vec<&Record> {
        self.records.iter().filter(|record| record.outcome.as_ref().is_ok_and(|served| served.broken)).collect()
    }

    /// The answers whose stamp named another bundle than the one that really served.
    #[must_use]
    pub fn misstamped(&self) -> Vec<&Record> {
        let lies = |served: &Served| served.stamped != served.bundle;
        self.records.iter().filter(|record| record.outcome.as_ref().is_ok_and(lies)).collect()
    }

    /// The requests of each session, in the order in which they were sent. (A session has one request at a time.)
    #[must_use]
    pub fn by_session(&self) -> BTreeMap<usize, Vec<&Record>> {
        let mut all: BTreeMap<usize, Vec<&Record>> = BTreeMap::new();
        for record in &self.records {
            all.entry(record.session).or_default().push(record);
        }
        all
    }

    /// Every change of bundle within a session.
    #[must_use]
    pub fn hops(&self) -> Vec<Hop<'_>> {
        let mut hops = Vec::new();
        for (session, records) in self.by_session() {
            let answered: Vec<&Record> = records.into_iter().filter(|record| record.outcome.is_ok()).collect();
            for pair in answered.windows(2).filter(|pair| pair[0].bundle() != pair[1].bundle()) {
                hops.push(Hop { session: &self.sessions[session], from: pair[0], to: pair[1] });
            }
        }
        hops
    }

    /// The first answered request of every session that was sent at a moment or later: the sessions that began
    /// then. Ask the whole report, not a part of it.
    #[must_use]
    pub fn began_since(&self, moment: Instant) -> Vec<&Record> {
        let firsts = self.by_session().into_values().filter(|records| records[0].started >= moment);
        firsts.filter_map(|records| records.into_iter().find(|record| record.outcome.is_ok())).collect()
    }

    /// The time within which a share of the answers came (0.5 is the median), or nothing where there were none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let answered = self.records.iter().filter(|record| record.outcome.is_ok());
        let mut times: Vec<Duration> = answered.map(|record| record.took).collect();
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let index = (share.clamp(0.0, 1.0) * last as f64).round() as usize;
        times.get(index).copied()
    }

    /// Fails where any request failed, with examples.
    ///
    /// # Errors
    /// Counts the failures by kind and shows some.
    pub fn expect_no_failure(&self) -> Result<()> {
        let failures = self.failures();
        if failures.is_empty() {
            return Ok(());
        }
        bail!(
            "{} of {} requests failed ({} without a connection, {} cut, {} with 5xx):{}",
            failures.len(),
            self.records.len(),
            self.unconnected(),
            self.cut(),
            self.server_errors(),
            self.examples(&failures),
        )
    }

    /// Fails where any session changed its bundle or was broken, with examples.
    ///
    /// # Errors
    /// Counts the hops and the broken turns and shows some.
    pub fn expect_kept(&self) -> Result<()> {
        let (hops, broken) = (self.hops(), self.broken());
        if hops.is_empty() && broken.is_empty() {
            return Ok(());
        }
        let shown: Vec<&Record> =
            hops.iter().flat_map(|hop| [hop.from, hop.to]).chain(broken.iter().copied()).collect();
        bail!("{} hops and {} broken turns:{}", hops.len(), broken.len(), self.examples(&shown))
    }

    /// Fails where any stamp named another bundle than the one that served.
    ///
    /// # Errors
    /// Counts them and shows some.
    pub fn expect_true_stamps(&self) -> Result<()> {
        let lies = self.misstamped();
        if lies.is_empty() {
            return Ok(());
        }
        bail!("{} of {} stamps were not true:{}", lies.len(), self.records.len(), self.examples(&lies))
    }

    fn examples(&self, records: &[&Record]) -> String {
        let begin = self.records.first().map_or_else(Instant::now, |record| record.started);
        let mut text = String::new();
        for record in records.iter().take(SHOWN) {
            let at = record.started.saturating_duration_since(begin);
            let Session { name, manner, .. } = self.session(record);
            let _ = write!(text, "\n  at {at:.3?}, {name} turn {} at target {}: ", record.turn, record.target);
            let _ = match &record.outcome {
                Ok(served) => write!(text, "{served:?}"),
                Err(failure) => write!(text, "{failure}"),
            };
            let _ = write!(text, " ({manner:?})");
        }
        text
    }
}
