//! What every call to the sidecar goes out with.

use std::time::Duration;

use colorfast_core::names::{self, PROBLEM_TICKET};

use crate::host::shared::ticket::Tickets;
use crate::host::{self, HostError};

/// Longest refusal that is read.
const REFUSAL_MAX: usize = 4_096;

/// The way to the sidecar of one plugin configuration.
#[derive(Debug)]
pub struct Link {
    /// What proves to the sidecar which process this is.
    pub tickets: Tickets,
    /// Envoy's cluster.
    cluster: String,
    /// The bearer token.
    token: Option<String>,
}

impl Link {
    /// To the sidecar behind `cluster`, with the token of the environment.
    pub fn to(cluster: &str) -> Self {
        Self {
            tickets: Tickets::new(cluster),
            cluster: cluster.to_owned(),
            token: std::env::var(names::ENV_TOKEN).ok().filter(|token| !token.is_empty()),
        }
    }

    /// Sends `body`, JSON; the answer comes to the effective context, a root, with the token that this returns.
    ///
    /// # Errors
    /// Where Envoy does not send it.
    pub fn call(&self, path: &str, body: &[u8], timeout: Duration) -> Result<u32, HostError> {
        host::call(&host::Call { cluster: &self.cluster, path, token: self.token.as_deref(), body, timeout })
    }
}

/// Whether the answer being handled, a 403, refuses the ticket rather than the token.
pub fn refuses_ticket(body_size: usize) -> bool {
    let body = host::response_body(body_size.min(REFUSAL_MAX)).unwrap_or_default();
    body.windows(PROBLEM_TICKET.len()).any(|window| window == PROBLEM_TICKET.as_bytes())
}
