//! The life of the sidecar: start, serve, end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::listening::{Capacity, serve};
use super::pods::Pods;
use super::serving::{Scheme, ServeFile};
use super::sidecar::Sidecar;
use super::tls::Tls;
use super::{Options, files, logging};
use crate::data_dir::{CONTROL_TOKEN_FILE, DISCOVERY_TOKEN_FILE, LOG_FILE};
use crate::store::DirLock;

/// How long requests may take to end once the process is told to.
const GRACE: Duration = Duration::from_secs(5);
/// A shorter member ttl would lapse members between two polls.
pub const MEMBER_TTL_MIN: Duration = Duration::from_secs(1);

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// Where it cannot start, or cannot go on: says why, and what would help.
pub async fn run(options: Options) -> Result<()> {
    // Dropped last: what was logged is written by then.
    let _logs = logging::start(options.log_format)?;
    ensure!(
        options.limits.member_ttl >= MEMBER_TTL_MIN,
        "a member ttl of {:?} is too short: proxies could not poll as often, {MEMBER_TTL_MIN:?} is the least",
        options.limits.member_ttl
    );
    let capacity = Capacity::claim()?;
    let folder = options.data_dir.as_path();
    files::make_private_folder(folder)?;
    ensure!(
        !folder.join(LOG_FILE).exists(),
        "{} is an offline store (`colorfast --store`), and its log goes on there: take another data directory (`colorfast \
         --store DIR backup FILE`, then `colorfast restore FILE`, take it over)",
        folder.display()
    );
    let lock = DirLock::take(folder)?;
    ServeFile::clear(folder).context("cannot remove the serve.json of an earlier process")?;
    let mut signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let scheme = if options.tls.is_some() { Scheme::Https } else { Scheme::Http };
    let tls = options.tls.map(Tls::load).transpose()?.map(Arc::new);
    let discovery = bind("--discovery", options.discovery, scheme).await?;
    let control = bind("--control", options.control, scheme).await?;

    let pods = options.pods.map(|scope| Arc::new(Pods::new(scope)));
    let mut sidecar = Sidecar::start(folder, options.limits, pods.clone()).await?;
    let watching = match pods {
        Some(pods) => Some(tokio::spawn(pods.watch(sidecar.members.clone())?)),
        None => None,
    };
    let upkeep = sidecar.upkeep();
    let certificates = tls.clone().map(|tls| tokio::spawn(tls.keep_fresh()));
    let (discovery_at, control_at) = (discovery.local_addr()?, control.local_addr()?);
    let servers = (
        tokio::spawn(serve(
            discovery,
            tls.clone(),
            sidecar.discovery.clone(),
            capacity.discovery,
            sidecar.ending.clone(),
        )),
        tokio::spawn(serve(control, tls, sidecar.control.clone(), capacity.control, sidecar.ending.clone())),
    );
    let file = ServeFile::write(folder, scheme, discovery_at, control_at).context("cannot write serve.json")?;
    info!(
        data_dir = %folder.display(),
        discovery = %discovery_at,
        discovery_token = %folder.join(DISCOVERY_TOKEN_FILE).display(),
        control = %control_at,
        control_token = %folder.join(CONTROL_TOKEN_FILE).display(),
        tls = scheme == Scheme::Https,
        "serving"
    );

    let ended = tokio::select! {
        signal = told(&mut signals) => {
            info!(signal, "ending");
            Ok(())
        }
        ended = &mut sidecar.writer => {
            error!("ending: the log cannot be written any more");
            lost(ended)
        }
    };
    sidecar.ending.begin();
    if tokio::time::timeout(GRACE, async { tokio::join!(servers.0, servers.1) }).await.is_err() {
        warn!(grace = ?GRACE, "some requests had not ended");
    }
    upkeep.into_iter().for_each(|task| task.abort());
    let others =
        certificates.map(|task| task.abort_handle()).into_iter().chain(watching.map(|task| task.abort_handle()));
    others.for_each(|task| task.abort());
    let saved = sidecar.save().await.context("cannot save members and reports");
    let removed = file.remove().context("cannot remove serve.json");
    drop(lock);
    ended.and(saved).and(removed)?;
    info!("ended");
    Ok(())
}

async fn told((interrupt, terminate): &mut (Signal, Signal)) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

/// The writer has ended though nobody asked it to.
fn lost(ended: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended.context("the writer of the log broke down")??;
    bail!("the writer of the log ended")
}

/// Why plain HTTP is refused at an address, where it is. Tokens are asked for at every address, and would travel in the
/// clear to any other machine.
pub fn refuse_in_the_clear(flag: &str, address: SocketAddr) -> Option<String> {
    (!address.ip().is_loopback()).then(|| {
        format!(
            "{flag} {address} is not on loopback, and without TLS tokens would travel in the clear: give --tls-cert and \
             --tls-key, or listen on 127.0.0.1 or [::1]"
        )
    })
}

async fn bind(flag: &str, address: SocketAddr, scheme: Scheme) -> Result<TcpListener> {
    if let Some(refusal) = refuse_in_the_clear(flag, address).filter(|_| scheme == Scheme::Http) {
        bail!(refusal);
    }
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {flag} {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens never travel in the clear: an address off loopback is refused with the reason, and a taken one is named.
    #[tokio::test]
    async fn addresses_are_free_and_on_loopback() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let error = bind("--control", address.parse().unwrap(), Scheme::Http).await.unwrap_err().to_string();
            assert!(error.starts_with(&format!("--control {address} is not on loopback")), "{error}");
        }
        let holder = bind("--discovery", "127.0.0.1:0".parse().unwrap(), Scheme::Http).await.unwrap();
        let taken = holder.local_addr().unwrap();
        let error = bind("--control", taken, Scheme::Http).await.unwrap_err().to_string();
        assert_eq!(error, format!("cannot listen on --control {taken}"));
    }
}
