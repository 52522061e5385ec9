//! One HTTP stream.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::request::Request;
use crate::stamps;
use crate::vm::Vm;
use crate::waiting::{Flow, Progress, Stream as State};

/// The context of one stream; absent a configuration it lets everything pass.
#[derive(Debug)]
pub struct Stream {
    context: u32,
    vm: Option<Rc<Vm>>,
    state: State,
}

impl Stream {
    /// The stream with this context id.
    pub fn new(context: u32, vm: Option<Rc<Vm>>) -> Self {
        Self { context, vm, state: State::default() }
    }

    /// Whether the stream may go on, after another try to settle it.
    ///
    /// Until it may, every callback must say `Pause`: with `allow_on_headers_stop_iteration` a body callback that says
    /// `Continue` releases the stream to its default route. Without it no body callback comes while the stream waits.
    fn advance(&self) -> Action {
        let Some(vm) = &self.vm else { return Action::Continue };
        let flow = self.state.with(|progress| {
            let waited = matches!(progress, Progress::Waiting(_));
            let flow = progress.settle(vm);
            if waited && flow != Flow::Waits {
                vm.waiting.remove(self.context);
            }
            flow
        });
        if flow.is_none_or(|flow| flow == Flow::Goes) { Action::Continue } else { Action::Pause }
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, token: u32, _: usize, body_size: usize, _: usize) {
        if let Some(vm) = &self.vm {
            vm.asks.answer(vm, token, body_size);
        }
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, is_headers_only: bool) -> Action {
        let Some(vm) = &self.vm else { return Action::Continue };
        let request = Request::read(vm, self.context, is_headers_only);
        self.state.with(|progress| *progress = request.map_or(Progress::Untouched, Progress::Waiting));
        match self.state.with(|progress| progress.settle(vm)) {
            Some(Flow::Goes) | None => Action::Continue,
            Some(Flow::Ends) => Action::Pause,
            Some(Flow::Waits) => {
                vm.waiting.add(self.context, &self.state);
                Action::Pause
            }
        }
    }

    fn on_http_request_body(&mut self, size: usize, is_whole: bool) -> Action {
        if let Some(vm) = &self.vm {
            self.state.with(|progress| match progress {
                Progress::Waiting(request) => request.take_body(vm, size, is_whole),
                Progress::Settled(expected) => {
                    if let Some(decided) = expected.missed_body.take() {
                        vm.body_came_late(&expected.service.name, decided);
                    }
                }
                Progress::New | Progress::Untouched | Progress::Answered => {}
            });
        }
        self.advance()
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.state.with(|progress| {
            if let Progress::Waiting(request) = progress {
                request.end_body();
            }
        });
        let action = self.advance();
        if let (Some(vm), Action::Continue) = (&self.vm, action) {
            self.state.with(|progress| {
                if let Progress::Settled(expected) = progress
                    && let Some(current) = expected.service.current(&vm.metrics)
                {
                    stamps::strip_trailers(&current.plan);
                }
            });
        }
        action
    }

    fn on_http_response_headers(&mut self, _: usize, is_headers_only: bool) -> Action {
        let Some(vm) = &self.vm else { return Action::Continue };
        self.state.with(|progress| {
            if let Progress::Settled(expected) = progress {
                expected.answered(vm, !is_headers_only);
            }
        });
        Action::Continue
    }

    /// Pieces of an answer are looked at as they pass, and never held.
    fn on_http_response_body(&mut self, size: usize, is_last: bool) -> Action {
        if let Some(vm) = &self.vm {
            self.state.with(|progress| {
                if let Progress::Settled(expected) = progress {
                    expected.streams(vm, size, is_last);
                }
            });
        }
        Action::Continue
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let waits = self.state.with(|progress| matches!(progress, Progress::Waiting(_)));
        let Some(vm) = &self.vm else { return };
        vm.asks.forget(self.context);
        if waits == Some(true) {
            vm.waiting.remove(self.context);
        }
    }
}
