//! An agent for tests that count bytes: it answers each body by the same bytes, and streams what it is told to, when it is
//! told to.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST …?quiet` | no body; type and encoding are those of the body that came |
//! | `POST …?piece=N` | the body that came, type and encoding included; in pieces of `N` bytes, where that is asked for |
//! | `GET …/streams/N` | a stream of events, as [`Mirror::send`] says, until [`Mirror::end`] |

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::names;
use crate::server::{Pieces, serve};

/// The checksum of the body that came, on the answer.
pub const CAME: &str = "x-body-sha256";
/// How long the body was that came, on the answer.
pub const LENGTH: &str = "x-body-bytes";
/// Why the request came here, on the answer.
pub const WHY: &str = "x-decided-by";
/// The pause between two pieces of an answer.
const PACE: Duration = Duration::from_millis(1);

/// A running mirror.
#[derive(Debug)]
pub struct Mirror {
    address: SocketAddr,
    streams: Arc<Streams>,
    server: JoinHandle<()>,
}

/// The streams that are open, by number.
#[derive(Debug, Default)]
struct Streams(Mutex<HashMap<usize, mpsc::Sender<Bytes>>>);

impl Mirror {
    /// Starts a mirror on a free port.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let streams = Arc::new(Streams::default());
        let answering = Arc::clone(&streams);
        let server = tokio::spawn(serve(listener, move |request| answer(Arc::clone(&answering), request)));
        Ok(Self { address, streams, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many streams are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.streams.all().len()
    }

    /// Sends a piece over one of the open streams, as soon as the one before is on its way.
    ///
    /// # Errors
    /// Where there is no such stream, or nobody who reads it.
    pub async fn send(&self, stream: usize, piece: Bytes) -> Result<()> {
        let sender = self.streams.all().get(&stream).cloned();
        let sender = sender.with_context(|| format!("there is no stream {stream}"))?;
        sender.send(piece).await.ok().with_context(|| format!("stream {stream} has been cut"))
    }

    /// Ends all streams.
    pub fn end(&self) {
        self.streams.all().clear();
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Streams {
    fn all(&self) -> MutexGuard<'_, HashMap<usize, mpsc::Sender<Bytes>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The checksum of bytes, in hexadecimal.
#[must_use]
pub fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn answer(streams: Arc<Streams>, request: Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
    if request.method() == Method::GET {
        return stream(&streams, request.uri().path());
    }
    let (head, body) = request.into_parts();
    let piece = head.uri.query().and_then(|query| query.strip_prefix("piece=")?.parse().ok());
    let Ok(body) = body.collect().await else { return refusal("the body broke off") };
    let body = body.to_bytes();
    let (sum, length) = (checksum(&body), body.len());
    let is_quiet = head.uri.query() == Some("quiet");
    let mut response = Response::new(match piece {
        _ if is_quiet => Full::default().boxed(),
        Some(piece) => in_pieces(body, piece).boxed(),
        None => Full::new(body).boxed(),
    });
    let mirrored = [CONTENT_TYPE.as_str(), CONTENT_ENCODING.as_str()];
    for (from, to) in
        mirrored.map(|name| (name, name)).into_iter().chain([(names::DECISION, WHY), (names::SLOT, names::SERVED_BY)])
    {
        copy(&head.headers, from, response.headers_mut(), to);
    }
    response.headers_mut().insert(LENGTH, HeaderValue::from(length));
    if let Ok(sum) = HeaderValue::try_from(sum) {
        response.headers_mut().insert(CAME, sum);
    }
    response
}

fn copy(all: &HeaderMap, from: &str, headers: &mut HeaderMap, to: &'static str) {
    if let Some(value) = all.get(from) {
        headers.insert(to, value.clone());
    }
}

/// A body in pieces, the first of which goes out at once.
fn in_pieces(body: Bytes, piece: usize) -> Pieces {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for at in (0..body.len()).step_by(piece.max(1)) {
            if sender.send(body.slice(at..(at + piece).min(body.len()))).await.is_err() {
                return;
            }
            tokio::time::sleep(PACE).await;
        }
    });
    Pieces(receiver)
}

fn stream(streams: &Streams, path: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let Some(number) = path.rsplit('/').next().and_then(|number| number.parse().ok()) else {
        return refusal("a stream needs a number");
    };
    let (sender, receiver) = mpsc::channel(1);
    if streams.all().insert(number, sender).is_some() {
        return refusal("there is a stream of that number");
    }
    let mut response = Response::new(Pieces(receiver).boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn refusal(why: &'static str) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::new(Full::new(Bytes::from_static(why.as_bytes())).boxed());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}
