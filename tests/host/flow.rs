//! How a stream moves through a VM: which part the guest sees when, what waits, and what goes on.

use crate::abi::{Action, Direction};
use crate::half::{Half, Paused};
use crate::state::StreamState;
use crate::worker::Worker;
use crate::{HeaderMap, HeaderPause, Result, Status};

/// Whether more of the same direction follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    More,
    Last,
}

impl Worker {
    pub(crate) fn new_stream(&mut self, root: u32) -> u32 {
        let state = self.state_mut();
        let id = state.next_context();
        state.streams.insert(id, StreamState { root, ..StreamState::default() });
        id
    }

    pub(crate) fn stream(&mut self, id: u32) -> &mut StreamState {
        self.state_mut().streams.entry(id).or_default()
    }

    fn half(&mut self, id: u32, direction: Direction) -> &mut Half {
        self.stream(id).half(direction)
    }

    pub(crate) fn headers(&mut self, id: u32, direction: Direction, headers: HeaderMap, end: End) -> Result<Action> {
        let name = match direction {
            Direction::Request => "proxy_on_request_headers",
            Direction::Response => "proxy_on_response_headers",
        };
        self.check_open(id, name)?;
        if self.half(id, direction).headers.is_some() {
            return Err(self.misuse(name, format!("stream {id} has had these headers already")));
        }
        if direction == Direction::Request {
            self.create(id)?;
        }
        let count = headers.len() as u32;
        self.half(id, direction).start_headers(headers);
        // A filter that never saw the request is not asked about the response.
        let action = match self.stream(id).created {
            true => self.ask(name, id, &[id, count, end as u32])?,
            false => Action::Continue,
        };
        Ok(self.settle(id, direction, Paused::Headers, action))
    }

    pub(crate) fn body(&mut self, id: u32, direction: Direction, chunk: &[u8], end: End) -> Result<Action> {
        let name = match direction {
            Direction::Request => "proxy_on_request_body",
            Direction::Response => "proxy_on_response_body",
        };
        self.check_open(id, name)?;
        if self.half(id, direction).headers.is_none() {
            return Err(self.misuse(name, format!("stream {id} has a body before its headers")));
        }
        if self.holds(id, direction) {
            let held = self.half(id, direction).hold();
            held.body.extend_from_slice(chunk);
            held.ended = end == End::Last;
            return Ok(Action::Held);
        }
        self.half(id, direction).start_body(chunk);
        let length = self.half(id, direction).body.len() as u32;
        let action = match self.stream(id).created {
            true => self.ask(name, id, &[id, length, end as u32])?,
            false => Action::Continue,
        };
        Ok(self.settle(id, direction, Paused::Body, action))
    }

    pub(crate) fn trailers(&mut self, id: u32, direction: Direction, trailers: HeaderMap) -> Result<Action> {
        let name = match direction {
            Direction::Request => "proxy_on_request_trailers",
            Direction::Response => "proxy_on_response_trailers",
        };
        self.check_open(id, name)?;
        if self.holds(id, direction) {
            self.half(id, direction).hold().trailers = Some(trailers);
            return Ok(Action::Held);
        }
        let count = trailers.len() as u32;
        self.half(id, direction).start_trailers(trailers);
        let action = match self.stream(id).created {
            true => self.ask(name, id, &[id, count])?,
            false => Action::Continue,
        };
        Ok(self.settle(id, direction, Paused::Trailers, action))
    }

    /// The stream is over: it is logged, and the guest forgets it.
    pub(crate) fn finish(&mut self, id: u32) -> Result<()> {
        self.check_open(id, "proxy_on_log")?;
        self.create(id)?;
        let stream = self.stream(id);
        stream.request.hide();
        stream.response.hide();
        stream.logging = true;
        let logged = self.callback("proxy_on_log", id, &[id]);
        self.stream(id).logging = false;
        logged?;
        self.callback("proxy_on_done", id, &[id])?;
        self.callback("proxy_on_delete", id, &[id])?;
        self.stream(id).finished = true;
        Ok(())
    }

    /// Does what a `proxy_continue_stream` asked for, once the callback that made it returned.
    pub(crate) fn continue_stream(&mut self, id: u32, direction: Direction, by: u32) -> Result<()> {
        let holds = self.holds(id, direction);
        let stream = self.stream(id);
        if stream.finished {
            return Ok(());
        }
        if direction == Direction::Request {
            stream.continued_by = Some(by);
        }
        let half = stream.half(direction);
        if half.paused.is_none() {
            self.state_mut().complain(
                "proxy_continue_stream",
                Status::Ok,
                format!("stream {id} is not paused, so there is nothing to continue"),
            );
            return Ok(());
        }
        half.release();
        // The headers are on their way already when the guest sees what was held behind them.
        let held = half.held.take().filter(|_| holds);
        if let Some(held) = held {
            if held.ended || !held.body.is_empty() {
                let end = if held.ended { End::Last } else { End::More };
                self.body(id, direction, &held.body, end)?;
            }
            if let Some(trailers) = held.trailers {
                self.trailers(id, direction, trailers)?;
            }
        }
        Ok(())
    }

    /// Makes the stream known to the guest, which happens at its first callback only.
    fn create(&mut self, id: u32) -> Result<()> {
        let stream = self.stream(id);
        if stream.created {
            return Ok(());
        }
        stream.created = true;
        let root = stream.root;
        self.callback("proxy_on_context_create", id, &[id, root]).map(drop)
    }

    fn check_open(&mut self, id: u32, name: &'static str) -> Result<()> {
        match self.stream(id).finished {
            true => Err(self.misuse(name, format!("stream {id} is finished"))),
            false => Ok(()),
        }
    }

    /// Whether paused headers keep the rest of this direction from the guest.
    fn holds(&mut self, id: u32, direction: Direction) -> bool {
        self.state().plugin.header_pause == HeaderPause::All && self.half(id, direction).paused == Some(Paused::Headers)
    }

    fn settle(&mut self, id: u32, direction: Direction, at: Paused, action: Action) -> Action {
        let half = self.half(id, direction);
        match action {
            Action::Continue => half.pass(at),
            Action::Pause | Action::Held => half.pause(at),
        }
        action
    }
}
