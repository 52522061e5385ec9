//! The sidecar put together: store, authority, members, and the two APIs over them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{error, info};

use super::access::Access;
use super::accounts::Accounts;
use super::authority::{Authority, Known, Opened, Writer};
use super::control::{self, Control};
use super::copies::Backups;
use super::directory::Directory;
use super::discovery::{self, Discovery, Proxies};
use super::ending::Ending;
use super::errands::Errands;
use super::gate::{Api, Gate};
use super::holdings::Holdings;
use super::leases::Leases;
use super::members::Members;
use super::observations::Observations;
use super::reports::{Reports, Told};
use super::sessions::Sessions;
use super::tickets::Tickets;
use super::tokens::Token;
use super::{clock, files};
use crate::data_dir::{CONTROL_TOKEN_FILE, DISCOVERY_TOKEN_FILE, STORE_FILE};
use crate::store::sqlite::Sqlite;
use crate::store::{Ephemera, Log};

/// How much a crash may lose of what is saved behind, together with the time that saving takes.
const FLUSH: Duration = Duration::from_millis(250);
/// How often what has expired is dropped.
const EXPIRY: Duration = Duration::from_secs(5);

/// A sidecar that answers as soon as its routes are served.
#[derive(Debug)]
pub struct Sidecar {
    store: Arc<Sqlite>,
    members: Arc<Members>,
    sessions: Arc<Sessions>,
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
    /// Opens what is in `folder`, or makes it.
    ///
    /// # Errors
    /// Where anything in it is not in order.
    pub async fn start(folder: &Path, limits: Limits) -> Result<Self> {
        let Limits { member_ttl, auth_failures } = limits;
        let token = |name: &str| Token::load_or_make(folder.join(name));
        let (discovery_token, control_token) = (token(DISCOVERY_TOKEN_FILE)?, token(CONTROL_TOKEN_FILE)?);
        let path = folder.join(STORE_FILE);
        files::check_private(&path)?;
        let store = Arc::new(tokio::task::spawn_blocking(move || Sqlite::open(&path)).await??);
        let access = Arc::new(Access::load(store.clone(), store.clone()).await?);
        let tickets = Arc::new(Tickets::load(store.as_ref()).await?);
        let opened = Opened::open(store.clone()).await?;
        let members = Arc::new(Members::new(opened.epoch(), member_ttl, store.clone()));
        let directory = Arc::new(Directory::default());
        let observations = Arc::new(Observations::new(directory.clone(), store.clone()));
        // An instance is shown for as long as its proxy is a member, at least.
        let kept = member_ttl * 2;
        let accounts = Arc::new(Accounts::new(directory.clone(), store.clone()));
        let sessions = Sessions::new(directory.clone(), members.clone(), tickets.clone(), store.clone());
        let sessions = Arc::new(sessions);
        let told = Told { observations: observations.clone(), accounts: accounts.clone(), sessions: sessions.clone() };
        let reports = Arc::new(Reports::new(members.clone(), tickets.clone(), store.clone(), told, kept));
        let ending = Ending::new();
        let (authority, orders) = Authority::new();
        let leases = Leases::new(store.clone());
        let holdings = Holdings { leases, accounts, members: members.clone(), reports: reports.clone() };
        let known = Known { members: members.clone(), observations: observations.clone(), holdings: holdings.clone() };
        let writer = Writer::start(opened, store.clone(), known, directory.clone()).await?;
        let discovery = Discovery::new(directory.clone(), members.clone(), tickets.clone(), ending.clone());
        let errands = Errands {
            authority: authority.clone(),
            directory: directory.clone(),
            members: members.clone(),
            holdings: holdings.clone(),
        };
        let control = Control {
            authority,
            directory,
            members: members.clone(),
            reports: reports.clone(),
            observations,
            holdings,
            sessions: sessions.clone(),
            log: store.clone(),
            backups: Backups::new(store.clone(), folder)?,
            access: access.clone(),
            ending: ending.clone(),
        };
        let gate = |api, token| Gate::new(api, token, access.clone(), auth_failures);
        Ok(Self {
            discovery: discovery::routes(
                Proxies { discovery: Arc::new(discovery), reports, sessions: sessions.clone() },
                gate(Api::Discovery, discovery_token),
            ),
            control: control::routes(Arc::new(control), gate(Api::Control, control_token)),
            #[cfg(test)]
            tickets: tickets.clone(),
            errands,
            writer: tokio::spawn(async move { Ok(writer.run(orders).await?) }),
            store,
            members,
            sessions,
            ending,
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
        self.store.flush().await?;
        self.store.checkpoint().await?;
        Ok(())
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
        ephemera.expire(clock::now());
        sessions.recount();
    }
}

async fn lapse(members: Arc<Members>) {
    loop {
        tokio::time::sleep_until(members.expire()).await;
    }
}
