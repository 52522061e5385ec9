//! What the fleet is to hear of sessions, and what it has heard of late.
//!
//! The sidecar answers from memory and saves behind: one that is killed loses what it heard last. So what it has heard is
//! kept here for a few seconds, and goes out again where another life of the sidecar answers.

use std::cell::Cell;
use std::collections::VecDeque;

use colorfast_core::ids::Sid;
use colorfast_core::memory::{RECORD, Record, Remembered, read, record};
use colorfast_core::time::UnixMillis;

use crate::cell::SharedCell;

/// Most sessions that wait to be told, and most that are kept once they were.
const ROOM: usize = 8_192;
/// How long what was told is kept: several times as long as a sidecar takes to save it.
const KEPT_MS: u64 = 5_000;

/// The news of one service in one worker.
#[derive(Debug, Default)]
pub struct News {
    /// What is to be told, oldest first.
    learnt: SharedCell<VecDeque<Record>>,
    /// What was told, and when.
    told: SharedCell<VecDeque<(UnixMillis, Record)>>,
    /// The flush that the fleet has heard of.
    flushed: Cell<Option<u64>>,
}

/// Whether the fleet will hear of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learnt {
    /// With the next report.
    Noted,
    /// Not at all: too many were learnt since the last one, or this proxy cannot remember it either.
    Lost,
}

impl News {
    /// The fleet is to hear of `session` under `id`.
    pub fn learn(&self, id: Sid, session: &Remembered) -> Learnt {
        let noted = self.learnt.with(|learnt| {
            let room = learnt.len() < ROOM;
            if room {
                learnt.push_back(record(id, session));
            }
            room
        });
        if noted == Some(true) { Learnt::Noted } else { Learnt::Lost }
    }

    /// Whether there is something to tell.
    pub fn is_some(&self) -> bool {
        self.learnt.with(|learnt| !learnt.is_empty()) == Some(true)
    }

    /// Takes up to so many records to tell, those that were learnt first.
    pub fn take(&self, most: usize) -> Vec<u8> {
        let take = |learnt: &mut VecDeque<Record>| learnt.drain(..learnt.len().min(most)).flatten().collect();
        self.learnt.with(take).unwrap_or_default()
    }

    /// The fleet has heard these records.
    pub fn has_told(&self, records: &[u8], now: UnixMillis) {
        self.told.with(|told| {
            told.extend(records.as_chunks::<RECORD>().0.iter().map(|record| (now, *record)));
            let late = told.len().saturating_sub(ROOM);
            let old = told.iter().take_while(|(at, _)| !now.is_within(KEPT_MS, *at)).count();
            told.drain(..late.max(old));
        });
    }

    /// Another life of the sidecar answers: what the one before heard last is taken to be told again, and so is every flush.
    pub fn take_told(&self, now: UnixMillis) -> Vec<(Sid, Remembered)> {
        self.flushed.set(None);
        let told = self.told.with(std::mem::take).unwrap_or_default();
        told.iter().filter(|(at, _)| now.is_within(KEPT_MS, *at)).map(|(_, record)| read(record)).collect()
    }

    /// The flush that the fleet has yet to hear of.
    pub fn lacks(&self, flush: Option<u64>) -> Option<u64> {
        flush.filter(|_| self.flushed.get() != flush)
    }

    /// The fleet has heard of a flush.
    pub fn has_flushed(&self, flush: u64) {
        self.flushed.set(Some(flush));
    }
}
