//! Requests as clients write them, and what became of them.

use colorfast_core::names;
use colorfast_core::token::pin::Claims;
use wasm_host::{Action, HeaderMap, Stream};

use crate::releases::signer;

/// A request to `chat`, unless it says otherwise.
#[derive(Clone)]
pub struct Request(HeaderMap);

impl Request {
    /// `GET https://chat.example.com/turn`, of no session.
    pub fn new() -> Self {
        Self(HeaderMap::from([
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "chat.example.com"),
            (":path", "/turn"),
        ]))
    }

    /// One header more.
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.0.add(name, value);
        self
    }

    /// With another pseudo-header.
    pub fn instead(mut self, name: &str, value: &str) -> Self {
        self.0.replace(name, value);
        self
    }

    /// That names its session.
    pub fn session(self, id: impl AsRef<[u8]>) -> Self {
        self.with(names::HEADER_SESSION, id)
    }

    /// That carries a pin in the header.
    pub fn pin(self, token: impl AsRef<[u8]>) -> Self {
        self.with(names::HEADER_PIN, token)
    }

    /// One cookie line more.
    pub fn cookie(self, line: &str) -> Self {
        self.with("cookie", line)
    }

    /// Its headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.0
    }
}

/// A request on its way, and what the filter has made of it so far.
pub struct Sent {
    /// The stream.
    pub stream: Stream,
    /// What the filter said to its headers.
    pub action: Action,
}

impl Sent {
    /// Sends a request without a body down a stream.
    pub fn headers(stream: Stream, request: Request) -> Self {
        let action = stream.request_headers(&request.0).unwrap();
        Self { stream, action }
    }

    /// Sends the headers of a request whose body or trailers follow.
    pub fn headers_before_body(stream: Stream, request: Request) -> Self {
        let action = stream.request_headers_before_body(&request.0).unwrap();
        Self { stream, action }
    }

    /// Whether it waits.
    pub fn waits(&self) -> bool {
        self.stream.is_request_paused()
    }

    /// The headers that the agent gets.
    ///
    /// # Panics
    /// Where the request waits still.
    pub fn forwarded(&self) -> HeaderMap {
        self.stream.forwarded_request().expect("the request still waits")
    }

    fn stamp(&self, header: &str) -> Option<String> {
        let forwarded = self.forwarded();
        let stamps = forwarded.all(header);
        assert!(stamps.len() < 2, "{header} stands {} times", stamps.len());
        forwarded.text(header).map(str::to_owned)
    }

    /// The slot that it is stamped with: by header and by filter state alike.
    pub fn slot(&self) -> Option<String> {
        let slot = self.stamp(names::HEADER_SLOT);
        let decided = self.stream.filter_state(names::PROPERTY_DECIDED);
        let slot_there = decided.as_deref().and_then(|decided| decided.split('/').nth(1));
        assert_eq!(slot.as_deref(), slot_there, "header and filter state differ: {decided:?}");
        slot
    }

    /// The bundle that it is stamped with, likewise.
    pub fn bundle(&self) -> Option<String> {
        let bundle = self.stamp(names::HEADER_BUNDLE);
        let decided = self.stream.filter_state(names::PROPERTY_DECIDED);
        let bundle_there = decided.as_deref().and_then(|decided| decided.split('/').nth(4));
        assert_eq!(bundle.as_deref(), bundle_there, "header and filter state differ: {decided:?}");
        bundle
    }

    /// The reason that it is stamped with.
    pub fn decision(&self) -> Option<String> {
        self.stamp(names::HEADER_DECISION)
    }

    /// The agent answers with these headers beside the status; returns what goes to the client.
    pub fn answered(&self, headers: &[(&str, &str)]) -> HeaderMap {
        let status = (":status", "200");
        let headers: Vec<_> = std::iter::once(&status).chain(headers).collect();
        let headers = headers.into_iter().map(|(name, value)| (*name, *value)).collect::<HeaderMap>();
        assert_eq!(self.stream.response_headers(headers).unwrap(), Action::Continue);
        self.stream.forwarded_response().expect("the response went on")
    }

    /// The agent answers; what the pin that goes to the client says, if one does.
    pub fn pin(&self) -> Option<Claims> {
        let answer = self.answered(&[]);
        answer.get(names::HEADER_PIN).map(|token| signer("chat").read(token).unwrap().0)
    }
}
