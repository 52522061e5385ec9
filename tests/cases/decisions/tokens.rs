//! Preview and run tokens as the tables describe them.

use colorfast_core::ids::KeyId;
use colorfast_core::time::UnixSeconds;
use colorfast_core::token::preview::{Claims, Signer};
use serde::Deserialize;

use super::pins::{Spoil, before};
use crate::releases::{self, Forger, RunKey};

/// A preview token that a request carries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviewGiven {
    /// The slot that it names.
    pub slot: String,
    /// Seconds until it ends.
    #[serde(default = "an_hour")]
    pub ends_in: i64,
    /// The service that it was signed for.
    #[serde(default = "chat")]
    pub service: String,
    /// The key that signed it.
    #[serde(default = "first_key")]
    pub key: u16,
    /// What was done to it.
    #[serde(default)]
    pub spoil: Spoil,
}

/// A run token that a request carries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunGiven {
    /// The bundle that the run began on.
    pub bundle: String,
    /// Seconds since it began.
    #[serde(default)]
    pub began: i64,
    /// Whose key signed it.
    #[serde(default)]
    pub key: RunKey,
    /// What was done to it.
    #[serde(default)]
    pub spoil: Spoil,
}

fn an_hour() -> i64 {
    3_600
}

fn chat() -> String {
    "chat".to_owned()
}

fn first_key() -> u16 {
    1
}

impl PreviewGiven {
    /// The token, at this time.
    pub fn token(&self, now: UnixSeconds) -> Vec<u8> {
        let forger = if self.spoil == Spoil::ForeignKey { Forger::Somebody } else { Forger::Nobody };
        let id = KeyId(self.key);
        let key = releases::ring_key(id, forger);
        let signer = Signer::new(&releases::service(&self.service), id, [(id, &key)]).unwrap();
        let claims = Claims { expires: before(now, -self.ends_in), slot: self.slot.parse().unwrap() };
        self.spoil.done_to(signer.mint(&claims).into_bytes())
    }
}

impl RunGiven {
    /// The token, at this time.
    pub fn token(&self, now: UnixSeconds) -> Vec<u8> {
        let token = releases::run_token(before(now, self.began), &self.bundle, self.key);
        self.spoil.done_to(token.into_bytes())
    }
}
