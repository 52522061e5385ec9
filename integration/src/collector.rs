//! An OpenTelemetry collector that keeps what it is sent: OTLP by gRPC, as `envoy/bootstrap.yaml` sends it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::server::serve;

/// The method that spans come by.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// A gRPC message of no bytes: not compressed, length 0. So is the answer of the collector.
const EMPTY: &[u8] = &[0; 5];

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Received {
    spans: Vec<Span>,
    /// What could not be read.
    faults: Vec<String>,
}

/// One span: one request as Envoy traced it.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// Its attributes, numbers and booleans as text.
    pub attributes: BTreeMap<String, String>,
}

impl Span {
    /// An attribute; `None` where the span does not have it.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }
}

impl Collector {
    /// Starts a collector on a free port.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let received = Arc::new(Mutex::new(Received::default()));
        let kept = Arc::clone(&received);
        let server = tokio::spawn(serve(listener, move |request| answer(Arc::clone(&kept), request)));
        Ok(Self { address, received, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All spans received so far.
    ///
    /// # Errors
    /// Where something came that is no export of spans.
    pub fn spans(&self) -> Result<Vec<Span>> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(received.faults.is_empty(), "the collector could not read: {:?}", received.faults);
        Ok(received.spans.clone())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    received: Arc<Mutex<Received>>,
    request: Request<Incoming>,
) -> Response<impl Body<Data = Bytes, Error = std::convert::Infallible>> {
    let read = read(request).await;
    {
        let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(spans) => received.spans.extend(spans),
            Err(fault) => received.faults.push(format!("{fault:#}")),
        }
    }
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::from(EMPTY).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

async fn read(request: Request<Incoming>) -> Result<Vec<Span>> {
    let path = request.uri().path().to_owned();
    ensure!(path == EXPORT, "{path} is not {EXPORT}");
    let body = request.into_body().collect().await.context("the body broke off")?.to_bytes();
    let mut spans = Vec::new();
    let mut rest = &body[..];
    while let Some((head, after)) = rest.split_first_chunk::<5>() {
        let [compressed, length @ ..] = *head;
        ensure!(compressed == 0, "a compressed message");
        let (message, after) = after.split_at_checked(u32::from_be_bytes(length) as usize).context("half a message")?;
        rest = after;
        let export = ExportTraceServiceRequest::decode(message)?;
        let scopes = export.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        spans.extend(scopes.flat_map(|scope| scope.spans).map(|span| Span {
            name: span.name,
            attributes: span.attributes.into_iter().map(|KeyValue { key, value, .. }| (key, text(value))).collect(),
        }));
    }
    ensure!(rest.is_empty(), "{} bytes too many", rest.len());
    Ok(spans)
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(truth)) => truth.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}
