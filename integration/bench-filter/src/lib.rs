//! What the benchmark measures the filter by: a filter of the same SDK and the same callbacks that does nothing, or one
//! single thing so many times a request.
//!
//! The plugin configuration says which: empty for nothing, else `{"repeat": "set_property", "times": 8}`. The cost of
//! one is the slope over `times`.

mod host;
mod work;

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

use work::{Phase, Work};

#[allow(missing_docs, reason = "the macro exports `_initialize`")]
mod start {
    use proxy_wasm::traits::RootContext;

    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::default() as Box<crate::Root> });
    }}
}

/// The root context: it reads the configuration.
#[derive(Debug, Default)]
struct Root {
    work: Option<Rc<Work>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        self.work = Work::read(&host::plugin_configuration()).map(Rc::new);
        self.work.is_some()
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { work: self.work.clone() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// One stream: it works in the callback that the work belongs to.
#[derive(Debug)]
struct Stream {
    work: Option<Rc<Work>>,
}

impl Stream {
    fn work(&self, phase: Phase) -> Action {
        if let Some(work) = &self.work {
            work.repeat(phase);
        }
        Action::Continue
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.work(Phase::Request)
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.work(Phase::Response)
    }
}
