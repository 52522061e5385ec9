//! One root's part in the fleet: it may lead, and it reports.

use std::rc::Rc;

use colorfast_core::time::UnixMillis;

use super::identity::Identity;
use super::leader::Leader;
use super::link::Link;
use super::report::{Found, Reporter};
use crate::worker::Worker;

/// A root that takes part.
#[derive(Debug)]
pub struct Membership {
    leaders: Vec<Leader>,
    reporter: Reporter,
}

impl Membership {
    /// The part of the root whose configuration came at `generation`, in Unix milliseconds: newer ones pre-empt older
    /// ones that are being drained.
    pub fn new(worker: &Worker, link: &Rc<Link>, identity: &Rc<Identity>, generation: u64) -> Self {
        let leader = |service| Leader::new(service, link, identity, &worker.draws, generation);
        Self { leaders: worker.services.iter().map(leader).collect(), reporter: Reporter::new(link, identity) }
    }

    /// Leads and reports, where that is due. The root is the effective context.
    pub fn tick(&mut self, worker: &Worker, found: Found, now: UnixMillis) {
        for leader in &mut self.leaders {
            leader.tick(now);
        }
        self.reporter.tick(&worker.services, found, now);
    }

    /// Handles an answer; `false` where nobody here waits for it.
    pub fn answer(&mut self, worker: &Worker, token: u32, body_size: usize, now: UnixMillis) -> bool {
        self.reporter.answer(&worker.services, token, body_size, now)
            || self.leaders.iter_mut().any(|leader| leader.answer(token, body_size, now))
    }
}
