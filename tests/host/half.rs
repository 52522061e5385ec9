//! One direction of a stream: what came, what waits, and what went on to the next filter.

use crate::HeaderMap;

/// The callback that answered `Pause`, and so stopped this direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paused {
    Headers,
    Body,
    Trailers,
}

/// Body and trailers that wait behind paused headers, unseen by the guest.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) body: Vec<u8>,
    pub(crate) ended: bool,
    pub(crate) trailers: Option<HeaderMap>,
}

/// One direction of a stream.
#[derive(Debug, Default)]
pub(crate) struct Half {
    /// The headers, with the guest's changes; `None` before they came.
    pub(crate) headers: Option<HeaderMap>,
    /// The trailers, with the guest's changes; `None` before they came.
    pub(crate) trailers: Option<HeaderMap>,
    /// The part of the body that the guest is shown, or that it made wait.
    pub(crate) body: Vec<u8>,
    /// Whether host calls find the headers: only while their callback runs, or they wait.
    pub(crate) headers_visible: bool,
    /// Likewise for the trailers.
    pub(crate) trailers_visible: bool,
    /// Likewise for the body.
    pub(crate) body_visible: bool,
    /// Whether `body` waits, so that the next chunk is added to it.
    buffering: bool,
    pub(crate) paused: Option<Paused>,
    pub(crate) held: Option<Held>,
    /// The headers as they went on.
    pub(crate) forwarded: Option<HeaderMap>,
    /// The body as it went on.
    pub(crate) forwarded_body: Vec<u8>,
}

impl Half {
    pub(crate) fn start_headers(&mut self, headers: HeaderMap) {
        self.headers = Some(headers);
        self.headers_visible = true;
    }

    /// A chunk comes: alone, or after what the guest made wait.
    pub(crate) fn start_body(&mut self, chunk: &[u8]) {
        if !self.buffering {
            self.body.clear();
        }
        self.body.extend_from_slice(chunk);
        self.body_visible = true;
    }

    pub(crate) fn start_trailers(&mut self, trailers: HeaderMap) {
        self.trailers = Some(trailers);
        self.trailers_visible = true;
    }

    pub(crate) fn pause(&mut self, at: Paused) {
        self.buffering = self.buffering || at == Paused::Body;
        // Where the headers wait already, they are still what holds the stream.
        self.paused.get_or_insert(at);
    }

    /// A callback answered `Continue`: what it was about goes on, with all that waited before it.
    pub(crate) fn pass(&mut self, what: Paused) {
        match what {
            Paused::Headers => self.headers_visible = false,
            Paused::Body => {
                self.body_visible = false;
                self.buffering = true;
            }
            Paused::Trailers => self.trailers_visible = false,
        }
        self.release();
    }

    /// All that waits goes on.
    pub(crate) fn release(&mut self) {
        self.paused = None;
        if self.forwarded.is_none() {
            self.forwarded.clone_from(&self.headers);
        }
        if self.buffering {
            self.buffering = false;
            self.forwarded_body.append(&mut self.body);
        }
    }

    /// The guest loses sight of everything.
    pub(crate) fn hide(&mut self) {
        self.headers_visible = false;
        self.body_visible = false;
        self.trailers_visible = false;
    }

    pub(crate) fn hold(&mut self) -> &mut Held {
        self.held.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half() -> Half {
        let mut half = Half::default();
        half.start_headers(HeaderMap::from([("x", "1")]));
        half
    }

    /// A body that waits is shown whole, and goes on once.
    #[test]
    fn a_body_that_waits_grows() {
        let mut half = half();
        half.pass(Paused::Headers);
        half.start_body(b"one ");
        half.pause(Paused::Body);
        half.start_body(b"two");
        assert_eq!(half.body, b"one two");
        half.pass(Paused::Body);
        assert_eq!(half.forwarded_body, b"one two");
        half.start_body(b" three");
        half.pass(Paused::Body);
        assert_eq!(half.forwarded_body, b"one two three");
    }

    /// A body callback that continues releases headers that wait, as they are by then.
    #[test]
    fn continuing_a_body_releases_the_headers() {
        let mut half = half();
        half.pause(Paused::Headers);
        assert_eq!(half.forwarded, None);
        half.headers.as_mut().unwrap().replace("x", "2");
        half.start_body(b"body");
        half.pass(Paused::Body);
        assert_eq!(half.paused, None);
        assert_eq!(half.forwarded, Some(HeaderMap::from([("x", "2")])));
    }
}
