//! What the sidecar does though nobody asks for it: keys turn, and deadlines come.
//!
//! Each errand is a verb that the sidecar gives to itself, so it is checked, logged and confirmed as any other.

use std::sync::Arc;
use std::time::Duration;

use colorfast_core::release::{Circumstances, Terms};
use tokio::time::MissedTickBehavior;

use super::authority::{ApplicationOrder, Authority, Order};
use super::clock;
use super::directory::{Directory, Published};
use super::holdings::Holdings;
use super::members::{Asked, AskedOfAll, Members};

/// Who the log says it was.
const PRINCIPAL: &str = "sidecar";
/// How often is looked for what is due.
const PERIOD: Duration = Duration::from_millis(500);
/// How long nothing is tried after something failed.
const REST: Duration = Duration::from_secs(10);

/// What errands are found by, and given to.
#[derive(Debug, Clone)]
pub struct Errands {
    /// Where verbs go.
    pub authority: Authority,
    /// The services.
    pub directory: Arc<Directory>,
    /// Who obeys.
    pub members: Arc<Members>,
    /// Who holds slots.
    pub holdings: Holdings,
}

/// How a round went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Whatever was due was done.
    Done,
    /// Something could not be.
    Failed,
}

impl Errands {
    /// Runs errands until it is aborted.
    pub async fn run(self) {
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.once().await == Round::Failed {
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// Does one thing for each service that has one due, and one for all of them together.
    pub async fn once(&self) -> Round {
        self.holdings.accounts.settle(clock::now());
        let mut round = Round::Done;
        if let Some(order) = self.due_of_all()
            && self.authority.order_of_all(order).await.is_err()
        {
            round = Round::Failed;
        }
        for published in self.directory.all() {
            if let Some(order) = self.due(&published)
                // The writer has told the operator's log why.
                && self.authority.order(order).await.is_err()
            {
                round = Round::Failed;
            }
        }
        round
    }

    fn due_of_all(&self) -> Option<ApplicationOrder> {
        let all = self.directory.all();
        let services = all.iter().map(|published| &published.snapshot.service).collect();
        let terms = Terms::of_runs(all.iter().map(|published| &published.state.settings));
        let everyone = &AskedOfAll { members: &self.members, services };
        let verb = self.directory.application().due(terms, clock::now(), everyone)?;
        Some(ApplicationOrder { principal: PRINCIPAL.to_owned(), expected_version: None, key: None, verb })
    }

    fn due(&self, published: &Published) -> Option<Order> {
        let service = &published.snapshot.service;
        let acknowledgements = &Asked { members: &self.members, service };
        let now = clock::now();
        let holding = &self.holdings.of(service, &published.state.settings.pin, now);
        let at = Circumstances { now, acknowledgements, serving: &(), holding };
        let verb = published.state.due(&at)?;
        let (principal, service) = (PRINCIPAL.to_owned(), service.clone());
        Some(Order { principal, service, expected_version: None, key: None, verb, probed: None })
    }
}

#[cfg(test)]
mod tests;
