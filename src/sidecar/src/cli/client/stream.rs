//! Server-sent events, read as they come.

use std::time::Duration;

use reqwest::Response;
use serde::de::DeserializeOwned;

use super::root_cause;
use crate::cli::error::Failure;

/// A stream that says nothing for so long is broken: the sidecar sends a comment every ten seconds.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Longest event that is read. A status with thousands of members is a part of it.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// A stream of events of one type, each a document.
#[derive(Debug)]
pub struct Stream {
    response: Response,
    events: Events,
}

impl Stream {
    /// The events in the body of `response`.
    pub(super) fn new(response: Response) -> Self {
        Self { response, events: Events::default() }
    }

    /// The next event.
    ///
    /// # Errors
    /// An outage where the stream broke off or ended: the sidecar has gone, or is about to.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        loop {
            if let Some(data) = self.events.take() {
                let unreadable =
                    |error| format!("an event cannot be read, the sidecar may be of another release: {error}");
                return serde_json::from_str(&data).map_err(|error| Failure::outage(unreadable(error)));
            }
            let read = tokio::time::timeout(SILENCE_MAX, self.response.chunk()).await;
            let read = read.map_err(|_| Failure::outage("the stream of events fell silent"))?;
            let broken = |error| Failure::outage(format!("the stream of events broke off: {}", root_cause(&error)));
            let bytes = read.map_err(broken)?.ok_or_else(|| Failure::outage("the stream of events has ended"))?;
            self.events.push(&bytes)?;
        }
    }
}

/// Events in the making: what has come, line by line.
#[derive(Debug, Default)]
struct Events {
    bytes: Vec<u8>,
    /// The data of the event that is not complete yet.
    data: Vec<String>,
}

impl Events {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let held = self.bytes.len() + self.data.iter().map(String::len).sum::<usize>();
        if held + bytes.len() > BYTES_MAX {
            return Err(Failure::outage(format!("an event is longer than {BYTES_MAX} bytes")));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The data of the next event that is complete. Comments, ids and types are passed over: there is one type, and
    /// each document says where it stands.
    fn take(&mut self) -> Option<String> {
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() && !self.data.is_empty() {
                return Some(std::mem::take(&mut self.data).join("\n"));
            }
            if let Some(data) = line.strip_prefix("data:") {
                self.data.push(data.strip_prefix(' ').unwrap_or(data).to_owned());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events are put together however the bytes come, and comments between them are none.
    #[test]
    fn events_are_put_together() {
        let text = ": hello\n\nevent: status\nid: 4\ndata: {\"a\":\ndata: 1}\n\n:\n\ndata: 2\r\n\r\ndata: 3\n";
        for size in [1, 2, 7, text.len()] {
            let mut events = Events::default();
            let mut seen = Vec::new();
            for bytes in text.as_bytes().chunks(size) {
                events.push(bytes).unwrap();
                seen.extend(std::iter::from_fn(|| events.take()));
            }
            assert_eq!(seen, ["{\"a\":\n1}", "2"], "{size}");
        }
    }

    /// A stream that never ends a line fills no memory.
    #[test]
    fn events_are_bounded() {
        let mut events = Events::default();
        events.push(&vec![b'x'; BYTES_MAX]).unwrap();
        assert!(events.take().is_none() && events.push(b"x").is_err());
    }
}
