//! What stands under an id, and what becomes of it when a proxy says something of its session.
//!
//! | stands | comes | then |
//! | --- | --- | --- |
//! | nothing that holds | a guess of an older snapshot, to be begun by | it is not taken |
//! | nothing that holds | else a guess, or a fact | it stands |
//! | a guess | a fact that says otherwise | the fact stands, who holds the guess is corrected |
//! | a guess that nobody has gone by | a guess of the same instance, by a newer snapshot | the new one stands |
//! | a guess, or what was shown before | what was shown since, and says otherwise | the new one stands, who holds a guess is corrected |
//! | what was shown | a fact that says otherwise | the fact stands, who holds the other is corrected |
//! | anything | anything else that says otherwise | the first stands |
//! | a session whose bundle is gone, where `on_bundle_gone` answers ids | a guess that would begin one | the first is kept until it would have ended |
//!
//! A session was seen when it was seen last, and has come back where that was said or where two instances know of it.

use colorfast_core::ids::{AssignmentId, Sid, SnapshotVersion};
use colorfast_core::memory::{Certainty, RECORD, Remembered, Visits, read, record};
use colorfast_core::rendezvous::mix;
use colorfast_core::time::UnixMillis;

use crate::server::directory::Published;
use crate::server::members::MemberId;

/// Bytes of a number, and of what is kept of an entry beside its record.
const NUMBER: usize = 8;
/// The version of what requests are decided by.
const DECIDED: [u8; 2 * NUMBER] = [0xff; 2 * NUMBER];

/// Who told of a session: a VM instance of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Teller(u64);

impl Teller {
    /// An instance of a member, both checked to be numbers.
    pub fn of(member: &MemberId, instance: &str) -> Self {
        let number = |digits| u64::from_str_radix(digits, 16).unwrap_or_default();
        Self(mix(mix(number(member.process())) ^ number(instance)))
    }
}

/// How a proxy came to say something of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It asks, by this snapshot, and goes by the answer.
    Asked(SnapshotVersion),
    /// It has gone by it.
    Reported,
}

/// What a proxy says of a session.
#[derive(Debug, Clone, Copy)]
pub struct Word {
    /// The session.
    pub session: Remembered,
    /// Who says so.
    pub teller: Teller,
    /// How it came to.
    pub how: How,
}

/// What stands under an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The session.
    pub session: Remembered,
    /// Who told of it first.
    teller: Teller,
    /// By which snapshot it was proposed; none where some request may have gone by it.
    proposed: Option<SnapshotVersion>,
    /// When it was told first.
    at: UnixMillis,
}

/// What a session is judged by.
#[derive(Debug)]
pub struct Ground<'a> {
    published: &'a Published,
    now: UnixMillis,
}

/// What came of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What is kept from now on; none where nothing that holds is known.
    pub kept: Option<Standing>,
    /// What is answered; none where the proxy is to decide anew.
    pub answer: Option<Remembered>,
    /// Whether some proxy may go by something else, and does not ask.
    pub overruled: Overruled,
}

/// Whether some proxy goes by what does not stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overruled {
    /// None that is known of.
    Nobody,
    /// One does, or may.
    Somebody,
}

impl Standing {
    /// What stands where nothing did.
    fn begun(word: &Word, now: UnixMillis) -> Self {
        let Word { session, teller, how } = *word;
        let proposed = match how {
            How::Asked(version) if session.certainty == Certainty::Guess => Some(version),
            How::Asked(_) | How::Reported => None,
        };
        Self { session, teller, proposed, at: now }
    }

    /// The bytes to keep, under `id`.
    pub fn write(&self, id: Sid) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RECORD + 4 * NUMBER);
        bytes.extend_from_slice(&record(id, &self.session));
        bytes.extend_from_slice(&self.teller.0.to_be_bytes());
        bytes.extend_from_slice(&self.proposed.map_or(DECIDED, SnapshotVersion::to_bytes));
        bytes.extend_from_slice(&self.at.0.to_be_bytes());
        bytes
    }

    /// What [`Self::write`] wrote, or an earlier release, which kept the record alone.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (kept, rest) = bytes.split_first_chunk::<RECORD>()?;
        let (_, session) = read(kept);
        let mut decided = Self { session, teller: Teller(0), proposed: None, at: UnixMillis(0) };
        let [teller, version @ .., at] = rest.as_chunks::<NUMBER>().0 else { return Some(decided) };
        decided.teller = Teller(u64::from_be_bytes(*teller));
        decided.at = UnixMillis(u64::from_be_bytes(*at));
        decided.proposed =
            Some(version.as_flattened()).filter(|version| **version != DECIDED).and_then(SnapshotVersion::from_bytes);
        Some(decided)
    }

    /// What becomes of it by a word of its own session.
    fn with(self, word: &Word) -> Self {
        let (known, said) = (self.session, word.session);
        let others = if self.teller == word.teller { Visits::First } else { Visits::Returned };
        let session = Remembered {
            seen: known.seen.max(said.seen),
            certainty: if known.agrees_with(&said) { known.certainty.max(said.certainty) } else { known.certainty },
            visits: known.visits.max(said.visits).max(others),
            ..known
        };
        let is_proposal = session.certainty == Certainty::Guess && matches!(word.how, How::Asked(_));
        Self { session, proposed: self.proposed.filter(|_| is_proposal), ..self }
    }
}

impl<'a> Ground<'a> {
    /// The service as published, now.
    pub fn new(published: &'a Published, now: UnixMillis) -> Self {
        Self { published, now }
    }

    /// Whether a session goes on: it has not ended, and some slot honours its assignment.
    pub fn holds(&self, session: &Remembered) -> bool {
        let ages = &self.published.snapshot.settings.pin;
        self.honours(session.assignment) && !session.is_over(ages, self.now.seconds())
    }

    fn honours(&self, assignment: AssignmentId) -> bool {
        let mut slots = self.published.snapshot.slots.iter();
        slots.any(|slot| slot.phase.honours_pins() && slot.assignment == Some(assignment))
    }

    /// Whether a proxy that would begin a session gets the one that had the id, whose bundle is gone: where `on_bundle_gone`
    /// answers ids. It is kept as it was, so that its id is free again once it would have ended by idleness.
    fn is_answered_as_gone(&self, known: &Remembered, word: &Word) -> bool {
        let snapshot = &self.published.snapshot;
        let begins = matches!(word.how, How::Asked(_)) && word.session.certainty == Certainty::Guess;
        snapshot.settings.on_bundle_gone.answers_ids()
            && begins
            && !self.honours(known.assignment)
            && Some(known.assignment) <= snapshot.newest_assignment
            && !known.is_over(&snapshot.settings.pin, self.now.seconds())
    }

    /// For how long an instance may wait for the answer to a proposal, and go by none of it.
    fn is_fresh(&self, standing: &Standing) -> bool {
        let wait = u64::from(self.published.snapshot.settings.memory.ask_wait_ms.0);
        self.now.since(standing.at) <= wait * 3 / 2 + 1_000
    }

    /// Judges a word on what is known.
    pub fn weigh(&self, known: Option<Standing>, word: &Word) -> Outcome {
        if let Some(known) = known.filter(|known| self.is_answered_as_gone(&known.session, word)) {
            return Outcome { kept: Some(known), answer: Some(known.session), overruled: Overruled::Nobody };
        }
        let known = known.filter(|known| self.holds(&known.session));
        let says_otherwise = known.is_some_and(|known| !known.session.agrees_with(&word.session));
        let overruled =
            if says_otherwise && word.how == How::Reported { Overruled::Somebody } else { Overruled::Nobody };
        let stays = |standing: Option<Standing>| Outcome {
            kept: standing,
            answer: standing.map(|standing| standing.session),
            overruled,
        };
        if !self.holds(&word.session) {
            return stays(known);
        }
        let begun = Standing::begun(word, self.now);
        let stale = begun.proposed.is_some_and(|version| version < self.published.snapshot.version());
        let anew = Outcome { kept: known, answer: None, overruled };
        let Some(known) = known else { return if stale { anew } else { stays(Some(begun)) } };
        // A proposal that nobody has gone by is as good as none.
        let alone = known.teller == word.teller && known.session.visits.max(word.session.visits) == Visits::First;
        if let (Some(before), Some(version)) = (known.proposed, begun.proposed)
            && alone
            && self.is_fresh(&known)
        {
            return match version > before {
                _ if stale => anew,
                true => stays(Some(begun)),
                false => stays(Some(known.with(word))),
            };
        }
        let heard = known.with(word);
        // An id that requests show beside another may name one conversation after the other.
        let is_newer = word.session.certainty == Certainty::Shown
            && known.session.certainty == Certainty::Shown
            && word.session.seen >= known.session.seen;
        if says_otherwise && (word.session.certainty > known.session.certainty || is_newer) {
            let Remembered { seen, visits, .. } = heard.session;
            let stands = Standing { session: Remembered { seen, visits, ..word.session }, ..begun };
            // Of names that one request shows after the other each proxy hears in its own time: they change hands too often.
            let overruled = if is_newer { Overruled::Nobody } else { Overruled::Somebody };
            return Outcome { overruled, ..stays(Some(stands)) };
        }
        stays(Some(heard))
    }
}
