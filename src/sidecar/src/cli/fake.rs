//! A sidecar for tests that answers what it is told to, over real HTTP.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::locate::{Sidecar, Tls};

/// One question that was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Method, path and query.
    pub line: String,
    /// The bearer token.
    pub token: String,
    /// The idempotency key, as it was sent.
    pub key: String,
    /// The body, where it is JSON.
    pub body: Value,
}

/// The sidecar, with a client of it.
pub struct Fake {
    /// Asks it.
    pub client: Client,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// Answers each question with what `answer` says to it: a status, and a document.
    pub async fn start(answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (book, answer) = (asked.clone(), Arc::new(answer));
        let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let (token, key) = (header("authorization"), header("idempotency-key").to_owned());
            let question = Asked {
                line: format!("{method} {uri}"),
                token: token.trim_start_matches("Bearer ").to_owned(),
                key,
                body: serde_json::from_slice(&body).unwrap_or_default(),
            };
            let (status, document) = answer(&question);
            book.lock().unwrap().push(question);
            let text = if document.is_null() { String::new() } else { document.to_string() };
            async move { (StatusCode::from_u16(status).unwrap(), text) }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handler)).await });
        Self { client: client(&format!("http://{address}")), asked }
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The lines of what was asked so far.
    pub fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

/// A client of whatever listens at `control`.
pub fn client(control: &str) -> Client {
    let sidecar = Sidecar {
        control: control.parse().unwrap(),
        control_from: "from --control".into(),
        token: Some("secret".into()),
        token_from: "from --token-file t".into(),
        tls: Tls::default(),
        start: "colorfast serve".into(),
    };
    Client::new(sidecar).unwrap()
}

/// A problem document.
pub fn problem(status: u16, code: &str) -> Value {
    json!({"type": format!("urn:colorfast:problem:{code}"), "title": "t", "status": status, "detail": "it is so"})
}

/// A service at a version, its slot green live.
pub fn status(version: u64) -> Value {
    json!({"service": "chat", "epoch": 5, "version": version, "members": [], "settings": {},
        "slots": [{"slot": "green", "phase": "live", "since": 1, "weight": 10000, "bundle": "b1", "assignment": 9}]})
}

/// How far members are: their names, and the state of each.
pub fn confirmation(version: u64, outcome: &str, members: &[(&str, &str)]) -> Value {
    let member = |(name, state): &(&str, &str)| json!({"member": name, "state": state, "error": "settings.x: no"});
    let members: Vec<_> =
        members.iter().map(|(name, state)| json!({"member": name, "progress": member(&(name, state))})).collect();
    let mut confirmation = json!({"version": version, "outcome": outcome, "members": members});
    if outcome == "confirmed" {
        confirmation["confirmed_after_ms"] = json!(34.1);
    }
    confirmation
}

/// The answer to a verb.
pub fn applied(version: u64, confirmation: Value) -> Value {
    json!({"version": version, "changed": true, "status": status(version), "confirmation": confirmation})
}
