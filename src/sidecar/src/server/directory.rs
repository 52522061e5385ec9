//! What the authority publishes: the newest state of every service, to be read and waited on.

use std::collections::BTreeMap;
use std::sync::Arc;

use colorfast_core::ids::ServiceName;
use colorfast_core::keys::ServiceKeys;
use colorfast_core::release::ServiceState;
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

/// Every service, by name.
#[derive(Debug, Default)]
pub struct Directory {
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
