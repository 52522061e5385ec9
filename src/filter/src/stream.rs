//! One HTTP stream: the SDK's callbacks, handed on to [`crate::request`].

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::flow::Flow;
use crate::request::Requests;
use crate::request::waiting::State;

/// The context of one stream; absent a configuration it lets everything pass.
#[derive(Debug)]
pub struct Stream {
    context: u32,
    requests: Option<Rc<Requests>>,
    state: State,
}

impl Stream {
    /// The stream with this context id.
    pub fn new(context: u32, requests: Option<Rc<Requests>>) -> Self {
        Self { context, requests, state: State::default() }
    }

    fn handle(&self, with: impl FnOnce(&Requests) -> Flow) -> Action {
        // Until the stream may go on, every callback must say `Pause`: with `allow_on_headers_stop_iteration` a body callback
        // that says `Continue` releases it to its default route. Without that no body callback comes while it waits.
        let enter = |requests: &Requests| {
            requests.enter(self.context);
            with(requests)
        };
        match self.requests.as_deref().map_or(Flow::Goes, enter) {
            Flow::Goes => Action::Continue,
            Flow::Waits | Flow::Ends => Action::Pause,
        }
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, token: u32, _: usize, body_size: usize, _: usize) {
        if let Some(requests) = &self.requests {
            requests.enter(self.context);
            requests.answer(token, body_size);
        }
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, is_headers_only: bool) -> Action {
        self.handle(|requests| requests.begin(self.context, &self.state, is_headers_only))
    }

    fn on_http_request_body(&mut self, size: usize, is_whole: bool) -> Action {
        self.handle(|requests| requests.take_body(self.context, &self.state, size, is_whole))
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.handle(|requests| requests.take_trailers(self.context, &self.state))
    }

    fn on_http_response_headers(&mut self, _: usize, is_headers_only: bool) -> Action {
        self.handle(|requests| requests.answered(self.context, &self.state, is_headers_only))
    }

    fn on_http_response_body(&mut self, size: usize, is_last: bool) -> Action {
        self.handle(|requests| requests.streams(self.context, &self.state, size, is_last))
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.handle(|requests| requests.ends(self.context, &self.state))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(requests) = &self.requests {
            requests.forget(self.context, &self.state);
        }
    }
}
