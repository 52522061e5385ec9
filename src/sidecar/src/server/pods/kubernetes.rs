//! The Kubernetes API, as far as pods of one namespace go: a list, then a watch from where it ended, and a list again where
//! that is lost.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Certificate, Client, Response, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Scope;

/// Where every pod finds the API.
const HOST: &str = "KUBERNETES_SERVICE_HOST";
const PORT: &str = "KUBERNETES_SERVICE_PORT";
/// How long the API holds a watch.
const WATCH: Duration = Duration::from_secs(240);
/// How long an answer may take, and a watch be silent beyond the time that it is held.
const ANSWER: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
/// How soon after a failure the next try follows: doubled from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Longest line that is read: a pod is some kilobytes.
const LINE_MAX: usize = 4 * 1024 * 1024;
/// Longest piece of a refusal that is told.
const SAID_MAX: usize = 300;

/// What is asked, and as whom.
#[derive(Debug)]
pub struct Kubernetes {
    pods: Url,
    account: PathBuf,
}

/// What has become of pods.
#[derive(Debug)]
pub enum Change {
    /// These are all that there are.
    All(Vec<Pod>),
    /// From here on each change is told.
    Watched,
    /// This one is new, or is so now.
    One(Pod),
    /// This one is no more.
    Gone(Pod),
    /// No change is told until they are listed again.
    Failed(String),
}

/// A pod, as far as it matters here.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Pod {
    /// What it is.
    pub metadata: Metadata,
    /// How it is.
    #[serde(default)]
    pub status: Status,
}

/// What every object has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// Tells it from another of the same name.
    pub uid: String,
    /// When it is to be gone, once that was asked for.
    pub deletion_timestamp: Option<String>,
    resource_version: String,
}

/// How a pod is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    /// How far its containers are.
    pub phase: String,
    /// What is true of it.
    pub conditions: Vec<Condition>,
}

/// One thing that is true of a pod, or not.
#[derive(Debug, Clone, Deserialize)]
pub struct Condition {
    /// What.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
}

#[derive(Deserialize)]
struct List {
    metadata: Metadata,
    #[serde(default)]
    items: Vec<Pod>,
}

/// One line of a watch. What an error says is of another form than a pod.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    object: serde_json::Value,
}

impl Kubernetes {
    /// The API of the cluster that this process runs in.
    ///
    /// # Errors
    /// Where it runs in none.
    pub fn of_this_pod(scope: &Scope) -> Result<Self> {
        let variable = |name: &str| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty());
            value.with_context(|| format!("--pods-namespace is for a sidecar in a pod: there is no {name}"))
        };
        let (host, port) = (variable(HOST)?, variable(PORT)?);
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let mut pods = Url::parse(&format!("https://{host}:{port}")).context("the address of the Kubernetes API")?;
        pods.set_path(&format!("/api/v1/namespaces/{}/pods", scope.namespace));
        if let Some(selector) = &scope.selector {
            pods.query_pairs_mut().append_pair("labelSelector", selector);
        }
        Ok(Self { pods, account: scope.account.clone() })
    }

    /// Tells what becomes of pods, until it is dropped.
    pub async fn follow(&self, mut tell: impl FnMut(Change)) {
        let mut pause = RETRY.0;
        loop {
            let failed = match self.listed(&mut tell).await {
                Ok(from) => {
                    pause = RETRY.0;
                    self.watch(from, &mut tell).await
                }
                Err(failed) => failed,
            };
            tell(Change::Failed(failed));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// Lists, and answers where a watch goes on.
    async fn listed(&self, tell: &mut impl FnMut(Change)) -> Result<(Client, String), String> {
        let client = self.client().map_err(|error| format!("{error:#}"))?;
        let answer = self.ask(&client, &[], ANSWER).await?;
        let bytes = answer.bytes().await.map_err(broken)?;
        let List { metadata, items } = read(&bytes)?;
        tell(Change::All(items));
        Ok((client, metadata.resource_version))
    }

    /// Watches until that comes to an end, and says why.
    async fn watch(&self, (client, mut version): (Client, String), tell: &mut impl FnMut(Change)) -> String {
        loop {
            if let Err(failed) = self.watch_once(&client, &mut version, tell).await {
                return failed;
            }
        }
    }

    /// One watch, which the API ends in time.
    async fn watch_once(
        &self,
        client: &Client,
        version: &mut String,
        tell: &mut impl FnMut(Change),
    ) -> Result<(), String> {
        let seconds = WATCH.as_secs().to_string();
        let asked = [
            ("watch", "1"),
            ("allowWatchBookmarks", "1"),
            ("resourceVersion", version.as_str()),
            ("timeoutSeconds", &seconds),
        ];
        let mut answer = self.ask(client, &asked, WATCH + ANSWER).await?;
        tell(Change::Watched);
        let mut come = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(broken)? {
            come.extend_from_slice(&piece);
            while let Some(end) = come.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = come.drain(..=end).collect();
                let Line { kind, object } = read(&line)?;
                if kind == "ERROR" {
                    return Err(said(
                        object.get("message").and_then(serde_json::Value::as_str).unwrap_or("the watch ended"),
                    ));
                }
                let pod: Pod = serde_json::from_value(object).map_err(unreadable)?;
                version.clone_from(&pod.metadata.resource_version);
                match kind.as_str() {
                    "ADDED" | "MODIFIED" => tell(Change::One(pod)),
                    "DELETED" => tell(Change::Gone(pod)),
                    // A bookmark tells its version alone.
                    _ => {}
                }
            }
            if come.len() > LINE_MAX {
                return Err(format!("a line of the watch is over {LINE_MAX} bytes"));
            }
        }
        Ok(())
    }

    async fn ask(&self, client: &Client, query: &[(&str, &str)], limit: Duration) -> Result<Response, String> {
        let token = self.account.join("token");
        // Read anew each time: the kubelet replaces it before it expires.
        let read = tokio::fs::read_to_string(&token).await;
        let read = read.map_err(|error| format!("cannot read {}: {error}", token.display()))?;
        let request = client.get(self.pods.clone()).query(query).bearer_auth(read.trim()).timeout(limit);
        let answer = request.send().await.map_err(broken)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.bytes().await.unwrap_or_default();
        let told: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        let message = told.as_ref().and_then(|told| told.get("message")?.as_str());
        Err(said(message.unwrap_or(status.as_str())))
    }

    fn client(&self) -> Result<Client> {
        // A second client of the process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let path = self.account.join("ca.crt");
        let pem = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let authorities =
            Certificate::from_pem_bundle(&pem).with_context(|| format!("cannot read {}", path.display()))?;
        let client = Client::builder().tls_certs_only(authorities).no_proxy().connect_timeout(CONNECT);
        Ok(client.redirect(reqwest::redirect::Policy::none()).build()?)
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> String {
    format!("the answer of the Kubernetes API cannot be read: {error}")
}

fn broken(error: reqwest::Error) -> String {
    said(format_args!("{:#}", anyhow::Error::from(error.without_url())))
}

/// What somebody else said, on one line and not too long.
fn said(text: impl Display) -> String {
    text.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID_MAX).collect()
}
