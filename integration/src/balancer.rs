//! A load balancer before proxies that looks at nothing: each request goes to the next of them, whoever it is from.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::server::serve;

/// A running balancer.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    state: Arc<State>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    client: Client<HttpConnector, Incoming>,
    turns: Mutex<Turns>,
}

/// Whose turn it is.
#[derive(Debug, Default)]
struct Turns {
    proxies: Vec<(SocketAddr, u64)>,
    next: usize,
}

impl Balancer {
    /// Starts a balancer that knows no proxy yet, and answers 502 for so long.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let state = Arc::new(State { client, turns: Mutex::default() });
        let balancing = Arc::clone(&state);
        let server = tokio::spawn(serve(listener, move |request| {
            let state = Arc::clone(&balancing);
            async move { state.pass_on(request).await }
        }));
        Ok(Self { address, state, server })
    }

    /// Where clients find it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives the requests that come from now on to these proxies, the first of them first.
    pub fn spread(&self, proxies: &[SocketAddr]) {
        let proxies = proxies.iter().map(|proxy| (*proxy, 0)).collect();
        *self.state.turns() = Turns { proxies, next: 0 };
    }

    /// How many requests each proxy has got since the last [`Balancer::spread`].
    #[must_use]
    pub fn passed(&self) -> Vec<u64> {
        self.state.turns().proxies.iter().map(|(_, passed)| *passed).collect()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl State {
    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass_on(&self, request: Request<Incoming>) -> Response<BoxBody<Bytes, hyper::Error>> {
        match self.exchange(request).await {
            Ok(answer) => answer.map(BodyExt::boxed),
            Err(error) => {
                let told = Full::new(Bytes::from(format!("{error:#}"))).map_err(|never| match never {});
                let mut response = Response::new(told.boxed());
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response
            }
        }
    }

    async fn exchange(&self, request: Request<Incoming>) -> Result<Response<Incoming>> {
        let proxy = self.turns().take().context("there is no proxy yet")?;
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        head.uri = Uri::try_from(format!("http://{proxy}{path}"))?;
        Ok(self.client.request(Request::from_parts(head, body)).await?)
    }
}

impl Turns {
    fn take(&mut self) -> Option<SocketAddr> {
        let at = self.next.checked_rem(self.proxies.len())?;
        let (proxy, passed) = self.proxies.get_mut(at)?;
        *passed += 1;
        self.next = at + 1;
        Some(*proxy)
    }
}
