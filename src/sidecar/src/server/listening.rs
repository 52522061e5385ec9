//! Connections: how many there may be, and how long one may say nothing.
//!
//! Both addresses and the store share the file descriptors of the process. Each address has a number of its own, so
//! that no crowd before discovery, with or without a token, keeps the operator out.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::ending::Ending;
use super::tls::{self, Tls};
use crate::api::tokens::SubjectName;

/// How long a client may take until the whole head of its next request is there. Longer than the time between two
/// reports of a proxy, so that no connection that is in use is closed under it.
const HEAD_WAIT: Duration = Duration::from_secs(30);
/// How long the handshake of TLS may take.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// How long to wait after a connection could not be taken.
const PAUSE: Duration = Duration::from_millis(100);
/// Descriptors for the store, the logs and whatever else is no connection.
const OWN: u64 = 64;
/// Connections of operators.
const CONTROL: u64 = 128;
/// Most connections of proxies: each member holds one open, and reports over others.
const DISCOVERY_MAX: u64 = 32_768;
/// Fewer descriptors leave too little for proxies.
const DESCRIPTORS_MIN: u64 = 256;

/// Who is at the other end of a connection: an extension of each of its requests.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Whence it came.
    pub address: IpAddr,
    /// What its certificate calls it; none where it has shown none.
    pub names: Arc<[SubjectName]>,
}

/// How many connections each address may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Of proxies.
    pub discovery: usize,
    /// Of operators.
    pub control: usize,
}

impl Capacity {
    /// Asks the system for as many descriptors as it gives, and shares them out.
    ///
    /// # Errors
    /// Where it gives too few.
    pub fn claim() -> Result<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of open files")?;
        let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(error) => {
                warn!(%error, soft, hard, "cannot raise the limit of open files");
                soft
            }
        };
        Self::of(limit)
    }

    fn of(descriptors: u64) -> Result<Self> {
        ensure!(
            descriptors >= DESCRIPTORS_MIN,
            "the limit of open files is {descriptors}, at least {DESCRIPTORS_MIN} are needed: raise it (`ulimit -n`)"
        );
        let discovery = (descriptors - OWN - CONTROL).min(DISCOVERY_MAX);
        Ok(Self { discovery: usize::try_from(discovery)?, control: usize::try_from(CONTROL)? })
    }
}

/// Serves `routes` to at most `most` connections at a time, until the process is about to end and the requests that
/// there are have been answered. Who comes on top waits in the queue of the system.
pub async fn serve(listener: TcpListener, tls: Option<Arc<Tls>>, routes: Router, most: usize, ending: Ending) {
    let places = Arc::new(Semaphore::new(most));
    let mut connections = JoinSet::new();
    let mut begun = pin!(ending.begun());
    loop {
        // Those that have ended are let go of here; there is nothing to learn from them.
        while connections.try_join_next().is_some() {}
        let place = tokio::select! {
            Ok(place) = places.clone().acquire_owned() => place,
            () = &mut begun => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut begun => break,
        };
        match accepted {
            Ok((stream, address)) => {
                let peer = Peer { address: address.ip(), names: Arc::default() };
                let (tls, routes, ending) = (tls.clone(), routes.clone(), ending.clone());
                connections.spawn(async move {
                    welcome(stream, peer, tls.as_deref(), routes, &ending).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot take a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.join_all().await;
}

/// The handshake, where there is one; then the conversation.
async fn welcome(stream: TcpStream, mut peer: Peer, tls: Option<&Tls>, routes: Router, ending: &Ending) {
    // A switch is confirmed in milliseconds only where no answer waits for a delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    let Some(tls) = tls else { return converse(stream, peer, routes, ending).await };
    match tokio::time::timeout(HANDSHAKE_WAIT, tls.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            peer.names = shown.map(tls::names).unwrap_or_default().into();
            converse(stream, peer, routes, ending).await;
        }
        Ok(Err(error)) => debug!(peer = %peer.address, %error, "a handshake failed"),
        Err(_) => debug!(peer = %peer.address, "a handshake took too long"),
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    routes: Router,
    ending: &Ending,
) {
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        routes.call(request)
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = ending.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke off");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;
    use crate::server::rig::LIMIT;

    /// Serves `ok` to at most `most` connections.
    async fn start(most: usize) -> (std::net::SocketAddr, Ending, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, ending) = (listener.local_addr().unwrap(), Ending::new());
        let routes = Router::new().route("/", get(|| async { "ok" }));
        (address, ending.clone(), tokio::spawn(serve(listener, None, routes, most, ending)))
    }

    async fn ask(stream: &mut TcpStream) {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    }

    /// Reads until an answer has come whole, or the connection has ended.
    async fn answered(stream: &mut TcpStream) -> bool {
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\nok") {
            if stream.read_buf(&mut seen).await.unwrap() == 0 {
                return false;
            }
        }
        true
    }

    /// Who says nothing holds a place for a while only; who comes on top waits for it, and is answered then.
    #[tokio::test]
    async fn silent_connections_give_their_places_back() {
        let (address, _ending, _server) = start(2).await;
        let mut silent = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        // A place that was used is held by who is silent afterwards too.
        ask(&mut silent[0]).await;
        assert!(answered(&mut silent[0]).await);
        let mut late = TcpStream::connect(address).await.unwrap();
        ask(&mut late).await;
        assert!(timeout(Duration::from_millis(50), answered(&mut late)).await.is_err(), "there was a third place");
        tokio::time::pause();
        for stream in &mut silent {
            assert!(!timeout(HEAD_WAIT * 2, answered(stream)).await.unwrap());
        }
        tokio::time::resume();
        assert!(timeout(LIMIT, answered(&mut late)).await.unwrap());
    }

    /// The end of the process closes connections that ask for nothing.
    #[tokio::test]
    async fn idle_connections_end_with_the_process() {
        let (address, ending, server) = start(2).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        ask(&mut idle).await;
        assert!(answered(&mut idle).await);
        ending.begin();
        timeout(LIMIT, server).await.unwrap().unwrap();
        assert!(!answered(&mut idle).await);
    }

    /// Proxies never get the last descriptors, however few or many there are.
    #[test]
    fn operators_have_descriptors_of_their_own() {
        assert!(Capacity::of(255).unwrap_err().to_string().contains("ulimit -n"));
        assert_eq!(Capacity::of(256).unwrap(), Capacity { discovery: 64, control: 128 });
        assert_eq!(Capacity::of(1024).unwrap(), Capacity { discovery: 832, control: 128 });
        assert_eq!(Capacity::of(u64::MAX).unwrap(), Capacity { discovery: 32_768, control: 128 });
    }
}
