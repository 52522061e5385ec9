//! A small HTTP client over one connection, with nothing hidden: no pool, no redirects, no cookies, header values
//! as bytes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use http::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper::ext;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use crate::wait;

/// How long one exchange may take, unless the call says otherwise.
const LIMIT: Duration = Duration::from_secs(30);

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 with keep-alive.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// A request that can be sent any number of times.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    authority: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    trailers: HeaderMap,
    trickle: Option<Trickle>,
    limit: Duration,
}

/// How a body comes piece by piece.
#[derive(Clone, Copy, Debug)]
struct Trickle {
    piece: usize,
    pace: Duration,
}

/// A body that can be sent again: all of it in one frame, or in pieces with pauses between them, then the trailers, where
/// there are any.
#[derive(Clone, Debug)]
struct Sending {
    frames: VecDeque<Part>,
    pace: Duration,
    pause: Pause,
}

/// A pause that has begun, or none; a copy begins without one.
#[derive(Debug, Default)]
struct Pause(Option<Pin<Box<Sleep>>>);

impl Clone for Pause {
    fn clone(&self) -> Self {
        Self(None)
    }
}

#[derive(Clone, Debug)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let pace = self.pace;
        if !pace.is_zero() {
            let pause = self.pause.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(pace)));
            std::task::ready!(pause.as_mut().poll(cx));
            self.pause.0 = None;
        }
        Poll::Ready(self.frames.pop_front().map(|part| {
            Ok(match part {
                Part::Data(bytes) => Frame::data(bytes),
                Part::Trailers(trailers) => Frame::trailers(trailers),
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self.frames.iter().collect::<Vec<_>>().as_slice() {
            [] => SizeHint::with_exact(0),
            [Part::Data(bytes)] if self.pace.is_zero() => SizeHint::with_exact(bytes.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

impl Call {
    /// A GET of a path (with its query, if any).
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    /// A POST to a path, with a body.
    #[must_use]
    pub fn post(path: &str, body: impl Into<Bytes>) -> Self {
        Self::new(Method::POST, path).body(body)
    }

    /// Any other method.
    #[must_use]
    pub fn new(method: Method, path: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            authority: None,
            headers: Vec::new(),
            body: Bytes::new(),
            trailers: HeaderMap::new(),
            trickle: None,
            limit: LIMIT,
        }
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The host that is asked for; without one it is the address that is connected to.
    #[must_use]
    pub fn host(mut self, authority: &str) -> Self {
        self.authority = Some(authority.to_owned());
        self
    }

    /// Adds a header; the same name twice makes two lines. The value may be any bytes that HTTP can carry.
    ///
    /// # Panics
    /// Where name or value cannot be sent at all (a line break, an upper-case letter in the name).
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        let value = HeaderValue::from_bytes(value.as_ref());
        self.headers.push((HeaderName::from_static(name), value.expect("a value that HTTP can carry")));
        self
    }

    /// Adds a trailer: what comes behind the body.
    ///
    /// # Panics
    /// As [`Call::header`].
    #[must_use]
    pub fn trailer(mut self, name: &'static str, value: &'static str) -> Self {
        self.trailers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// Sends the body in pieces of so many bytes, each after a pause; its length is told to nobody.
    #[must_use]
    pub fn trickle(mut self, piece: usize, pace: Duration) -> Self {
        self.trickle = Some(Trickle { piece, pace });
        self
    }

    /// How long the whole exchange may take.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sends it over a fresh HTTP/1.1 connection.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn send(&self, address: SocketAddr) -> Result<Answer, Fault> {
        Line::new(address, Protocol::Http1).send(self).await
    }

    fn request(&self, address: SocketAddr, protocol: Protocol) -> Result<Request<Sending>> {
        let authority = self.authority.clone().unwrap_or_else(|| address.to_string());
        let uri = match protocol {
            Protocol::Http1 => Uri::try_from(&self.path),
            Protocol::Http2 => Uri::try_from(format!("http://{authority}{}", self.path)),
        };
        let uri = uri.with_context(|| format!("{:?} is no path", self.path))?;
        let Trickle { piece, pace } = self.trickle.unwrap_or(Trickle { piece: usize::MAX, pace: Duration::ZERO });
        let pieces = (0..self.body.len()).step_by(piece);
        let data = pieces.map(|at| Part::Data(self.body.slice(at..at.saturating_add(piece).min(self.body.len()))));
        let trailers = Some(self.trailers.clone()).filter(|trailers| !trailers.is_empty()).map(Part::Trailers);
        let frames = data.chain(trailers).collect();
        let mut request = Request::new(Sending { frames, pace, pause: Pause::default() });
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        if protocol == Protocol::Http1 {
            request.headers_mut().insert(HOST, HeaderValue::try_from(authority)?);
        }
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        Ok(request)
    }

    /// The same, asking for a WebSocket: an upgrade in HTTP/1.1, an extended CONNECT in HTTP/2.
    fn upgrade(&self, address: SocketAddr, protocol: Protocol) -> Result<Request<Sending>> {
        let mut request = self.request(address, protocol)?;
        let headers = request.headers_mut();
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        match protocol {
            Protocol::Http1 => {
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
            }
            Protocol::Http2 => {
                *request.method_mut() = Method::CONNECT;
                request.extensions_mut().insert(ext::Protocol::from_static("websocket"));
            }
        }
        Ok(request)
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody took the connection: the request was never sent.
    NoConnection(String),
    /// The connection broke, or the limit passed, after the request may have been seen.
    Cut(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnection(why) => write!(f, "no connection: {why}"),
            Self::Cut(why) => write!(f, "no answer: {why}"),
        }
    }
}

impl std::error::Error for Fault {}

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The first value of a header, as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers(name).into_iter().next()
    }

    /// All values of a header, as text.
    #[must_use]
    pub fn headers(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// Where it is something else; status and body are in the message.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{} with a body that is: {}", self.status, self.text()))
    }
}

/// One connection, opened when it is first needed and again after it broke.
#[derive(Debug)]
pub struct Line {
    address: SocketAddr,
    protocol: Protocol,
    open: Option<Connection>,
}

impl Line {
    /// A line to an address; nothing is opened yet.
    #[must_use]
    pub fn new(address: SocketAddr, protocol: Protocol) -> Self {
        Self { address, protocol, open: None }
    }

    /// Opens the connection, so that the next call is sent at once.
    ///
    /// # Errors
    /// Where nobody takes it.
    pub async fn connect(&mut self) -> Result<(), Fault> {
        let opened = Connection::open(self.address, self.protocol).await;
        self.open = Some(opened.map_err(|error| Fault::NoConnection(format!("{error:#}")))?);
        Ok(())
    }

    /// Sends a call and reads the whole answer.
    ///
    /// # Errors
    /// See [`Fault`]. After one the next call opens the connection again.
    pub async fn send(&mut self, call: &Call) -> Result<Answer, Fault> {
        let exchange = async {
            let (head, body) = self.exchange(call).await?.into_parts();
            let body = body.collect().await.map_err(|error| cut(&error))?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        let answer = tokio::time::timeout(call.limit, exchange).await;
        let answer = answer.unwrap_or_else(|_| Err(Fault::Cut(format!("none within {:?}", call.limit))));
        if answer.is_err() {
            self.open = None;
        }
        answer
    }

    /// Sends a call and hands its body over piece by piece. The stream lives on this line: dropping the line, or
    /// sending the next call over HTTP/1.1, ends it.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn stream(&mut self, call: &Call) -> Result<Stream, Fault> {
        let answer = tokio::time::timeout(call.limit, self.exchange(call)).await;
        let answer = answer.unwrap_or_else(|_| Err(Fault::Cut(format!("none within {:?}", call.limit))));
        let (head, body) = answer.inspect_err(|_| self.open = None)?.into_parts();
        Ok(Stream { status: head.status.as_u16(), headers: head.headers, body, limit: call.limit })
    }

    /// Opens a WebSocket by a call, in the way of the line's protocol. Over HTTP/1.1 it has the connection for itself, and the
    /// line opens another one for its next call; over HTTP/2 it lives on this line.
    ///
    /// # Errors
    /// Where it is refused, with the status and the body of the answer.
    pub async fn socket(&mut self, call: &Call) -> Result<Socket> {
        let opening = async {
            if self.open.is_none() {
                self.connect().await?;
            }
            if let Some(Connection { sender: Sender::Http2(..), allows_sockets, .. }) = &self.open {
                let allowed = || allows_sockets.load(Ordering::Relaxed);
                wait::until("the settings that allow extended CONNECT", call.limit, allowed).await?;
            }
            let answer = self.attempt(call.upgrade(self.address, self.protocol)?).await.map_err(SendError::fault)?;
            let status = answer.status().as_u16();
            if ![101, 200].contains(&status) {
                let body = answer.into_body().collect().await?.to_bytes();
                bail!("the upgrade was answered {status}: {}", String::from_utf8_lossy(&body));
            }
            let headers = answer.headers().clone();
            anyhow::Ok(Socket { headers, bytes: TokioIo::new(hyper::upgrade::on(answer).await?) })
        };
        let opened = tokio::time::timeout(call.limit, opening).await;
        let opened = opened.with_context(|| format!("no socket within {:?}", call.limit)).flatten();
        if opened.is_err() || self.protocol == Protocol::Http1 {
            self.open = None;
        }
        opened
    }

    async fn exchange(&mut self, call: &Call) -> Result<Response<Incoming>, Fault> {
        let request = call.request(self.address, self.protocol);
        let request = request.map_err(|error| Fault::NoConnection(format!("{error:#}")))?;
        let reused = self.open.is_some();
        match self.attempt(request.clone()).await {
            // The server had closed a kept connection before anything was sent: every client tries again.
            Err(error) if reused && (error.is_canceled() || error.is_closed()) => {}
            other => return other.map_err(|error| error.fault()),
        }
        self.open = None;
        self.attempt(request).await.map_err(|error| error.fault())
    }

    async fn attempt(&mut self, request: Request<Sending>) -> Result<Response<Incoming>, SendError> {
        let connection = match &mut self.open {
            Some(open) => open,
            none => none.insert(Connection::open(self.address, self.protocol).await.map_err(SendError::Connect)?),
        };
        let sent = match &mut connection.sender {
            Sender::Http1(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
            Sender::Http2(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
        };
        sent.map_err(SendError::Exchange)
    }
}

/// The body of an answer that is still coming.
#[derive(Debug)]
pub struct Stream {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
    limit: Duration,
}

impl Stream {
    /// The next piece of the body, or `None` at its end.
    ///
    /// # Errors
    /// Where the stream breaks, or nothing comes within the call's limit.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let frame = tokio::time::timeout(self.limit, self.body.frame()).await;
            let frame = frame.map_err(|_| Fault::Cut(format!("nothing more within {:?}", self.limit)))?;
            match frame.transpose().map_err(|error| cut(&error))?.map(hyper::body::Frame::into_data) {
                None => return Ok(None),
                Some(Ok(data)) if !data.is_empty() => return Ok(Some(data)),
                // Trailers, or the empty frame with which HTTP/2 ends a stream.
                Some(_) => {}
            }
        }
    }
}

/// What an upgrade leaves open: bytes both ways, until either side ends it.
#[derive(Debug)]
pub struct Socket {
    /// The headers of the answer to the upgrade.
    pub headers: HeaderMap,
    /// What is sent and what comes.
    pub bytes: TokioIo<Upgraded>,
}

enum SendError {
    Connect(anyhow::Error),
    Exchange(hyper::Error),
}

impl SendError {
    fn is_canceled(&self) -> bool {
        matches!(self, Self::Exchange(error) if error.is_canceled())
    }

    fn is_closed(&self) -> bool {
        matches!(self, Self::Exchange(error) if error.is_closed())
    }

    fn fault(self) -> Fault {
        match self {
            Self::Connect(error) => Fault::NoConnection(format!("{error:#}")),
            Self::Exchange(error) if error.is_canceled() => Fault::NoConnection(error.to_string()),
            Self::Exchange(error) => cut(&error),
        }
    }
}

fn cut(error: &hyper::Error) -> Fault {
    Fault::Cut(format!("{:#}", anyhow!("{error}").context("the exchange broke")))
}

#[derive(Debug)]
struct Connection {
    sender: Sender,
    driver: JoinHandle<()>,
    /// Whether the settings of the other side, which come a moment after the connection, allow extended CONNECT.
    allows_sockets: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Sending>),
    Http2(http2::SendRequest<Sending>),
}

impl Connection {
    async fn open(address: SocketAddr, protocol: Protocol) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        let allows_sockets = Arc::new(AtomicBool::new(false));
        // A connection's end shows in the next call; the driver has nobody to tell.
        let (sender, driver) = match protocol {
            Protocol::Http1 => {
                let (sender, driver) = http1::handshake(io).await?;
                (Sender::Http1(sender), tokio::spawn(async { _ = driver.with_upgrades().await }))
            }
            Protocol::Http2 => {
                let (sender, mut driver) = http2::handshake(TokioExecutor::new(), io).await?;
                let allows = Arc::clone(&allows_sockets);
                let drive = poll_fn(move |cx| {
                    let done = Pin::new(&mut driver).poll(cx);
                    allows.store(driver.is_extended_connect_protocol_enabled(), Ordering::Relaxed);
                    done
                });
                (Sender::Http2(sender), tokio::spawn(async { _ = drive.await }))
            }
        };
        Ok(Self { sender, driver, allows_sockets })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
