//! HTTP/1.1 with the least effort: what is sent is made once, what comes back is looked at and not kept.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Longer than any exchange may take.
const LIMIT: Duration = Duration::from_secs(30);
const HEADERS_MAX: usize = 64;

/// The head of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status; 0 of a request.
    pub status: u16,
    /// Where the body begins.
    pub body: usize,
    /// Where it ends.
    pub end: usize,
}

impl Head {
    /// Reads the head of a response; `None` where it has not come as a whole.
    ///
    /// # Errors
    /// Where this is no HTTP, or its body has no length.
    pub fn of_response(bytes: &[u8]) -> Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(body) = response.parse(bytes)? else { return Ok(None) };
        let status = response.code.unwrap_or_default();
        let length = match length(response.headers)? {
            Some(length) => length,
            None if status == 304 || status == 204 => 0,
            None => bail!("an answer without content-length"),
        };
        Ok(Some(Self { status, body, end: body + length }))
    }

    /// Reads the head of a request; `None` where it has not come as a whole.
    ///
    /// # Errors
    /// Where this is no HTTP.
    pub fn of_request(bytes: &[u8]) -> Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(body) = request.parse(bytes)? else { return Ok(None) };
        Ok(Some(Self { status: 0, body, end: body + length(request.headers)?.unwrap_or_default() }))
    }
}

fn length(headers: &[httparse::Header<'_>]) -> Result<Option<usize>> {
    let found = headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    found.map(|header| Ok(std::str::from_utf8(header.value)?.parse()?)).transpose()
}

/// The value of a header in the head of a response.
#[must_use]
pub fn header(head: &[u8], name: &str) -> Option<String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(head).ok()?;
    let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
    Some(String::from_utf8_lossy(found.value).into_owned())
}

/// One kept connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// Where nobody takes the connection.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self { stream, buffer: vec![0; 16 * 1024] })
    }

    /// Sends the bytes of a request, and hands over the answer as [`Wire::receive`] does.
    ///
    /// # Errors
    /// Where the exchange breaks.
    pub fn exchange(&mut self, request: &[u8]) -> Result<(Head, &[u8], &[u8])> {
        self.send(request)?;
        self.receive()
    }

    /// Sends the bytes of a request. Its answer must be received before the next is sent.
    ///
    /// # Errors
    /// Where the connection broke.
    pub fn send(&mut self, request: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(request)?)
    }

    /// Receives an answer: its head, and the bytes of head and body.
    ///
    /// # Errors
    /// Where the connection breaks, or what comes is no answer.
    pub fn receive(&mut self) -> Result<(Head, &[u8], &[u8])> {
        let mut filled = 0;
        loop {
            let room = self.buffer.get_mut(filled..).filter(|room| !room.is_empty()).context("too long an answer")?;
            let read = self.stream.read(room).context("no answer")?;
            ensure!(read > 0, "the connection was closed");
            filled += read;
            if let Some(head) = Head::of_response(&self.buffer[..filled])?
                && filled >= head.end
            {
                ensure!(filled == head.end, "more came than the answer");
                return Ok((head, &self.buffer[..head.body], &self.buffer[head.body..head.end]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer is taken when it is there as a whole, and not before.
    #[test]
    fn heads_come_whole_or_not_at_all() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nx-agent-pin: p\r\n\r\nblue";
        assert_eq!(Head::of_response(&text[..30]).unwrap(), None);
        let head = Head::of_response(text).unwrap().unwrap();
        assert_eq!((head.status, &text[head.body..head.end]), (200, &b"blue"[..]));
        assert_eq!(header(text, "X-Agent-Pin").as_deref(), Some("p"));
        assert!(Head::of_response(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(Head::of_response(b"HTTP/1.1 304 Not Modified\r\n\r\n").unwrap().is_some());
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        assert_eq!(Head::of_request(request).unwrap().unwrap().end, request.len());
    }
}
