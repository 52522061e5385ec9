//! The sidecar put together: store, authority, members, and the two APIs over them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use colorfast_core::release::Reach;
use colorfast_core::wire::incarnation::Incarnation;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{error, info};

use super::access::Access;
use super::accounts::Accounts;
use super::authority::{Authority, Known, Opened, Writer};
use super::control::{self, Control};
use super::copies::Backups;
use super::corrections::Corrections;
use super::directory::Directory;
use super::discovery::{self, Discovery, Proxies};
use super::ending::Ending;
use super::errands::Errands;
use super::gate::{Api, Gate};
use super::holdings::Holdings;
use super::leases::Leases;
use super::members::Members;
use super::observations::Observations;
use super::pods::Pods;
use super::reports::{Reports, Told};
use super::sessions::Sessions;
use super::tickets::Tickets;
use super::tokens::Token;
use super::{clock, files};
use crate::data_dir::{CONTROL_TOKEN_FILE, DISCOVERY_TOKEN_FILE, STORE_FILE};
use crate::store::sqlite::Sqlite;
use crate::store::{Ephemera, Log, Stores};

/// How much a crash may lose of what is saved behind, together with the time that saving takes.
const FLUSH: Duration = Duration::from_millis(250);
/// How often what has expired is dropped.
const EXPIRY: Duration = Duration::from_secs(5);

/// A sidecar that answers as soon as its routes are served.
#[derive(Debug)]
pub struct Sidecar {
    store: Arc<Sqlite>,
    /// Who obeys.
    pub members: Arc<Members>,
    /// What the fleet remembers of sessions.
    pub sessions: Arc<Sessions>,
    /// What members prove themselves by.
    #[cfg(test)]
    pub tickets: Arc<Tickets>,
    /// What it does by itself.
    pub errands: Errands,
    /// Ends every request that is held open.
    pub ending: Ending,
    /// What proxies ask.
    pub discovery: Router,
    /// What operators ask.
    pub control: Router,
    /// Writes the log. Ends by itself only where it must not go on, or nobody can reach it any more.
    pub writer: JoinHandle<Result<()>>,
}

/// What an operator may set of it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a proxy stays a member after it was heard last.
    pub member_ttl: Duration,
    /// How often in a row one address may fail to authenticate.
    pub auth_failures: u32,
}

impl Sidecar {
    /// Opens what is in `folder`, or makes it; `pods` are those of proxies, where they are watched.
    ///
    /// # Errors
    /// Where anything in it is not in order.
    pub async fn start(folder: &Path, limits: Limits, pods: Option<Arc<Pods>>) -> Result<Self> {
        let token = |name: &str| Token::load_or_make(folder.join(name));
        let (discovery_token, control_token) = (token(DISCOVERY_TOKEN_FILE)?, token(CONTROL_TOKEN_FILE)?);
        let path = folder.join(STORE_FILE);
        files::check_private(&path)?;
        let store = Arc::new(tokio::task::spawn_blocking(move || Sqlite::open(&path)).await??);
        let backups = Backups::new(store.clone(), store.clone(), folder)?;
        let stores = Stores { log: store.clone(), secrets: store.clone(), ephemera: store.clone() };
        let Inside { control, proxies, errands, writer } =
            Inside::start(stores, backups, limits.member_ttl, Reach::Live, pods).await?;
        let gate = |api, token| Gate::new(api, token, control.access.clone(), limits.auth_failures);
        Ok(Self {
            discovery: discovery::routes(proxies, gate(Api::Discovery, discovery_token)),
            #[cfg(test)]
            tickets: control.tickets.clone(),
            errands,
            writer,
            store,
            members: control.members.clone(),
            sessions: control.sessions.clone(),
            ending: control.ending.clone(),
            control: control::routes(control.clone(), gate(Api::Control, control_token)),
        })
    }

    /// What goes on beside requests, until it is aborted.
    pub fn upkeep(&self) -> [JoinHandle<()>; 4] {
        [
            tokio::spawn(self.errands.clone().run()),
            tokio::spawn(flush_behind(self.store.clone())),
            tokio::spawn(drop_expired(self.store.clone(), self.sessions.clone())),
            tokio::spawn(lapse(self.members.clone())),
        ]
    }

    /// What is kept under `prefix`.
    #[cfg(test)]
    pub fn stored(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        self.store.scan(prefix)
    }

    /// A secret as it is kept.
    #[cfg(test)]
    pub async fn secret(&self, name: &str) -> Vec<u8> {
        crate::store::Secrets::get(self.store.as_ref(), name).await.unwrap().unwrap().value
    }

    /// Saves everything, so that the data folder is one tidy file.
    ///
    /// # Errors
    /// Where the store failed; the log is safe all the same.
    pub async fn save(&self) -> Result<()> {
        self.errands.holdings.accounts.settle_all(clock::now());
        self.store.flush().await?;
        self.store.checkpoint().await?;
        Ok(())
    }
}

/// What stands behind the addresses of a sidecar, or behind none.
#[derive(Debug)]
pub struct Inside {
    /// What operators' requests work on.
    pub control: Arc<Control>,
    /// What proxies' requests work on.
    pub proxies: Proxies,
    /// What is done though nobody asks.
    pub errands: Errands,
    /// Writes the log.
    pub writer: JoinHandle<Result<()>>,
}

impl Inside {
    /// Reads what is kept, and takes it over.
    ///
    /// # Errors
    /// Where anything of it is not in order.
    pub async fn start(
        stores: Stores,
        backups: Backups,
        member_ttl: Duration,
        reach: Reach,
        pods: Option<Arc<Pods>>,
    ) -> Result<Self> {
        let Stores { log, secrets, ephemera } = stores;
        let access = Arc::new(Access::load(secrets.clone(), ephemera.clone()).await?);
        let tickets = Arc::new(Tickets::load(secrets.as_ref()).await?);
        let opened = Opened::open(log.clone()).await?;
        let members = Arc::new(Members::new(opened.epoch(), member_ttl, ephemera.clone()));
        let directory = Arc::new(Directory::default());
        let observations = Arc::new(Observations::new(directory.clone(), ephemera.clone()));
        // An instance is shown for as long as its proxy is a member, at least.
        let kept = member_ttl * 2;
        let accounts = Arc::new(Accounts::new(directory.clone(), ephemera.clone()));
        let incarnation = Incarnation::of(getrandom::u64().context("cannot draw an incarnation")?);
        let corrections = Arc::new(Corrections::new(incarnation.clone()));
        let sessions = Arc::new(Sessions::new(
            directory.clone(),
            members.clone(),
            tickets.clone(),
            ephemera.clone(),
            accounts.clone(),
            corrections.clone(),
        ));
        let told = Told { observations: observations.clone(), accounts: accounts.clone(), sessions: sessions.clone() };
        let reports =
            Arc::new(Reports::new(members.clone(), tickets.clone(), ephemera.clone(), told, kept, incarnation));
        let ending = Ending::new();
        let (authority, orders) = Authority::new();
        let leases = Leases::new(ephemera);
        let holdings = Holdings { leases, accounts, members: members.clone(), reports: reports.clone(), reach };
        let known = Known { members: members.clone(), observations: observations.clone(), holdings: holdings.clone() };
        let writer = Writer::start(opened, secrets, known, directory.clone()).await?;
        let discovery =
            Discovery::new(directory.clone(), members.clone(), tickets.clone(), corrections, ending.clone());
        let errands = Errands {
            authority: authority.clone(),
            directory: directory.clone(),
            members: members.clone(),
            holdings: holdings.clone(),
        };
        let control = Control {
            authority,
            directory,
            members,
            reports: reports.clone(),
            observations,
            holdings,
            sessions: sessions.clone(),
            log,
            backups,
            access,
            pods,
            ending,
            #[cfg(test)]
            tickets,
        };
        Ok(Self {
            control: Arc::new(control),
            proxies: Proxies { discovery: Arc::new(discovery), reports, sessions },
            errands,
            writer: tokio::spawn(async move { Ok(writer.run(orders).await?) }),
        })
    }
}

async fn flush_behind(ephemera: Arc<dyn Ephemera>) {
    let mut tick = tokio::time::interval(FLUSH);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tick.tick().await;
        match ephemera.flush().await {
            Ok(()) if failing => {
                info!("members and reports are saved again");
                failing = false;
            }
            Ok(()) => {}
            Err(outage) if !failing => {
                error!(%outage, "members and reports are not saved: trying on");
                failing = true;
            }
            Err(_) => {}
        }
    }
}

async fn drop_expired(ephemera: Arc<dyn Ephemera>, sessions: Arc<Sessions>) {
    let mut tick = tokio::time::interval(EXPIRY);
    loop {
        tick.tick().await;
        let (ephemera, sessions) = (Arc::clone(&ephemera), Arc::clone(&sessions));
        let dropping = tokio::task::spawn_blocking(move || {
            ephemera.expire(clock::now());
            sessions.recount();
        });
        if let Err(error) = dropping.await {
            error!(%error, "cannot drop what has expired");
        }
    }
}

async fn lapse(members: Arc<Members>) {
    loop {
        tokio::time::sleep_until(members.expire()).await;
    }
}
