//! One plugin configuration, from the time when it is given to when it is taken away: what its root does.

use std::rc::Rc;
use std::time::Duration;

use colorfast_core::names;
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::sessions::Records;

use crate::host;
use crate::host::shared::rebuilds::Guard;
use crate::request::Requests;
use crate::sidecar::identity::Identity;
use crate::sidecar::link::Link;
use crate::sidecar::membership::Membership;
use crate::sidecar::questions::Questions;
use crate::worker::Worker;

/// Bounds how late a waiting stream goes on, and a poll is made.
const TICK: Duration = Duration::from_millis(20);
/// By then every worker has been given what another was given.
const PUSH_SETTLED_MS: u64 = 2_000;

/// A configuration that is in force, by its root context.
#[derive(Debug)]
pub struct Plugin {
    root: u32,
    /// The requests under it.
    pub requests: Rc<Requests>,
    link: Rc<Link>,
    identity: Rc<Identity>,
    /// When this configuration came, in milliseconds: newer ones pre-empt older ones that are being drained.
    generation: u64,
    /// What acts on the world, where there is a sidecar. Made at the first tick: a canary VM is configured too, but
    /// never ticks.
    membership: Option<Membership>,
    guard: Guard,
    /// When it was configured, until it has looked back at what it pushes.
    pushed: Option<UnixMillis>,
}

impl Plugin {
    /// Reads the plugin configuration `text` for the root context `root`.
    ///
    /// # Errors
    /// A sentence that names the field or the variable and the rule.
    pub fn configure(root: u32, text: &[u8]) -> Result<Self, String> {
        let worker = Rc::new(Worker::configure(text)?);
        let link = Rc::new(Link::to(&worker.config.sidecar_cluster));
        let now = host::now();
        let guard = Guard::new(text);
        if guard.is_rebuild(now) {
            worker.services.iter().for_each(|service| service.rebuilt(now));
        }
        for (service, config) in worker.configured() {
            service.push(config, text, now);
        }
        let identity = Rc::new(Identity::new(&worker.draws));
        let questions = Questions::by(&link, &identity, root);
        let requests = Rc::new(Requests::new(worker, questions, text));
        Ok(Self { root, requests, link, identity, generation: now.0, membership: None, guard, pushed: Some(now) })
    }

    /// Begins to tick.
    ///
    /// # Errors
    /// Where the host refuses.
    pub fn start(&self) -> Result<(), String> {
        if self.requests.worker().services.is_empty() {
            // An egress listener decides nothing, so it has nobody to ask and nothing to keep.
            return Ok(());
        }
        // Without it the pass after an internal redirect is decided anew, and the pin was taken off at the first.
        if let Err(error) = host::declare_for_request(names::PROPERTY_DECIDED) {
            let property = names::PROPERTY_DECIDED;
            log::warn!("colorfast: sessions may hop at internal redirects: {property} cannot be declared: {error}");
        }
        host::set_tick_period(TICK).map_err(|error| format!("the tick period cannot be set: {error}"))
    }

    /// Does what is due.
    pub fn tick(&mut self) {
        let (requests, worker) = (&self.requests, self.requests.worker());
        requests.enter(self.root);
        let now = worker.clock.read();
        self.guard.tick(now);
        if self.membership.is_none() && worker.config.has_sidecar() {
            self.membership = Some(Membership::new(worker, &self.link, &self.identity, self.generation));
        }
        if self.pushed.take_if(|since| !now.is_within(PUSH_SETTLED_MS, *since)).is_some() {
            worker.configured().for_each(|(service, config)| service.tell_refused(config));
        }
        // Workers that have no request compile here, so that their next request finds the plan made.
        for service in &worker.services {
            if let Some(current) = service.current() {
                service.note_open(&current, now);
            }
            if !worker.config.has_sidecar() {
                service.news.take(Records::MAX);
            }
            service.tell_watches();
        }
        requests.settle_all(self.root);
        if let Some(membership) = &mut self.membership {
            membership.tick(worker, requests.found(), now);
            requests.tick(now);
        }
    }

    /// Handles an answer of the sidecar.
    pub fn answer(&mut self, token: u32, body_size: usize) {
        let requests = &self.requests;
        requests.enter(self.root);
        if requests.answer(token, body_size) {
            return;
        }
        let Some(membership) = &mut self.membership else { return };
        if membership.answer(requests.worker(), token, body_size, host::now()) {
            requests.settle_all(self.root);
        }
    }

    /// The configuration is taken away.
    pub fn done(&self) {
        self.guard.forget();
    }
}
