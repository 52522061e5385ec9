//! HTTP calls that the guest makes to clusters.

use crate::HeaderMap;

/// A call that the guest made and that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCall {
    /// The number by which it is answered.
    pub token: u32,
    /// The context that made it; the answer goes to that context's root all the same.
    pub context: u32,
    /// The cluster it goes to.
    pub cluster: String,
    /// Request headers, `:path` and `:method` among them.
    pub headers: HeaderMap,
    /// Request body, which may be empty.
    pub body: Vec<u8>,
    /// Request trailers, which may be empty.
    pub trailers: HeaderMap,
    /// Milliseconds until the proxy gives up by itself; 0 waits for ever.
    pub timeout_ms: u32,
    pub(crate) root: u32,
}

impl HttpCall {
    /// The request path.
    pub fn path(&self) -> &str {
        self.headers.text(":path").unwrap_or_default()
    }

    /// The request body as text, as near as it comes.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What the guest can read while it is told of an answer.
#[derive(Debug, Default)]
pub(crate) struct CallResponse {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
}

impl CallResponse {
    /// An answer that the proxy makes up itself, with the words that Envoy uses.
    pub(crate) fn by_proxy(status: u16, body: &str) -> Self {
        let headers = HeaderMap::from([
            (":status", status.to_string()),
            ("content-length", body.len().to_string()),
            ("content-type", "text/plain".to_owned()),
        ]);
        Self { headers, body: body.as_bytes().to_vec(), trailers: HeaderMap::new() }
    }
}
