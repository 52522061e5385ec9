//! Keys of services: drawn before the log names them, read when a service is published, dropped once it names them no more.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use colorfast_core::ids::{KeyId, ServiceName};
use colorfast_core::keys::{Ring, Secret, ServiceKeys};
use colorfast_core::release::RingState;
use serde::{Deserialize, Serialize};

use crate::store::{Outage, PutError, Secrets};

/// The keys of run tokens: one ring for all services of this sidecar.
const RUNS: &str = "application/run-keys";
/// The id of the first key of a ring.
const FIRST: KeyId = KeyId(1);

fn name(service: &ServiceName) -> String {
    format!("service/{service}/keys")
}

/// The keys of run tokens, drawn where there are none.
///
/// # Errors
/// Where they can be neither read nor written.
pub async fn runs(secrets: &dyn Secrets) -> Result<RunKeys> {
    let read = |value: &[u8]| serde_json::from_slice(value).map_err(|_| anyhow!("the keys of runs cannot be read"));
    if let Some(found) = secrets.get(RUNS).await? {
        return read(&found.value);
    }
    let drawn = RunKeys { signing: FIRST, keys: BTreeMap::from([(FIRST, Secret::new(draw()?))]) };
    match secrets.put_if_version(RUNS, 0, serde_json::to_vec(&drawn)?).await {
        Ok(_) => Ok(drawn),
        Err(PutError::Moved(_)) => {
            let found = secrets.get(RUNS).await?.context("the keys of runs are gone")?;
            read(&found.value)
        }
        Err(PutError::Outage(outage)) => Err(outage.into()),
    }
}

/// The keys of run tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunKeys {
    signing: KeyId,
    keys: BTreeMap<KeyId, Secret<32>>,
}

impl RunKeys {
    /// Which of them are in use.
    pub fn ring(&self) -> Ring {
        Ring { signing: self.signing, verifying: self.keys.keys().copied().collect() }
    }

    /// The keys of a service with these beside them.
    pub fn beside(&self, keys: &ServiceKeys) -> Arc<ServiceKeys> {
        Arc::new(ServiceKeys { runs: self.keys.clone(), ..keys.clone() })
    }
}

/// The keys of a service, where there are any.
///
/// # Errors
/// Where they cannot be read.
async fn load(secrets: &dyn Secrets, service: &ServiceName) -> Result<Option<Arc<ServiceKeys>>> {
    let Some(found) = secrets.get(&name(service)).await? else { return Ok(None) };
    Ok(Some(Arc::new(read(service, &found.value)?)))
}

fn read(service: &ServiceName, value: &[u8]) -> Result<ServiceKeys> {
    // The parser's own words might repeat a piece of a key.
    serde_json::from_slice(value).map_err(|_| anyhow!("the keys of {service} cannot be read"))
}

fn gone(service: &ServiceName) -> String {
    format!("the keys of {service} are gone: restore the data folder as a whole")
}

/// The keys of a service that is in the log.
///
/// # Errors
/// Where they cannot be read, or are gone: its pins would all break without a word.
pub async fn load_known(secrets: &dyn Secrets, service: &ServiceName) -> Result<Arc<ServiceKeys>> {
    let keys = load(secrets, service).await?;
    keys.with_context(|| gone(service))
}

/// The keys of a service that is about to be created. What an attempt before it has left behind is used.
///
/// # Errors
/// Where they can be neither read nor written.
pub async fn load_or_draw(secrets: &dyn Secrets, service: &ServiceName, signing: KeyId) -> Result<Arc<ServiceKeys>> {
    if let Some(keys) = load(secrets, service).await? {
        return Ok(keys);
    }
    let ring = BTreeMap::from([(signing, Secret::new(draw()?))]);
    let keys = ServiceKeys { sid: Secret::new(draw()?), ring, runs: BTreeMap::new() };
    match secrets.put_if_version(&name(service), 0, serde_json::to_vec(&keys)?).await {
        Ok(_) => Ok(Arc::new(keys)),
        Err(PutError::Moved(_)) => load_known(secrets, service).await,
        Err(PutError::Outage(outage)) => Err(outage.into()),
    }
}

/// The keys of a service with one of this id among them. What an attempt before it has left behind is used.
///
/// # Errors
/// Where they can be neither read nor written.
pub async fn add(secrets: &dyn Secrets, service: &ServiceName, key: KeyId) -> Result<Arc<ServiceKeys>> {
    edit(secrets, service, |keys| {
        if let Entry::Vacant(place) = keys.ring.entry(key) {
            place.insert(Secret::new(draw()?));
        }
        Ok(())
    })
    .await
}

/// The keys of a service without those that `ring` does not name any more, which are kept nowhere from now on.
///
/// # Errors
/// Where they can be neither read nor written.
pub async fn prune(secrets: &dyn Secrets, service: &ServiceName, ring: &RingState) -> Result<Arc<ServiceKeys>> {
    edit(secrets, service, |keys| {
        keys.ring.retain(|key, _| ring.keys.contains_key(key));
        Ok(())
    })
    .await
}

/// Changes the keys of a service that is in the log; not so where that changes nothing.
async fn edit(
    secrets: &dyn Secrets,
    service: &ServiceName,
    change: impl Fn(&mut ServiceKeys) -> Result<(), Outage>,
) -> Result<Arc<ServiceKeys>> {
    loop {
        let found = secrets.get(&name(service)).await?;
        let found = found.with_context(|| gone(service))?;
        let known = read(service, &found.value)?;
        let mut keys = known.clone();
        change(&mut keys)?;
        if keys == known {
            return Ok(Arc::new(keys));
        }
        match secrets.put_if_version(&name(service), found.version, serde_json::to_vec(&keys)?).await {
            Ok(_) => return Ok(Arc::new(keys)),
            Err(PutError::Moved(_)) => {}
            Err(PutError::Outage(outage)) => return Err(outage.into()),
        }
    }
}

/// Those of `keys` that `ring` names: what a proxy is sent.
pub fn of_ring(keys: &ServiceKeys, ring: &RingState) -> ServiceKeys {
    let mut keys = keys.clone();
    keys.ring.retain(|key, _| ring.keys.contains_key(key));
    keys
}

fn draw<const N: usize>() -> Result<[u8; N], Outage> {
    let mut bytes = [0; N];
    let drawn = getrandom::fill(&mut bytes);
    drawn.map_err(|error| Outage { what: "draw a key", cause: error.to_string() })?;
    Ok(bytes)
}
