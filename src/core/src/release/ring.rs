//! Rotation of keys, without a broken token: of a service's own, and of those that sign run tokens.
//!
//! ```text
//!  rotate ─▶ arriving ─every member has it─▶ signing ─another signs─▶ leaving ─every member signs with that─▶ former ─max-age─▶ gone
//! ```
//!
//! A key signs only once every member can verify it, and goes only once nothing that it signed can hold any more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::KeyId;
use crate::keys::Ring;
use crate::release::check::{Acknowledgements, Circumstances};
use crate::release::event::Event;
use crate::release::refusal::Refusal;
use crate::release::state::ServiceState;
use crate::release::verb::{Force, Verb};
use crate::settings::ServiceSettings;
use crate::time::{SKEW_SECONDS, UnixMillis};
use crate::token::preview;

/// Most keys of a ring: every proxy keeps the schedule of each.
const KEYS_MAX: usize = 16;

/// What the keys of a ring sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signs {
    /// Pins and preview tokens, of one service.
    Pins,
    /// Run tokens, of all services.
    Runs,
}

impl Signs {
    /// What commands on such keys end with.
    pub(super) fn flag(self) -> &'static str {
        match self {
            Self::Pins => "",
            Self::Runs => " --runs",
        }
    }
}

/// What the keys of a ring are bound to by settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    signs: Signs,
    /// How long a key signs before the schedule asks for another; 0: for ever.
    period_seconds: u32,
    /// How long anything that a key has signed holds at most.
    longest_seconds: u32,
}

impl Terms {
    /// Of the keys of a service with these settings.
    pub fn of_pins(settings: &ServiceSettings) -> Self {
        Self {
            signs: Signs::Pins,
            period_seconds: settings.pin.key_rotation_seconds.0,
            longest_seconds: settings.pin.max_age_seconds.max(preview::TTL_MAX_SECONDS),
        }
    }

    /// Of the keys of run tokens, in services with these settings: the most careful of each rules for all.
    pub fn of_runs<'a>(services: impl IntoIterator<Item = &'a ServiceSettings>) -> Self {
        let mut terms = Self { signs: Signs::Runs, period_seconds: 0, longest_seconds: 0 };
        for ServiceSettings { pin, .. } in services {
            let periods = [terms.period_seconds, pin.key_rotation_seconds.0].into_iter();
            terms.period_seconds = periods.filter(|period| *period > 0).min().unwrap_or(0);
            terms.longest_seconds = terms.longest_seconds.max(pin.max_age_seconds);
        }
        terms
    }
}

/// What a key of a ring does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum KeyDuty {
    /// It verifies, and signs once every member has it.
    Arriving,
    /// It signs.
    Signing,
    /// Another one signs, but some member may not know that yet.
    Leaving,
    /// Nobody signs with it. It verifies until nothing that it signed holds any more.
    Former,
}

impl KeyDuty {
    /// The word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Arriving => "arriving",
            Self::Signing => "signing",
            Self::Leaving => "leaving",
            Self::Former => "former",
        }
    }
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum KeyStep {
    /// It is new, and arriving.
    Added,
    /// It signs, and the one that did leaves.
    Signs,
    /// Every member signs with another one.
    Unused,
    /// It is gone.
    Retired,
}

/// A key of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyState {
    /// What it does.
    pub duty: KeyDuty,
    /// Since when.
    pub since: UnixMillis,
    /// The version by which it came to do so: what members must have acknowledged before the next step.
    pub version: u64,
}

/// The keys of a ring, as far as the log knows them: by their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingState {
    /// Every key that verifies.
    pub keys: BTreeMap<KeyId, KeyState>,
    /// The highest id that was ever given.
    newest: KeyId,
}

impl RingState {
    /// A ring of one key.
    pub(super) fn new(signing: KeyId, at: UnixMillis, version: u64) -> Self {
        let state = KeyState { duty: KeyDuty::Signing, since: at, version };
        Self { keys: BTreeMap::from([(signing, state)]), newest: signing }
    }

    /// What a snapshot says of it; none where no key signs, which no fold makes.
    pub fn shown(&self) -> Option<Ring> {
        let (signing, _) = self.first(KeyDuty::Signing)?;
        Some(Ring { signing, verifying: self.keys.keys().copied().collect() })
    }

    /// When a key goes by itself; none while it may still sign.
    pub fn retires(&self, key: KeyId, terms: Terms) -> Option<UnixMillis> {
        let former = self.keys.get(&key).filter(|state| state.duty == KeyDuty::Former)?;
        Some(former.since.plus_millis((u64::from(terms.longest_seconds) + SKEW_SECONDS) * 1000))
    }

    /// The highest id that was ever given.
    pub(super) fn newest(&self) -> KeyId {
        self.newest
    }

    fn first(&self, duty: KeyDuty) -> Option<(KeyId, &KeyState)> {
        self.keys.iter().find(|(_, state)| state.duty == duty).map(|(key, state)| (*key, state))
    }

    /// Folds a step in.
    pub(super) fn step(&mut self, key: KeyId, step: KeyStep, at: UnixMillis, version: u64) -> Result<(), &'static str> {
        let duty = self.keys.get(&key).map(|state| state.duty);
        let now = |duty| KeyState { duty, since: at, version };
        match (step, duty) {
            (KeyStep::Added, _) if key <= self.newest => return Err("keys must count up"),
            (KeyStep::Added, _) => {
                self.newest = key;
                self.keys.insert(key, now(KeyDuty::Arriving));
            }
            (KeyStep::Signs, Some(KeyDuty::Arriving)) => {
                for state in self.keys.values_mut().filter(|state| state.duty == KeyDuty::Signing) {
                    *state = now(KeyDuty::Leaving);
                }
                self.keys.insert(key, now(KeyDuty::Signing));
            }
            (KeyStep::Unused, Some(KeyDuty::Leaving)) => drop(self.keys.insert(key, now(KeyDuty::Former))),
            (KeyStep::Retired, Some(KeyDuty::Arriving | KeyDuty::Leaving | KeyDuty::Former)) => {
                self.keys.remove(&key);
            }
            _ => return Err("the key does no such thing now"),
        }
        Ok(())
    }

    /// The step that is due by itself.
    pub(super) fn due(&self, terms: Terms, now: UnixMillis, asked: &dyn Acknowledgements) -> Option<(KeyId, KeyStep)> {
        let all_have = |state: &KeyState| asked.lacking(state.version).is_empty();
        let arrived = self.first(KeyDuty::Arriving).filter(|(_, state)| all_have(state));
        let left = || self.first(KeyDuty::Leaving).filter(|(_, state)| all_have(state));
        let over = || self.keys.keys().find(|key| self.retires(**key, terms).is_some_and(|until| until <= now));
        let arrived = arrived.map(|(key, _)| (key, KeyStep::Signs));
        arrived
            .or_else(|| left().map(|(key, _)| (key, KeyStep::Unused)))
            .or_else(|| over().map(|key| (*key, KeyStep::Retired)))
    }

    /// Whether the schedule asks for a new key.
    pub(super) fn is_old(&self, terms: Terms, now: UnixMillis) -> bool {
        let period = u64::from(terms.period_seconds) * 1000;
        let signing = self.first(KeyDuty::Signing);
        period > 0 && signing.is_some_and(|(_, state)| now.since(state.since) >= period) && self.next(terms).is_ok()
    }

    /// The key that a rotation adds.
    pub(super) fn next(&self, terms: Terms) -> Result<KeyId, Refusal> {
        for duty in [KeyDuty::Arriving, KeyDuty::Leaving] {
            if let Some((key, state)) = self.first(duty) {
                return Err(Refusal::RotationUnderWay { key, duty, version: state.version });
            }
        }
        let next = self.newest.0.checked_add(1).filter(|_| self.keys.len() < KEYS_MAX);
        next.map(KeyId).ok_or(Refusal::RingFull { keys: self.keys.len(), signs: terms.signs })
    }

    /// Whether a key may be taken away; `forced`, even before its time.
    pub(super) fn may_go(&self, key: KeyId, forced: bool, terms: Terms, now: UnixMillis) -> Result<(), Refusal> {
        let known = self.keys.get(&key);
        let duty = known.ok_or_else(|| Refusal::NoKey { key, known: self.keys.keys().copied().collect() })?.duty;
        if duty == KeyDuty::Signing {
            return Err(Refusal::KeySigns { key, signs: terms.signs });
        }
        let until = self.retires(key, terms);
        if !forced && until.is_none_or(|until| until > now) {
            return Err(Refusal::KeyInUse { key, duty, until });
        }
        Ok(())
    }
}

/// Makes a new key.
pub(super) fn rotate(state: &ServiceState) -> Result<Event, Refusal> {
    let key = state.ring.next(Terms::of_pins(&state.settings))?;
    Ok(Event::KeyMoved { key, step: KeyStep::Added, force: None })
}

/// Takes the step that is due; none where there is none.
pub(super) fn turn(state: &ServiceState, at: &Circumstances<'_>) -> Option<Event> {
    let (key, step) = state.ring.due(Terms::of_pins(&state.settings), at.now, at.acknowledgements)?;
    Some(Event::KeyMoved { key, step, force: None })
}

/// Takes a key away.
pub(super) fn retire(
    state: &ServiceState,
    key: KeyId,
    force: Option<&Force>,
    at: &Circumstances<'_>,
) -> Result<Event, Refusal> {
    state.ring.may_go(key, force.is_some(), Terms::of_pins(&state.settings), at.now)?;
    Ok(Event::KeyMoved { key, step: KeyStep::Retired, force: force.cloned() })
}

/// What is to be done about keys though nobody asks for it.
pub(super) fn due(state: &ServiceState, at: &Circumstances<'_>) -> Option<Verb> {
    let terms = Terms::of_pins(&state.settings);
    if state.ring.due(terms, at.now, at.acknowledgements).is_some() {
        return Some(Verb::TurnKeys);
    }
    state.ring.is_old(terms, at.now).then_some(Verb::RotateKeys)
}
