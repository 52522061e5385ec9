//! A whole sidecar for tests, asked without a socket.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use super::members::MemberId;
use super::sidecar::{Limits, Sidecar};
use crate::api::{Confirmation, PROBLEM_PREFIX, ServiceStatus, VerbResponse};

/// Long enough for whatever is not meant to happen by itself.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The limits of every sidecar here.
pub const LIMITS: Limits = Limits { member_ttl: Duration::from_secs(45), auth_failures: 20 };

/// A sidecar and its data folder.
pub struct Rig {
    pub sidecar: Sidecar,
    pub folder: TempDir,
}

/// An answer to come, wherever it is waited for.
pub type Asking = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// The JSON of an answer with `status`.
    pub fn json(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }

    /// A problem document, checked for its form, as `(code, field, detail)`.
    pub fn problem(&self, status: u16) -> (String, Option<String>, String) {
        let problem = self.json(status);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(problem["status"], status);
        assert!(!problem["title"].as_str().unwrap().is_empty());
        let code = problem["type"].as_str().unwrap().strip_prefix(PROBLEM_PREFIX).unwrap();
        let field = problem.get("field").map(|field| field.as_str().unwrap().to_owned());
        (code.to_owned(), field, problem["detail"].as_str().unwrap().to_owned())
    }
}

/// Asks `routes`.
pub fn ask(routes: &Router, request: Request<Body>) -> Asking {
    let routes = routes.clone();
    Box::pin(async move {
        let response = routes.oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    })
}

/// Whether a request is held, rather than answered.
pub async fn is_held(asking: &mut Asking) -> bool {
    // Nothing on the way to an answer takes time: what is not there at once waits for something.
    tokio::time::timeout(Duration::ZERO, asking).await.is_err()
}

fn bearing(token: &str, method: Method, path: &str, body: Body) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
    request.body(body).unwrap()
}

impl Rig {
    /// A sidecar with an empty data folder.
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    /// A sidecar on what is in `folder`.
    pub async fn start_in(folder: TempDir) -> Self {
        let sidecar = Sidecar::start(folder.path(), LIMITS, None).await.unwrap();
        Self { sidecar, folder }
    }

    /// A sidecar with the service `chat`: `v1` is live in blue, `v2` staged in green.
    pub async fn with_chat() -> Self {
        let rig = Self::start().await;
        rig.verb(json!({"verb": "apply", "settings": {}})).await;
        for (id, slot) in [("v1", "blue"), ("v2", "green")] {
            let manifest = json!({"code": id, "model": "m", "prompts": "p"});
            rig.verb(json!({"verb": "add_bundle", "id": id, "manifest": manifest})).await;
            rig.verb(json!({"verb": "stage", "slot": slot, "bundle": id})).await;
        }
        rig.verb(json!({"verb": "switch", "slot": "blue"})).await;
        rig
    }

    /// Ends the sidecar as SIGTERM does; the folder stays.
    pub async fn end(self) -> TempDir {
        self.sidecar.ending.begin();
        self.sidecar.save().await.unwrap();
        self.crash().await
    }

    /// Ends the sidecar without saving what is saved behind.
    pub async fn crash(self) -> TempDir {
        let Self { sidecar, folder } = self;
        let Sidecar { writer, discovery, control, errands, .. } = sidecar;
        drop((discovery, control, errands));
        writer.await.unwrap().unwrap();
        folder
    }

    /// Ends the sidecar and starts it again.
    pub async fn restart(self) -> Self {
        Self::start_in(self.end().await).await
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("colorfast.db")
    }

    pub fn token(&self, api: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{api}.token"))).unwrap().trim_end().to_owned()
    }

    /// Asks the control API.
    pub fn control(&self, method: Method, path: &str, body: impl Into<Body>) -> Asking {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.token("control")));
        ask(&self.sidecar.control, request.body(body.into()).unwrap())
    }

    /// Asks the control API with another token.
    pub fn control_as(&self, token: &str, method: Method, path: &str, body: impl Into<Body>) -> Asking {
        ask(&self.sidecar.control, bearing(token, method, path, body.into()))
    }

    /// Sends a document to the discovery address with another token.
    pub fn discovery_as(&self, token: &str, path: &str, body: &Value) -> Asking {
        ask(&self.sidecar.discovery, bearing(token, Method::POST, path, body.to_string().into()))
    }

    /// The ticket of the member that a document names.
    pub fn ticket(&self, document: &Value) -> Value {
        let node = serde_json::from_value(document["node"].clone()).unwrap();
        json!(self.sidecar.tickets.of(&MemberId::of(&node).unwrap()))
    }

    /// Sends a document of a member that shows its ticket to the discovery address.
    pub fn shown(&self, path: &str, document: &Value) -> Asking {
        let mut document = document.clone();
        document["ticket"] = self.ticket(&document);
        self.discovery(path, &document)
    }

    /// Makes a token, and gives its text.
    pub async fn token_of(&self, asked: Value) -> String {
        let created = self.control(Method::POST, "/v1/tokens", asked.to_string()).await.json(201);
        created["token"].as_str().unwrap().to_owned()
    }

    pub fn get(&self, path: &str) -> Asking {
        self.control(Method::GET, path, "")
    }

    /// Gives a verb to `chat`.
    pub fn try_verb(&self, verb: Value) -> Asking {
        self.control(Method::POST, "/v1/services/chat/verbs", verb.to_string())
    }

    /// Gives a verb to `chat` that must be carried out.
    pub async fn verb(&self, verb: Value) -> VerbResponse {
        serde_json::from_value(self.try_verb(verb).await.json(200)).unwrap()
    }

    pub async fn status(&self) -> ServiceStatus {
        serde_json::from_value(self.get("/v1/services/chat").await.json(200)).unwrap()
    }

    pub async fn confirmation(&self, version: u64) -> Confirmation {
        let path = format!("/v1/services/chat/confirmations/{version}");
        serde_json::from_value(self.get(&path).await.json(200)).unwrap()
    }

    /// Sends a document to the discovery address.
    pub fn discovery(&self, path: &str, body: &Value) -> Asking {
        let request = Request::post(path);
        let request = request.header(header::AUTHORIZATION, format!("bearer {}", self.token("discovery")));
        ask(&self.sidecar.discovery, request.body(body.to_string().into()).unwrap())
    }
}
