//! The gate before an API: who asks is found out here, and whether it may.
//!
//! A token decides where one is sent, else the certificate of the connection. What fails is counted by peer; too much of
//! it is answered without a look at any secret. What is valid always passes: whoever shares an address with an attacker
//! is let in.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::Response;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::warn;

use super::access::{Access, Caller, Failures, Grant, LOCAL};
use super::clock;
use super::listening::Peer;
use super::logging;
use super::problem::{ApiError, Kind};
use super::tokens::Token;
use crate::api::tokens::{NodePattern, Role};

/// The one path that needs no token.
pub const HEALTH: &str = "/healthz";
/// The authentication scheme, and the space after it.
const BEARER: &[u8] = b"Bearer ";

/// What a gate stands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// What operators ask: by role.
    Control,
    /// What proxies ask: by node id, which is in the document.
    Discovery,
}

/// Lets in who may come in.
#[derive(Debug)]
pub struct Gate {
    api: Api,
    /// The token of the data folder.
    token: Token,
    access: Arc<Access>,
    failures: Mutex<Failures>,
}

impl Gate {
    /// A gate before `api`. `token` opens all of it; what else opens it is in `access`.
    /// One address may fail `auth_failures` times in a row.
    pub fn new(api: Api, token: Token, access: Arc<Access>, auth_failures: u32) -> Self {
        Self { api, token, access, failures: Mutex::new(Failures::new(auth_failures)) }
    }

    fn identify(&self, request: &Request) -> Result<Caller, ApiError> {
        let peer = request.extensions().get::<Peer>();
        let now = clock::now();
        let caller = match request.headers().get(header::AUTHORIZATION) {
            Some(given) => given.as_bytes().split_at_checked(BEARER.len()).and_then(|(scheme, given)| {
                let token = Some(given).filter(|_| scheme.eq_ignore_ascii_case(BEARER))?;
                if self.token.is(token) { Some(self.local()) } else { self.access.holder(token, now) }
            }),
            None => peer.and_then(|peer| self.access.certified(&peer.names, now)),
        };
        caller.ok_or_else(|| self.refuse(peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address)))
    }

    /// Who holds the data folder.
    fn local(&self) -> Caller {
        let grant = match self.api {
            Api::Control => Grant::Control(Role::Admin),
            Api::Discovery => Grant::Discovery(NodePattern::any()),
        };
        Caller { principal: LOCAL.into(), grant }
    }

    fn refuse(&self, peer: IpAddr) -> ApiError {
        let failed = self.failures.lock().add(peer, Instant::now());
        let file = self.token.file_name();
        if let Some(count) = failed.untold {
            warn!(%peer, token = %file, count, "requests with a wrong token or certificate, or none, were refused");
        }
        if let Some(rest) = failed.rest {
            let detail = format!("{peer} has failed to authenticate too often: wait before the next try");
            return ApiError::new(Kind::FAILURES, detail).retry_after(rest);
        }
        let made = match self.api {
            Api::Control => "--role",
            Api::Discovery => "--node",
        };
        let detail = format!(
            "send `authorization: Bearer TOKEN` with the token of {file}, or one of `colorfast token create NAME {made} …` \
             that is neither revoked nor expired"
        );
        ApiError::new(Kind::UNAUTHENTICATED, detail)
    }

    /// Whether `caller` may ask this; at discovery the node id decides, once the document is read.
    fn permit(&self, caller: &Caller, request: &Request) -> Result<(), ApiError> {
        let principal = &caller.principal;
        match (self.api, &caller.grant) {
            (Api::Discovery, Grant::Discovery(_)) => Ok(()),
            (Api::Discovery, Grant::Control(role)) => {
                let detail = format!(
                    "the token {principal} has the role {role} at the control API; proxies need one of \
                    `colorfast token create NAME --node PATTERN`"
                );
                Err(ApiError::new(Kind::FORBIDDEN, detail))
            }
            (Api::Control, Grant::Discovery(node)) => {
                let detail = format!(
                    "the token {principal} is for the nodes {node} at discovery; operators need one of \
                    `colorfast token create NAME --role ROLE`"
                );
                Err(ApiError::new(Kind::FORBIDDEN, detail))
            }
            (Api::Control, Grant::Control(role)) => {
                let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
                match path.map(|path| needed(request.method(), path)).filter(|needed| needed > role) {
                    None => Ok(()),
                    Some(needed) => {
                        let detail = format!("the token {principal} has the role {role}, and this needs {needed}");
                        Err(ApiError::new(Kind::FORBIDDEN, detail))
                    }
                }
            }
        }
    }
}

/// The leases of runs.
const RUNS: &str = "/v1/services/{service}/runs";

/// The least role that may ask for a route of the control API.
fn needed(method: &Method, route: &str) -> Role {
    let under = |root: &str| route.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match *method {
        _ if under("/v1/tokens") || under("/v1/backup") => Role::Admin,
        Method::GET | Method::HEAD => Role::Viewer,
        // It reads alone, but its question is a document.
        Method::POST if route.ends_with("/why") => Role::Viewer,
        // A run takes leases for itself, and must not need the right to release.
        Method::PUT | Method::DELETE if under(RUNS) => Role::Agent,
        _ => Role::Operator,
    }
}

/// Passes a request on with its [`Caller`], or refuses it.
///
/// # Errors
/// Where nobody valid asks, or one who may not ask this.
pub async fn check(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    if request.uri().path() == HEALTH {
        return Ok(next.run(request).await);
    }
    let caller = gate.identify(&request)?;
    gate.permit(&caller, &request)?;
    let principal = caller.principal.clone();
    request.extensions_mut().insert(caller);
    Ok(logging::of_principal(principal, next.run(request)).await)
}

impl Caller {
    /// Whether it may speak for the node of this id.
    ///
    /// # Errors
    /// Where its token is for other nodes.
    pub fn be(&self, node: &str) -> Result<(), ApiError> {
        match &self.grant {
            Grant::Discovery(pattern) if pattern.fits(node) => Ok(()),
            Grant::Discovery(pattern) => {
                let detail = format!("the token {} is for the nodes {pattern}, not for {node}", self.principal);
                Err(ApiError::new(Kind::OTHER_NODE, detail).at("node.id"))
            }
            Grant::Control(_) => Err(ApiError::new(Kind::FORBIDDEN, "a control token is for no node")),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| ApiError::new(Kind::UNAUTHENTICATED, "nobody has been asked who this is"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What reads needs the least, what changes more, and what lets others in the most; what is new and changes
    /// something is not a viewer's by accident.
    #[test]
    fn routes_need_roles() {
        let cases = [
            (Method::GET, "/v1/services", Role::Viewer),
            (Method::GET, "/v1/services/{service}/confirmations/{version}", Role::Viewer),
            (Method::HEAD, "/v1/events", Role::Viewer),
            (Method::POST, "/v1/services/{service}/why", Role::Viewer),
            (Method::POST, "/v1/services/{service}/verbs", Role::Operator),
            (Method::DELETE, "/v1/services/{service}/members/{member}", Role::Operator),
            (Method::GET, "/v1/services/{service}/runs", Role::Viewer),
            (Method::PUT, "/v1/services/{service}/runs/{run}", Role::Agent),
            (Method::DELETE, "/v1/services/{service}/runs/{run}", Role::Agent),
            (Method::POST, "/v1/services/{service}/runs/{run}", Role::Operator),
            (Method::GET, "/v1/application", Role::Viewer),
            (Method::GET, "/v1/application/confirmations/{version}", Role::Viewer),
            (Method::POST, "/v1/application/verbs", Role::Operator),
            (Method::PATCH, "/v1/whatever", Role::Operator),
            (Method::GET, "/v1/tokens", Role::Admin),
            (Method::POST, "/v1/tokens", Role::Admin),
            (Method::DELETE, "/v1/tokens/{name}", Role::Admin),
            (Method::GET, "/v1/tokensx", Role::Viewer),
            (Method::GET, "/v1/backup", Role::Admin),
        ];
        for (method, route, role) in cases {
            assert_eq!(needed(&method, route), role, "{method} {route}");
        }
    }
}
