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
use tracing::{error, warn};

use super::keys::RunKeys;
use super::opening::Opened;
use super::repetition::Keys;
use super::replay::Replay;
use super::task::{Carried, Task};
use super::{Command, Effect, Occasion, Order, Orders, Part, VerbError, keys};
use crate::server::clock;
use crate::server::directory::{Directory, Published};
use crate::server::holdings::Holdings;
use crate::server::members::{Appended, Asked, AskedOfAll, Members};
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
    Repeat(Carried),
}

/// An event on its way into the log.
struct Planned {
    entry: Entry,
    record: Record,
    /// The state after it: of the one service that it is of, or of all.
    trial: State,
    drawn: Drawn,
}

/// The keys that an event needs.
enum Drawn {
    /// Of the service that it is of.
    Service(ServiceName, Arc<ServiceKeys>),
    /// Of run tokens.
    Runs(RunKeys),
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
        let runs = RunKeys::load_or_draw(secrets.as_ref(), &opened.replay.state.application).await?;
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
        writer.drop_retired_runs().await;
        writer.directory.publish_application(writer.replay.state.application.clone());
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
                    let Some(command) = command else { return Ok(()) };
                    self.answer(command).await;
                }
            }
        }
    }

    /// Carries an order out. Its caller may have gone; the verb has been carried out all the same.
    async fn answer(&mut self, command: Command) {
        match command {
            Command::Service(order, part, answer) => {
                let carried = self.carry_out(Task::Service(&order, part)).await;
                let done = carried.and_then(|carried| Ok(carried.shown(self.published(&order.service)?)));
                answer.send(done).ok();
            }
            Command::Application(order, answer) => {
                let carried = self.carry_out(Task::Application(&order)).await;
                answer.send(carried.map(|carried| carried.shown(self.directory.application()))).ok();
            }
        }
    }

    async fn carry_out(&mut self, task: Task<'_>) -> Result<Carried, VerbError> {
        let carried = self.try_out(task).await;
        task.report(&carried);
        carried
    }

    async fn try_out(&mut self, task: Task<'_>) -> Result<Carried, VerbError> {
        let request = task.fingerprint().map_err(|error| failed("read the verb", error))?;
        let key = task.key().cloned().map(|id| RequestKey { id, request });
        for _ in 0..ATTEMPTS {
            if self.standing == Standing::Behind {
                self.catch_up().await?;
            }
            let planned = match self.plan(task, key.as_ref()).await? {
                Plans::Append(planned) => planned,
                // A preparation is none of the verb's doing: the key is still free.
                Plans::Nothing => return Ok(self.idle(task, key.filter(|_| task.is_verb()))),
                Plans::Repeat(carried) => return Ok(carried),
            };
            let head = planned.record.head();
            let done = Carried { effect: Effect::Changed, occasion: Occasion::Now, version: head.seq };
            match self.log.append(self.replay.head.clone(), vec![planned.record.clone()]).await {
                Ok(_) => {
                    self.commit(*planned, Instant::now()).await;
                    return Ok(done);
                }
                Err(AppendError::Moved(_)) => self.standing = Standing::Behind,
                Err(AppendError::Outage(outage)) => {
                    self.standing = Standing::Behind;
                    self.catch_up().await.map_err(|_| unsure(&outage))?;
                    if self.replay.head != head {
                        return Err(outage.into());
                    }
                    return Ok(done);
                }
            }
        }
        Err(Outage { what: "append to the log", cause: "others append all the time: try again".to_owned() }.into())
    }

    fn idle(&mut self, task: Task<'_>, key: Option<RequestKey>) -> Carried {
        let (_, version) = self.versions(task).unwrap_or_default();
        if let Some(key) = key {
            self.used.learn_idle(task.service(), task.principal(), key, version, self.now());
        }
        Carried { effect: Effect::None, occasion: Occasion::Now, version }
    }

    /// The answer to a verb that was carried out before, under the same key.
    fn repeat(&self, task: Task<'_>, key: &RequestKey) -> Result<Option<Carried>, VerbError> {
        let known = self.used.find(task.service(), task.principal(), &key.id, self.now());
        let Some(known) = known else { return Ok(None) };
        if known.request != key.request {
            return Err(VerbError::KeyReused(key.id.clone()));
        }
        Ok(Some(Carried { effect: known.effect, occasion: Occasion::Earlier, version: known.version }))
    }

    /// The last act on what `task` is about, and its version; none where there is no such service.
    fn versions(&self, task: Task<'_>) -> Option<(u64, u64)> {
        let state = &self.replay.state;
        match task.service() {
            Some(service) => state.services.get(service).map(|known| (known.acted, known.version)),
            None => Some((state.application.version, state.application.version)),
        }
    }

    /// Refuses a verb of an operator who has not seen what it is about as it is now.
    fn expect(&self, task: Task<'_>) -> Result<(), VerbError> {
        let Some(expected) = task.expected_version() else { return Ok(()) };
        let creates = matches!(task, Task::Service(Order { verb: Verb::Apply { .. }, .. }, _));
        let versions = self.versions(task).or_else(|| creates.then_some((0, 0)));
        match versions.filter(|(acted, current)| !(*acted..=*current).contains(&expected)) {
            Some((_, current)) => Err(VerbError::Stale { what: task.what(), expected, current }),
            None => Ok(()),
        }
    }

    /// The clock, which never goes back behind the log.
    fn now(&self) -> UnixMillis {
        clock::now().max(self.last_at)
    }

    /// What `task` does to the log.
    async fn plan(&mut self, task: Task<'_>, key: Option<&RequestKey>) -> Result<Plans, VerbError> {
        if let Some(carried) = key.map(|key| self.repeat(task, key)).transpose()?.flatten() {
            return Ok(Plans::Repeat(carried));
        }
        self.expect(task)?;
        let at = self.now();
        let Some(event) = self.check(task, at)? else { return Ok(Plans::Nothing) };
        let drawn = self.keys_for(task, &event).await?;
        let state = &self.replay.state;
        let entry = Entry {
            seq: state.head + 1,
            schema: SCHEMA,
            at,
            service: task.service().cloned(),
            principal: task.principal().to_owned(),
            key: key.filter(|_| task.is_verb()).cloned(),
            event,
        };
        let is_changed = |service: &ServiceName| task.service().is_none_or(|only| only == service);
        let services = state.services.iter().filter(|(name, _)| is_changed(name));
        let mut trial = State {
            epoch: state.epoch,
            head: state.head,
            next_assignment: state.next_assignment,
            application: state.application.clone(),
            services: services.map(|(name, state)| (name.clone(), state.clone())).collect(),
        };
        trial.apply(&entry).map_err(|error| failed("fold the event", error))?;
        self.compile(&trial, &drawn)?;
        let (text, hash) = entry.seal(&self.replay.head.hash).map_err(|error| failed("write the event", error))?;
        let record = Record { seq: entry.seq, text, hash };
        Ok(Plans::Append(Box::new(Planned { entry, record, trial, drawn })))
    }

    /// A proxy would refuse what does not compile, so it never comes into the log.
    fn compile(&self, trial: &State, drawn: &Drawn) -> Result<(), VerbError> {
        for service in trial.services.keys() {
            let (runs, own) = match drawn {
                Drawn::Service(_, own) => (&self.runs, Some(own)),
                Drawn::Runs(runs) => (runs, self.keys.get(service)),
            };
            let snapshot = trial.snapshot(service).ok_or_else(|| failed("render the snapshot", "there is none"))?;
            let keys = own.map(|own| runs.beside(&trial.application.runs, ServiceKeys::clone(own)));
            Plan::compile(&snapshot, keys.as_ref()).map_err(Refusal::Field)?;
        }
        Ok(())
    }

    /// What `task` comes to by the rules, and by what is known of members and slots now.
    fn check(&self, task: Task<'_>, at: UnixMillis) -> Result<Option<Event>, Refusal> {
        let (state, members) = (&self.replay.state, self.known.members.as_ref());
        let (order, part) = match task {
            Task::Service(order, part) => (order, part),
            Task::Application(order) => {
                let everyone = &AskedOfAll { members, services: state.services.keys().collect() };
                return state.check_application(&order.verb, at, everyone);
            }
        };
        let service = &order.service;
        let acknowledgements = &Asked { members, service };
        let serving = &Seen { observations: &self.known.observations, service, probed: order.probed.as_ref() };
        let settings = state.services.get(service).map(|state| state.settings.pin.clone());
        let settings = settings.unwrap_or_default();
        let holding = &self.known.holdings.of(service, &settings, at);
        let at = &Circumstances { now: at, acknowledgements, serving, holding };
        match part {
            Part::Preparation => state.prepare(service, &order.verb, at),
            Part::Verb => state.check(service, &order.verb, at),
        }
    }

    /// Keys are there before the log names them: what a crash leaves behind is keys that nobody uses yet.
    async fn keys_for(&self, task: Task<'_>, event: &Event) -> Result<Drawn, VerbError> {
        let secrets = self.secrets.as_ref();
        let drawn = match (task.service(), event) {
            (None, Event::RunKeyMoved { key, step: KeyStep::Added, .. }) => {
                RunKeys::add(secrets, *key).await.map(Drawn::Runs)
            }
            (None, _) => Ok(Drawn::Runs(self.runs.clone())),
            (Some(service), event) => {
                self.keys_of(service, event).await.map(|keys| Drawn::Service(service.clone(), keys))
            }
        };
        Ok(drawn.map_err(|error| failed("read the keys", format!("{error:#}")))?)
    }

    async fn keys_of(&self, service: &ServiceName, event: &Event) -> Result<Arc<ServiceKeys>> {
        let secrets = self.secrets.as_ref();
        match (self.keys.get(service), event) {
            (_, Event::KeyMoved { key, step: KeyStep::Added, .. }) => keys::add(secrets, service, *key).await,
            (Some(keys), _) => Ok(keys.clone()),
            (None, Event::ServiceCreated { signing_key, .. }) => {
                keys::load_or_draw(secrets, service, *signing_key).await
            }
            (None, _) => keys::load_known(secrets, service).await,
        }
    }

    /// Drops keys that the log names no more. Where that fails the next start tries again; no proxy is sent them.
    async fn drop_retired(&mut self, service: &ServiceName) {
        let Some(state) = self.replay.state.services.get(service) else { return };
        match keys::prune(self.secrets.as_ref(), service, &state.ring).await {
            Ok(keys) => drop(self.keys.insert(service.clone(), keys)),
            Err(error) => warn!(%service, "a retired key is kept still: {error:#}"),
        }
    }

    /// [`Self::drop_retired`], of the keys of run tokens.
    async fn drop_retired_runs(&mut self) {
        match RunKeys::prune(self.secrets.as_ref(), &self.replay.state.application.runs).await {
            Ok(keys) => self.runs = keys,
            Err(error) => warn!("a retired key of run tokens is kept still: {error:#}"),
        }
    }

    /// The record is in the log: folds it in and shows what came of it.
    async fn commit(&mut self, planned: Planned, when: Instant) {
        let Planned { entry, record, trial, drawn } = planned;
        let changed: Vec<_> = trial.services.keys().cloned().collect();
        self.replay.head = record.head();
        self.replay.state.head = trial.head;
        self.replay.state.next_assignment = trial.next_assignment;
        self.replay.state.application = trial.application;
        self.replay.state.services.extend(trial.services);
        self.last_at = entry.at;
        self.used.learn(&entry);
        match drawn {
            Drawn::Service(service, keys) => drop(self.keys.insert(service, keys)),
            Drawn::Runs(runs) => {
                self.runs = runs;
                self.directory.publish_application(self.replay.state.application.clone());
            }
        }
        for service in &changed {
            self.show(service, entry.at, Some(when));
        }
        match (&entry.service, &entry.event) {
            (Some(service), Event::KeyMoved { step: KeyStep::Retired, .. }) => self.drop_retired(service).await,
            (None, Event::RunKeyMoved { step: KeyStep::Retired, .. }) => self.drop_retired_runs().await,
            _ => {}
        }
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
        let read = self.read_runs().await;
        read.map_err(|error| failed("read the keys of runs", format!("{error:#}")))?;
        for service in self.unpublished() {
            let published = self.publish(&service, self.last_at, Some(Instant::now())).await;
            published.map_err(|error| failed("publish a service", format!("{error:#}")))?;
        }
        followed.map_err(|error| failed("follow the log", error))?;
        self.standing = Standing::Level;
        Ok(())
    }

    /// Reads the keys of run tokens where others have drawn some, and shows what became of them.
    async fn read_runs(&mut self) -> Result<()> {
        let application = &self.replay.state.application;
        if *application == *self.directory.application() {
            return Ok(());
        }
        if !self.runs.has_all(&application.runs) {
            self.runs = RunKeys::load_or_draw(self.secrets.as_ref(), application).await?;
        }
        self.directory.publish_application(application.clone());
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
        self.keys.insert(service.clone(), keys);
        self.show(service, at, when);
        Ok(())
    }

    /// Members are told of the append before any proxy can see the snapshot.
    fn show(&self, service: &ServiceName, at: UnixMillis, when: Option<Instant>) {
        let state = &self.replay.state;
        let (Some(of), Some(snapshot), Some(keys)) =
            (state.services.get(service), state.snapshot(service), self.keys.get(service))
        else {
            return;
        };
        let keys = self.runs.beside(&state.application.runs, keys::of_ring(keys, &of.ring));
        self.known.members.append(service, Appended::new(snapshot.version, at, when));
        self.directory.publish(Published { state: of.clone(), snapshot, keys: Arc::new(keys) });
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
