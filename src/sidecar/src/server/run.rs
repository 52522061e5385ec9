//! The life of the sidecar: start, serve, end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use super::authority::{Authority, Opened, Writer};
use super::control::{self, Control};
use super::directory::Directory;
use super::discovery::{self, Discovery};
use super::ending::Ending;
use super::members::Members;
use super::reports::Reports;
use super::serving::ServeFile;
use super::tokens::Token;
use super::{Options, clock, files, logging};
use crate::store::sqlite::Sqlite;
use crate::store::{DirLock, Ephemera, Log};

/// How long requests may take to end once the process is told to.
const GRACE: Duration = Duration::from_secs(5);
/// How much a crash may lose of what is saved behind, together with the time that saving takes.
const FLUSH: Duration = Duration::from_millis(250);
/// How often what has expired is dropped.
const EXPIRY: Duration = Duration::from_secs(5);

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// Where it cannot start, or cannot go on: says why, and what would help.
pub async fn run(options: Options) -> Result<()> {
    logging::start(options.log_format)?;
    let folder = options.data_dir.as_path();
    files::make_private_folder(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let lock = DirLock::take(folder)?;
    ServeFile::clear(folder).context("cannot remove the serve.json of an earlier process")?;
    let mut signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let discovery = bind("--discovery", options.discovery).await?;
    let control = bind("--control", options.control).await?;

    let sidecar = Sidecar::start(folder, options.member_ttl).await?;
    let (discovery_at, control_at) = (discovery.local_addr()?, control.local_addr()?);
    let servers = [
        serve(discovery, sidecar.discovery.clone(), sidecar.ending.clone()),
        serve(control, sidecar.control.clone(), sidecar.ending.clone()),
    ];
    let file = ServeFile::write(folder, discovery_at, control_at).context("cannot write serve.json")?;
    info!(data_dir = %folder.display(), discovery = %discovery_at, control = %control_at, "serving");

    let Sidecar { ending, writer, upkeep, store, .. } = sidecar;
    let mut writer = writer;
    let ended = tokio::select! {
        _ = signals.0.recv() => Ok("SIGINT"),
        _ = signals.1.recv() => Ok("SIGTERM"),
        ended = &mut writer => Err(ended),
    };
    match &ended {
        Ok(signal) => info!(signal, "ending"),
        Err(_) => error!("ending: the log cannot be written any more"),
    }
    ending.begin();
    let [discovery, control] = servers;
    let both = async { tokio::join!(discovery, control) };
    if tokio::time::timeout(GRACE, both).await.is_err() {
        warn!(grace = ?GRACE, "some requests had not ended");
    }
    upkeep.into_iter().for_each(|task| task.abort());
    store.flush().await?;
    store.checkpoint().await?;
    file.remove().context("cannot remove serve.json")?;
    drop(lock);
    info!("ended");
    match ended {
        Ok(_) => Ok(()),
        Err(ended) => {
            ended??;
            bail!("nobody writes the log any more")
        }
    }
}

/// Everything behind the two addresses.
struct Sidecar {
    store: Arc<Sqlite>,
    ending: Ending,
    discovery: Router,
    control: Router,
    writer: JoinHandle<Result<()>>,
    upkeep: [JoinHandle<()>; 3],
}

impl Sidecar {
    async fn start(folder: &Path, member_ttl: Duration) -> Result<Self> {
        let token = |name: &str| Token::load_or_make(folder.join(name));
        let (discovery_token, control_token) = (token("discovery.token")?, token("control.token")?);
        info!(
            discovery = %discovery_token.path().display(),
            control = %control_token.path().display(),
            "tokens"
        );
        let path = folder.join("colorfast.db");
        let store = Arc::new(tokio::task::spawn_blocking(move || Sqlite::open(&path)).await??);
        let opened = Opened::open(store.clone()).await?;
        let members = Arc::new(Members::new(opened.epoch(), member_ttl, store.clone()));
        let directory = Arc::new(Directory::default());
        let reports = Arc::new(Reports::new(store.clone(), member_ttl * 2));
        let ending = Ending::new();
        let (authority, orders) = Authority::new();
        let writer = Writer::start(opened, store.clone(), members.clone(), directory.clone()).await?;
        let discovery = Discovery::new(directory.clone(), members.clone(), ending.clone());
        let control = Control {
            authority,
            directory,
            members: members.clone(),
            reports: reports.clone(),
            log: store.clone(),
            ending: ending.clone(),
        };
        Ok(Self {
            discovery: discovery::routes(Arc::new(discovery), reports, discovery_token),
            control: control::routes(Arc::new(control), control_token),
            writer: tokio::spawn(async move { Ok(writer.run(orders).await?) }),
            upkeep: [
                tokio::spawn(flush_behind(store.clone())),
                tokio::spawn(drop_expired(store.clone())),
                tokio::spawn(lapse(members)),
            ],
            store,
            ending,
        })
    }
}

/// Plain HTTP with bearer tokens is for one machine: whoever needs more puts TLS in front.
async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener> {
    ensure!(
        address.ip().is_loopback(),
        "{flag} {address} is not on loopback: tokens would travel in the clear. Listen on 127.0.0.1 or [::1], \
         and put a proxy with TLS in front for other machines"
    );
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {flag} {address}"))
}

fn serve(listener: TcpListener, routes: Router, ending: Ending) -> JoinHandle<std::io::Result<()>> {
    // A switch is confirmed in milliseconds only where no answer waits for a delayed acknowledgement.
    let listener = listener.tap_io(|io| {
        if let Err(error) = io.set_nodelay(true) {
            warn!(%error, "cannot set TCP_NODELAY");
        }
    });
    let server = axum::serve(listener, routes).with_graceful_shutdown(async move { ending.begun().await });
    tokio::spawn(async move { server.await })
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

async fn drop_expired(ephemera: Arc<dyn Ephemera>) {
    let mut tick = tokio::time::interval(EXPIRY);
    loop {
        tick.tick().await;
        ephemera.expire(clock::now());
    }
}

async fn lapse(members: Arc<Members>) {
    loop {
        tokio::time::sleep_until(members.expire()).await;
    }
}
