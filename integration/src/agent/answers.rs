//! What an agent answers to each path.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, LOCATION, SET_COOKIE, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Stamp, State};
use crate::names;
use crate::server::Pieces;

/// The pause between two pieces of an answer that hands out an id.
const PACE: Duration = Duration::from_millis(1);

/// Any body that an agent sends.
type Sent = BoxBody<Bytes, Infallible>;

/// What a client sends to `…/turn`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// The conversation that the client believes to be in: what the agent called it. Without one the session id of
    /// `x-agent-session` names it, and without that the agent begins a new one.
    pub conversation: Option<String>,
    /// Which turn of the conversation this is, from 1.
    pub turn: u32,
}

/// What an agent answers to `…/turn`, and to everything that has no answer of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// The bundle that the agent really runs.
    pub bundle: String,
    /// The slot that the request was stamped with.
    pub slot: String,
    /// The bundle that the request was stamped with.
    pub stamped: String,
    /// The decision that the request was stamped with.
    pub decision: String,
    /// The agent's name of the conversation; empty outside of one.
    pub conversation: String,
    /// The turn, as the client sent it; 0 outside of a conversation.
    pub turn: u32,
    /// The agent does not know the conversation, or another turn of it would come next.
    pub broken: bool,
}

pub(super) async fn answer(state: Arc<State>, mut request: Request<Incoming>) -> Response<Sent> {
    let (stamp, attested) = {
        let mut memory = state.memory();
        (memory.note(&request), memory.attested.clone())
    };
    let served = stamp.slot.clone();
    let baggage = request.headers().get("baggage").cloned();
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let last = path.rsplit('/').next().unwrap_or_default();
    if !["turn", "socket"].contains(&last) {
        // An answer before the end of an upload would cut the connection under the proxy's hands.
        while let Some(Ok(frame)) = request.body_mut().frame().await {
            if let Ok(trailers) = frame.into_trailers() {
                state.memory().trailers.extend(trailers.keys().map(ToString::to_string));
            }
        }
    }
    let mut response = match last {
        "turn" => turn(&state, request, &stamp).await,
        "stream" => stream(Arc::clone(&state), parameter(&query, "events").and_then(|n| n.parse().ok()).unwrap_or(3)),
        "open" => open(&query),
        "respond" => respond(&state, &query),
        "sign-in" => sign_in(&query, &state, &request, &stamp),
        "socket" => socket(request),
        "held" => {
            Waiting::begin(&state).released().await;
            identity(&state, &request, &stamp)
        }
        "public" => {
            let mut response = identity(&state, &request, &stamp);
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
            response
        }
        "redirect" => match parameter(&query, "to").and_then(|to| HeaderValue::try_from(to).ok()) {
            Some(to) => {
                let mut response = text(StatusCode::FOUND, String::new());
                response.headers_mut().insert(LOCATION, to);
                response
            }
            None => text(StatusCode::BAD_REQUEST, "redirect needs ?to=URL".to_owned()),
        },
        "status" => match parameter(&query, "code").and_then(|code| code.parse().ok()) {
            Some(code) => text(code, format!("as asked: {code}")),
            None => text(StatusCode::BAD_REQUEST, "status needs ?code=N".to_owned()),
        },
        _ => identity(&state, &request, &stamp),
    };
    if let Ok(slot) = HeaderValue::try_from(served) {
        response.headers_mut().insert(names::SERVED_BY, slot);
    }
    if let Some(baggage) = baggage {
        response.headers_mut().insert(names::HANDED_BAGGAGE, baggage);
    }
    if let Some(bundle) = attested.and_then(|bundle| HeaderValue::try_from(bundle).ok()) {
        response.headers_mut().insert(names::ATTESTED, bundle);
    }
    response
}

async fn turn(state: &State, request: Request<Incoming>, stamp: &Stamp) -> Response<Sent> {
    let decision = super::joined(request.headers(), names::DECISION);
    let session = super::joined(request.headers(), names::SESSION);
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("the body broke off: {error}")),
    };
    let asked: Turn = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("this is no turn: {error}")),
    };

    let mut memory = state.memory();
    let name = asked.conversation.or_else(|| (!session.is_empty()).then_some(session));
    let name = name.unwrap_or_else(|| format!("{}-{}", state.bundle, memory.conversations.len() + 1));
    // The same turn twice is a client that did not get the first answer.
    let broken = match memory.conversations.get(&name) {
        None => asked.turn != 1,
        Some(last) => asked.turn != *last && asked.turn != *last + 1,
    };
    // Even a broken conversation goes on from here, so that one hop counts once.
    memory.conversations.insert(name.clone(), asked.turn);
    drop(memory);

    json(&Reply {
        bundle: state.bundle.clone(),
        slot: stamp.slot.clone(),
        stamped: stamp.bundle.clone(),
        decision,
        conversation: name,
        turn: asked.turn,
        broken,
    })
}

fn identity(state: &State, request: &Request<Incoming>, stamp: &Stamp) -> Response<Sent> {
    json(&Reply {
        bundle: state.bundle.clone(),
        slot: stamp.slot.clone(),
        stamped: stamp.bundle.clone(),
        decision: super::joined(request.headers(), names::DECISION),
        conversation: String::new(),
        turn: 0,
        broken: false,
    })
}

fn stream(state: Arc<State>, events: u32) -> Response<Sent> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for number in 1..=events {
            if number > 1 {
                tokio::select! {
                    () = Waiting::begin(&state).released() => {}
                    () = sender.closed() => return,
                }
            }
            let event = format!("id: {number}\ndata: {}\n\n", state.bundle);
            if sender.send(Bytes::from(event)).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(Pieces(receiver).boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

/// Hands out a session cookie of the agent's own, as application servers do.
fn sign_in(query: &str, state: &State, request: &Request<Incoming>, stamp: &Stamp) -> Response<Sent> {
    let mut response = identity(state, request, stamp);
    let cookie = format!("JSESSIONID={}; Path=/; HttpOnly", parameter(query, "name").unwrap_or("conversation"));
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// Hands out ids of a new conversation, another one at each place.
fn open(query: &str) -> Response<Sent> {
    let name = parameter(query, "name").unwrap_or("conversation");
    let (media, body) = match parameter(query, "as") {
        Some("events") => {
            let event = serde_json::json!({"opened": format!("{name}-event")});
            ("text/event-stream", format!(": welcome\n\nevent: ping\ndata: {{}}\n\nevent: opened\ndata: {event}\n\n"))
        }
        _ => ("application/json", serde_json::json!({"opened": format!("{name}-body")}).to_string()),
    };
    let mut response = text(StatusCode::OK, body);
    let issued = [("mcp-session-id", format!("{name}-issued")), ("x-conversation", format!("{name}-header"))];
    for (header, id) in issued.into_iter().chain([("content-type", media.to_owned())]) {
        if let Ok(value) = HeaderValue::try_from(id) {
            response.headers_mut().insert(header, value);
        }
    }
    response
}

/// Answers one turn, under an id that no turn had before, as OpenAI's Responses do. The id is cut where a piece ends.
fn respond(state: &State, query: &str) -> Response<Sent> {
    let fresh = {
        let mut memory = state.memory();
        memory.handed += 1;
        format!("{}-{:08}", state.bundle, memory.handed)
    };
    let (place, events) = (parameter(query, "id").unwrap_or("body"), parameter(query, "as") == Some("events"));
    let (first, second) = fresh.split_at(fresh.len() / 2);
    let pieces = match (events, place == "body") {
        (false, true) => {
            vec![format!(r#"{{"object":"response","opened":"{first}"#), format!(r#"{second}","output":""#)]
        }
        (false, false) => vec![r#"{"object":"response","#.to_owned(), r#""output":""#.to_owned()],
        (true, true) => vec![
            format!("event: created\ndata: {{\"opened\":\"{first}"),
            format!("{second}\"}}\n\n"),
            "event: delta\ndata: {}\n\n".to_owned(),
        ],
        (true, false) => vec!["event: created\ndata: {}\n\n".to_owned(), "event: delta\ndata: {}\n\n".to_owned()],
    };
    let last = if events { "event: completed\ndata: {}\n\n" } else { r#"there it is"}"# };
    let mut response = Response::new(paced(pieces.into_iter().chain([last.to_owned()]).collect()).boxed());
    let media = if events { "text/event-stream" } else { "application/json" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    if let ("header", Ok(id)) = (place, HeaderValue::try_from(&fresh)) {
        response.headers_mut().insert("x-conversation", id);
    }
    response
}

/// Sends back whatever comes over a connection that leaves HTTP.
fn socket(mut request: Request<Incoming>) -> Response<Sent> {
    let Some(protocol) = request.headers().get(UPGRADE).cloned() else {
        return text(StatusCode::UPGRADE_REQUIRED, "a socket needs an upgrade".to_owned());
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
            // Whichever side ends it: nobody is to be told here.
            let _ = tokio::io::copy(&mut from, &mut to).await;
        }
    });
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, String::new());
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, protocol);
    response
}

/// A body in pieces, each flushed by itself, the first of them at once.
fn paced(pieces: Vec<String>) -> Pieces {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for piece in pieces {
            if sender.send(Bytes::from(piece)).await.is_err() {
                return;
            }
            tokio::time::sleep(PACE).await;
        }
    });
    Pieces(receiver)
}

/// A request that waits for a release, counted for as long as it does.
struct Waiting<'s> {
    state: &'s State,
    since: tokio::sync::watch::Receiver<u64>,
}

impl<'s> Waiting<'s> {
    fn begin(state: &'s State) -> Self {
        // First the mark, then the count: whoever sees the count may release at once.
        let since = state.releases.subscribe();
        state.memory().waiting += 1;
        Self { state, since }
    }

    async fn released(mut self) {
        // The sender lives as long as the state, which this borrows: there is always an end.
        let _ = self.since.changed().await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.state.memory().waiting -= 1;
    }
}

/// A parameter of a query, as it stands there.
fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn json(reply: &Reply) -> Response<Sent> {
    match serde_json::to_vec(reply) {
        Ok(body) => {
            let mut response = Response::new(Full::new(Bytes::from(body)).boxed());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Sent> {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed());
    *response.status_mut() = status;
    response
}
