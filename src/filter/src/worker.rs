//! One plugin configuration in one worker: what all its requests, and its part in the fleet, go by.
//!
//! A worker is a VM with a root context per configuration. What only requests share is theirs ([`crate::request`]), and
//! what leads to the sidecar is the sidecar's ([`crate::sidecar`]): neither is known here.

use std::collections::BTreeMap;
use std::rc::Rc;

use colorfast_core::ids::ServiceName;
use colorfast_core::json::{self, Unreadable};
use colorfast_core::keys::ServiceKeys;
use colorfast_core::names;
use colorfast_core::plugin::{PluginConfig, ServiceConfig};
use colorfast_core::time::UnixMillis;

use crate::clock::Clock;
use crate::entropy::Draws;
use crate::host;
use crate::metrics::Metrics;
use crate::service::Service;

/// One plugin configuration in one worker.
#[derive(Debug)]
pub struct Worker {
    /// The configuration.
    pub config: PluginConfig,
    /// The services, in the order of the configuration.
    pub services: Vec<Rc<Service>>,
    /// The time.
    pub clock: Clock,
    /// Random numbers.
    pub draws: Rc<Draws>,
    /// When the process was first configured.
    pub started: UnixMillis,
}

impl Worker {
    /// Reads the plugin configuration and the keys in the environment.
    ///
    /// # Errors
    /// A sentence that names the field or the variable and the rule.
    pub fn configure(text: &[u8]) -> Result<Self, String> {
        let config: PluginConfig = json::read(text).map_err(|error| format!("plugin configuration: {error}"))?;
        config.validate().map_err(|error| format!("plugin configuration: {error}"))?;
        let keys = environment_keys()?;
        let metrics = Rc::new(Metrics::default());
        let now = host::now();
        let service = |service: &ServiceConfig| {
            let made = Service::new(service, keys.get(&service.name).cloned(), &metrics);
            made.map(Rc::new).map_err(|error| format!("snapshot of {}: {error}", service.name))
        };
        Ok(Self {
            services: config.services.iter().map(service).collect::<Result<_, _>>()?,
            config,
            clock: Clock::at(now),
            draws: Rc::new(Draws::seeded(now)),
            started: first_configuration(now),
        })
    }

    /// The services, each with its part of the configuration.
    pub fn configured(&self) -> impl Iterator<Item = (&Service, &ServiceConfig)> {
        self.services.iter().map(Rc::as_ref).zip(&self.config.services)
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
