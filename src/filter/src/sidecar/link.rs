//! What every call to the sidecar goes out with.

use std::cell::Cell;
use std::time::Duration;

use colorfast_core::names::{self, PROBLEM_TICKET};
use colorfast_core::wire::incarnation::Incarnation;

use crate::cell::SharedCell;
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
    /// The life of the sidecar that was heard last.
    incarnation: SharedCell<Option<Incarnation>>,
    /// Whether another life than before was heard, and nothing was told again for it yet.
    is_another: Cell<bool>,
}

impl Link {
    /// To the sidecar behind `cluster`, with the token of the environment.
    pub fn to(cluster: &str) -> Self {
        Self {
            tickets: Tickets::new(cluster),
            cluster: cluster.to_owned(),
            token: std::env::var(names::ENV_TOKEN).ok().filter(|token| !token.is_empty()),
            incarnation: SharedCell::default(),
            is_another: Cell::new(false),
        }
    }

    /// The sidecar answers in the life `incarnation`.
    pub fn hear(&self, incarnation: &Incarnation) {
        self.incarnation.with(|known| match known {
            Some(known) if known == incarnation => {}
            known => self.is_another.set(known.replace(incarnation.clone()).is_some()),
        });
    }

    /// The life of the sidecar that was heard last.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation.with(|known| known.clone()).flatten()
    }

    /// Whether the sidecar has begun another life since this was asked last: what the one before heard is to be told again.
    pub fn has_begun_anew(&self) -> bool {
        self.is_another.take()
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
