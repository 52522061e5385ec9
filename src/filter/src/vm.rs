//! What one root context and the streams under it share.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::rc::Rc;

use colorfast_core::ids::ServiceName;
use colorfast_core::json::{self, Unreadable};
use colorfast_core::keys::ServiceKeys;
use colorfast_core::names::{self, metric};
use colorfast_core::plugin::{PluginConfig, ServiceConfig};
use colorfast_core::rendezvous;
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::reports::Chain;

use crate::asks::Asks;
use crate::body::BodyWaits;
use crate::host;
use crate::metrics::Metrics;
use crate::service::Service;
use crate::ticket::Tickets;
use crate::waiting::Waiting;

/// One plugin configuration in one VM.
#[derive(Debug)]
pub struct Vm {
    /// The configuration.
    pub config: PluginConfig,
    /// The services, in the order of the configuration.
    pub services: Vec<Rc<Service>>,
    /// Bearer token of discovery.
    pub token: Option<String>,
    /// What proves to the sidecar which process this is.
    pub tickets: Tickets,
    /// Metric ids.
    pub metrics: Metrics,
    /// Streams that wait for something.
    pub waiting: Waiting,
    /// Whether bodies come to requests that wait.
    pub bodies: BodyWaits,
    /// Questions after sessions.
    pub asks: Asks,
    /// When the process was first configured.
    pub started: UnixMillis,
    clock: Cell<UnixMillis>,
    draws: Draws,
    chain: Cell<Chain>,
    configuration: u64,
}

impl Vm {
    /// Reads the plugin configuration and the environment.
    ///
    /// # Errors
    /// A sentence that names the field or the variable and the rule.
    pub fn configure(text: &[u8]) -> Result<Self, String> {
        let config: PluginConfig = json::read(text).map_err(|error| format!("plugin configuration: {error}"))?;
        config.validate().map_err(|error| format!("plugin configuration: {error}"))?;
        let keys = environment_keys()?;
        let now = host::now();
        let service = |service: &ServiceConfig| {
            let made = Service::new(service, keys.get(&service.name).cloned());
            made.map(Rc::new).map_err(|error| format!("snapshot of {}: {error}", service.name))
        };
        let services = config.services.iter().map(service).collect::<Result<_, _>>()?;
        Ok(Self {
            services,
            tickets: Tickets::new(&config.sidecar_cluster),
            config,
            token: std::env::var(names::ENV_TOKEN).ok().filter(|token| !token.is_empty()),
            metrics: Metrics::default(),
            waiting: Waiting::default(),
            bodies: BodyWaits::default(),
            asks: Asks::default(),
            started: first_configuration(now),
            clock: Cell::new(now),
            draws: Draws::seeded(now),
            chain: Cell::new(Chain::Single),
            configuration: hash(text),
        })
    }

    /// The time by the host's clock.
    pub fn read_clock(&self) -> UnixMillis {
        let now = host::now();
        self.clock.set(now);
        now
    }

    /// The time as it was read last, a tick ago at most: without a host call.
    pub fn recent_time(&self) -> UnixMillis {
        self.clock.get()
    }

    /// Notes that a request came that another filter of its chain had decided: counted each time, told once.
    pub fn found_doubled(&self, service: &ServiceName) {
        self.metrics.count(&metric::doubled(service), 1);
        if self.chain.replace(Chain::Doubled) == Chain::Doubled {
            return;
        }
        let mark = self.configuration.to_le_bytes();
        let first = host::update_shared(names::shared::DOUBLED, |told| (told != Some(&mark)).then(|| mark.to_vec()));
        if first == Ok(true) {
            log::error!(
                "colorfast {service}: colorfast stands twice in a filter chain: the first decides, this one lets \
                 everything pass: take one of them out"
            );
        }
    }

    /// Notes that a body came to a request that had been decided without it at `decided`.
    pub fn body_came_late(&self, service: &ServiceName, decided: UnixMillis) {
        if self.bodies.came_late(decided, self.read_clock()) {
            log::error!(
                "colorfast {service}: bodies are held back from requests that wait, so that session ids in bodies are not \
                 found: the plugin lacks allow_on_headers_stop_iteration: true"
            );
        }
    }

    /// Whether this filter was found to be a second one.
    pub fn chain(&self) -> Chain {
        self.chain.get()
    }

    /// A uniformly random number.
    pub fn draw(&self) -> u64 {
        self.draws.next()
    }
}

/// `COLORFAST_KEYS`: keys for the start without a sidecar, or for snapshots that come without.
fn environment_keys() -> Result<BTreeMap<ServiceName, ServiceKeys>, String> {
    match std::env::var(names::ENV_KEYS) {
        Ok(text) if !text.is_empty() => {
            // What is told must not repeat a piece of a key, be it in the wrong place.
            json::read(text.as_bytes()).map_err(|error| match error {
                Unreadable::NotJson { line, column } => {
                    format!("{}: is not JSON (line {line}, column {column})", names::ENV_KEYS)
                }
                Unreadable::Field(_) => format!("{}: not a JSON object of service names to keys", names::ENV_KEYS),
            })
        }
        _ => Ok(BTreeMap::new()),
    }
}

/// When this process was first configured: by the first that asks, for all.
fn first_configuration(now: UnixMillis) -> UnixMillis {
    let first = host::put_if_absent(names::shared::STARTED, &now.0.to_le_bytes());
    let first = first.ok().and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    UnixMillis(first.unwrap_or(now.0))
}

/// SplitMix64 (Steele, Lea and Flood, 2014), seeded by the system: a random number costs no host call.
/// What is drawn places sessions and names them; it guards nothing.
#[derive(Debug)]
struct Draws(Cell<u64>);

impl Draws {
    fn seeded(now: UnixMillis) -> Self {
        Self(Cell::new(random().unwrap_or(now.0)))
    }

    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        rendezvous::mix(state)
    }
}

/// The same in every VM of the process.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// A number from the system's entropy.
pub fn random() -> Option<u64> {
    getrandom::u64().ok()
}
