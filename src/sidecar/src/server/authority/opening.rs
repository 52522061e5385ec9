//! The start: the log read to its end, or begun.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use colorfast_core::ids::{Epoch, ServiceName};
use colorfast_core::release::{Entry, Event, SCHEMA, State};
use colorfast_core::time::UnixMillis;
use tracing::info;

use super::repetition::Keys;
use super::replay::Replay;
use crate::server::clock;
use crate::store::{Head, Log, Record};

/// Who the log says began it.
const PRINCIPAL: &str = "sidecar";

/// A log that has its genesis and is in order.
#[derive(Debug)]
pub struct Opened {
    pub(super) log: Arc<dyn Log>,
    pub(super) replay: Replay,
    /// When the last entry was appended.
    pub(super) last_at: UnixMillis,
    /// When the last entry of each service was.
    pub(super) services: BTreeMap<ServiceName, UnixMillis>,
    /// The keys that its verbs came with.
    pub(super) keys: Keys,
}

impl Opened {
    /// Reads the whole log; an empty one gets its genesis.
    ///
    /// # Errors
    /// Where an entry is not in order: which, and why. A sidecar does not start on such a log.
    pub async fn open(log: Arc<dyn Log>) -> Result<Self> {
        let mut opened = Self::read(log).await?;
        if opened.replay.head.seq == 0 {
            let at = clock::now();
            let begun = opened.append(at, PRINCIPAL, Event::Genesis { epoch: Epoch(at), restored: None }).await;
            begun.context("cannot begin the log")?;
            info!(epoch = opened.epoch().0.0, "log begun");
        }
        Ok(opened)
    }

    /// Reads the whole log, and begins none.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn read(log: Arc<dyn Log>) -> Result<Self> {
        let (replay, keys) = (Replay::new(), Keys::default());
        let mut opened = Self { log, replay, last_at: UnixMillis(0), services: BTreeMap::new(), keys };
        opened.follow().await?;
        Ok(opened)
    }

    /// Which log it is.
    pub fn epoch(&self) -> Epoch {
        self.replay.state.epoch
    }

    /// What the log has made.
    pub fn state(&self) -> &State {
        &self.replay.state
    }

    /// Its last entry.
    pub fn head(&self) -> &Head {
        &self.replay.head
    }

    /// When that was appended.
    pub fn last_at(&self) -> UnixMillis {
        self.last_at
    }

    /// Appends an entry about the whole log, for a process that does nothing else.
    ///
    /// # Errors
    /// Where it cannot follow, or cannot be written.
    pub async fn append(&mut self, at: UnixMillis, principal: &str, event: Event) -> Result<()> {
        let record = self.record(at.max(self.last_at), principal, event)?;
        self.log.append(self.replay.head.clone(), vec![record]).await.context("cannot append to the log")?;
        self.follow().await
    }

    async fn follow(&mut self) -> Result<()> {
        let Self { log, replay, last_at, services, keys } = self;
        let followed = replay.follow(log.as_ref(), |entry| {
            *last_at = entry.at;
            keys.learn(entry);
            match &entry.service {
                Some(service) => drop(services.insert(service.clone(), entry.at)),
                // What is of all services gives each of them a version.
                None => services.values_mut().for_each(|at| *at = entry.at),
            }
        });
        followed.await.context("the log is not in order, and nothing is decided by such a log")
    }

    fn record(&self, at: UnixMillis, principal: &str, event: Event) -> Result<Record> {
        let Head { seq, hash } = &self.replay.head;
        let seq = seq + 1;
        let entry = Entry { seq, schema: SCHEMA, at, service: None, principal: principal.to_owned(), key: None, event };
        let (text, hash) = entry.seal(hash)?;
        Ok(Record { seq, text, hash })
    }
}
