//! Everything that the checks look at, from where it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use colorfast_core::ids::Digest;
use reqwest::Url;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::evidence::{Evidence, Service};
use super::finding::Skipped;
use super::proxy::{Proxy, at};
use crate::api::ServiceStatus;
use crate::cli::args::{self, Globals};
use crate::cli::client::Client;
use crate::cli::error::Failure;
use crate::cli::locate::{self, Environment};

/// How long Envoy may take to answer; a configuration of many clusters takes a while.
const LIMIT: Duration = Duration::from_secs(30);
/// What `make release` puts beside the command line.
const DIGEST_FILE: &str = "colorfast_filter.wasm.sha256";

/// What was found, and what could not be.
pub struct Gathered {
    /// What was looked at, for people.
    pub source: String,
    /// What was found.
    pub evidence: Evidence,
    /// What could not be looked at.
    pub skipped: Vec<Skipped>,
}

/// Gathers everything.
///
/// # Errors
/// Where the configuration itself cannot be had; whatever else is missing is skipped, and said to be.
pub async fn all(args: &args::Doctor, globals: &Globals, environment: &Environment) -> Result<Gathered, Failure> {
    let mut skipped = Vec::new();
    let (source, proxy, stats) = match &args.config {
        Some(file) => {
            skipped.push(Skipped { check: "no-snapshot", why: "a file does not run".to_owned() });
            (file.display().to_string(), Proxy::of_bootstrap(&read_file(file)?), None)
        }
        None => {
            let admin = Admin::new(&args.admin)?;
            let proxy = Proxy::of_dump(&admin.json("config_dump", &[("include_eds", "on")]).await?);
            (format!("the Envoy at {}", args.admin), proxy, Some(admin.stats().await?))
        }
    };
    let services = match sidecar(globals, environment).await {
        Ok(services) => Some(services),
        Err(why) => {
            skipped.push(Skipped { check: "unknown-slot, not-member", why });
            None
        }
    };
    let release = match release(args.filter.as_deref())? {
        Ok(digest) => Some(digest),
        Err(why) => {
            skipped.push(Skipped { check: "wasm-digest", why });
            None
        }
    };
    Ok(Gathered { source, evidence: Evidence { proxy, stats, services, release }, skipped })
}

fn read_file(file: &Path) -> Result<Value, Failure> {
    let failed = |why: String| Failure::usage(format!("{}: {why}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| failed(format!("cannot be read: {error}")))?;
    serde_saphyr::from_str(&text).map_err(|error| failed(error.without_snippet().to_string()))
}

/// An Envoy's admin interface.
struct Admin {
    http: reqwest::Client,
    url: Url,
}

impl Admin {
    fn new(address: &str) -> Result<Self, Failure> {
        let refuse = || Failure::usage(format!("{address:?} is no admin address as in http://127.0.0.1:9901"));
        let url: Url = address.parse().map_err(|_| refuse())?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(refuse());
        }
        // A second client of the process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().no_proxy().timeout(LIMIT);
        // The system's authorities are looked for only where they are needed.
        let http = if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder }.build();
        let http = http.map_err(|error| Failure::outage(format!("cannot make an HTTP client: {error}")))?;
        Ok(Self { http, url })
    }

    async fn json<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Failure> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(path);
        }
        let failed = |error: reqwest::Error| {
            Failure::outage(format!("cannot read {path} of the Envoy at {}: {}", self.url, error.without_url()))
                .next("colorfast doctor --admin URL, the `admin` address of its configuration")
                .next("colorfast doctor --config FILE, where it does not run")
        };
        let answer = self.http.get(url).query(query).send().await.and_then(reqwest::Response::error_for_status);
        answer.map_err(failed)?.json().await.map_err(failed)
    }

    /// The filter's own counters and gauges.
    async fn stats(&self) -> Result<BTreeMap<String, u64>, Failure> {
        let document: Value =
            self.json("stats", &[("format", "json"), ("filter", "^wasmcustom\\.colorfast\\.")]).await?;
        let stats = at(&document, "/stats").as_array().into_iter().flatten();
        Ok(stats
            .filter_map(|stat| Some((at(stat, "/name").as_str()?.to_owned(), at(stat, "/value").as_u64()?)))
            .collect())
    }
}

/// What the sidecar says of every service, or why it does not.
async fn sidecar(
    globals: &Globals,
    environment: &Environment,
) -> Result<BTreeMap<colorfast_core::ids::ServiceName, Service>, String> {
    let ask = async {
        let client = Client::new(locate::sidecar(globals, environment)?)?;
        client.services().await
    };
    let services = ask.await.map_err(|failure| match failure {
        Failure::Told(told) => told.problem.detail,
        Failure::OutputClosed => String::new(),
    })?;
    let known = |status: ServiceStatus| {
        let nodes = status.members.into_iter().map(|member| member.node).collect();
        (status.service, Service { settings: status.settings, nodes })
    };
    Ok(services.into_iter().map(known).collect())
}

/// The digest of this release's filter, or why it is not known.
fn release(filter: Option<&Path>) -> Result<Result<Digest, String>, Failure> {
    if let Some(path) = filter {
        let bytes =
            fs::read(path).map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
        return Ok(Ok(Digest::of(&bytes)));
    }
    let Some(file) = std::env::current_exe().ok().map(|program| program.with_file_name(DIGEST_FILE)) else {
        return Ok(Err("where this program is cannot be told; --filter FILE names the filter".to_owned()));
    };
    let unknown = |why: String| Ok(Err(format!("{}: {why}; --filter FILE names the filter", file.display())));
    // As `sha256sum` writes it: the digest, and the name of the file.
    match fs::read_to_string(&file) {
        Ok(text) => match format!("sha256:{}", text.split_whitespace().next().unwrap_or_default()).parse() {
            Ok(digest) => Ok(Ok(digest)),
            Err(error) => unknown(error.to_string()),
        },
        Err(error) => unknown(error.to_string()),
    }
}
