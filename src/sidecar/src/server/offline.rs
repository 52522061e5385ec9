//! The same authority without addresses: a control API in this process, on a store of files that no proxy reports to.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use colorfast_core::ids::ServiceName;
use colorfast_core::keys::ServiceKeys;
use colorfast_core::release::Reach;
use colorfast_core::snapshot::Snapshot;

use super::access::{Caller, Grant};
use super::copies::Backups;
use super::sidecar::Inside;
use super::{control, files};
use crate::api::tokens::Role;
use crate::data_dir::{LOG_FILE, SECRETS_FILE, STORE_FILE};
use crate::store::files::Files;
use crate::store::{DirLock, Passing, Stores};

/// There is no member that could be silent for so long.
const MEMBER_TTL: Duration = Duration::from_secs(45);

/// How much of a hash tells two copies of a log apart: 48 bits.
const LINEAGE_DIGITS: usize = 12;

/// An offline store that is open. Nobody else opens it meanwhile.
#[derive(Debug)]
pub struct Offline {
    inside: Inside,
    store: Arc<Files>,
    principal: String,
    _lock: DirLock,
}

/// What to do where there is no store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Make one.
    Make,
    /// Refuse.
    Refuse,
}

/// Why a store was not opened. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// There is none.
    #[error("there is no offline store in {}", .0.display())]
    None(PathBuf),
    /// The folder is a sidecar's.
    #[error("{} is the data directory of a sidecar, and its log goes on there", .0.display())]
    OfSidecar(PathBuf),
    /// The keys are elsewhere.
    #[error("{} is missing, and without its keys every pin would break: put it back from where you keep it", .0.display())]
    NoSecrets(PathBuf),
    /// Another command is at it.
    #[error("{0:#}")]
    InUse(anyhow::Error),
    /// It cannot be read or written, or is not in order.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl Offline {
    /// Opens the store in `folder`, in the name of `principal`.
    ///
    /// # Errors
    /// See [`OfflineError`].
    pub async fn open(folder: &Path, missing: Missing, principal: String) -> Result<Self, OfflineError> {
        let is_there = |name: &str| match fs::symlink_metadata(folder.join(name)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot look at {}", folder.join(name).display())),
        };
        if is_there(STORE_FILE)? {
            return Err(OfflineError::OfSidecar(folder.to_owned()));
        }
        match (is_there(LOG_FILE)?, missing) {
            (true, _) if !is_there(SECRETS_FILE)? => return Err(OfflineError::NoSecrets(folder.join(SECRETS_FILE))),
            (true, _) => {}
            (false, Missing::Refuse) => return Err(OfflineError::None(folder.to_owned())),
            (false, Missing::Make) => {
                fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            }
        }
        let lock = DirLock::take(folder).map_err(OfflineError::InUse)?;
        files::check_private(&folder.join(SECRETS_FILE))?;
        let store = Arc::new(Files::open(folder)?);
        let ephemera = Arc::new(Passing::default());
        let backups = Backups::new(store.clone(), ephemera.clone(), folder).context("cannot read the folder")?;
        let stores = Stores { log: store.clone(), secrets: store.clone(), ephemera };
        let inside = Inside::start(stores, backups, MEMBER_TTL, Reach::Offline, None).await?;
        Ok(Self { inside, store, principal, _lock: lock })
    }

    /// Its control API.
    pub fn control(&self) -> Router {
        let (principal, grant) = (self.principal.as_str().into(), Grant::Control(Role::Admin));
        control::inside(self.inside.control.clone(), Caller { principal, grant })
    }

    /// What proxies decide by, of every service. Each says by the hash of its entry of which copy of the log it is.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let all = self.inside.control.directory.all();
        let lineage = |version| lineage(&self.store.hash(version)?);
        let of = |snapshot: &Snapshot| Snapshot { lineage: lineage(snapshot.version), ..snapshot.clone() };
        all.iter().map(|published| of(&published.snapshot)).collect()
    }

    /// The keys that proxies decide with, of every service.
    pub fn keys(&self) -> Vec<(ServiceName, ServiceKeys)> {
        let all = self.inside.control.directory.all();
        all.iter().map(|published| (published.snapshot.service.clone(), ServiceKeys::clone(&published.keys))).collect()
    }
}

/// The beginning of a hash, as a number that every reader of JSON has room for.
fn lineage(hash: &str) -> Option<u64> {
    u64::from_str_radix(hash.split_once(':')?.1.get(..LINEAGE_DIGITS)?, 16).ok()
}

#[cfg(test)]
mod tests;
