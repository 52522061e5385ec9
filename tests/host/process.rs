//! One proxy process: all that its workers share.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crate::metrics::Metrics;
use crate::properties::Properties;
use crate::shared_data::SharedData;
use crate::{Plugin, Result, Status, Vm, Wasm};

/// 2026-01-01T00:00:00Z, where every process's clock starts.
const START_UNIX_SECONDS: u64 = 1_767_225_600;

/// One proxy process. Clones are handles on the same process.
///
/// Time stands still unless a test moves it, and random bytes come from a seed, so the same test
/// always sees the same run.
#[derive(Clone, Debug)]
pub struct Process {
    state: Rc<RefCell<ProcessState>>,
}

#[derive(Debug)]
pub(crate) struct ProcessState {
    pub(crate) shared_data: SharedData,
    pub(crate) queues: Vec<Queue>,
    pub(crate) metrics: Metrics,
    pub(crate) properties: Properties,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) missing_clusters: BTreeSet<String>,
    pub(crate) wall: Duration,
    pub(crate) monotonic: Duration,
    pub(crate) entropy: Entropy,
}

/// A named queue between VMs.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) vm_id: String,
    pub(crate) name: Vec<u8>,
    pub(crate) entries: VecDeque<Vec<u8>>,
}

impl Default for Process {
    fn default() -> Self {
        Self::new()
    }
}

impl Process {
    /// A process with nothing in it, random bytes from seed 0.
    pub fn new() -> Self {
        Self::seeded(0)
    }

    /// A process whose random bytes come from this seed: two processes that must not draw the same
    /// numbers get two seeds.
    pub fn seeded(seed: u64) -> Self {
        let state = ProcessState {
            shared_data: SharedData::default(),
            queues: Vec::new(),
            metrics: Metrics::default(),
            properties: Properties::default(),
            environment: BTreeMap::new(),
            missing_clusters: BTreeSet::new(),
            wall: Duration::from_secs(START_UNIX_SECONDS),
            monotonic: Duration::ZERO,
            entropy: Entropy(seed),
        };
        Self { state: Rc::new(RefCell::new(state)) }
    }

    /// Starts one more VM: a worker, a new configuration's VM, or a canary that is dropped again.
    ///
    /// # Errors
    /// When the module cannot be started, traps on the way, or refuses its configuration.
    pub fn start(&self, wasm: &Wasm, plugin: Plugin) -> Result<Vm> {
        Vm::start(self.clone(), wasm, plugin)
    }

    /// Sets an environment variable that `host_env_keys` lets through to VMs started from now on.
    pub fn set_env(&self, name: &str, value: &str) {
        self.edit().environment.insert(name.to_owned(), value.to_owned());
    }

    /// Offers a property to every context, such as `["xds", "node", "id"]`.
    pub fn offer(&self, path: &[&str], value: impl AsRef<[u8]>) {
        self.edit().properties.set(path, value.as_ref());
    }

    /// Takes a cluster away: HTTP calls to it are refused. All other clusters exist.
    pub fn remove_cluster(&self, name: &str) {
        self.edit().missing_clusters.insert(name.to_owned());
    }

    /// Undoes [`Process::remove_cluster`].
    pub fn restore_cluster(&self, name: &str) {
        self.edit().missing_clusters.remove(name);
    }

    /// The wall clock: time since the Unix epoch.
    pub fn now(&self) -> Duration {
        self.read().wall
    }

    /// Lets time pass, on the wall clock and on the monotonic one.
    pub fn advance(&self, by: Duration) {
        let mut state = self.edit();
        state.wall += by;
        state.monotonic += by;
    }

    /// Moves the wall clock alone, backwards too, as an administrator or a time server may.
    pub fn set_now(&self, since_unix_epoch: Duration) {
        self.edit().wall = since_unix_epoch;
    }

    /// Value and `cas` of a key that VMs with the default `vm_id` share.
    pub fn shared_data(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        let state = self.read();
        let (value, cas) = state.shared_data.get(Plugin::DEFAULT_VM_ID, key.as_bytes())?;
        Some((value.to_vec(), cas))
    }

    /// Writes a key as a VM with the default `vm_id` would; the rules are those of
    /// [`SharedData`].
    ///
    /// # Errors
    /// [`Status::CasMismatch`] where the key was written since `cas` was read.
    pub fn set_shared_data(&self, key: &str, value: impl AsRef<[u8]>, cas: Option<u32>) -> Result<(), Status> {
        self.edit().shared_data.set(Plugin::DEFAULT_VM_ID, key.as_bytes(), value.as_ref(), cas.unwrap_or(0))
    }

    /// Has another VM write a key right after it is read next, as in a race that is lost.
    pub fn plan_rival(&self, key: &str, value: impl AsRef<[u8]>) {
        self.edit().shared_data.plan_rival(key.as_bytes(), value.as_ref());
    }

    /// The keys of the shared data of the default `vm_id`, sorted.
    pub fn shared_keys(&self) -> Vec<String> {
        self.read().shared_data.keys(Plugin::DEFAULT_VM_ID)
    }

    /// A counter's value; one that nobody defined counts nothing.
    pub fn counter(&self, name: &str) -> u64 {
        self.read().metrics.counters.get(name).copied().unwrap_or_default()
    }

    /// Every counter that was defined, by name.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        self.read().metrics.counters.clone()
    }

    /// A gauge's value, where one is defined.
    pub fn gauge(&self, name: &str) -> Option<u64> {
        self.read().metrics.gauges.get(name).copied()
    }

    /// Every gauge that was defined, by name.
    pub fn gauges(&self) -> BTreeMap<String, u64> {
        self.read().metrics.gauges.clone()
    }

    /// The samples that a histogram took, oldest first.
    pub fn histogram(&self, name: &str) -> Vec<u64> {
        self.read().metrics.histograms.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn read(&self) -> Ref<'_, ProcessState> {
        self.state.borrow()
    }

    pub(crate) fn edit(&self) -> RefMut<'_, ProcessState> {
        self.state.borrow_mut()
    }
}

/// Random bytes that are the same in every run: SplitMix64.
#[derive(Debug)]
pub(crate) struct Entropy(u64);

impl Entropy {
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same seed draws the same bytes, another seed others.
    #[test]
    fn entropy_follows_its_seed() {
        assert_eq!(Entropy(7).bytes(13), Entropy(7).bytes(13));
        assert_ne!(Entropy(7).bytes(13), Entropy(8).bytes(13));
        assert_eq!(Entropy(7).bytes(13).len(), 13);
    }

    /// A clock that is set back leaves the monotonic one alone.
    #[test]
    fn the_wall_clock_may_go_back() {
        let process = Process::new();
        process.advance(Duration::from_secs(10));
        process.set_now(Duration::from_secs(1));
        assert_eq!(process.now(), Duration::from_secs(1));
        assert_eq!(process.read().monotonic, Duration::from_secs(10));
    }
}
