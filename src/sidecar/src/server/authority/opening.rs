//! The start: the log read to its end, or begun.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use colorfast_core::ids::{Epoch, ServiceName};
use colorfast_core::release::{Entry, Event, SCHEMA};
use colorfast_core::time::UnixMillis;
use tracing::info;

use super::replay::Replay;
use crate::server::clock;
use crate::store::{Log, Record};

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
}

impl Opened {
    /// Reads the whole log; an empty one gets its genesis.
    ///
    /// # Errors
    /// Where an entry is not in order: which, and why. A sidecar does not start on such a log.
    pub async fn open(log: Arc<dyn Log>) -> Result<Self> {
        let mut opened = Self { log, replay: Replay::new(), last_at: UnixMillis(0), services: BTreeMap::new() };
        opened.follow().await?;
        if opened.replay.head.seq == 0 {
            let record = opened.genesis()?;
            let begun = opened.log.append(opened.replay.head.clone(), vec![record]).await;
            begun.context("cannot begin the log")?;
            opened.follow().await?;
            info!(epoch = opened.epoch().0.0, "log begun");
        }
        Ok(opened)
    }

    /// Which log it is.
    pub fn epoch(&self) -> Epoch {
        self.replay.state.epoch
    }

    async fn follow(&mut self) -> Result<()> {
        let Self { log, replay, last_at, services } = self;
        let followed = replay.follow(log.as_ref(), |entry| {
            *last_at = entry.at;
            services.extend(entry.service.clone().map(|service| (service, entry.at)));
        });
        followed.await.context("the log is not in order, and nothing is decided by such a log")
    }

    fn genesis(&self) -> Result<Record> {
        let at = clock::now();
        let event = Event::Genesis { epoch: Epoch(at) };
        let entry = Entry { seq: 1, schema: SCHEMA, at, service: None, principal: PRINCIPAL.to_owned(), event };
        let (text, hash) = entry.seal(&self.replay.head.hash)?;
        Ok(Record { seq: 1, text, hash })
    }
}
