//! The task that writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use colorfast_core::ids::ServiceName;
use colorfast_core::keys::ServiceKeys;
use colorfast_core::plan::Plan;
use colorfast_core::release::{Circumstances, Entry, Event, KeyStep, Refusal, RequestKey, SCHEMA, State, Verb};
use colorfast_core::time::UnixMillis;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, info, warn};

use super::keys::RunKeys;
use super::opening::Opened;
use super::repetition::{Keys, fingerprint};
use super::replay::Replay;
use super::{Command, Done, Effect, Occasion, Order, Orders, Part, VerbError, keys};
use crate::server::clock;
use crate::server::directory::{Directory, Published};
use crate::server::holdings::Holdings;
use crate::server::members::{Appended, Asked, Members};
use crate::server::observations::{Observations, Seen};
use crate::store::{AppendError, LeaseError, Log, Outage, Record, Secrets};

/// The lease of the one who writes.
const LEASE: &str = "authority";
const LEASE_TTL: Duration = Duration::from_secs(15);
const LEASE_RENEWAL: Duration = Duration::from_secs(5);
/// How often a verb is checked anew because somebody else appended first.
const ATTEMPTS: usize = 8;

/// Somebody else writes this log now: this process must not go on.
#[derive(Debug, thiserror::Error)]
#[error("the lease on the log is lost: {0}")]
pub struct Lost(#[from] LeaseError);

/// What is known beside the log, and asked where a verb is checked.
#[derive(Debug, Clone)]
pub struct Known {
    /// Who obeys.
    pub members: Arc<Members>,
    /// What they have seen of slots.
    pub observations: Arc<Observations>,
    /// Who holds slots.
    pub holdings: Holdings,
}

/// The state of the log, and all that it takes to change it.
#[derive(Debug)]
pub struct Writer {
    log: Arc<dyn Log>,
    secrets: Arc<dyn Secrets>,
    known: Known,
    directory: Arc<Directory>,
    holder: String,
    replay: Replay,
    /// When the last entry was appended: times in the log never go back.
    last_at: UnixMillis,
    keys: BTreeMap<ServiceName, Arc<ServiceKeys>>,
    runs: RunKeys,
    /// The idempotency keys of the last day.
    used: Keys,
    standing: Standing,
}

/// How the state stands to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The state is that of the log.
    Level,
    /// The log may hold entries that are not folded in.
    Behind,
}

/// What is to be done about an order.
enum Plans {
    /// This is to be appended.
    Append(Box<Planned>),
    /// All is so already.
    Nothing,
    /// It was carried out before.
    Repeat(Done),
}

/// An event on its way into the log.
struct Planned {
    service: ServiceName,
    entry: Entry,
    record: Record,
    /// The state of this one service after it.
    trial: State,
    keys: Arc<ServiceKeys>,
}

impl Writer {
    /// Takes the log over and publishes every service.
    ///
    /// # Errors
    /// Where another writes the log, or the keys of a service are gone.
    pub async fn start(
        opened: Opened,
        secrets: Arc<dyn Secrets>,
        known: Known,
        directory: Arc<Directory>,
    ) -> Result<Self> {
        let holder = format!("process {}", std::process::id());
        opened.log.lease(LEASE, &holder, LEASE_TTL).await.context("cannot write the log")?;
        let runs = keys::runs(secrets.as_ref()).await?;
        let mut writer = Self {
            log: opened.log,
            secrets,
            known,
            directory,
            holder,
            replay: opened.replay,
            last_at: opened.last_at,
            keys: BTreeMap::new(),
            runs,
            used: opened.keys,
            standing: Standing::Level,
        };
        for (service, at) in opened.services {
            writer.drop_retired(&service).await;
            writer.publish(&service, at, None).await?;
        }
        Ok(writer)
    }

    /// Carries verbs out until nobody can hand one in any more.
    ///
    /// # Errors
    /// Where somebody else writes the log.
    pub async fn run(mut self, mut orders: Orders) -> Result<(), Lost> {
        let mut renewal = tokio::time::interval(LEASE_RENEWAL);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewed = Instant::now();
        let mut head = self.log.watch();
        loop {
            tokio::select! {
                _ = renewal.tick() => {
                    match self.log.lease(LEASE, &self.holder, LEASE_TTL).await {
                        Ok(()) => renewed = Instant::now(),
                        Err(LeaseError::Outage(outage)) if renewed.elapsed() < LEASE_TTL => {
                            warn!(%outage, "cannot renew the lease on the log");
                        }
                        Err(lost) => return Err(lost.into()),
                    }
                    // What may have been written is shown without waiting for the next verb.
                    if self.standing == Standing::Behind {
                        self.follow().await;
                    }
                }
                Ok(()) = head.changed() => {
                    if head.borrow_and_update().seq > self.replay.head.seq {
                        self.follow().await;
                    }
                }
                command = orders.recv() => {
                    let Some(Command { order, part, answer }) = command else { return Ok(()) };
                    let done = self.carry_out(&order, part).await;
                    report(&order, part, &done);
                    // The caller may have gone; the verb has been carried out all the same.
                    answer.send(done).ok();
                }
            }
        }
    }

    async fn carry_out(&mut self, order: &Order, part: Part) -> Result<Done, VerbError> {
        let request = fingerprint(order).map_err(|error| failed("read the verb", error))?;
        let key = order.key.clone().map(|id| RequestKey { id, request });
        for _ in 0..ATTEMPTS {
            if self.standing == Standing::Behind {
                self.catch_up().await?;
            }
            let planned = match self.plan(order, part, key.as_ref()).await? {
                Plans::Append(planned) => planned,
                // A preparation is none of the verb's doing: the key is still free.
                Plans::Nothing => return self.idle(order, key.filter(|_| part == Part::Verb)),
                Plans::Repeat(done) => return Ok(done),
            };
            let head = planned.record.head();
            match self.log.append(self.replay.head.clone(), vec![planned.record.clone()]).await {
                Ok(_) => {
                    let retires = matches!(planned.entry.event, Event::KeyMoved { step: KeyStep::Retired, .. });
                    self.commit(*planned, Instant::now());
                    if retires {
                        self.drop_retired(&order.service).await;
                    }
                    return self.done(order, head.seq);
                }
                Err(AppendError::Moved(_)) => self.standing = Standing::Behind,
                Err(AppendError::Outage(outage)) => {
                    self.standing = Standing::Behind;
                    self.catch_up().await.map_err(|_| unsure(&outage))?;
                    if self.replay.head != head {
                        return Err(outage.into());
                    }
                    return self.done(order, head.seq);
                }
            }
        }
        Err(Outage { what: "append to the log", cause: "others append all the time: try again".to_owned() }.into())
    }

    fn done(&self, order: &Order, version: u64) -> Result<Done, VerbError> {
        let published = self.published(&order.service)?;
        Ok(Done { effect: Effect::Changed, occasion: Occasion::Now, version, published })
    }

    fn idle(&mut self, order: &Order, key: Option<RequestKey>) -> Result<Done, VerbError> {
        let published = self.published(&order.service)?;
        let version = published.snapshot.version;
        if let Some(key) = key {
            self.used.learn_idle(order, key, version, self.now());
        }
        Ok(Done { effect: Effect::None, occasion: Occasion::Now, version, published })
    }

    /// The answer to a verb that was carried out before, under the same key.
    fn repeat(&self, order: &Order, key: &RequestKey) -> Result<Option<Done>, VerbError> {
        let Some(known) = self.used.find(order, &key.id, self.now()) else { return Ok(None) };
        if known.request != key.request {
            return Err(VerbError::KeyReused(key.id.clone()));
        }
        let (effect, version) = (known.effect, known.version);
        Ok(Some(Done { effect, occasion: Occasion::Earlier, version, published: self.published(&order.service)? }))
    }

    /// The clock, which never goes back behind the log.
    fn now(&self) -> UnixMillis {
        clock::now().max(self.last_at)
    }

    /// What `order` does to the log.
    async fn plan(&mut self, order: &Order, part: Part, key: Option<&RequestKey>) -> Result<Plans, VerbError> {
        if let Some(done) = key.map(|key| self.repeat(order, key)).transpose()?.flatten() {
            return Ok(Plans::Repeat(done));
        }
        let (state, service) = (&self.replay.state, &order.service);
        let known = state.services.get(service);
        if let Some(expected) = order.expected_version
            && (known.is_some() || matches!(order.verb, Verb::Apply { .. }))
        {
            let (acted, current) = known.map_or((0, 0), |known| (known.acted, known.version));
            if !(acted..=current).contains(&expected) {
                return Err(VerbError::Stale { expected, current });
            }
        }
        let at = self.now();
        let Some(event) = self.check(order, part, at)? else { return Ok(Plans::Nothing) };
        let keys = self.keys_for(service, &event).await?;
        let state = &self.replay.state;
        let entry = Entry {
            seq: state.head + 1,
            schema: SCHEMA,
            at,
            service: Some(service.clone()),
            principal: order.principal.clone(),
            key: key.filter(|_| part == Part::Verb).cloned(),
            event,
        };
        let mut trial = State {
            epoch: state.epoch,
            head: state.head,
            next_assignment: state.next_assignment,
            services: state.services.get_key_value(service).map(|(k, v)| (k.clone(), v.clone())).into_iter().collect(),
        };
        trial.apply(&entry).map_err(|error| failed("fold the event", error))?;
        // A proxy would refuse what does not compile, so it never comes into the log.
        let snapshot = trial.snapshot(service).ok_or_else(|| failed("render the snapshot", "there is none"))?;
        Plan::compile(&snapshot, Some(&keys)).map_err(Refusal::Field)?;
        let (text, hash) = entry.seal(&self.replay.head.hash).map_err(|error| failed("write the event", error))?;
        let record = Record { seq: entry.seq, text, hash };
        Ok(Plans::Append(Box::new(Planned { service: service.clone(), entry, record, trial, keys })))
    }

    /// What `order` comes to by the rules, and by what is known of members and slots now.
    fn check(&self, order: &Order, part: Part, at: UnixMillis) -> Result<Option<Event>, Refusal> {
        let service = &order.service;
        let acknowledgements = &Asked { members: &self.known.members, service };
        let serving = &Seen { observations: &self.known.observations, service, probed: order.probed.as_ref() };
        let settings = self.replay.state.services.get(service).map(|state| state.settings.pin.clone());
        let settings = settings.unwrap_or_default();
        let holding = &self.known.holdings.of(service, &settings, at);
        let (state, at) = (&self.replay.state, &Circumstances { now: at, acknowledgements, serving, holding });
        match part {
            Part::Preparation => state.prepare(service, &order.verb, at),
            Part::Verb => state.check(service, &order.verb, at),
        }
    }

    /// Keys are there before the service is: what a crash leaves behind is keys that nobody uses yet.
    async fn keys_for(&self, service: &ServiceName, event: &Event) -> Result<Arc<ServiceKeys>, VerbError> {
        let keys = match (self.keys.get(service), event) {
            (_, Event::KeyMoved { key, step: KeyStep::Added, .. }) => {
                keys::add(self.secrets.as_ref(), service, *key).await
            }
            (Some(keys), _) => return Ok(keys.clone()),
            (None, Event::ServiceCreated { signing_key, .. }) => {
                keys::load_or_draw(self.secrets.as_ref(), service, *signing_key).await
            }
            (None, _) => keys::load_known(self.secrets.as_ref(), service).await,
        };
        Ok(keys.map_err(|error| failed("read the keys", format!("{error:#}")))?)
    }

    /// Drops keys that the log names no more. Where that fails the next start tries again; no proxy is sent them.
    async fn drop_retired(&mut self, service: &ServiceName) {
        let Some(state) = self.replay.state.services.get(service) else { return };
        match keys::prune(self.secrets.as_ref(), service, &state.ring).await {
            Ok(keys) => drop(self.keys.insert(service.clone(), keys)),
            Err(error) => warn!(%service, "a retired key is kept still: {error:#}"),
        }
    }

    /// The record is in the log: folds it in and shows what came of it.
    fn commit(&mut self, planned: Planned, when: Instant) {
        let Planned { service, entry, record, trial, keys } = planned;
        self.replay.head = record.head();
        self.replay.state.head = trial.head;
        self.replay.state.next_assignment = trial.next_assignment;
        self.replay.state.services.extend(trial.services);
        self.last_at = entry.at;
        self.used.learn(&entry);
        self.keys.insert(service.clone(), keys.clone());
        self.show(&service, entry.at, Some(when), keys);
    }

    /// Folds in what others have appended.
    async fn catch_up(&mut self) -> Result<(), Outage> {
        self.standing = Standing::Behind;
        let (last_at, used) = (&mut self.last_at, &mut self.used);
        let seen = |entry: &Entry| {
            *last_at = entry.at.max(*last_at);
            used.learn(entry);
        };
        let followed = self.replay.follow(self.log.as_ref(), seen).await;
        for service in self.unpublished() {
            let published = self.publish(&service, self.last_at, Some(Instant::now())).await;
            published.map_err(|error| failed("publish a service", format!("{error:#}")))?;
        }
        followed.map_err(|error| failed("follow the log", error))?;
        self.standing = Standing::Level;
        Ok(())
    }

    /// Catches up where nobody waits for it.
    async fn follow(&mut self) {
        if let Err(outage) = self.catch_up().await {
            error!(%outage, "cannot follow the log");
        }
    }

    /// The services that are shown as they were.
    fn unpublished(&self) -> Vec<ServiceName> {
        let shown = |service| self.directory.watch(service).map(|watch| watch.borrow().snapshot.version);
        let services = self.replay.state.services.iter();
        services.filter(|(name, state)| shown(name) != Some(state.version)).map(|(name, _)| name.clone()).collect()
    }

    async fn publish(&mut self, service: &ServiceName, at: UnixMillis, when: Option<Instant>) -> Result<()> {
        let ring = self.replay.state.services.get(service).map(|state| &state.ring.keys);
        let has_all =
            |keys: &&Arc<ServiceKeys>| ring.is_none_or(|ring| ring.keys().all(|key| keys.ring.contains_key(key)));
        let keys = match self.keys.get(service).filter(has_all) {
            Some(keys) => keys.clone(),
            None => keys::load_known(self.secrets.as_ref(), service).await?,
        };
        self.keys.insert(service.clone(), keys.clone());
        self.show(service, at, when, keys);
        Ok(())
    }

    /// Members are told of the append before any proxy can see the snapshot.
    fn show(&self, service: &ServiceName, at: UnixMillis, when: Option<Instant>, keys: Arc<ServiceKeys>) {
        let state = &self.replay.state;
        let (Some(of), Some(mut snapshot)) = (state.services.get(service), state.snapshot(service)) else { return };
        snapshot.run_ring = Some(self.runs.ring());
        let keys = self.runs.beside(&keys::of_ring(&keys, &of.ring));
        self.known.members.append(service, Appended::new(snapshot.version, at, when));
        self.directory.publish(Published { state: of.clone(), snapshot, keys });
    }

    fn published(&self, service: &ServiceName) -> Result<Arc<Published>, VerbError> {
        let watch = self.directory.watch(service);
        let watch = watch.ok_or_else(|| failed("show the service", "it is not published"))?;
        Ok(watch.borrow().clone())
    }
}

fn failed(what: &'static str, cause: impl ToString) -> Outage {
    Outage { what, cause: cause.to_string() }
}

/// An append that failed, and nobody can read whether it did.
fn unsure(outage: &Outage) -> Outage {
    let cause = format!(
        "{}. It may have been written: the log cannot be read now. Repeat the verb with the same idempotency key, which \
         carries it out once, or look at `colorfast status` first",
        outage.cause
    );
    Outage { what: outage.what, cause }
}

/// Every verb stands in the operator's log, refused ones too.
fn report(order: &Order, part: Part, done: &Result<Done, VerbError>) {
    let (principal, service, verb) = (&order.principal, &order.service, order.verb.name());
    match done {
        Ok(done) if part == Part::Preparation => {
            if done.effect == Effect::Changed && done.occasion == Occasion::Now {
                info!(principal, %service, verb, version = done.version, "proxies get ready for a verb");
            }
        }
        Ok(done) => {
            let (version, changed) = (done.version, done.effect == Effect::Changed);
            match done.occasion {
                Occasion::Now => info!(principal, %service, verb, version, changed, "verb carried out"),
                Occasion::Earlier => info!(principal, %service, verb, version, changed, "verb was carried out before"),
            }
        }
        Err(VerbError::Outage(outage)) => error!(principal, %service, verb, %outage, "verb failed"),
        Err(refused) => info!(principal, %service, verb, reason = %refused, "verb refused"),
    }
}
