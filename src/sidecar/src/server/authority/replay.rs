//! Reading the log: every entry checked against the chain of hashes, then folded.

use colorfast_core::release::{Entry, EntryError, FoldError, State};

use crate::api::Verification;
use crate::store::{Head, Log, Outage, Record};

/// Records of one read.
const PAGE: usize = 512;
/// Entries that are folded in one go, before others have their turn.
const STRIDE: u64 = 16;

/// A state and the place in the log that it belongs to.
#[derive(Debug, Clone)]
pub struct Replay {
    /// What the entries make.
    pub state: State,
    /// The last of them.
    pub head: Head,
}

/// Why a log cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// An entry was altered, or cannot be read.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// An entry has no place here.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The store failed.
    #[error(transparent)]
    Outage(#[from] Outage),
}

impl Replay {
    /// Before the first entry.
    pub fn new() -> Self {
        Self { state: State::default(), head: Head::empty() }
    }

    /// Follows the log to its end. Each entry is given to `seen` once it is folded in.
    ///
    /// # Errors
    /// At the first entry that is not in order; those before it are folded in.
    pub async fn follow(&mut self, log: &dyn Log, mut seen: impl FnMut(&Entry)) -> Result<(), ReplayError> {
        loop {
            let page = log.read(self.head.seq, PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            for record in page {
                let entry = self.step(&record)?;
                seen(&entry);
                // A long log must not keep this worker from everyone else.
                if entry.seq % STRIDE == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn step(&mut self, record: &Record) -> Result<Entry, ReplayError> {
        let seq = self.head.seq + 1;
        let entry = Entry::open(seq, &self.head.hash, &record.text, &record.hash)?;
        self.state.apply(&entry)?;
        self.head = Head { seq, hash: record.hash.clone() };
        Ok(entry)
    }
}

/// The state as of the entry `seq`, made anew from the log.
///
/// # Errors
/// Where an entry up to it is not in order, or cannot be read.
pub async fn state_at(log: &dyn Log, seq: u64) -> Result<State, ReplayError> {
    let mut replay = Replay::new();
    while replay.head.seq < seq {
        let left = usize::try_from(seq - replay.head.seq).unwrap_or(PAGE);
        let page = log.read(replay.head.seq, left.min(PAGE)).await?;
        if page.is_empty() {
            return Err(Outage { what: "read the log", cause: format!("it ends before entry {seq}") }.into());
        }
        for record in page {
            replay.step(&record)?;
        }
        tokio::task::yield_now().await;
    }
    Ok(replay.state)
}

/// Reads the whole log again and folds it anew.
///
/// # Errors
/// Where it cannot be read; what is wrong with an entry is the answer, not an error.
pub async fn verify(log: &dyn Log) -> Result<Verification, Outage> {
    let mut replay = Replay::new();
    let error = match replay.follow(log, |_| {}).await {
        Ok(()) => None,
        Err(ReplayError::Outage(outage)) => return Err(outage),
        Err(wrong) => Some(wrong.to_string()),
    };
    Ok(Verification { entries: replay.head.seq, hash: replay.head.hash, error })
}
