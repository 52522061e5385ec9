//! One service in one VM: its configuration and the plan that the VM decides by.

use std::cell::Cell;
use std::rc::Rc;

use colorfast_core::error::FieldError;
use colorfast_core::ids::{AssignmentId, Epoch, ServiceName, SnapshotVersion};
use colorfast_core::keys::ServiceKeys;
use colorfast_core::names::{metric, shared};
use colorfast_core::plan::{Plan, SlotIndex, SlotSet};
use colorfast_core::plugin::ServiceConfig;
use colorfast_core::settings::OnSlotDown;
use colorfast_core::snapshot::Snapshot;
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::discovery::DiscoveryResponse;

use crate::cell::SharedCell;
use crate::host;
use crate::metrics::{Metrics, RequestCounters};
use crate::watch::{Watch, Watches};

/// A plan, what is counted under it, and what is seen of its slots.
#[derive(Debug)]
pub struct Current {
    /// The plan.
    pub plan: Plan,
    /// The counters of its slots.
    pub counters: RequestCounters,
    watches: Vec<Option<Rc<Watch>>>,
}

impl Current {
    fn new(plan: Plan, watches: &Watches) -> Rc<Self> {
        Rc::new(Self { counters: RequestCounters::new(&plan), watches: watches.of(&plan), plan })
    }

    /// The watch on a slot; none where nothing runs in it, or a hand-written snapshot names no assignment.
    pub fn watch(&self, slot: SlotIndex) -> Option<&Watch> {
        self.watches.get(usize::from(slot.0))?.as_deref()
    }

    /// The slots that are down, where the settings have their sessions go on elsewhere.
    pub fn down(&self, now: UnixMillis) -> SlotSet {
        let mut down = SlotSet::default();
        if self.plan.settings.on_slot_down == OnSlotDown::Reassign {
            let is_down = |slot| self.watch(slot).is_some_and(|watch| watch.is_down(now));
            for (slot, _) in self.plan.slots().filter(|(slot, _)| is_down(*slot)) {
                down = down.with(slot);
            }
        }
        down
    }
}

/// One service of the configuration.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// What is seen of its slots.
    pub watches: Watches,
    keys: Option<ServiceKeys>,
    version_key: String,
    snapshot_key: String,
    cache: SharedCell<Cache>,
    in_vain: Cell<Option<(AssignmentId, UnixMillis)>>,
}

/// How long nobody waits for an assignment that did not come: while the sidecar is away, sessions that began at
/// another proxy pay for that once, not at every request.
const IN_VAIN_MS: u64 = 10_000;

#[derive(Debug)]
struct Cache {
    current: Rc<Current>,
    /// The version that was looked at last; above that of `current` where that one could not be compiled.
    seen: SnapshotVersion,
    announced: bool,
}

impl Service {
    /// The service of a configuration, with its keys from the environment.
    ///
    /// # Errors
    /// Names the field of the bootstrap snapshot, or of the keys, that breaks a rule.
    pub fn new(config: &ServiceConfig, keys: Option<ServiceKeys>) -> Result<Self, FieldError> {
        let name = config.name.clone();
        let bootstrap = config.bootstrap.clone().unwrap_or_else(|| Snapshot::empty(name.clone()));
        let watches = Watches::default();
        let current = Current::new(Plan::compile(&bootstrap, keys.as_ref())?, &watches);
        Ok(Self {
            version_key: shared::version(&name),
            snapshot_key: shared::snapshot(&name),
            name,
            watches,
            keys,
            cache: SharedCell::new(Cache { seen: SnapshotVersion::default(), current, announced: false }),
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
    pub fn current(&self, metrics: &Metrics) -> Option<Rc<Current>> {
        let published = self.published();
        self.cache.with(|cache| {
            if published > cache.seen || !cache.announced {
                self.refresh(cache, metrics, published);
            }
            Rc::clone(&cache.current)
        })
    }

    /// The version that the process has published; the lowest where it has none.
    fn published(&self) -> SnapshotVersion {
        let version = host::shared(&self.version_key).ok().flatten();
        version.and_then(|bytes| SnapshotVersion::from_bytes(&bytes)).unwrap_or_default()
    }

    fn refresh(&self, cache: &mut Cache, metrics: &Metrics, published: SnapshotVersion) {
        let before = cache.announced.then(|| Rc::clone(&cache.current));
        if published > cache.seen {
            cache.seen = published;
            match self.read_published() {
                Ok(plan) => {
                    cache.seen = plan.version.max(published);
                    cache.current = Current::new(plan, &self.watches);
                }
                Err(error) => {
                    log::error!("colorfast {}: the published snapshot {published} is not usable: {error}", self.name);
                    metrics.count(&metric::snapshots_refused(&self.name), 1);
                    return;
                }
            }
        }
        cache.announced = true;
        self.announce(metrics, before.as_ref().map(|before| &before.plan), &cache.current.plan);
    }

    /// Compiles what stands in shared data. It stood there before its version did, so it is that version at least.
    fn read_published(&self) -> Result<Plan, String> {
        let value = host::shared(&self.snapshot_key).map_err(|error| error.to_string())?;
        let value = value.ok_or("there is none")?;
        let (_, answer) = Published::split(&value).ok_or("it is cut short")?;
        self.compile(answer)
    }

    /// Compiles a discovery answer.
    ///
    /// # Errors
    /// A sentence that names the field and the rule.
    pub fn compile(&self, answer: &[u8]) -> Result<Plan, String> {
        let answer: DiscoveryResponse = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
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

    /// Publishes a discovery answer for the whole process, unless there is a newer one: the snapshot first, then its
    /// version, so that whoever sees the version finds the snapshot.
    ///
    /// # Errors
    /// Where the host refuses; nothing, or the snapshot alone, has then changed.
    pub fn publish(&self, version: SnapshotVersion, answer: &[u8]) -> Result<(), host::HostError> {
        host::update_shared(&self.snapshot_key, |current| {
            let current = current.and_then(Published::split).map(|(version, _)| version);
            (current < Some(version)).then(|| Published::join(version, answer))
        })?;
        host::update_shared(&self.version_key, |current| {
            let current = current.and_then(SnapshotVersion::from_bytes);
            (current < Some(version)).then(|| version.to_bytes().to_vec())
        })?;
        Ok(())
    }

    /// Tells by metrics what the process decides by now.
    fn announce(&self, metrics: &Metrics, before: Option<&Plan>, now: &Plan) {
        let running = |plan: &Plan| -> Vec<String> {
            let slots =
                plan.slots().filter_map(|(_, slot)| slot.bundle.as_ref().map(|bundle| (&slot.name, &bundle.id)));
            slots.map(|(slot, bundle)| metric::bundle_info(&self.name, slot, bundle)).collect()
        };
        let runs = running(now);
        for ended in before.map(running).unwrap_or_default().iter().filter(|info| !runs.contains(info)) {
            metrics.gauge(ended, 0);
        }
        for info in &runs {
            metrics.gauge(info, 1);
        }
        metrics.gauge(&metric::keyed(&self.name), u64::from(now.is_keyed()));
        metrics.gauge(&metric::snapshot_version(&self.name), now.version.version);
        // The empty plan of a proxy that waits for its first snapshot has no slot to warn of.
        if !now.is_keyed() && now.slots().any(|(_, slot)| slot.bundle.is_some()) {
            let cause = if self.keys.is_some() { "the snapshot names no ring" } else { "no keys" };
            log::warn!("colorfast {}: {cause}: sessions are placed by hash alone and get no pin", self.name);
        }
    }
}

/// The form of the published value: the version, then the answer as it came.
struct Published;

impl Published {
    const VERSION: usize = 16;

    fn join(version: SnapshotVersion, answer: &[u8]) -> Vec<u8> {
        [version.to_bytes().as_slice(), answer].concat()
    }

    fn split(value: &[u8]) -> Option<(SnapshotVersion, &[u8])> {
        let (version, answer) = value.split_at_checked(Self::VERSION)?;
        Some((SnapshotVersion::from_bytes(version)?, answer))
    }
}
