//! One request on its way to a decision: observe, resolve, record, apply.

use std::rc::Rc;

use colorfast_core::time::UnixMillis;

use super::apply::apply;
use super::case::Case;
use super::common::Common;
use super::read::{self, Input};
use super::record::{record, remember};
use super::redirect::EarlierPass;
use super::resolve::Resolver;
use crate::response::outcome::Expected;
use crate::service::{Current, Service};

/// A request that no decision has been made for yet.
#[derive(Debug)]
pub struct Request {
    service: Rc<Service>,
    /// The plan and the time of the callback that read the headers: good for a decision in the same one, not in a later one.
    fresh: Option<(Rc<Current>, UnixMillis)>,
    /// What it shows.
    pub input: Input,
    /// How far it is with what its decision needs.
    pub resolver: Resolver,
}

/// What one try to settle a request came to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once, and a box would cost each request one")]
pub enum Settled {
    /// It goes on; this becomes of its response.
    Goes(Expected),
    /// It waits.
    Waits,
    /// It was answered here.
    Answered,
}

impl Request {
    /// Reads the request of the running callback, of the stream `context`; `None` where no service has it, so that it
    /// passes untouched.
    pub fn read(common: &Common, context: u32, is_headers_only: bool) -> Option<Self> {
        let worker = &common.worker;
        let (service, current, input) = read::read(worker, &common.held, is_headers_only)?;
        let fresh = Some((current, worker.clock.read()));
        Some(Self { service, fresh, input, resolver: Resolver::new(context, worker.draws.next()) })
    }

    /// Takes what has come of the body: `size` bytes are held by now.
    pub fn take_body(&mut self, common: &Common, size: usize, is_whole: bool) {
        common.bodies.came();
        if let Some(current) = self.service.current() {
            self.input.take_body(&current, size, is_whole);
        }
    }

    /// Decides by the newest plan, stamps and strips; or tells that the request must wait.
    /// The effective context is the request's.
    pub fn settle(&mut self, common: &Common) -> Settled {
        let newest = || Some((self.service.current()?, common.worker.clock.read()));
        let Some((current, now)) = self.fresh.take().or_else(newest) else { return Settled::Waits };
        let observed = self.input.observe(&current);
        if observed.earlier == EarlierPass::SameChain {
            common.doubled.found(&self.service);
            return Settled::Goes(Expected::nothing(&self.service, &current));
        }
        let case = Case { common, service: &self.service, current: &current, observed: &observed, now };
        let mut found = self.resolver.begin(&case);
        let (decision, learnt) = loop {
            let Some(decision) = self.resolver.resolve(&case, &mut found) else {
                let evidence = observed.seen.into_evidence();
                self.input.keep(current, evidence);
                return Settled::Waits;
            };
            match remember(&case, &decision, &mut found) {
                // Somebody was faster: the session is where that one put it.
                Err(another) => self.resolver.follow(another, &mut found),
                Ok(learnt) => break (decision, learnt),
            }
        };
        let recorded = record(&case, &decision, (&found, learnt), &mut self.resolver);
        apply(&case, &decision, recorded).map_or(Settled::Answered, Settled::Goes)
    }
}
