//! What the writer carries out, whatever it is on: a service, or what is of all of them.

use std::sync::Arc;

use colorfast_core::ids::{Digest, IdempotencyKey, ServiceName};
use tracing::field::display;
use tracing::{error, info};

use super::repetition::fingerprint;
use super::{ApplicationOrder, Done, Effect, Occasion, Order, Part, VerbError};

/// What is carried out, whatever it is about.
#[derive(Clone, Copy)]
pub enum Task<'a> {
    /// On one service.
    Service(&'a Order, Part),
    /// On what is of all of them.
    Application(&'a ApplicationOrder),
}

/// What an order came to.
#[derive(Debug, Clone, Copy)]
pub struct Carried {
    /// Whether it changed anything.
    pub effect: Effect,
    /// Whether it was carried out now.
    pub occasion: Occasion,
    /// The version after it.
    pub version: u64,
}

impl<'a> Task<'a> {
    /// The service that it is on; none where it is on what is of all.
    pub fn service(self) -> Option<&'a ServiceName> {
        match self {
            Self::Service(order, _) => Some(&order.service),
            Self::Application(_) => None,
        }
    }

    /// The word for what it is on.
    pub fn what(self) -> &'static str {
        match self {
            Self::Service(..) => "service",
            Self::Application(_) => "application",
        }
    }

    /// Who asks for it.
    pub fn principal(self) -> &'a str {
        match self {
            Self::Service(Order { principal, .. }, _) | Self::Application(ApplicationOrder { principal, .. }) => {
                principal
            }
        }
    }

    /// What its operator has seen.
    pub fn expected_version(self) -> Option<u64> {
        match self {
            Self::Service(order, _) => order.expected_version,
            Self::Application(order) => order.expected_version,
        }
    }

    /// What tells it from another.
    pub fn key(self) -> Option<&'a IdempotencyKey> {
        match self {
            Self::Service(order, _) => order.key.as_ref(),
            Self::Application(order) => order.key.as_ref(),
        }
    }

    /// Tells its request from another under the same key.
    pub fn fingerprint(self) -> serde_json::Result<Digest> {
        match self {
            Self::Service(order, _) => fingerprint(order.expected_version, &order.verb),
            Self::Application(order) => fingerprint(order.expected_version, &order.verb),
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Service(order, _) => order.verb.name(),
            Self::Application(order) => order.verb.name(),
        }
    }

    /// Whether it is more than what comes before a verb.
    pub fn is_verb(self) -> bool {
        !matches!(self, Self::Service(_, Part::Preparation))
    }

    /// Every verb stands in the operator's log, refused ones too. One without a service is on what is of all.
    pub fn report(self, carried: &Result<Carried, VerbError>) {
        let (principal, service, verb) = (self.principal(), self.service().map(display), self.verb());
        match carried {
            Ok(Carried { effect, occasion, version }) if !self.is_verb() => {
                if (*effect, *occasion) == (Effect::Changed, Occasion::Now) {
                    info!(principal, service, verb, version, "proxies get ready for a verb");
                }
            }
            Ok(Carried { effect, occasion, version }) => {
                let changed = *effect == Effect::Changed;
                match occasion {
                    Occasion::Now => info!(principal, service, verb, version, changed, "verb carried out"),
                    Occasion::Earlier => {
                        info!(principal, service, verb, version, changed, "verb was carried out before")
                    }
                }
            }
            Err(VerbError::Outage(outage)) => error!(principal, service, verb, %outage, "verb failed"),
            Err(refused) => info!(principal, service, verb, reason = %refused, "verb refused"),
        }
    }
}

impl Carried {
    /// With what it was carried out on, as it is now.
    pub fn shown<P>(self, published: Arc<P>) -> Done<P> {
        let Self { effect, occasion, version } = self;
        Done { effect, occasion, version, published }
    }
}
