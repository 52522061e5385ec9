//! Entries of the log: events with their place, time and chain of hashes.

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, IdempotencyKey, ServiceName};
use crate::release::event::Event;
use crate::time::UnixMillis;

/// The schema of events that this release writes; it reads this and all before.
pub const SCHEMA: u32 = 1;

/// What stands as the hash before the first entry.
pub const GENESIS_HASH: &str = "colorfast/log/1";

/// One line of the log. Its hash is taken of its text as written, so a reader never has to write it again to check it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Entry {
    /// Place in the log, from 1.
    pub seq: u64,
    /// Schema of `event`.
    pub schema: u32,
    /// When it was appended.
    pub at: UnixMillis,
    /// The service that it changes; none where it is of all services: a genesis, or a key of run tokens that moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// Who asked for it.
    pub principal: String,
    /// The key that the verb came with. It stands beside its effect, so that no crash parts the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<RequestKey>,
    /// What happened.
    pub event: Event,
}

/// An idempotency key, and what it was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RequestKey {
    /// The key.
    pub id: IdempotencyKey,
    /// Digest of the verb and what it expected: tells a repetition from another verb under the same key.
    pub request: Digest,
}

/// Why a text is no entry at its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not an entry.
    #[error("entry {seq} cannot be read: {cause}")]
    Unreadable {
        /// Its place.
        seq: u64,
        /// What the parser said.
        cause: String,
    },
    /// Written by a later release.
    #[error("entry {seq} has schema {found}, this release reads up to {SCHEMA}: start a newer one")]
    Newer {
        /// Its place.
        seq: u64,
        /// Its schema.
        found: u32,
    },
    /// Out of its place.
    #[error("entry {seq} says of itself that it is entry {found}")]
    Misplaced {
        /// Its place.
        seq: u64,
        /// What it says.
        found: u64,
    },
    /// Changed after it was written, or its predecessor was.
    #[error("entry {seq} does not match its hash: it or an entry before it was altered")]
    BrokenChain {
        /// Its place.
        seq: u64,
    },
}

impl Entry {
    /// Whether it gave `service` a version, where that was there already: it is of it, or of all services.
    pub fn changes(&self, service: &ServiceName) -> bool {
        match &self.service {
            Some(own) => own == service,
            // Before its first genesis a log has no service.
            None => !matches!(self.event, Event::Genesis { restored: None, .. }),
        }
    }

    /// The text to write, and its hash: SHA-256 of the hash before it, a line feed, and the text.
    pub fn seal(&self, previous: &str) -> Result<(String, String), EntryError> {
        let text = serde_json::to_string(self)
            .map_err(|error| EntryError::Unreadable { seq: self.seq, cause: error.to_string() })?;
        let hash = hash(previous, &text);
        Ok((text, hash))
    }

    /// Reads the entry at `seq`, after checking that it follows `previous` and was not altered.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn open(seq: u64, previous: &str, text: &str, expected: &str) -> Result<Self, EntryError> {
        if hash(previous, text) != expected {
            return Err(EntryError::BrokenChain { seq });
        }
        /// Only what tells whether the rest can be read.
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        let unreadable = |error: serde_json::Error| EntryError::Unreadable { seq, cause: error.to_string() };
        let head: Head = serde_json::from_str(text).map_err(unreadable)?;
        if head.schema > SCHEMA {
            return Err(EntryError::Newer { seq, found: head.schema });
        }
        let entry: Self = serde_json::from_str(text).map_err(unreadable)?;
        if entry.seq != seq {
            return Err(EntryError::Misplaced { seq, found: entry.seq });
        }
        Ok(entry)
    }
}

fn hash(previous: &str, text: &str) -> String {
    String::from(Digest::of(format!("{previous}\n{text}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;
    use crate::settings::OnBundleGone;

    fn entry(seq: u64) -> Entry {
        Entry {
            seq,
            schema: SCHEMA,
            at: UnixMillis(5),
            service: None,
            principal: "local".into(),
            key: None,
            event: Event::Genesis { epoch: Epoch(UnixMillis(5)), restored: None },
        }
    }

    /// The log cannot be altered unseen: neither a text, nor its order, nor what stands before it.
    #[test]
    fn chain_shows_every_alteration() {
        let (text, hash) = entry(1).seal(GENESIS_HASH).unwrap();
        assert_eq!(Entry::open(1, GENESIS_HASH, &text, &hash), Ok(entry(1)));
        let altered = text.replace("local", "other");
        assert_eq!(Entry::open(1, GENESIS_HASH, &altered, &hash), Err(EntryError::BrokenChain { seq: 1 }));
        assert_eq!(Entry::open(1, "sha256:0", &text, &hash), Err(EntryError::BrokenChain { seq: 1 }));
        assert_eq!(Entry::open(2, GENESIS_HASH, &text, &hash), Err(EntryError::Misplaced { seq: 2, found: 1 }));
    }

    /// A log that an earlier build wrote is read: what it said of dead envelopes and of bundles that are gone is one policy.
    #[test]
    fn settings_of_earlier_builds_are_carried_over() {
        let cases = [
            (r#""pin":{"dead_envelope":"not_found","max_age_seconds":5}"#, OnBundleGone::ByProtocol),
            (r#""pin":{"dead_envelope":"not_found"},"on_bundle_gone":"reassign""#, OnBundleGone::ByProtocol),
            (r#""pin":{"dead_envelope":"not_found"},"on_bundle_gone":"refuse""#, OnBundleGone::Refuse),
            (r#""pin":{"dead_envelope":"new"}"#, OnBundleGone::New),
            (r#""on_bundle_gone":"reassign""#, OnBundleGone::New),
            (r#""on_bundle_gone":"not_found""#, OnBundleGone::NotFound),
            ("", OnBundleGone::ByProtocol),
        ];
        for (settings, wanted) in cases {
            let text = format!(
                r#"{{"seq":1,"schema":1,"at":5,"principal":"local","event":{{"type":"settings_applied","settings":{{{settings}}}}}}}"#
            );
            let entry = Entry::open(1, GENESIS_HASH, &text, &super::hash(GENESIS_HASH, &text)).unwrap();
            let Event::SettingsApplied { settings: read, preset: None } = entry.event else { panic!("{settings}") };
            assert_eq!(read.on_bundle_gone, wanted, "{settings}");
        }
    }

    /// A log of a later release is not guessed at.
    #[test]
    fn later_schemas_are_named() {
        let mut later = entry(1);
        later.schema = SCHEMA + 1;
        let (text, hash) = later.seal(GENESIS_HASH).unwrap();
        assert_eq!(Entry::open(1, GENESIS_HASH, &text, &hash), Err(EntryError::Newer { seq: 1, found: SCHEMA + 1 }));
    }
}
