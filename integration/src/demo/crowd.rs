//! The clients: some that have been talking since the start, some since the switch, and some that come and go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::picture::{Dot, Row};
use super::world::{BLUE, GREEN};
use crate::load::{Live, Load, Plan};
use crate::report::Report;

/// How long a client thinks between two turns.
const THINK: Duration = Duration::from_millis(120);
/// The longest that a conversation of those who come and go gets.
const LONGEST: u32 = 20;

/// All clients of the demo.
#[derive(Debug)]
pub struct Crowd {
    address: SocketAddr,
    /// How many have been talking since the start; as many will since the switch, and twice as many come and go.
    quarter: usize,
    /// Those since the start, each before two who come and go.
    first: Load,
    later: Option<Load>,
    /// Those who hold one conversation: since the start, and since the switch.
    talks: [Vec<Option<Talk>>; 2],
}

/// A conversation without end.
#[derive(Clone, Debug)]
struct Talk {
    began_on: Arc<str>,
    broken: Broken,
}

/// Whether a conversation was ever seen where it did not belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Never,
    Once,
}

/// Whether the rollback has been carried out: from then on, to leave green is what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// To hop is to break.
    Broken,
    /// To leave green is on purpose.
    OnPurpose,
}

impl Crowd {
    /// Lets three quarters of the clients begin to talk.
    ///
    /// # Errors
    /// See [`Load::start`].
    pub fn start(address: SocketAddr, clients: usize) -> Result<Self> {
        let quarter = clients / 4;
        let first = Load::start(Plan { clients: 3 * quarter, endless_each: 3, ..plan(address, "a") })?;
        Ok(Self { address, quarter, first, later: None, talks: [vec![None; quarter], vec![None; quarter]] })
    }

    /// Lets the last quarter begin to talk, and answers how many they are.
    ///
    /// # Errors
    /// See [`Load::start`].
    pub fn more(&mut self) -> Result<usize> {
        self.later = Some(Load::start(Plan { clients: self.quarter, endless_each: 1, ..plan(self.address, "b") })?);
        Ok(self.quarter)
    }

    /// How it stands at this moment: those who have been talking since the start, since the switch, and the others.
    #[must_use]
    pub fn rows(&mut self, leaving: Leaving) -> [Row; 3] {
        let served = self.first.live().clients;
        let later = self.later.as_ref().map_or_else(|| vec![None; self.quarter], |load| load.live().clients);
        let since_start = served.iter().step_by(3).cloned().collect();
        let passing = served.into_iter().enumerate().filter(|(client, _)| client % 3 != 0);
        let [start, switch] = &mut self.talks;
        [
            Row { title: "since the start", dots: kept(start, since_start, leaving) },
            Row { title: "since the switch", dots: kept(switch, later, leaving) },
            Row {
                title: "come and go",
                dots: passing.map(|(_, bundle)| bundle.map_or(Dot::Silent, Dot::Kept)).collect(),
            },
        ]
    }

    /// How many requests have ended, and how many of them failed.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let lives: Vec<Live> = self.loads().map(Load::live).collect();
        (lives.iter().map(|live| live.requests).sum(), lives.iter().map(|live| live.failures).sum())
    }

    /// Lets every client end its turn, and answers all that has happened.
    ///
    /// # Errors
    /// See [`Load::stop`].
    pub async fn stop(self) -> Result<Vec<Report>> {
        let mut reports = vec![self.first.stop().await?];
        if let Some(later) = self.later {
            reports.push(later.stop().await?);
        }
        Ok(reports)
    }

    fn loads(&self) -> impl Iterator<Item = &Load> {
        std::iter::once(&self.first).chain(&self.later)
    }
}

fn plan(address: SocketAddr, prefix: &str) -> Plan {
    Plan { think: THINK, longest: LONGEST, prefix: prefix.to_owned(), ..Plan::new(vec![address]) }
}

/// What became of conversations without end, by where they began and where they are.
fn kept(talks: &mut [Option<Talk>], now: Vec<Option<Arc<str>>>, leaving: Leaving) -> Vec<Dot> {
    let became = |(talk, now): (&mut Option<Talk>, Option<Arc<str>>)| {
        let Some(now) = now else { return Dot::Silent };
        let talk = talk.get_or_insert_with(|| Talk { began_on: Arc::clone(&now), broken: Broken::Never });
        let on_purpose = leaving == Leaving::OnPurpose && *talk.began_on == *GREEN.bundle && *now == *BLUE.bundle;
        if talk.began_on != now && !on_purpose {
            talk.broken = Broken::Once;
        }
        match talk.broken {
            Broken::Once => Dot::Broken(now),
            Broken::Never if on_purpose => Dot::Moved(now),
            Broken::Never => Dot::Kept(now),
        }
    };
    talks.iter_mut().zip(now).map(became).collect()
}
