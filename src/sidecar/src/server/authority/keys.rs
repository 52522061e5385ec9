//! Keys: drawn before the log names them, read when they are published, dropped once the log names them no more. Each
//! service has some of its own, and all of them share those of run tokens.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use colorfast_core::ids::{KeyId, ServiceName};
use colorfast_core::keys::{Secret, ServiceKeys};
use colorfast_core::release::{ApplicationState, RingState};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::store::{Outage, PutError, Secrets};

/// The keys of one ring, by id.
type Keys = BTreeMap<KeyId, Secret<32>>;

/// Where keys are kept, and whose they are.
struct Place {
    name: String,
    of: String,
}

impl Place {
    fn of(service: &ServiceName) -> Self {
        Self { name: format!("service/{service}/keys"), of: service.to_string() }
    }

    fn of_runs() -> Self {
        Self { name: "application/run-keys".to_owned(), of: "runs".to_owned() }
    }

    fn gone(&self) -> String {
        format!("the keys of {} are gone: restore the data folder as a whole", self.of)
    }

    fn read<T: DeserializeOwned>(&self, value: &[u8]) -> Result<T> {
        // The parser's own words might repeat a piece of a key.
        serde_json::from_slice(value).map_err(|_| anyhow!("the keys of {} cannot be read", self.of))
    }

    /// What is kept, where there is anything.
    async fn load<T: DeserializeOwned>(&self, secrets: &dyn Secrets) -> Result<Option<T>> {
        secrets.get(&self.name).await?.map(|found| self.read(&found.value)).transpose()
    }

    /// What is kept; else `drawn` is from now on, unless somebody else was faster.
    async fn load_or_keep<T: Serialize + DeserializeOwned>(
        &self,
        secrets: &dyn Secrets,
        drawn: impl FnOnce() -> Result<T, Outage>,
    ) -> Result<T> {
        if let Some(kept) = self.load(secrets).await? {
            return Ok(kept);
        }
        let drawn = drawn()?;
        match secrets.put_if_version(&self.name, 0, serde_json::to_vec(&drawn)?).await {
            Ok(_) => Ok(drawn),
            Err(PutError::Moved(_)) => self.load(secrets).await?.with_context(|| self.gone()),
            Err(PutError::Outage(outage)) => Err(outage.into()),
        }
    }

    /// Changes what is kept; not so where that changes nothing.
    async fn edit<T: Clone + PartialEq + Serialize + DeserializeOwned>(
        &self,
        secrets: &dyn Secrets,
        change: impl Fn(&mut T) -> Result<(), Outage>,
    ) -> Result<T> {
        loop {
            let found = secrets.get(&self.name).await?;
            let found = found.with_context(|| self.gone())?;
            let known: T = self.read(&found.value)?;
            let mut keys = known.clone();
            change(&mut keys)?;
            if keys == known {
                return Ok(keys);
            }
            match secrets.put_if_version(&self.name, found.version, serde_json::to_vec(&keys)?).await {
                Ok(_) => return Ok(keys),
                Err(PutError::Moved(_)) => {}
                Err(PutError::Outage(outage)) => return Err(outage.into()),
            }
        }
    }
}

/// The keys of run tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunKeys {
    keys: Keys,
}

impl RunKeys {
    /// All that are kept, drawn where there are none and no entry of the log names any.
    ///
    /// # Errors
    /// Where they can be neither read nor written, or are gone: every run would lose its bundle without a word.
    pub async fn load_or_draw(secrets: &dyn Secrets, application: &ApplicationState) -> Result<Self> {
        let place = Place::of_runs();
        let keys = match application.unnamed() {
            Some(first) => place.load_or_keep(secrets, || Ok(Self { keys: drawn(first)? })).await?,
            None => place.load(secrets).await?.with_context(|| place.gone())?,
        };
        if !keys.has_all(&application.runs) {
            return Err(anyhow!(place.gone()));
        }
        Ok(keys)
    }

    /// All that are kept, with one of this id among them. What an attempt before it has left behind is used.
    ///
    /// # Errors
    /// Where they can be neither read nor written.
    pub async fn add(secrets: &dyn Secrets, key: KeyId) -> Result<Self> {
        Place::of_runs().edit(secrets, |kept: &mut Self| put(&mut kept.keys, key)).await
    }

    /// Those that `ring` names; the others are kept nowhere from now on.
    ///
    /// # Errors
    /// Where they can be neither read nor written.
    pub async fn prune(secrets: &dyn Secrets, ring: &RingState) -> Result<Self> {
        let pruned = |kept: &mut Self| {
            retain(&mut kept.keys, ring);
            Ok(())
        };
        Place::of_runs().edit(secrets, pruned).await
    }

    /// Whether these are all that `ring` names.
    pub fn has_all(&self, ring: &RingState) -> bool {
        ring.keys.keys().all(|key| self.keys.contains_key(key))
    }

    /// The keys of a service with those of `ring` beside them: what a proxy is sent.
    pub fn beside(&self, ring: &RingState, keys: ServiceKeys) -> ServiceKeys {
        let mut runs = self.keys.clone();
        retain(&mut runs, ring);
        ServiceKeys { runs, ..keys }
    }
}

/// The keys of a service that is in the log.
///
/// # Errors
/// Where they cannot be read, or are gone: its pins would all break without a word.
pub async fn load_known(secrets: &dyn Secrets, service: &ServiceName) -> Result<Arc<ServiceKeys>> {
    let place = Place::of(service);
    let keys = place.load(secrets).await?;
    keys.map(Arc::new).with_context(|| place.gone())
}

/// The keys of a service that is about to be created. What an attempt before it has left behind is used.
///
/// # Errors
/// Where they can be neither read nor written.
pub async fn load_or_draw(secrets: &dyn Secrets, service: &ServiceName, signing: KeyId) -> Result<Arc<ServiceKeys>> {
    let all = || Ok(ServiceKeys { sid: Secret::new(draw()?), ring: drawn(signing)?, runs: BTreeMap::new() });
    Place::of(service).load_or_keep(secrets, all).await.map(Arc::new)
}

/// The keys of a service with one of this id among them. What an attempt before it has left behind is used.
///
/// # Errors
/// Where they can be neither read nor written.
pub async fn add(secrets: &dyn Secrets, service: &ServiceName, key: KeyId) -> Result<Arc<ServiceKeys>> {
    let added = Place::of(service).edit(secrets, |kept: &mut ServiceKeys| put(&mut kept.ring, key)).await;
    added.map(Arc::new)
}

/// The keys of a service without those that `ring` does not name any more, which are kept nowhere from now on.
///
/// # Errors
/// Where they can be neither read nor written.
pub async fn prune(secrets: &dyn Secrets, service: &ServiceName, ring: &RingState) -> Result<Arc<ServiceKeys>> {
    let pruned = |kept: &mut ServiceKeys| {
        retain(&mut kept.ring, ring);
        Ok(())
    };
    Place::of(service).edit(secrets, pruned).await.map(Arc::new)
}

/// Those of `keys` that `ring` names: what a proxy is sent.
pub fn of_ring(keys: &ServiceKeys, ring: &RingState) -> ServiceKeys {
    let mut keys = keys.clone();
    retain(&mut keys.ring, ring);
    keys
}

fn retain(keys: &mut Keys, ring: &RingState) {
    keys.retain(|key, _| ring.keys.contains_key(key));
}

/// Draws a key of this id, unless there is one.
fn put(keys: &mut Keys, key: KeyId) -> Result<(), Outage> {
    if let Entry::Vacant(place) = keys.entry(key) {
        place.insert(Secret::new(draw()?));
    }
    Ok(())
}

/// A ring of one new key.
fn drawn(key: KeyId) -> Result<Keys, Outage> {
    Ok(BTreeMap::from([(key, Secret::new(draw()?))]))
}

fn draw<const N: usize>() -> Result<[u8; N], Outage> {
    let mut bytes = [0; N];
    let drawn = getrandom::fill(&mut bytes);
    drawn.map_err(|error| Outage { what: "draw a key", cause: error.to_string() })?;
    Ok(bytes)
}
