//! The authority: the one writer of the log.
//!
//! Verbs queue for one task, which checks each against the state, appends the event, folds it in and publishes what
//! came of it. A verb that has been queued is carried out even where its caller has gone.

mod keys;
mod opening;
mod repetition;
mod replay;
mod task;
mod writer;

use std::sync::Arc;

use colorfast_core::ids::{IdempotencyKey, ServiceName};
use colorfast_core::release::{ApplicationState, ApplicationVerb, Refusal, Verb};
use tokio::sync::{mpsc, oneshot};

pub use self::keys::load_known as load_known_keys;
pub use self::opening::Opened;
pub use self::replay::{state_at, verify};
pub use self::writer::{Known, Writer};
use super::directory::Published;
use super::probe::Probed;
use crate::store::Outage;

/// Verbs that may wait; more callers wait to queue.
const QUEUE: usize = 64;

/// Where verbs are handed in.
#[derive(Debug, Clone)]
pub struct Authority {
    queue: mpsc::Sender<Command>,
}

/// A verb and who asked for it.
#[derive(Debug, Clone)]
pub struct Order {
    /// Who.
    pub principal: String,
    /// On which service.
    pub service: ServiceName,
    /// The version of the service that the operator has seen; none where it does not matter.
    pub expected_version: Option<u64>,
    /// What tells a repetition of this order from another.
    pub key: Option<IdempotencyKey>,
    /// What.
    pub verb: Verb,
    /// What a probe of the slot that it gives sessions to came to, where one was made.
    pub probed: Option<Probed>,
}

/// A verb on what is of all services, and who asked for it.
#[derive(Debug, Clone)]
pub struct ApplicationOrder {
    /// Who.
    pub principal: String,
    /// The version of the application that the operator has seen; none where it does not matter.
    pub expected_version: Option<u64>,
    /// What tells a repetition of this order from another.
    pub key: Option<IdempotencyKey>,
    /// What.
    pub verb: ApplicationVerb,
}

/// What came of a verb on a service, or on what `P` shows.
#[derive(Debug)]
pub struct Done<P = Published> {
    /// Whether the verb changed anything.
    pub effect: Effect,
    /// Whether it was carried out now.
    pub occasion: Occasion,
    /// The version of the service after it.
    pub version: u64,
    /// The service now.
    pub published: Arc<P>,
}

/// How much of an order is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What comes before the verb, so that no session moves by it.
    Preparation,
    /// The verb.
    Verb,
}

/// Whether a verb changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// An event was appended.
    Changed,
    /// All was so already.
    None,
}

/// When a verb was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// Now.
    Now,
    /// When its idempotency key came for the first time.
    Earlier,
}

/// Why a verb was not carried out. Nothing has changed; an outage that cannot know says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerbError {
    /// The operator has not seen what the service is now.
    #[error("the {what} is at version {current}, not at {expected}: look at it again, then repeat the verb")]
    Stale {
        /// The service, or the application.
        what: &'static str,
        /// What the operator has seen.
        expected: u64,
        /// What it is.
        current: u64,
    },
    /// Its idempotency key belongs to another verb.
    #[error(
        "the idempotency key {0} was used for another verb, or with another expected version: take a new key for each"
    )]
    KeyReused(IdempotencyKey),
    /// The rules forbid it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed, or the sidecar is about to end.
    #[error(transparent)]
    Outage(#[from] Outage),
}

/// The end of the queue that the writer reads.
pub type Orders = mpsc::Receiver<Command>;

/// A queued order and where its answer goes.
#[derive(Debug)]
pub enum Command {
    /// On a service.
    Service(Order, Part, oneshot::Sender<Result<Done, VerbError>>),
    /// On what is of all services.
    Application(ApplicationOrder, oneshot::Sender<Result<Done<ApplicationState>, VerbError>>),
}

impl Authority {
    /// The queue, and its other end for [`Writer::run`].
    pub fn new() -> (Self, Orders) {
        let (queue, orders) = mpsc::channel(QUEUE);
        (Self { queue }, orders)
    }

    /// Carries a verb out.
    ///
    /// # Errors
    /// Says why it was not.
    pub async fn order(&self, order: Order) -> Result<Done, VerbError> {
        let (answer, answered) = oneshot::channel();
        self.hand_in(Command::Service(order, Part::Verb, answer), answered).await
    }

    /// Has proxies get ready for a verb that would be carried out now.
    ///
    /// # Errors
    /// Says why it would not be.
    pub async fn prepare(&self, order: Order) -> Result<Done, VerbError> {
        let (answer, answered) = oneshot::channel();
        self.hand_in(Command::Service(order, Part::Preparation, answer), answered).await
    }

    /// Carries a verb out on what is of all services.
    ///
    /// # Errors
    /// Says why it was not.
    pub async fn order_of_all(&self, order: ApplicationOrder) -> Result<Done<ApplicationState>, VerbError> {
        let (answer, answered) = oneshot::channel();
        self.hand_in(Command::Application(order, answer), answered).await
    }

    async fn hand_in<P>(
        &self,
        command: Command,
        answered: oneshot::Receiver<Result<Done<P>, VerbError>>,
    ) -> Result<Done<P>, VerbError> {
        let ending = || Outage { what: "carry the verb out", cause: "the sidecar is about to end".to_owned() };
        self.queue.send(command).await.map_err(|_| ending())?;
        answered.await.map_err(|_| ending())?
    }
}

#[cfg(test)]
mod tests;
