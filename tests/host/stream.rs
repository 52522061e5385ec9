//! A stream as tests see it.

use std::cell::RefMut;
use std::collections::BTreeMap;

use crate::abi::{Action, Direction};
use crate::flow::End;
use crate::state::StreamState;
use crate::{HeaderMap, Result, Vm};

/// An answer that the guest gives instead of the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// HTTP status.
    pub status: u32,
    /// Headers beside the status.
    pub headers: HeaderMap,
    /// Body, which may be empty.
    pub body: Vec<u8>,
    /// What the access log names as `response.code_details`.
    pub details: String,
    /// gRPC status, or -1 for none.
    pub grpc_status: i32,
}

/// One request and its response on the way through a plugin.
///
/// Each step answers with what the guest decided. Paused steps are continued by the guest, never by
/// the test: by a callback of the stream itself or of its root.
#[derive(Clone)]
pub struct Stream {
    vm: Vm,
    id: u32,
}

impl Stream {
    pub(crate) fn new(vm: Vm, id: u32) -> Self {
        Self { vm, id }
    }

    /// The number by which the guest knows the stream.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Offers a property to this stream alone, such as `["source", "address"]`.
    pub fn offer(&self, path: &[&str], value: impl AsRef<[u8]>) {
        self.state().properties.set(path, value.as_ref());
    }

    /// The request's headers come, and nothing follows them.
    ///
    /// # Errors
    /// When the guest traps, or headers came already.
    pub fn request_headers(&self, headers: impl Into<HeaderMap>) -> Result<Action> {
        self.vm.worker().headers(self.id, Direction::Request, headers.into(), End::Last)
    }

    /// The request's headers come, and a body or trailers will follow.
    ///
    /// # Errors
    /// As [`Stream::request_headers`].
    pub fn request_headers_before_body(&self, headers: impl Into<HeaderMap>) -> Result<Action> {
        self.vm.worker().headers(self.id, Direction::Request, headers.into(), End::More)
    }

    /// A chunk of the request's body comes, not the last.
    ///
    /// # Errors
    /// When the guest traps, or no headers came yet.
    pub fn request_body(&self, chunk: impl AsRef<[u8]>) -> Result<Action> {
        self.vm.worker().body(self.id, Direction::Request, chunk.as_ref(), End::More)
    }

    /// The last chunk of the request's body comes.
    ///
    /// # Errors
    /// As [`Stream::request_body`].
    pub fn request_body_last(&self, chunk: impl AsRef<[u8]>) -> Result<Action> {
        self.vm.worker().body(self.id, Direction::Request, chunk.as_ref(), End::Last)
    }

    /// The request's trailers come.
    ///
    /// # Errors
    /// When the guest traps.
    pub fn request_trailers(&self, trailers: impl Into<HeaderMap>) -> Result<Action> {
        self.vm.worker().trailers(self.id, Direction::Request, trailers.into())
    }

    /// The upstream's response headers come, and nothing follows them. `response.code_details` is
    /// `via_upstream` from here on, unless the test offers another.
    ///
    /// # Errors
    /// When the guest traps, or response headers came already.
    pub fn response_headers(&self, headers: impl Into<HeaderMap>) -> Result<Action> {
        self.respond("via_upstream", headers.into(), End::Last)
    }

    /// The upstream's response headers come, and a body or trailers will follow.
    ///
    /// # Errors
    /// As [`Stream::response_headers`].
    pub fn response_headers_before_body(&self, headers: impl Into<HeaderMap>) -> Result<Action> {
        self.respond("via_upstream", headers.into(), End::More)
    }

    /// The proxy answers by itself, with these `response.code_details` (`route_not_found`, …).
    ///
    /// # Errors
    /// As [`Stream::response_headers`].
    pub fn proxy_reply(&self, details: &str, headers: impl Into<HeaderMap>) -> Result<Action> {
        self.respond(details, headers.into(), End::Last)
    }

    fn respond(&self, details: &str, headers: HeaderMap, end: End) -> Result<Action> {
        self.state().properties.set_default(&["response", "code_details"], details.as_bytes());
        self.vm.worker().headers(self.id, Direction::Response, headers, end)
    }

    /// A chunk of the response's body comes, not the last.
    ///
    /// # Errors
    /// When the guest traps, or no response headers came yet.
    pub fn response_body(&self, chunk: impl AsRef<[u8]>) -> Result<Action> {
        self.vm.worker().body(self.id, Direction::Response, chunk.as_ref(), End::More)
    }

    /// The last chunk of the response's body comes.
    ///
    /// # Errors
    /// As [`Stream::response_body`].
    pub fn response_body_last(&self, chunk: impl AsRef<[u8]>) -> Result<Action> {
        self.vm.worker().body(self.id, Direction::Response, chunk.as_ref(), End::Last)
    }

    /// The response's trailers come.
    ///
    /// # Errors
    /// When the guest traps.
    pub fn response_trailers(&self, trailers: impl Into<HeaderMap>) -> Result<Action> {
        self.vm.worker().trailers(self.id, Direction::Response, trailers.into())
    }

    /// The stream is over, at any point: it is logged, and the guest forgets it. What became of it
    /// can still be asked.
    ///
    /// # Errors
    /// When the guest traps, or the stream is finished already.
    pub fn finish(&self) -> Result<()> {
        self.vm.worker().finish(self.id)
    }

    /// The request's headers as they are now, with the guest's changes.
    pub fn request(&self) -> HeaderMap {
        self.state().request.headers.clone().unwrap_or_default()
    }

    /// The response's headers as they are now, with the guest's changes.
    pub fn response(&self) -> HeaderMap {
        self.state().response.headers.clone().unwrap_or_default()
    }

    /// The request's trailers as they are now, with the guest's changes.
    pub fn request_trailers_left(&self) -> HeaderMap {
        self.state().request.trailers.clone().unwrap_or_default()
    }

    /// The request's headers as they went on to be routed; `None` while they wait, or before.
    pub fn forwarded_request(&self) -> Option<HeaderMap> {
        self.state().request.forwarded.clone()
    }

    /// As much of the request's body as went on.
    pub fn forwarded_request_body(&self) -> Vec<u8> {
        self.state().request.forwarded_body.clone()
    }

    /// The response's headers as they went on to the client; `None` while they wait, or before.
    pub fn forwarded_response(&self) -> Option<HeaderMap> {
        self.state().response.forwarded.clone()
    }

    /// As much of the response's body as went on.
    pub fn forwarded_response_body(&self) -> Vec<u8> {
        self.state().response.forwarded_body.clone()
    }

    /// Whether the request waits to be continued.
    pub fn is_request_paused(&self) -> bool {
        self.state().request.paused.is_some()
    }

    /// Whether the response waits to be continued.
    pub fn is_response_paused(&self) -> bool {
        self.state().response.paused.is_some()
    }

    /// The context whose callback continued the request: the stream's own number, or its root's.
    pub fn continued_by(&self) -> Option<u32> {
        self.state().continued_by
    }

    /// Filter state as access logs see it, by the name that the guest gave it: what
    /// `%FILTER_STATE(wasm.NAME:PLAIN)%` prints.
    pub fn filter_state(&self, name: &str) -> Option<String> {
        let state = self.state();
        let value = state.filter_state.get(name.as_bytes())?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// All filter state that the guest set on this stream.
    pub fn filter_states(&self) -> BTreeMap<String, String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let state = self.state();
        state.filter_state.iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// The answer that the guest gave instead of the upstream. What follows in Envoy, a
    /// [`Stream::proxy_reply`], is left to the test.
    pub fn local_reply(&self) -> Option<LocalReply> {
        self.state().local_reply.clone()
    }

    /// How often the route was forgotten: by a changed request header, or by `clear_route_cache`.
    pub fn route_cache_clears(&self) -> u32 {
        self.state().route_cache_clears
    }

    /// Whether the guest reset the stream.
    pub fn was_reset(&self) -> bool {
        self.state().reset
    }

    fn state(&self) -> RefMut<'_, StreamState> {
        RefMut::map(self.vm.worker(), |worker| worker.stream(self.id))
    }
}
