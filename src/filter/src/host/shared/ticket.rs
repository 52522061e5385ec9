//! The ticket of this process: what proves to the sidecar that a poll or a report is its own.
//!
//! The sidecar sends it with snapshots until it has been shown once, and refuses polls without it from then on. The leader
//! of any service writes it into shared data; the leaders of all services, and every reporter, show what stands there.
//!
//! # Races
//! | what | how it ends |
//! | --- | --- |
//! | leaders of several services ask at once, none with a ticket | all are answered with the same ticket; each writes it before it asks again |
//! | one of them asks without, and the sidecar hears it after another has shown the ticket | it is refused, finds that another ticket stands there than it has shown, and asks again at once with that |
//! | an answer with the ticket is lost | it was not shown, so the next answer brings it again |
//! | a worker dies between the answer and the next poll | the ticket is in shared data before the answer is read any further |
//! | the sidecar has another ticket key | the old ticket counts as none, and the answer brings the new one |
//! | a refusal comes late, when a newer ticket stands there | what was refused is cleared by compare-and-swap, so the newer one stays |
//! | nothing stands there, and the sidecar wants the ticket | it is asked ever less often, until the member lapses there or is forgotten |
//!
//! Two listeners may have sidecars of their own, so every cluster has its ticket. A cluster that has none shows the one that
//! the process was given last: the same sidecar may just have another name, and to another one it is as good as none.

use colorfast_core::names::shared;
use colorfast_core::wire::ticket::Ticket;

use super::data;

/// Longest ticket that is kept.
const TICKET_MAX: usize = 128;

/// The ticket as one plugin configuration sees it.
#[derive(Debug)]
pub struct Tickets {
    of_cluster: String,
}

/// Whether a ticket was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// It stands in shared data since now.
    New,
    /// It stood there, or none was given.
    Known,
}

/// What to do after a ticket was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Another one stands there now: show that.
    Another,
    /// There is none to show.
    None,
}

impl Tickets {
    /// The ticket for the sidecar behind `cluster`.
    pub fn new(cluster: &str) -> Self {
        Self { of_cluster: shared::ticket_of(cluster) }
    }

    /// The ticket to show.
    pub fn shown(&self) -> Option<Ticket> {
        let read = |key: &str| data::shared(key).ok().flatten().filter(|ticket| !ticket.is_empty());
        let bytes = read(&self.of_cluster).or_else(|| read(shared::TICKET))?;
        String::from_utf8(bytes).ok().map(Ticket::new)
    }

    /// Writes down what an answer brought, where it is a ticket.
    pub fn take(&self, given: &[u8]) -> Given {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
        if given.is_empty() || given.len() > TICKET_MAX || !given.iter().all(plain) {
            return Given::Known;
        }
        let write = |key: &str| data::update_shared(key, |known| (known != Some(given)).then(|| given.to_vec()));
        let _ = write(shared::TICKET);
        if write(&self.of_cluster) == Ok(true) { Given::New } else { Given::Known }
    }

    /// The sidecar has refused what was `shown`.
    pub fn refused(&self, shown: Option<&Ticket>) -> Refused {
        if let Some(shown) = shown {
            for key in [&*self.of_cluster, shared::TICKET] {
                let _ = data::update_shared(key, |known| (known == Some(shown.as_str().as_bytes())).then(Vec::new));
            }
        }
        match self.shown() {
            Some(now) if Some(&now) != shown => Refused::Another,
            _ => Refused::None,
        }
    }
}
