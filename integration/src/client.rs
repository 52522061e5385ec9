//! A client that holds a conversation, the way real ones do: it names its session or not, and echoes its pin by
//! header, by cookie, or not at all.

use std::collections::BTreeMap;

use http::HeaderMap;

use crate::agent::{Reply, Turn};
use crate::http::{Answer, Call, Fault, Line, Protocol};
use crate::names;

/// Whether a client's requests name their session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Naming {
    /// By `x-agent-session`.
    Header,
    /// Not at all: only a pin, or the agent's own name of the conversation, tells requests apart.
    Anonymous,
}

/// How a client gives back the pin that it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Echo {
    /// By `x-agent-pin`.
    Header,
    /// As any browser does: by the cookies that were set.
    Cookie,
    /// It forgets it.
    Nothing,
}

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Manner {
    /// What it speaks.
    pub protocol: Protocol,
    /// Whether it names its sessions.
    pub naming: Naming,
    /// How it gives the pin back.
    pub echo: Echo,
}

impl Manner {
    /// Every manner in which a session carries something that keeps it: named or anonymous, with its pin, over
    /// either protocol.
    #[must_use]
    pub fn pinned() -> Vec<Self> {
        Self::all().filter(|manner| manner.echo != Echo::Nothing).collect()
    }

    /// Every manner there is.
    pub fn all() -> impl Iterator<Item = Self> {
        [Protocol::Http1, Protocol::Http2].into_iter().flat_map(|protocol| {
            [Naming::Header, Naming::Anonymous].into_iter().flat_map(move |naming| {
                let echoes = [Echo::Header, Echo::Cookie, Echo::Nothing].into_iter();
                echoes.map(move |echo| Self { protocol, naming, echo })
            })
        })
    }
}

/// The cookies of one client: names and values, the last one set wins. Attributes are for browsers; there is one
/// server here, and a deleted cookie (`Max-Age=0`) is all that counts.
#[derive(Clone, Debug, Default)]
pub struct Jar {
    cookies: BTreeMap<String, String>,
}

impl Jar {
    /// Takes what an answer sets.
    pub fn take(&mut self, headers: &HeaderMap) {
        for line in headers.get_all(http::header::SET_COOKIE) {
            let line = String::from_utf8_lossy(line.as_bytes()).into_owned();
            let mut parts = line.split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
            if parts.any(|attribute| attribute.eq_ignore_ascii_case("max-age=0")) {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// Sets a cookie by hand, a forged one for example.
    pub fn set(&mut self, name: &str, value: &str) {
        self.cookies.insert(name.to_owned(), value.to_owned());
    }

    /// The value of a cookie.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.cookies.get(name).map(String::as_str)
    }

    /// The `cookie` header, where there is anything to send.
    #[must_use]
    pub fn header(&self) -> Option<String> {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

/// Where conversations are held: path and host of `…/turn`.
#[derive(Clone, Debug)]
pub struct Place {
    /// The path; its last segment is `turn`.
    pub path: String,
    /// The host that is asked for; without one it is the address.
    pub host: Option<String>,
}

impl Default for Place {
    fn default() -> Self {
        Self { path: "/turn".to_owned(), host: None }
    }
}

/// One conversation, from the client's side.
#[derive(Clone, Debug)]
pub struct Conversation {
    manner: Manner,
    name: String,
    turn: u32,
    agent_name: Option<String>,
    /// The latest pin that came by header.
    pub pin: Option<String>,
    /// The cookies that were set.
    pub jar: Jar,
}

/// Why a turn got no [`Reply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There was no answer.
    Fault(Fault),
    /// There was one with this status (or, with 200, one that is no reply), and this text.
    Status(u16, String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Status(status, text) => write!(f, "{status}: {text}"),
        }
    }
}

impl std::error::Error for Failure {}

impl Conversation {
    /// A conversation that has not begun. The name is the session id that the manner may send.
    #[must_use]
    pub fn new(name: &str, manner: Manner) -> Self {
        Self { manner, name: name.to_owned(), turn: 0, agent_name: None, pin: None, jar: Jar::default() }
    }

    /// The session's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many turns have been answered.
    #[must_use]
    pub fn turns(&self) -> u32 {
        self.turn
    }

    /// A call that belongs to this conversation: it carries the session id and the pin as the manner has it.
    #[must_use]
    pub fn dress(&self, mut call: Call) -> Call {
        if self.manner.naming == Naming::Header {
            call = call.header(names::SESSION, &self.name);
        }
        match (self.manner.echo, &self.pin, self.jar.header()) {
            (Echo::Header, Some(pin), _) => call.header(names::PIN, pin),
            (Echo::Cookie, _, Some(cookies)) => call.header("cookie", cookies),
            _ => call,
        }
    }

    /// Takes from an answer what a client keeps: pin and cookies.
    pub fn keep(&mut self, answer: &Answer) {
        if let Some(pin) = answer.header(names::PIN) {
            self.pin = Some(pin);
        }
        self.jar.take(&answer.headers);
    }

    /// Holds the next turn. After a failure the same turn comes again, as a person would say it again.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn turn(&mut self, line: &mut Line, place: &Place) -> Result<Reply, Failure> {
        let next = Turn { conversation: self.agent_name.clone(), turn: self.turn + 1 };
        let body = serde_json::to_vec(&next).map_err(|error| Failure::Status(0, error.to_string()))?;
        let mut call = self.dress(Call::post(&place.path, body));
        if let Some(host) = &place.host {
            call = call.host(host);
        }
        let answer = line.send(&call).await.map_err(Failure::Fault)?;
        self.keep(&answer);
        if answer.status != 200 {
            return Err(Failure::Status(answer.status, answer.text()));
        }
        let reply: Reply = answer.json().map_err(|error| Failure::Status(200, format!("{error:#}")))?;
        self.turn = next.turn;
        if self.manner.naming == Naming::Anonymous {
            self.agent_name = Some(reply.conversation.clone());
        }
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    /// Cookies come back by name and value, over several lines, and a deleted one does not.
    #[test]
    fn the_jar_keeps_what_counts() {
        let mut jar = Jar::default();
        let mut headers = HeaderMap::new();
        for line in ["a=1; Path=/; Secure", "b=x=y; HttpOnly", "nonsense", "a=2"] {
            headers.append("set-cookie", HeaderValue::from_static(line));
        }
        jar.take(&headers);
        assert_eq!(jar.header().as_deref(), Some("a=2; b=x=y"));
        headers.clear();
        headers.append("set-cookie", HeaderValue::from_static("a=; Max-Age=0"));
        jar.take(&headers);
        assert_eq!((jar.get("a"), jar.get("b")), (None, Some("x=y")));
    }
}
