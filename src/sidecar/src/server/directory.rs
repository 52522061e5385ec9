//! What the authority publishes: the newest state of every service, to be read and waited on.

use std::collections::BTreeMap;
use std::sync::Arc;

use colorfast_core::ids::ServiceName;
use colorfast_core::keys::ServiceKeys;
use colorfast_core::release::{ApplicationState, ServiceState};
use colorfast_core::snapshot::{Resource, Snapshot};
use parking_lot::RwLock;
use tokio::sync::watch;

/// One service as of its last event. Immutable; the next event publishes another.
#[derive(Debug)]
pub struct Published {
    /// Its release state.
    pub state: ServiceState,
    /// The document for proxies.
    pub snapshot: Snapshot,
    /// The keys that travel beside it.
    pub keys: Arc<ServiceKeys>,
}

impl Published {
    /// What a proxy is sent.
    pub fn resource(&self) -> Resource {
        Resource { state: self.snapshot.clone(), keys: Some(ServiceKeys::clone(&self.keys)) }
    }
}

/// Every service, by name, and what is of all of them.
#[derive(Debug, Default)]
pub struct Directory {
    application: RwLock<Arc<ApplicationState>>,
    services: RwLock<BTreeMap<ServiceName, watch::Sender<Arc<Published>>>>,
}

impl Directory {
    /// The service, now and whenever it changes.
    pub fn watch(&self, service: &ServiceName) -> Option<watch::Receiver<Arc<Published>>> {
        self.services.read().get(service).map(watch::Sender::subscribe)
    }

    /// Every service now.
    pub fn all(&self) -> Vec<Arc<Published>> {
        self.services.read().values().map(|service| service.borrow().clone()).collect()
    }

    /// What is of all services now.
    pub fn application(&self) -> Arc<ApplicationState> {
        self.application.read().clone()
    }

    /// Shows a newer state of what is of all services.
    pub fn publish_application(&self, state: ApplicationState) {
        *self.application.write() = Arc::new(state);
    }

    /// Shows a newer state of a service to everyone who waits for it.
    pub fn publish(&self, published: Published) {
        let service = published.snapshot.service.clone();
        let published = Arc::new(published);
        if let Some(known) = self.services.read().get(&service) {
            known.send_replace(published);
            return;
        }
        self.services.write().insert(service, watch::Sender::new(published));
    }
}
