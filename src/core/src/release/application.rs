//! What all services of a log share: the keys of run tokens, which cross services.
//!
//! A key moves for all services at once, and each of them gets a version by it: so every proxy is sent it, whichever
//! service it asks for, and the next step waits for all of them.

use serde::{Deserialize, Serialize};

use crate::ids::KeyId;
use crate::release::check::{Acknowledgements, has_reason};
use crate::release::event::Event;
use crate::release::refusal::Refusal;
use crate::release::ring::{KeyStep, RingState, Terms};
use crate::release::state::State;
use crate::release::verb::Force;
use crate::time::UnixMillis;

/// The first key of run tokens. The log names it by no entry: it signs from the genesis on.
const FIRST: KeyId = KeyId(1);

/// What is of all services of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationState {
    /// Its last event in the log: what optimistic concurrency compares.
    pub version: u64,
    /// The ids of the keys that sign run tokens.
    pub runs: RingState,
}

/// An operator's act on what is of all services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum ApplicationVerb {
    /// Makes a new key of run tokens, which signs as soon as every member of every service can verify it.
    RotateKeys,
    /// Takes the step that is due with these keys: no operator's verb, the sidecar gives it to itself.
    TurnKeys,
    /// Takes a key of run tokens away: what it signed is refused from then on.
    RetireKey {
        /// The key.
        key: KeyId,
        /// Whether to do so over a refusal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        force: Option<Force>,
    },
}

impl ApplicationVerb {
    /// The word for people and programs; the tag of its serialised form.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RotateKeys => "rotate_keys",
            Self::TurnKeys => "turn_keys",
            Self::RetireKey { .. } => "retire_key",
        }
    }
}

impl ApplicationState {
    /// Of a log that begins.
    pub(super) fn begun(at: UnixMillis, version: u64) -> Self {
        Self { version, runs: RingState::new(FIRST, at, version) }
    }

    /// The key that is there though no entry names it, as long as it is the only one that ever was.
    pub fn unnamed(&self) -> Option<KeyId> {
        Some(FIRST).filter(|first| self.runs.newest() == *first)
    }

    /// What is to be done now though no operator asks for it. `everyone` tells of the members of all services.
    pub fn due(&self, terms: Terms, now: UnixMillis, everyone: &dyn Acknowledgements) -> Option<ApplicationVerb> {
        if self.runs.due(terms, now, everyone).is_some() {
            return Some(ApplicationVerb::TurnKeys);
        }
        self.runs.is_old(terms, now).then_some(ApplicationVerb::RotateKeys)
    }
}

impl Default for ApplicationState {
    /// Before the log has begun.
    fn default() -> Self {
        Self::begun(UnixMillis::default(), 0)
    }
}

impl State {
    /// What the keys of run tokens are bound to.
    pub fn run_terms(&self) -> Terms {
        Terms::of_runs(self.services.values().map(|service| &service.settings))
    }

    /// What `verb` does now, as an event to append; `None` where it would change nothing. `everyone` tells of the members
    /// of all services.
    ///
    /// # Errors
    /// Says why it is refused.
    pub fn check_application(
        &self,
        verb: &ApplicationVerb,
        now: UnixMillis,
        everyone: &dyn Acknowledgements,
    ) -> Result<Option<Event>, Refusal> {
        let (runs, terms) = (&self.application.runs, self.run_terms());
        let moved = |key, step, force| Event::RunKeyMoved { key, step, force };
        match verb {
            ApplicationVerb::RotateKeys => Ok(Some(moved(runs.next(terms)?, KeyStep::Added, None))),
            ApplicationVerb::TurnKeys => Ok(runs.due(terms, now, everyone).map(|(key, step)| moved(key, step, None))),
            ApplicationVerb::RetireKey { key, force } => {
                has_reason(force.as_ref())?;
                runs.may_go(*key, force.is_some(), terms, now)?;
                Ok(Some(moved(*key, KeyStep::Retired, force.clone())))
            }
        }
    }

    /// Folds a step of a key of run tokens in.
    pub(super) fn move_run_key(
        &mut self,
        key: KeyId,
        step: KeyStep,
        at: UnixMillis,
        seq: u64,
    ) -> Result<(), &'static str> {
        self.application.runs.step(key, step, at, seq)?;
        self.application.version = seq;
        for service in self.services.values_mut() {
            service.version = seq;
        }
        Ok(())
    }
}
