//! A relay between proxies and the sidecar: what a slow network, or a sidecar that talks nonsense, does to them.
//!
//! Proxies are given the relay's address in place of the sidecar's. It passes everything on until it is told to hold
//! requests back, to spoil the snapshots that come the other way, or to trouble the exchanges of one path.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use http::header::CONTENT_LENGTH;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::names;
use crate::server::serve;

/// What is done to the body of a discovery answer.
type Spoiler = Arc<dyn Fn(Bytes) -> Bytes + Send + Sync>;

/// How a relay behaves.
#[derive(Clone)]
enum Conduct {
    Pass,
    Hold,
    Spoil(Spoiler),
}

/// What happens to the exchanges of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The answer comes so much later.
    Late(Duration),
    /// The sidecar hears, and its answer is lost.
    Lost,
    /// The request waits, until the path is mended.
    Held,
}

impl fmt::Debug for Conduct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "Pass",
            Self::Hold => "Hold",
            Self::Spoil(_) => "Spoil",
        })
    }
}

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    state: Arc<State>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    conduct: watch::Sender<Conduct>,
    troubles: watch::Sender<BTreeMap<String, Trouble>>,
    waiting: AtomicUsize,
    polls: AtomicU64,
    held: AtomicUsize,
}

impl Relay {
    /// Starts a relay to `upstream` that passes everything on.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            upstream,
            client: Client::builder(TokioExecutor::new()).build_http(),
            conduct: watch::Sender::new(Conduct::Pass),
            troubles: watch::Sender::default(),
            waiting: AtomicUsize::new(0),
            polls: AtomicU64::new(0),
            held: AtomicUsize::new(0),
        });
        let relaying = Arc::clone(&state);
        let server = tokio::spawn(serve(listener, move |request| {
            let state = Arc::clone(&relaying);
            async move { state.relay(request).await }
        }));
        Ok(Self { address, state, server })
    }

    /// Where proxies find it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes everything on from now on, what it held first.
    pub fn pass(&self) {
        self.state.conduct.send_replace(Conduct::Pass);
    }

    /// Holds every request back that comes from now on.
    pub fn hold(&self) {
        self.state.conduct.send_replace(Conduct::Hold);
    }

    /// Gives proxies another body in place of every snapshot that comes from now on.
    pub fn spoil(&self, spoiler: impl Fn(Bytes) -> Bytes + Send + Sync + 'static) {
        self.state.conduct.send_replace(Conduct::Spoil(Arc::new(spoiler)));
    }

    /// Troubles the exchanges of a path that begin from now on.
    pub fn trouble(&self, path: &str, trouble: Trouble) {
        self.state.troubles.send_modify(|troubles| _ = troubles.insert(path.to_owned(), trouble));
    }

    /// Ends all troubles: what was held goes on, and answers come at once.
    pub fn mend(&self) {
        self.state.troubles.send_replace(BTreeMap::new());
    }

    /// How many requests of troubled paths are held back at this moment.
    #[must_use]
    pub fn troubled(&self) -> usize {
        self.state.waiting.load(Ordering::SeqCst)
    }

    /// How many polls are held back at this moment.
    #[must_use]
    pub fn held(&self) -> usize {
        self.state.held.load(Ordering::SeqCst)
    }

    /// How many polls have come.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.state.polls.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl State {
    async fn relay(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.exchange(request).await.unwrap_or_else(|error| {
            let mut response = Response::new(Full::new(Bytes::from(format!("{error:#}"))));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        })
    }

    async fn exchange(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
        let is_poll = request.uri().path() == names::DISCOVERY_PATH;
        if is_poll {
            self.polls.fetch_add(1, Ordering::SeqCst);
        }
        let trouble = self.troubles.borrow().get(request.uri().path()).copied();
        let (mut head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        head.uri = Uri::try_from(format!("http://{}{path}", self.upstream))?;
        self.wait_while_held(is_poll).await?;
        if trouble == Some(Trouble::Held) {
            self.until_mended().await?;
        }
        let answer = self.client.request(Request::from_parts(head, Full::new(body))).await?;
        let (mut head, body) = answer.into_parts();
        let mut body = body.collect().await?.to_bytes();
        match trouble {
            Some(Trouble::Late(by)) => tokio::time::sleep(by).await,
            // The proxy hears nothing until it gives up, and then this exchange is dropped.
            Some(Trouble::Lost) => std::future::pending().await,
            Some(Trouble::Held) | None => {}
        }
        let conduct = self.conduct.borrow().clone();
        if let (Conduct::Spoil(spoiler), true, StatusCode::OK) = (conduct, is_poll, head.status) {
            body = spoiler(body);
            head.headers.remove(CONTENT_LENGTH);
        }
        Ok(Response::from_parts(head, Full::new(body)))
    }

    async fn until_mended(&self) -> Result<()> {
        let mut troubles = self.troubles.subscribe();
        let _waiting = Held::new(&self.waiting);
        troubles.wait_for(BTreeMap::is_empty).await.context("the relay has ended")?;
        Ok(())
    }

    async fn wait_while_held(&self, is_poll: bool) -> Result<()> {
        let mut conduct = self.conduct.subscribe();
        let _held = (is_poll && matches!(*conduct.borrow(), Conduct::Hold)).then(|| Held::new(&self.held));
        conduct.wait_for(|conduct| !matches!(conduct, Conduct::Hold)).await.context("the relay has ended")?;
        Ok(())
    }
}

/// Counts a request for as long as it is held back.
struct Held<'s>(&'s AtomicUsize);

impl<'s> Held<'s> {
    fn new(count: &'s AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
