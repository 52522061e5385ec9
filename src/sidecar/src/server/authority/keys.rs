//! Keys of services: drawn before a service is created, read when it is published.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use colorfast_core::ids::{KeyId, ServiceName};
use colorfast_core::keys::{Ring, Secret, ServiceKeys};
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
    // The parser's own words might repeat a piece of a key.
    let keys = serde_json::from_slice(&found.value).map_err(|_| anyhow!("the keys of {service} cannot be read"))?;
    Ok(Some(Arc::new(keys)))
}

/// The keys of a service that is in the log.
///
/// # Errors
/// Where they cannot be read, or are gone: its pins would all break without a word.
pub async fn load_known(secrets: &dyn Secrets, service: &ServiceName) -> Result<Arc<ServiceKeys>> {
    let keys = load(secrets, service).await?;
    keys.with_context(|| format!("the keys of {service} are gone: restore the data folder as a whole"))
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

fn draw<const N: usize>() -> Result<[u8; N], Outage> {
    let mut bytes = [0; N];
    let drawn = getrandom::fill(&mut bytes);
    drawn.map_err(|error| Outage { what: "draw a key", cause: error.to_string() })?;
    Ok(bytes)
}
