//! A proxy as the cases speak of it: one process, its workers, and the listener's configuration.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::LazyLock;
use std::time::Duration;

use colorfast_core::names;
use colorfast_core::plugin::{Direction, Match, PluginConfig, ServiceConfig};
use colorfast_core::snapshot::Snapshot;
use wasm_host::{HeaderPause, Plugin, Process, Vm, Wasm};

use crate::releases::service;
use crate::request::{Request, Sent};
use crate::sidecar::{self, Poll};

/// Compiled once for all cases.
static FILTER: LazyLock<Wasm> = LazyLock::new(|| wasm_host::load().unwrap());

/// How often a worker ticks.
pub const TICK_MS: u64 = 20;
/// Longer than a lease lasts and is looked at.
pub const LEASE_OVER_MS: u64 = 2_600;

/// One proxy process and its listener's configuration.
pub struct Proxy {
    /// The process.
    pub process: Process,
    config: PluginConfig,
    header_pause: HeaderPause,
}

impl Proxy {
    /// A proxy with this configuration, and a token for the sidecar.
    pub fn configured(config: PluginConfig) -> Self {
        let process = Process::new();
        process.set_env(names::ENV_TOKEN, "secret");
        process.offer(&["xds", "node", "id"], "edge-1");
        Self { process, config, header_pause: HeaderPause::default() }
    }

    /// A proxy with these services.
    pub fn of(services: impl IntoIterator<Item = ServiceConfig>) -> Self {
        Self::configured(PluginConfig {
            services: services.into_iter().collect(),
            sidecar_cluster: sidecar::CLUSTER.to_owned(),
            direction: Direction::Ingress,
        })
    }

    /// A proxy with the service `chat` and no bootstrap snapshot.
    pub fn chat() -> Self {
        Self::of([configured("chat", None)])
    }

    /// A proxy with the service `chat` and a bootstrap snapshot.
    pub fn bootstrapped(snapshot: Snapshot) -> Self {
        Self::of([configured("chat", Some(snapshot))])
    }

    /// With the listener's answer to what a paused headers callback stops.
    pub fn header_pause(mut self, pause: HeaderPause) -> Self {
        self.header_pause = pause;
        self
    }

    /// With another process.
    pub fn on(mut self, process: Process) -> Self {
        self.process = process;
        self
    }

    /// The plugin as a worker gets it.
    pub fn plugin(&self) -> Plugin {
        Plugin::config(serde_json::to_vec(&self.config).unwrap()).header_pause(self.header_pause)
    }

    /// One more worker, configured and not ticked yet.
    pub fn worker(&self) -> Worker {
        self.worker_of(self.plugin())
    }

    /// One more worker with a plugin of its own.
    pub fn worker_of(&self, plugin: Plugin) -> Worker {
        self.try_worker(plugin).unwrap()
    }

    /// One more worker with a plugin of its own, which it may refuse.
    pub fn try_worker(&self, plugin: Plugin) -> wasm_host::Result<Worker> {
        let vm = self.process.start(&FILTER, plugin)?;
        Ok(Worker { vm, process: self.process.clone(), tolerated: Cell::default() })
    }

    /// Several workers.
    pub fn workers<const N: usize>(&self) -> [Worker; N] {
        std::array::from_fn(|_| self.worker())
    }

    /// A worker that has been brought this snapshot: what most cases begin with.
    pub fn with(&self, snapshot: &Snapshot) -> Worker {
        let worker = self.worker();
        worker.tick();
        worker.hear(snapshot);
        worker
    }

    /// Time passes, and nobody notices.
    pub fn wait(&self, millis: u64) {
        self.process.advance(Duration::from_millis(millis));
    }

    /// Time passes, and these workers tick.
    pub fn run<'a>(&self, millis: u64, workers: impl IntoIterator<Item = &'a Worker> + Clone) {
        for _ in 0..millis.div_ceil(TICK_MS) {
            self.wait(TICK_MS);
            workers.clone().into_iter().for_each(Worker::tick);
        }
    }

    /// The counters of `chat` that are not 0, by what follows the service's name.
    pub fn counted(&self) -> Vec<(String, u64)> {
        let counters = self.process.counters().into_iter().filter(|(_, count)| *count > 0);
        let of_chat =
            |(name, count): (String, u64)| Some((name.strip_prefix("colorfast.service.chat.")?.into(), count));
        counters.filter_map(of_chat).collect()
    }

    /// One counter of `chat`, by what follows the service's name.
    pub fn count(&self, name: &str) -> u64 {
        self.process.counter(&format!("colorfast.service.chat.{name}"))
    }

    /// One gauge of `chat`, likewise.
    pub fn gauge(&self, name: &str) -> Option<u64> {
        self.process.gauge(&format!("colorfast.service.chat.{name}"))
    }
}

/// A service that takes every request.
pub fn configured(name: &str, bootstrap: Option<Snapshot>) -> ServiceConfig {
    ServiceConfig { name: service(name), matches: Match::default(), bootstrap, snapshot: None }
}

/// A service that takes the requests of one host.
pub fn hosted(name: &str, host: &str) -> ServiceConfig {
    let matches = Match { hosts: vec![host.to_owned()], path_prefixes: Vec::new() };
    ServiceConfig { name: service(name), matches, bootstrap: None, snapshot: None }
}

/// One worker: a VM of the process. Whatever the case is about, it must not make a host call that Envoy would refuse.
pub struct Worker {
    vm: Vm,
    process: Process,
    tolerated: Cell<Option<&'static str>>,
}

impl Worker {
    /// Lets its timer fire.
    pub fn tick(&self) {
        self.vm.tick().unwrap();
    }

    /// The one poll that it holds open.
    pub fn poll(&self) -> Poll {
        let mut polls = sidecar::polls(&self.vm);
        assert_eq!(polls.len(), 1, "polls that are held open");
        polls.remove(0)
    }

    /// The poll that it made last: those before it were given up.
    pub fn newest_poll(&self) -> Poll {
        sidecar::polls(&self.vm).pop().expect("a poll")
    }

    /// How many polls it has made that were not answered.
    pub fn poll_count(&self) -> usize {
        sidecar::polls(&self.vm).len()
    }

    /// Whether it polls.
    pub fn polls(&self) -> bool {
        !sidecar::polls(&self.vm).is_empty()
    }

    /// Its poll brings a snapshot.
    pub fn hear(&self, snapshot: &Snapshot) {
        self.poll().bring(snapshot);
    }

    /// A request comes; whether it waits is the filter's to say.
    pub fn send(&self, request: Request) -> Sent {
        Sent::headers(self.vm.stream(), request)
    }

    /// The bundle that a request of a new session is stamped with now.
    pub fn serves(&self) -> Option<String> {
        self.send(Request::new()).bundle()
    }

    /// In this case refusals of this host call are what the case is about.
    pub fn tolerate(&self, import: &'static str) {
        self.tolerated.set(Some(import));
    }

    /// The time on the process's clock.
    pub fn now(&self) -> Duration {
        self.process.now()
    }
}

impl Deref for Worker {
    type Target = Vm;

    fn deref(&self) -> &Vm {
        &self.vm
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let mut complaints = self.vm.complaints();
            complaints.retain(|complaint| Some(complaint.import) != self.tolerated.get());
            assert_eq!(complaints, []);
        }
    }
}
