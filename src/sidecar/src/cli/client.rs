//! The control API as seen from the command line.

mod stream;

use std::fs;
use std::path::Path;
use std::time::Duration;

use axum::{Router, http};
use colorfast_core::ids::{IdempotencyKey, ServiceName};
use colorfast_core::release::ApplicationVerb;
use colorfast_core::why::Explanation;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use reqwest::{Certificate, Identity, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::runs::{HoldRun, RunLease, RunName};
use crate::api::tokens::{CreateToken, CreatedToken, TokenName, TokenStatus};
use crate::api::{
    ApplicationStatus, ApplicationVerbResponse, Bundles, Confirmation, Events, IDEMPOTENCY_KEY, PreviewToken,
    PreviewTokenRequest, Problem, ServiceStatus, VerbRequest, VerbResponse, Verification, WhyRequest,
};
use crate::cli::error::Failure;
use crate::cli::locate::{Sidecar, Tls};
pub use stream::Stream;

/// The longest that the API holds an answer.
const HOLD_MAX: Duration = Duration::from_secs(30);
/// How long an answer may take beyond the time that it is held.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long the sidecar may take to make a copy of its store.
const COPY_LIMIT: Duration = Duration::from_mins(10);
/// How long a download may take; each piece of it has [`ANSWER_LIMIT`].
const DOWNLOAD_LIMIT: Duration = Duration::from_hours(12);
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// What verbs and versions are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// One service.
    Service(&'a ServiceName),
    /// What is of all services.
    Application,
}

impl<'a> From<&'a ServiceName> for Subject<'a> {
    fn from(service: &'a ServiceName) -> Self {
        Self::Service(service)
    }
}

/// Talks to one sidecar.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    sidecar: Sidecar,
    /// The API itself, where it is in this process.
    inside: Option<Router>,
}

impl Client {
    /// A client of `sidecar`; connects at the first request.
    ///
    /// # Errors
    /// Where the system has no resources for one.
    pub fn new(sidecar: Sidecar) -> Result<Self, Failure> {
        // A second client of the process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // The API is a known address: a proxy or a redirect could only be a trap for the token.
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT);
        let Tls { ca, identity } = &sidecar.tls;
        builder = match ca {
            Some(file) => builder.tls_certs_only(authorities(file)?),
            // The system's authorities are looked for only where they are needed.
            None if sidecar.control.scheme() == "http" => builder.tls_certs_only([]),
            None => builder,
        };
        if let Some((cert, key)) = identity {
            builder = builder.identity(client_certificate(cert, key)?);
        }
        let http = builder.build().map_err(|error| {
            Failure::usage(format!("cannot make an HTTP client: {}", root_cause(&error)))
                .next("colorfast --ca FILE … names the authority of the sidecar's certificate")
        })?;
        Ok(Self { http, sidecar, inside: None })
    }

    /// A client of the API in this process, of the offline store in `folder`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn inside(api: Router, folder: &Path) -> Result<Self, Failure> {
        let client = Self::new(Sidecar::inside(folder)?)?;
        Ok(Self { inside: Some(api), ..client })
    }

    /// Whether no proxy can be heard.
    pub fn is_offline(&self) -> bool {
        self.inside.is_some()
    }

    /// Every service.
    ///
    /// # Errors
    /// As every method here: a refusal, or an outage.
    pub async fn services(&self) -> Result<Vec<ServiceStatus>, Failure> {
        self.get(self.url(&["v1", "services"]), Duration::ZERO).await
    }

    /// One service.
    pub async fn service(&self, service: &ServiceName) -> Result<ServiceStatus, Failure> {
        self.get(self.url(&["v1", "services", service.as_str()]), Duration::ZERO).await
    }

    /// What is of all services.
    pub async fn application(&self) -> Result<ApplicationStatus, Failure> {
        self.get(self.url_of(Subject::Application, &[]), Duration::ZERO).await
    }

    /// One service as it is, and again whenever it or a member of it changes.
    pub async fn watch(&self, service: &ServiceName) -> Result<Stream, Failure> {
        self.stream(self.url(&["v1", "services", service.as_str(), "watch"])).await
    }

    /// Entries after `after`, and each that is appended from now on.
    pub async fn follow(&self, service: Option<&ServiceName>, after: u64) -> Result<Stream, Failure> {
        let mut url = self.url(&["v1", "events", "stream"]);
        if let Some(service) = service {
            add_query(&mut url, "service", service);
        }
        add_query(&mut url, "after", after);
        self.stream(url).await
    }

    /// Carries out a verb; it is in the log when this returns. However often it is sent with one key, it is carried
    /// out once.
    pub async fn verb(
        &self,
        service: &ServiceName,
        request: &VerbRequest,
        key: &IdempotencyKey,
    ) -> Result<VerbResponse, Failure> {
        self.order(service.into(), request, key).await
    }

    /// Carries out a verb on what is of all services, once however often it is sent with one key.
    pub async fn application_verb(
        &self,
        request: &VerbRequest<ApplicationVerb>,
        key: &IdempotencyKey,
    ) -> Result<ApplicationVerbResponse, Failure> {
        self.order(Subject::Application, request, key).await
    }

    async fn order<V: Serialize, A: DeserializeOwned>(
        &self,
        subject: Subject<'_>,
        request: &VerbRequest<V>,
        key: &IdempotencyKey,
    ) -> Result<A, Failure> {
        let request = self.request(Method::POST, self.url_of(subject, &["verbs"]), Duration::ZERO).json(request);
        let request = request.header(IDEMPOTENCY_KEY, quoted(key));
        read(self.send(request).await?).await
    }

    /// Who has obeyed `version`; held for `hold` at most while nothing changes.
    pub async fn confirmation(
        &self,
        subject: Subject<'_>,
        version: u64,
        hold: Duration,
    ) -> Result<Confirmation, Failure> {
        let mut url = self.url_of(subject, &["confirmations", &version.to_string()]);
        let hold = hold.min(HOLD_MAX);
        if !hold.is_zero() {
            add_query(&mut url, "wait_ms", hold.as_millis());
        }
        self.get(url, hold).await
    }

    /// The bundles of a service.
    pub async fn bundles(&self, service: &ServiceName) -> Result<Bundles, Failure> {
        self.get(self.url(&["v1", "services", service.as_str(), "bundles"]), Duration::ZERO).await
    }

    /// Where a request goes, and why.
    pub async fn why(&self, service: &ServiceName, request: &WhyRequest) -> Result<Explanation, Failure> {
        let url = self.url(&["v1", "services", service.as_str(), "why"]);
        // An older version is made anew from the whole log.
        read(self.send(self.request(Method::POST, url, HOLD_MAX).json(request)).await?).await
    }

    /// A preview token.
    pub async fn preview_token(
        &self,
        service: &ServiceName,
        request: &PreviewTokenRequest,
    ) -> Result<PreviewToken, Failure> {
        let url = self.url(&["v1", "services", service.as_str(), "preview-tokens"]);
        read(self.send(self.request(Method::POST, url, Duration::ZERO).json(request)).await?).await
    }

    /// The runs of a service that hold a lease.
    pub async fn runs(&self, service: &ServiceName) -> Result<Vec<RunLease>, Failure> {
        self.get(self.url(&["v1", "services", service.as_str(), "runs"]), Duration::ZERO).await
    }

    /// Takes a lease for a run, or renews it.
    pub async fn hold_run(&self, service: &ServiceName, run: &RunName, asked: &HoldRun) -> Result<RunLease, Failure> {
        let url = self.url(&["v1", "services", service.as_str(), "runs", run.as_str()]);
        read(self.send(self.request(Method::PUT, url, Duration::ZERO).json(asked)).await?).await
    }

    /// Ends the lease of a run.
    pub async fn end_run(&self, service: &ServiceName, run: &RunName) -> Result<(), Failure> {
        let url = self.url(&["v1", "services", service.as_str(), "runs", run.as_str()]);
        self.send(self.request(Method::DELETE, url, Duration::ZERO)).await.map(drop)
    }

    /// Takes a member out of confirmation.
    pub async fn forget(&self, service: &ServiceName, member: &str) -> Result<(), Failure> {
        let url = self.url(&["v1", "services", service.as_str(), "members", member]);
        self.send(self.request(Method::DELETE, url, Duration::ZERO)).await.map(drop)
    }

    /// Makes a token.
    pub async fn create_token(&self, asked: &CreateToken) -> Result<CreatedToken, Failure> {
        let request = self.request(Method::POST, self.url(&["v1", "tokens"]), Duration::ZERO).json(asked);
        read(self.send(request).await?).await
    }

    /// Every token, without its secret.
    pub async fn tokens(&self) -> Result<Vec<TokenStatus>, Failure> {
        self.get(self.url(&["v1", "tokens"]), Duration::ZERO).await
    }

    /// Revokes a token.
    pub async fn revoke_token(&self, name: &TokenName) -> Result<(), Failure> {
        let url = self.url(&["v1", "tokens", name.as_str()]);
        self.send(self.request(Method::DELETE, url, Duration::ZERO)).await.map(drop)
    }

    /// Entries after `after`, at most `limit` of them.
    pub async fn events(&self, service: Option<&ServiceName>, after: u64, limit: u32) -> Result<Events, Failure> {
        let mut url = self.url(&["v1", "events"]);
        if let Some(service) = service {
            add_query(&mut url, "service", service);
        }
        add_query(&mut url, "after", after);
        add_query(&mut url, "limit", limit);
        self.get(url, Duration::ZERO).await
    }

    /// Reads the whole log again.
    pub async fn verification(&self) -> Result<Verification, Failure> {
        // A log of many entries takes its time.
        self.get(self.url(&["v1", "log", "verification"]), HOLD_MAX).await
    }

    /// A copy of the store, to be read piece by piece.
    pub async fn backup(&self) -> Result<Download, Failure> {
        let request = self.request(Method::GET, self.url(&["v1", "backup"]), DOWNLOAD_LIMIT);
        let response = tokio::time::timeout(COPY_LIMIT, self.send(request)).await;
        let late = |_| Failure::outage(format!("the sidecar has not made its copy within {COPY_LIMIT:?}"));
        Ok(Download { response: response.map_err(late)?? })
    }

    /// A path of the API; segments are encoded, so that the slash of a member's name stays within its segment.
    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.sidecar.control.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// A path of the API below what it is of.
    fn url_of(&self, subject: Subject<'_>, segments: &[&str]) -> Url {
        match subject {
            Subject::Service(service) => self.url(&[&["v1", "services", service.as_str()], segments].concat()),
            Subject::Application => self.url(&[&["v1", "application"], segments].concat()),
        }
    }

    async fn get<T: DeserializeOwned>(&self, url: Url, hold: Duration) -> Result<T, Failure> {
        read(self.send(self.request(Method::GET, url, hold)).await?).await
    }

    /// The head of the answer must come as fast as any; its body takes as long as it takes.
    async fn stream(&self, url: Url) -> Result<Stream, Failure> {
        let Ok(answer) = tokio::time::timeout(ANSWER_LIMIT, self.send(self.authorised(Method::GET, url))).await else {
            return Err(Failure::outage("the sidecar was asked for a stream of events, and time is out"));
        };
        Ok(Stream::new(answer?))
    }

    fn request(&self, method: Method, url: Url, hold: Duration) -> RequestBuilder {
        self.authorised(method, url).timeout(hold + ANSWER_LIMIT)
    }

    fn authorised(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url);
        match &self.sidecar.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends, and turns everything but success into a failure.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = match &self.inside {
            None => request.send().await.map_err(|error| self.unreachable(&error))?,
            Some(api) => ask_inside(api, request).await?,
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        let Ok(problem) = serde_json::from_slice::<Problem>(&body) else {
            return Err(self.stranger(status));
        };
        if status == StatusCode::UNAUTHORIZED {
            return Err(self.unknown_token(problem));
        }
        Err(Failure::answered(problem))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let Sidecar { control, control_from, start, .. } = &self.sidecar;
        let cause = root_cause(error);
        if error.is_connect() {
            return Failure::outage(format!("cannot reach the sidecar at {control} ({control_from}): {cause}"))
                .next(format!("{start}   (starts it)"));
        }
        let detail = format!(
            "the sidecar at {control} ({control_from}) was asked, but its answer did not come: {cause}; what was asked \
             may have been done or not"
        );
        Failure::outage(detail).next("colorfast status").unanswered()
    }

    fn stranger(&self, status: StatusCode) -> Failure {
        let Sidecar { control, control_from, .. } = &self.sidecar;
        Failure::outage(format!(
            "{control} ({control_from}) answers {status} in words that are not colorfast's: something else listens there"
        ))
        .next("colorfast status --control URL")
    }

    fn unknown_token(&self, problem: Problem) -> Failure {
        let Sidecar { control, control_from, token_from, .. } = &self.sidecar;
        let detail =
            format!("the sidecar at {control} ({control_from}) does not accept the control token {token_from}");
        Failure::answered(Problem { detail, ..problem }).next(
            "colorfast --data-dir DIR …, --token-file FILE … or COLORFAST_CONTROL_TOKEN: the token of that sidecar",
        )
    }
}

/// Asks the API in this process. Its answers end, since nothing is followed there.
async fn ask_inside(api: &Router, request: RequestBuilder) -> Result<Response, Failure> {
    let failed = |cause: &dyn std::fmt::Display| Failure::outage(format!("the store cannot be asked: {cause}"));
    let request = request.build().map_err(|error| failed(&root_cause(&error)))?;
    let request = http::Request::<reqwest::Body>::try_from(request).map_err(|error| failed(&root_cause(&error)))?;
    let answer = TowerToHyperService::new(api.clone()).call(request).await.map_err(|error| failed(&error))?;
    let (head, body) = answer.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.map_err(|error| failed(&error))?;
    Ok(http::Response::from_parts(head, body).into())
}

/// An answer that is read as it comes.
#[derive(Debug)]
pub struct Download {
    response: Response,
}

impl Download {
    /// How long it is.
    pub fn bytes(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next piece; none at the end. An answer that breaks off before it is whole is a failure.
    pub async fn next(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, Failure> {
        let broke = |why: String| Failure::outage(format!("the backup broke off: {why}"));
        let piece = tokio::time::timeout(ANSWER_LIMIT, self.response.chunk()).await;
        let piece = piece.map_err(|_| broke(format!("nothing came for {ANSWER_LIMIT:?}")))?;
        piece.map_err(|error| broke(root_cause(&error)))
    }
}

fn authorities(file: &Path) -> Result<Vec<Certificate>, Failure> {
    let wrong = |cause: String| Failure::usage(format!("--ca {}: {cause}", file.display()));
    let pem = fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let all = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(root_cause(&error)))?;
    if all.is_empty() {
        return Err(wrong("holds no certificate in PEM".to_owned()));
    }
    Ok(all)
}

fn client_certificate(cert: &Path, key: &Path) -> Result<Identity, Failure> {
    let read = |flag: &str, file: &Path| {
        fs::read(file).map_err(|error| Failure::usage(format!("{flag} {}: {error}", file.display())))
    };
    let pem = [read("--cert", cert)?, b"\n".to_vec(), read("--key", key)?].concat();
    // The parser's own words might repeat a piece of the key.
    let wrong =
        |_| format!("--cert {}, --key {}: are no certificate and its key in PEM", cert.display(), key.display());
    Identity::from_pem(&pem).map_err(|error| Failure::usage(wrong(error)))
}

/// A key as a string of structured fields (RFC 9651).
fn quoted(key: &IdempotencyKey) -> String {
    format!("\"{}\"", key.as_str().replace('\\', "\\\\").replace('"', "\\\""))
}

fn add_query(url: &mut Url, name: &str, value: impl ToString) {
    url.query_pairs_mut().append_pair(name, &value.to_string());
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, Failure> {
    let url = response.url().clone();
    let unreadable = |cause: String| {
        Failure::outage(format!("the answer of {url} cannot be read, the sidecar may be of another release: {cause}"))
    };
    let body = response.bytes().await.map_err(|error| unreadable(root_cause(&error)).unanswered())?;
    serde_json::from_slice(&body).map_err(|error| unreadable(error.to_string()))
}

/// The innermost error says what happened; those around it say that a request failed.
fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "time is out".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
