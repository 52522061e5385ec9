//! What the process has published for one service: the snapshot that all its workers decide by, and the way back.
//!
//! | key | holds |
//! | --- | --- |
//! | `snapshot` | a rank, when it was published, and the discovery answer, or the plugin configuration that pushed it, as it came |
//! | `previous` | the rank and the answer that were in force before, where they had proved themselves |
//! | `version` | the rank, and how many changes were counted: the one key that every request reads |
//!
//! A rank only ever rises, and each key is written by compare-and-swap, the snapshot before its version: so whoever sees
//! a rank finds that snapshot or a newer one, and whatever arrives late changes nothing. A step back keeps to that:
//! it publishes the previous answer under the *same* version with [`Step::Back`], which ranks above the version taken and
//! below the next one. A writer that dies between two keys leaves a snapshot whose version is not told; whoever steps
//! back or publishes next tells it.
//!
//! A change is whatever makes a worker's own copy of a record of memory wrong: the record was replaced or forgotten, or
//! another snapshot may have it looked for elsewhere. It is counted after it was made, so whoever reads the number first
//! and a record then has one that is as new as the number, at least.

use colorfast_core::ids::{ServiceName, SnapshotVersion};
use colorfast_core::names::shared;
use colorfast_core::time::UnixMillis;

use super::data::{self, Cas};
use crate::host::status::HostError;

/// A snapshot that was in force this long without a rebuild is one to go back to.
const PROVED_MS: u64 = 10_000;

/// How the process stands to a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// It decides by it.
    #[default]
    Taken,
    /// It has left it again, and decides by the one before.
    Back,
}

/// What orders all that is ever published for a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// The newest version that was taken.
    pub version: SnapshotVersion,
    /// Whether it still stands.
    pub step: Step,
}

impl Rank {
    /// Bytes of a rank.
    pub const SIZE: usize = 17;

    /// The form in which it stands in shared data.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (version, step) = bytes.split_at_mut(Self::SIZE - 1);
        version.copy_from_slice(&self.version.to_bytes());
        step.fill(self.step as u8);
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (step, version) = bytes.split_last()?;
        let step = match step {
            0 => Step::Taken,
            1 => Step::Back,
            _ => return None,
        };
        Some(Self { version: SnapshotVersion::from_bytes(version)?, step })
    }

    fn split(value: &[u8]) -> Option<(Self, &[u8])> {
        let (rank, rest) = value.split_at_checked(Self::SIZE)?;
        Some((Self::from_bytes(rank)?, rest))
    }
}

/// What the version key tells.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told {
    /// The rank that the process has published; the lowest where it has none.
    pub rank: Rank,
    /// How many changes it has counted.
    pub changes: u64,
}

impl Told {
    fn read(value: Option<&[u8]>) -> Self {
        let told = value.and_then(|value| {
            let (rank, changes) = Rank::split(value)?;
            Some(Self { rank, changes: u64::from_le_bytes(changes.try_into().ok()?) })
        });
        told.unwrap_or_default()
    }

    /// The value to write for `rank`, after one more change.
    fn changed(self, rank: Rank) -> Vec<u8> {
        [&rank.to_bytes()[..], &self.changes.wrapping_add(1).to_le_bytes()].concat()
    }
}

/// A published snapshot.
#[derive(Debug)]
struct Stand<'a> {
    rank: Rank,
    since: UnixMillis,
    answer: &'a [u8],
}

impl<'a> Stand<'a> {
    fn read(value: &'a [u8]) -> Option<Self> {
        let (rank, rest) = Rank::split(value)?;
        let (since, answer) = rest.split_first_chunk()?;
        Some(Self { rank, since: UnixMillis(u64::from_le_bytes(*since)), answer })
    }

    fn bytes(&self) -> Vec<u8> {
        [&self.rank.to_bytes()[..], &self.since.0.to_le_bytes(), self.answer].concat()
    }
}

/// The keys of one service.
#[derive(Debug)]
pub struct Published {
    snapshot: String,
    previous: String,
    version: String,
}

/// What came of a wish to step back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retreat {
    /// The one before is published, now or by another worker.
    Done,
    /// There is none that had proved itself.
    NoneBefore,
    /// Something newer was published meanwhile.
    Overtaken,
}

impl Published {
    /// The keys of `service`.
    pub fn of(service: &ServiceName) -> Self {
        Self {
            snapshot: shared::snapshot(service),
            previous: shared::previous(service),
            version: shared::version(service),
        }
    }

    /// What the process has published, and how much has changed.
    pub fn told(&self) -> Told {
        Told::read(data::shared(&self.version).ok().flatten().as_deref())
    }

    /// Counts a change that was made. Where somebody else is faster, that is counted, and no copy from before holds either.
    pub fn count_change(&self) {
        let Ok(known) = data::read_shared(&self.version) else { return };
        let (value, cas) = known.map_or((None, Cas::ABSENT), |(value, cas)| (Some(value), cas));
        let told = Told::read(value.as_deref());
        let _ = data::write_shared(&self.version, &told.changed(told.rank), cas);
    }

    /// The published answer. It stood there before its rank was told, so it is of that rank at least.
    ///
    /// # Errors
    /// What is wrong with what stands there.
    pub fn answer(&self) -> Result<(Rank, Vec<u8>), String> {
        let value = data::shared(&self.snapshot).map_err(|error| error.to_string())?.ok_or("there is none")?;
        let stand = Stand::read(&value).ok_or("it is cut short")?;
        Ok((stand.rank, stand.answer.to_vec()))
    }

    /// Publishes a discovery answer or a plugin configuration for the whole process, unless there is a newer one. The one before is kept where it
    /// has proved itself: was in force for long enough, and `is_sound` (no VM was rebuilt under it of late).
    ///
    /// # Errors
    /// Where the host refuses; the keys then fit together all the same.
    pub fn publish(
        &self,
        version: SnapshotVersion,
        answer: &[u8],
        now: UnixMillis,
        is_sound: impl Fn(Rank) -> bool,
    ) -> Result<(), HostError> {
        let rank = Rank { version, step: Step::Taken };
        let before = data::shared(&self.snapshot)?.unwrap_or_default();
        if let Some(before) = Stand::read(&before)
            && before.rank < rank
            && before.rank.step == Step::Taken
            && now.since(before.since) >= PROVED_MS
            && is_sound(before.rank)
        {
            data::update_shared(&self.previous, |kept| {
                let kept = kept.and_then(Rank::split).map(|(kept, _)| kept);
                (kept < Some(before.rank)).then(|| [&before.rank.to_bytes()[..], before.answer].concat())
            })?;
        }
        data::update_shared(&self.snapshot, |current| {
            let current = current.and_then(Stand::read).map(|stand| stand.rank);
            (current < Some(rank)).then(|| Stand { rank, since: now, answer }.bytes())
        })?;
        self.tell(rank)
    }

    /// Publishes the one before `from` in its place, unless that is done or overtaken.
    ///
    /// # Errors
    /// Where the host refuses.
    pub fn step_back(&self, from: SnapshotVersion, now: UnixMillis) -> Result<Retreat, HostError> {
        let rank = Rank { version: from, step: Step::Back };
        let previous = data::shared(&self.previous)?.unwrap_or_default();
        let previous = Rank::split(&previous).filter(|(kept, _)| kept.version < from);
        let mut stands = None;
        data::update_shared(&self.snapshot, |current| {
            stands = current.and_then(Stand::read).map(|stand| stand.rank);
            let (_, answer) = previous?;
            let leaves = stands == Some(Rank { version: from, step: Step::Taken });
            leaves.then(|| {
                stands = Some(rank);
                Stand { rank, since: now, answer }.bytes()
            })
        })?;
        match stands {
            Some(stands) if stands == rank => self.tell(rank).map(|()| Retreat::Done),
            Some(stands) if stands > rank => Ok(Retreat::Overtaken),
            _ => Ok(Retreat::NoneBefore),
        }
    }

    fn tell(&self, rank: Rank) -> Result<(), HostError> {
        data::update_shared(&self.version, |told| {
            let told = Told::read(told);
            (told.rank < rank).then(|| told.changed(rank))
        })
        .map(drop)
    }
}
