//! Every way in which a client may hold its session, and conversations of many turns that go that way.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::http::{Call, Line, Stream};
use crate::names;

/// How a client holds its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// It names the session in a header, and echoes nothing.
    Header,
    /// In a cookie.
    Cookie,
    /// In the query.
    Query,
    /// In the path.
    Path,
    /// In baggage.
    Baggage,
    /// In a JSON body.
    Body,
    /// It echoes the pin: in its header, beside a session id.
    Pin,
    /// It keeps cookies, and names nothing.
    PinCookie,
    /// It echoes the session id that the agent has issued, and nothing else.
    Envelope,
    /// It repeats the id that the agent has handed out last: in a header, in a JSON body, in a server-sent event.
    LearntHeader,
    /// In a JSON body.
    LearntBody,
    /// In a server-sent event.
    LearntEvent,
    /// It carries the run token on that an agent was handed.
    Run,
}

/// How the agent answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// With JSON, in pieces.
    Plain,
    /// With a stream of events.
    Events,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Header,
        Self::Cookie,
        Self::Query,
        Self::Path,
        Self::Baggage,
        Self::Body,
        Self::Pin,
        Self::PinCookie,
        Self::Envelope,
        Self::LearntHeader,
        Self::LearntBody,
        Self::LearntEvent,
        Self::Run,
    ];

    /// The settings of a service that knows all of them, with more on top.
    #[must_use]
    pub fn settings(more: Value) -> Value {
        let mut settings = json!({
            "session_sources": [
                {"path": "/threads/{session}/runs"}, {"query": "thread"}, {"baggage": "session.id"},
                {"cookie": "thread"}, {"body": "/conversation"}, {"header": "x-thread"},
            ],
            "learn_from": [{"header": "x-conversation"}, {"body": "/opened"}, {"event": "/opened"}],
            "runs": {"mint": "always"},
            // A session whose bundle is gone goes on elsewhere, whatever names it.
            "on_bundle_gone": "new",
        });
        if let (Some(all), Value::Object(more)) = (settings.as_object_mut(), more) {
            all.extend(more);
        }
        settings
    }

    /// How agents may answer to it.
    #[must_use]
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Self::LearntBody => &[Kind::Plain],
            Self::LearntEvent => &[Kind::Events],
            _ => &[Kind::Plain, Kind::Events],
        }
    }

    /// Whether every answer hands out another id, by which alone the next turn is known.
    #[must_use]
    pub fn is_learnt(self) -> bool {
        matches!(self, Self::LearntHeader | Self::LearntBody | Self::LearntEvent)
    }

    /// The first request of a session.
    #[must_use]
    pub fn opens(self, id: &str, kind: Kind) -> Call {
        let encoded = id.replace(' ', "%20");
        match (self, kind) {
            (Self::Envelope, Kind::Plain) => Call::get(&format!("/open?name={encoded}")),
            (Self::Envelope, Kind::Events) => Call::get(&format!("/open?name={encoded}&as=events")),
            (Self::PinCookie | Self::Run | Self::LearntHeader | Self::LearntEvent, _) => Call::get(&self.path(kind)),
            (Self::LearntBody, _) => posted(&self.path(kind), &json!({"turn": 1})),
            _ => self.names(id, &self.path(kind)),
        }
    }

    /// Where it asks for an answer that hands out what this way learns, and nothing else.
    fn path(self, kind: Kind) -> String {
        let place = match self {
            Self::LearntHeader => "header",
            Self::LearntBody | Self::LearntEvent => "body",
            _ => "none",
        };
        let form = if kind == Kind::Events { "events" } else { "json" };
        format!("/respond?id={place}&as={form}")
    }

    /// A request to `path` that names the session.
    fn names(self, name: &str, path: &str) -> Call {
        let encoded = name.replace(' ', "%20");
        match self {
            Self::Cookie => Call::get(path).header("cookie", format!("theme=dark; thread={encoded}")),
            Self::Query => Call::get(&format!("{path}&thread={}", name.replace(' ', "+"))),
            Self::Path => Call::get(&format!("/threads/{encoded}/runs{path}")),
            Self::Baggage => Call::get(path).header("baggage", format!("tenant=7,session.id={encoded};ttl=1")),
            Self::Body | Self::LearntBody => posted(path, &json!({"turn": 1, "conversation": name})),
            Self::PinCookie | Self::Envelope | Self::Run => Call::get(path),
            Self::Header | Self::Pin | Self::LearntHeader | Self::LearntEvent => {
                Call::get(path).header("x-thread", name)
            }
        }
    }
}

fn posted(path: &str, body: &Value) -> Call {
    Call::post(path, body.to_string()).header("content-type", "application/json")
}

/// A conversation, as its client sees it. It may go on at any proxy, over HTTP/2: what is still to come of an answer is read
/// beside the next turn.
#[derive(Debug, Clone)]
pub struct Talk {
    /// How the client holds it.
    pub way: Way,
    /// How it is answered.
    pub kind: Kind,
    /// The slot that served its latest turn.
    pub slot: String,
    /// When the client had what it needs for its next turn.
    pub handed: Instant,
    /// What names the session: the client's own id, or the latest that was handed out.
    name: String,
    /// Every id that an answer has handed out, and the slot which that came from.
    handed_out: Vec<(String, String)>,
    /// What is carried beside it.
    carried: Option<(&'static str, String)>,
}

impl Talk {
    /// Begins it.
    ///
    /// # Errors
    /// Where no agent answers, or not as agents do.
    pub async fn open(line: &mut Line, way: Way, kind: Kind, id: String) -> Result<Self> {
        let call = way.opens(&id, kind);
        let (slot, handed_out) = (String::new(), Vec::new());
        let mut talk = Self { way, kind, slot, handed: Instant::now(), name: id, handed_out, carried: None };
        talk.take_up(line.stream(&call).await?).await.with_context(|| format!("{way:?}, the first turn"))?;
        let carries = matches!(way, Way::Pin | Way::PinCookie | Way::Envelope | Way::Run);
        ensure!(talk.carried.is_some() == carries, "{way:?} carries {:?}", talk.carried);
        Ok(talk)
    }

    /// Its next turn; answers whether it hopped.
    ///
    /// # Errors
    /// As [`Talk::open`].
    pub async fn turn(&mut self, line: &mut Line) -> Result<bool> {
        let before = self.slot.clone();
        let call = self.call(&self.name, &self.way.path(self.kind));
        let stream = line.stream(&call).await?;
        self.take_up(stream).await.with_context(|| format!("{:?}, a later turn", self.way))?;
        Ok(before != self.slot)
    }

    /// Which slot a request of this session is served by; nothing of the answer is kept.
    ///
    /// # Errors
    /// Where no agent answers.
    pub async fn probe(&self, line: &mut Line) -> Result<String> {
        self.probe_as(&self.name, line).await
    }

    /// Every id that an answer has handed out, and the slot which that came from.
    #[must_use]
    pub fn handed_out(&self) -> &[(String, String)] {
        &self.handed_out
    }

    /// [`Talk::probe`] under an id that was handed out before.
    ///
    /// # Errors
    /// As [`Talk::probe`].
    pub async fn probe_as(&self, name: &str, line: &mut Line) -> Result<String> {
        let answer = line.send(&self.call(name, "/respond?id=none&as=json")).await?;
        ensure!(answer.status == 200, "{:?}: {} {}", self.way, answer.status, answer.text());
        answer.header(names::SERVED_BY).context("the agent says who it is")
    }

    fn call(&self, name: &str, path: &str) -> Call {
        let call = self.way.names(name, path);
        match &self.carried {
            Some((header, value)) => call.header(header, value),
            None => call,
        }
    }

    /// Keeps of an answer what the client keeps, as soon as it is there.
    async fn take_up(&mut self, mut stream: Stream) -> Result<()> {
        let mut text = String::new();
        if stream.status != 200 {
            while let Some(piece) = stream.next().await? {
                text.push_str(&String::from_utf8_lossy(&piece));
            }
            anyhow::bail!("{}: {text}", stream.status);
        }
        self.slot = header(&stream.headers, names::SERVED_BY).context("the agent says who it is")?;
        let carried = match self.way {
            Way::Pin => header(&stream.headers, names::PIN).map(|pin| (names::PIN, pin)),
            Way::PinCookie => {
                let cookie = header(&stream.headers, "set-cookie");
                cookie.map(|cookie| ("cookie", cookie.split(';').next().unwrap_or_default().to_owned()))
            }
            Way::Envelope => header(&stream.headers, "mcp-session-id").map(|id| ("mcp-session-id", id)),
            Way::Run if self.carried.is_none() => {
                header(&stream.headers, names::HANDED_BAGGAGE).map(|baggage| ("baggage", baggage))
            }
            _ => None,
        };
        self.carried = carried.or(self.carried.take());
        match self.way {
            Way::LearntHeader => self.name = header(&stream.headers, "x-conversation").context("an id in a header")?,
            _ => loop {
                let piece = stream.next().await?;
                text.push_str(&String::from_utf8_lossy(piece.as_deref().unwrap_or_default()));
                let id = if self.way.is_learnt() { opened(&text) } else { None };
                if let Some(id) = &id {
                    self.name = id.clone();
                }
                if id.is_some() || (!self.way.is_learnt() && self.kind == Kind::Events) || piece.is_none() {
                    ensure!(id.is_some() || !self.way.is_learnt(), "no id in {text}");
                    break;
                }
            },
        }
        self.handed = Instant::now();
        if self.way.is_learnt() {
            self.handed_out.push((self.name.clone(), self.slot.clone()));
        }
        tokio::spawn(async move { while let Ok(Some(_)) = stream.next().await {} });
        Ok(())
    }
}

/// The id in what has come of a body, once it is whole.
fn opened(text: &str) -> Option<String> {
    let (_, id) = text.split_once(r#""opened":""#)?;
    Some(id.split_once('"')?.0.to_owned())
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
