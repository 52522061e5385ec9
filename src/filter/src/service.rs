//! One service in one VM: its configuration, the plan that the VM decides by ([`Current`]), what it remembers, and what it
//! has seen of its slots.
//!
//! It counts by itself, so that whoever asks it need hold nothing else. It knows no request, and no sidecar: what comes
//! from either is given to it.

mod current;
mod lasting;
mod news;

use std::cell::Cell;
use std::rc::Rc;

use colorfast_core::error::FieldError;
use colorfast_core::ids::{AssignmentId, Epoch, ServiceName, Sid, SnapshotVersion};
use colorfast_core::json;
use colorfast_core::keys::ServiceKeys;
use colorfast_core::memory::{Remembered, Room};
use colorfast_core::names::{metric, shared};
use colorfast_core::plan::Plan;
use colorfast_core::plugin::{PluginConfig, ServiceConfig};
use colorfast_core::settings::{PinSettings, ServiceSettings};
use colorfast_core::snapshot::Snapshot;
use colorfast_core::time::{UnixMillis, UnixSeconds};
use colorfast_core::wire::discovery::DiscoveryResponse;

pub use self::current::Current;
pub use self::news::Learnt;

use self::news::News;

use crate::cell::SharedCell;
use crate::host;
use crate::host::shared::memory::{Memory, Place, Written};
use crate::host::shared::published::{Published, Rank, Step, Told};
use crate::host::shared::rebuilds::{Rebuilds, Rebuilt};
use crate::metrics::Metrics;
use crate::slots::health::Watches;
use crate::slots::open::OpenStreams;

/// One service of the configuration.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// What is seen of its slots.
    pub watches: Watches,
    /// Its streams that are under way.
    pub open: OpenStreams,
    /// What is remembered of its sessions.
    pub memory: Memory,
    /// What the fleet is to hear of them.
    pub news: News,
    /// Where it counts.
    pub metrics: Rc<Metrics>,
    keys: Option<ServiceKeys>,
    published: Rc<Published>,
    rebuilds: Rebuilds,
    cache: SharedCell<Cache>,
    in_vain: Cell<Option<(AssignmentId, UnixMillis)>>,
}

/// How long nobody waits for an assignment that did not come: while the sidecar is away, sessions that began at
/// another proxy pay for that once, not at every request.
const IN_VAIN_MS: u64 = 10_000;

/// How often a record is written down anew after another write to its place.
const TRIES: usize = 4;

/// What stands before a plugin configuration that is published: no answer begins so.
const PUSHED: &[u8] = b"\0";

/// What became of the push that a process has seen last.
const TAKEN: u8 = 0;
const REFUSED: u8 = 1;
const TOLD: u8 = 2;

/// Which push was seen last, and what became of it.
fn push_mark(version: SnapshotVersion, fate: u8) -> Vec<u8> {
    [&version.to_bytes()[..], &[fate]].concat()
}

#[derive(Debug)]
struct Cache {
    current: Rc<Current>,
    /// The rank that was looked at last; above that of `current` where that one could not be compiled.
    seen: Rank,
    announced: bool,
}

impl Service {
    /// The service of a configuration, with its keys from the environment, which counts in `metrics`.
    ///
    /// # Errors
    /// Names the field of a snapshot, or of the keys, that breaks a rule.
    pub fn new(config: &ServiceConfig, keys: Option<ServiceKeys>, metrics: &Rc<Metrics>) -> Result<Self, FieldError> {
        let name = config.name.clone();
        let configured = config.snapshot.as_ref().or(config.bootstrap.as_ref()).cloned();
        let configured = configured.unwrap_or_else(|| Snapshot::empty(name.clone()));
        let watches = Watches::default();
        let current = Current::new(Plan::compile(&configured, keys.as_ref())?, &watches);
        let published = Rc::new(Published::of(&name));
        Ok(Self {
            memory: Memory::of(&name, &published),
            news: News::default(),
            metrics: Rc::clone(metrics),
            published,
            rebuilds: Rebuilds::of(&name),
            name,
            watches,
            open: OpenStreams::default(),
            keys,
            cache: SharedCell::new(Cache { seen: Rank::default(), current, announced: false }),
            in_vain: Cell::new(None),
        })
    }

    /// Whether it makes sense to wait for a snapshot that knows `assignment`.
    pub fn may_yet_learn(&self, assignment: AssignmentId, now: UnixMillis) -> bool {
        self.in_vain.get().is_none_or(|(vain, since)| assignment > vain || !now.is_within(IN_VAIN_MS, since))
    }

    /// Notes that `assignment` was waited for in vain.
    pub fn stop_waiting_for(&self, assignment: AssignmentId, now: UnixMillis) {
        self.in_vain.set(Some((assignment, now)));
    }

    /// The plan to decide by: that of the newest snapshot that the process has published.
    pub fn current(&self) -> Option<Rc<Current>> {
        let Told { rank: published, changes } = self.published.told();
        self.memory.heed(changes);
        self.cache.with(|cache| {
            if published > cache.seen || !cache.announced {
                self.refresh(cache, published);
            }
            Rc::clone(&cache.current)
        })
    }

    /// Writes a session down where it was looked up, and has the fleet told.
    ///
    /// # Errors
    /// Another one, which stands there by now.
    pub fn remember(
        &self,
        place: &mut Place,
        session: &Remembered,
        ages: &PinSettings,
        now: UnixSeconds,
    ) -> Result<Learnt, Remembered> {
        let written = self.memory.write(place, session, ages, now);
        let learnt = if let Written::Stands(_) = written { self.tell(place.id(), session) } else { Learnt::Lost };
        self.another(written).map_or(Ok(learnt), Err)
    }

    /// Writes down what `weigh` makes of what stands in a place, and has the fleet told. What somebody else has written there
    /// meanwhile is weighed as what stood there before. Answers what stood there and what does now; none where nothing was
    /// written.
    pub fn remember_weighed(
        &self,
        place: &mut Place,
        ages: &PinSettings,
        now: UnixSeconds,
        weigh: impl Fn(Option<&Remembered>) -> Option<Remembered>,
    ) -> Option<(Option<Remembered>, Remembered)> {
        for _ in 0..TRIES {
            let known = place.known();
            let new = weigh(known.as_ref())?;
            if self.remember(place, &new, ages, now).is_ok() {
                return Some((known, new));
            }
        }
        None
    }

    /// Writes down what the fleet has said of a session, as [`Self::remember`] does, but the fleet need not be told.
    pub fn remember_told(
        &self,
        place: &mut Place,
        session: &Remembered,
        ages: &PinSettings,
        now: UnixSeconds,
    ) -> Option<Remembered> {
        self.another(self.memory.write(place, session, ages, now))
    }

    /// Writes down what stands in the fleet under `id`, where something else is remembered here.
    pub fn correct(&self, settings: &ServiceSettings, id: Sid, session: &Remembered, now: UnixSeconds) {
        let mut place = self.memory.look_up(settings, id);
        if place.known().is_some_and(|known| !known.agrees_with(session) || known.certainty < session.certainty) {
            self.remember_told(&mut place, session, &settings.pin, now);
            self.metrics.count(&metric::memory_corrected(&self.name), 1);
        }
    }

    /// Another life of the sidecar answers: what the one before heard last is told again, as it stands here by now. What it
    /// heard of slots is, too.
    pub fn tell_again(&self, now: UnixMillis) {
        let Some(current) = self.current() else { return };
        for (id, told) in self.news.take_told(now) {
            let stands = self.memory.look_up(&current.plan.settings, id).known();
            self.tell(id, &stands.filter(|_| !told.has_ended()).unwrap_or(told));
        }
        self.watches.all().iter().for_each(|watch| watch.tell_again());
    }

    /// Forgets the session `session` under `id`, and has the fleet told.
    pub fn forget(&self, settings: &ServiceSettings, id: Sid, session: &Remembered) {
        self.memory.forget(settings, id, session);
        self.tell(id, &session.ended());
    }

    /// Has the fleet told; counts a session that it cannot be told of.
    fn tell(&self, id: Sid, session: &Remembered) -> Learnt {
        let learnt = self.news.learn(id, session);
        if learnt == Learnt::Lost {
            self.metrics.count(&metric::memory_untold(&self.name), 1);
        }
        learnt
    }

    /// What stands in memory instead of what was to be written there. Counts a session that had to make way.
    fn another(&self, written: Written) -> Option<Remembered> {
        match written {
            Written::Another(another) => return Some(another),
            Written::Stands(Room::Made) => self.metrics.count(&metric::memory_evictions(&self.name), 1),
            Written::Stands(Room::Found) | Written::Refused => {}
        }
        None
    }

    /// Tells metrics what was seen of its slots since the last time.
    pub fn tell_watches(&self) {
        self.watches.all().iter().for_each(|watch| watch.tell(&self.metrics, &self.name));
    }

    /// The rank of what the process decides by, as this VM has seen it last.
    pub fn rank(&self) -> Rank {
        self.cache.with(|cache| cache.seen).unwrap_or_default()
    }

    fn refresh(&self, cache: &mut Cache, published: Rank) {
        let before = cache.announced.then(|| Rc::clone(&cache.current));
        if published > cache.seen {
            cache.seen = published;
            match self.read_published() {
                Ok((rank, plan)) => {
                    cache.seen = rank.max(published);
                    cache.current = Current::new(plan, &self.watches);
                }
                Err(error) => {
                    let version = published.version;
                    log::error!("colorfast {}: the published snapshot {version} is not usable: {error}", self.name);
                    self.metrics.count(&metric::snapshots_refused(&self.name), 1);
                    return;
                }
            }
        }
        cache.announced = true;
        self.announce(before.as_ref().map(|before| &before.plan), &cache.current.plan);
    }

    fn read_published(&self) -> Result<(Rank, Plan), String> {
        let (rank, text) = self.published.answer()?;
        let plan = match text.strip_prefix(PUSHED) {
            Some(text) => self.compile_pushed(text)?,
            None => self.compile(&self.read(&text)?)?,
        };
        Ok((rank, plan))
    }

    fn compile_pushed(&self, text: &[u8]) -> Result<Plan, String> {
        let pushed = self.read_pushed(text)?;
        Plan::compile(&pushed, self.keys.as_ref()).map_err(|error| error.to_string())
    }

    fn read_pushed(&self, text: &[u8]) -> Result<Snapshot, String> {
        let config: PluginConfig = json::read(text).map_err(|error| error.to_string())?;
        let service = config.services.into_iter().find(|service| service.name == self.name);
        Ok(service.and_then(|service| service.snapshot).ok_or("there is none")?)
    }

    /// Whether another snapshot than `pushed` was published under its version: two copies of a log have parted.
    fn has_parted(&self, pushed: &Snapshot) -> bool {
        let held = self.published.answer().ok().and_then(|(_, text)| self.read_pushed(text.strip_prefix(PUSHED)?).ok());
        held.is_some_and(|held| held.version() == pushed.version() && held.lineage != pushed.lineage)
    }

    /// Takes what the plugin configuration `text` pushes, for the whole process, unless that has it or a newer one.
    pub fn push(&self, config: &ServiceConfig, text: &[u8], now: UnixMillis) {
        let Some(snapshot) = &config.snapshot else { return };
        let (name, pushed, held) = (&self.name, snapshot.version(), self.published.told().rank.version);
        if pushed > held
            && let Err(error) = self.publish(pushed, &[PUSHED, text].concat(), now)
        {
            log::error!("colorfast {name}: {pushed} cannot be published: {error}");
        }
        let refused = pushed < held || (pushed == held && self.has_parted(snapshot));
        let mark = push_mark(pushed, if refused { REFUSED } else { TAKEN });
        let told = push_mark(pushed, TOLD);
        let is_new = host::update_shared(&shared::pushed(name), |stands| {
            let is_known = stands == Some(&mark) || (refused && stands == Some(&told));
            (!is_known).then(|| mark.clone())
        });
        if is_new == Ok(true) {
            self.metrics.gauge(&metric::pushed_version(name), pushed.version);
            self.metrics.gauge(&metric::pushed_epoch(name), pushed.epoch.0.0);
        }
    }

    /// Tells that the push of `config` was refused, where it still is the newest: the workers of a process are configured one
    /// after the other, and one that is late is given two pushes in a row.
    pub fn tell_refused(&self, config: &ServiceConfig) {
        let Some(pushed) = config.snapshot.as_ref().map(Snapshot::version) else { return };
        let (refused, told) = (push_mark(pushed, REFUSED), push_mark(pushed, TOLD));
        let (key, name) = (shared::pushed(&self.name), &self.name);
        if host::update_shared(&key, |stands| (stands == Some(&refused)).then(|| told.clone())) == Ok(true) {
            let held = self.published.told().rank.version;
            let another = if pushed == held { "another " } else { "" };
            self.metrics.count(&metric::snapshots_refused(name), 1);
            log::warn!(
                "colorfast {name}: snapshot {pushed} of the configuration is refused, since {another}{held} is held: to go \
                 back, push what `colorfast rollback` makes"
            );
        }
    }

    /// Reads a discovery answer.
    ///
    /// # Errors
    /// A sentence that names the field and the rule.
    pub fn read(&self, answer: &[u8]) -> Result<DiscoveryResponse, String> {
        json::read(answer).map_err(|error| {
            let text = error.to_string();
            text.strip_prefix("resources[0].").map(str::to_owned).unwrap_or(text)
        })
    }

    /// Compiles the snapshot of a discovery answer.
    ///
    /// # Errors
    /// A sentence that names the field and the rule.
    pub fn compile(&self, answer: &DiscoveryResponse) -> Result<Plan, String> {
        let count = answer.resources.len();
        let [resource] = answer.resources.as_slice() else {
            return Err(format!("resources: has {count} entries, exactly one is allowed"));
        };
        if resource.state.service != self.name {
            return Err(format!("state.service: is {}, but {} was asked for", resource.state.service, self.name));
        }
        if resource.state.epoch == Epoch::BOOTSTRAP {
            return Err("state.epoch: is 0, which only a snapshot in a configuration has".to_owned());
        }
        Plan::compile(&resource.state, resource.keys.as_ref().or(self.keys.as_ref())).map_err(|error| {
            // The keys stand beside the state, all other fields in it.
            if error.field.starts_with("keys.") { error.to_string() } else { format!("state.{error}") }
        })
    }

    /// Publishes a discovery answer for the whole process, unless there is a newer one.
    ///
    /// # Errors
    /// Where the host refuses.
    pub fn publish(&self, version: SnapshotVersion, answer: &[u8], now: UnixMillis) -> Result<(), host::HostError> {
        self.published.publish(version, answer, now, |rank| self.rebuilds.is_sound(rank, now))
    }

    /// This VM replaces one that died: where that is one too many, the process goes back to the snapshot before.
    pub fn rebuilt(&self, now: UnixMillis) {
        let name = &self.name;
        match self.rebuilds.count(&self.published, now) {
            Rebuilt::Counted => {}
            Rebuilt::Left(Rank { version, .. }) => {
                self.metrics.count(&metric::retreats(name), 1);
                log::error!(
                    "colorfast {name}: the filter died again and again under snapshot {version}: goes back to the one \
                     before until a newer one comes"
                );
            }
            Rebuilt::Stuck(Rank { version, .. }) => log::error!(
                "colorfast {name}: the filter dies again and again under snapshot {version}, and there is none to go \
                 back to"
            ),
        }
    }

    /// Whether `version` was taken and left again.
    pub fn has_left(&self, version: SnapshotVersion) -> bool {
        self.rank() == Rank { version, step: Step::Back }
    }

    /// Tells by metrics what the process decides by now.
    fn announce(&self, before: Option<&Plan>, now: &Plan) {
        let running = |plan: &Plan| -> Vec<String> {
            let slots =
                plan.slots().filter_map(|(_, slot)| slot.bundle.as_ref().map(|bundle| (&slot.name, &bundle.id)));
            slots.map(|(slot, bundle)| metric::bundle_info(&self.name, slot, bundle)).collect()
        };
        let runs = running(now);
        for ended in before.map(running).unwrap_or_default().iter().filter(|info| !runs.contains(info)) {
            self.metrics.gauge(ended, 0);
        }
        for info in &runs {
            self.metrics.gauge(info, 1);
        }
        self.metrics.gauge(&metric::keyed(&self.name), u64::from(now.is_keyed()));
        self.metrics.gauge(&metric::snapshot_version(&self.name), now.version.version);
        self.metrics.gauge(&metric::snapshot_epoch(&self.name), now.version.epoch.0.0);
        // The empty plan of a proxy that waits for its first snapshot has no slot to warn of.
        if !now.is_keyed() && now.slots().any(|(_, slot)| slot.bundle.is_some()) {
            let cause = if self.keys.is_some() { "the snapshot names no ring" } else { "no keys" };
            log::warn!("colorfast {}: {cause}: sessions are placed by hash alone and get no pin", self.name);
        }
    }
}
