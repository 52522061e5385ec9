//! The rebuild guard: a snapshot under which VMs die again and again is left for the one before.
//!
//! A VM that dies is rebuilt at the next request of its worker (`FAIL_RELOAD`), and nothing says so to the new one. So
//! it is told from what it finds: a VM starts with a configuration (a hash of it, of the environment that is read and of
//! the build of the filter) that has been ticking in this process for [`SETTLED_MS`] already. Of the other starts:
//!
//! | start | why it is not counted |
//! | --- | --- |
//! | a process with N workers: N + 2 VMs | the configuration does not tick yet, or not for long enough |
//! | another configuration, another build of the filter | its hash is another one |
//! | one more listener of the same configuration | its root is made in a VM that has ticked before |
//! | a listener that was taken away and comes back | its roots said so ([`Guard::forget`]) when they were done; the dead say nothing |
//!
//! Each service has a list of the rebuilds under its present rank. The third within [`WINDOW_MS`] steps back
//! ([`Published::step_back`]): by compare-and-swap, so of several workers that are rebuilt at once one does it and the
//! others find it done; and before the first request of the rebuilt VM, since it is configured first. All workers see it
//! at their next decision, as any other snapshot.
//!
//! ```text
//!             publish N                    3 rebuilds under N             publish M > N
//!  (N', taken) ────────▶ (N, taken) ──────────────────────▶ (N, back) ────────────────▶ (M, taken)
//!                         decides by N                       decides by what was before   decides by M
//! ```
//!
//! From (N, back) there is no further step: if VMs go on dying, the snapshot was not to blame, and an older one would
//! only take sessions further back. The leader reports the version that is decided by, and refuses N when it is sent
//! again, so no verb is confirmed over this proxy until something newer comes. Times in the future (the clock was set
//! back) count for nothing.

use std::hash::{DefaultHasher, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use colorfast_core::ids::ServiceName;
use colorfast_core::names::{self, shared};
use colorfast_core::time::UnixMillis;

use super::data;
use super::published::{Published, Rank, Retreat, Step};
use crate::host::entropy;

/// A configuration that has ticked for longer than this is not being started.
const SETTLED_MS: u64 = 5_000;
/// A configuration that has not ticked for longer than this is gone.
const GONE_MS: u64 = 10_000;
/// How often a root tells that its configuration ticks.
const TELL_MS: u64 = 1_000;
/// Rebuilds within this time count together.
const WINDOW_MS: u64 = 10_000;
/// So many of them are one too many.
const REBUILDS_MAX: usize = 3;
/// Most configurations that are told apart; the one that ticked last longest ago makes room.
const CONFIGURATIONS_MAX: usize = 32;

/// This VM, by a random number: several roots of one VM are rebuilt together, and count once.
static VM: OnceLock<u64> = OnceLock::new();
/// Whether a root of this VM has ticked.
static TICKED: AtomicBool = AtomicBool::new(false);

/// One root's part in it.
#[derive(Debug)]
pub struct Guard {
    configuration: u64,
    tell_at: UnixMillis,
}

/// A configuration that ticks in this process.
#[derive(Debug, Clone, Copy)]
struct Ticking {
    configuration: u64,
    since: UnixMillis,
    last: UnixMillis,
}

impl Ticking {
    const SIZE: usize = 24;

    fn all(value: Option<&[u8]>) -> Vec<Self> {
        let entry = |bytes: &[u8; Self::SIZE]| {
            let mut numbers = bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
            let mut number = || numbers.next().unwrap_or_default();
            Self { configuration: number(), since: UnixMillis(number()), last: UnixMillis(number()) }
        };
        value.unwrap_or_default().as_chunks::<{ Self::SIZE }>().0.iter().map(entry).collect()
    }

    fn bytes(all: &[Self]) -> Vec<u8> {
        let numbers = all.iter().flat_map(|entry| [entry.configuration, entry.since.0, entry.last.0]);
        numbers.flat_map(u64::to_le_bytes).collect()
    }
}

impl Guard {
    /// The guard of a root with this plugin configuration.
    pub fn new(json: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(json);
        for variable in [names::ENV_TOKEN, names::ENV_KEYS] {
            hasher.write_u8(0);
            hasher.write(std::env::var(variable).unwrap_or_default().as_bytes());
        }
        hasher.write(env!("COLORFAST_BUILD").as_bytes());
        Self { configuration: hasher.finish(), tell_at: UnixMillis(0) }
    }

    /// Whether this root is made in a VM that replaces one that died.
    pub fn is_rebuild(&self, now: UnixMillis) -> bool {
        if TICKED.load(Ordering::Relaxed) {
            return false;
        }
        let known = data::shared(shared::CONFIGURATIONS).ok().flatten();
        Ticking::all(known.as_deref()).iter().any(|entry| {
            let settled = now.since(entry.since) > SETTLED_MS;
            entry.configuration == self.configuration && settled && now.is_within(GONE_MS, entry.last)
        })
    }

    /// Tells now and then that the configuration ticks.
    pub fn tick(&mut self, now: UnixMillis) {
        TICKED.store(true, Ordering::Relaxed);
        if now < self.tell_at && self.tell_at <= now.plus_millis(TELL_MS) {
            return;
        }
        self.tell_at = now.plus_millis(TELL_MS);
        let configuration = self.configuration;
        let _ = data::update_shared(shared::CONFIGURATIONS, |known| {
            let mut all = Ticking::all(known);
            match all.iter_mut().find(|entry| entry.configuration == configuration) {
                Some(entry) => (entry.since, entry.last) = (entry.since.min(now), now),
                None => {
                    if all.len() >= CONFIGURATIONS_MAX {
                        let oldest = all.iter().map(|entry| entry.last).min();
                        all.retain(|entry| Some(entry.last) != oldest);
                    }
                    all.push(Ticking { configuration, since: now, last: now });
                }
            }
            Some(Ticking::bytes(&all))
        });
    }

    /// The root ends in order: what starts after it starts anew.
    pub fn forget(&self) {
        let _ = data::update_shared(shared::CONFIGURATIONS, |known| {
            let mut all = Ticking::all(known);
            all.retain(|entry| entry.configuration != self.configuration);
            Some(Ticking::bytes(&all))
        });
    }
}

/// The rebuilds under one rank of a service.
#[derive(Debug)]
pub struct Rebuilds {
    key: String,
}

/// What a rebuild came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuilt {
    /// It is counted.
    Counted,
    /// It was one too many: the version of this rank is left.
    Left(Rank),
    /// It was one too many, but there is no snapshot to go back to.
    Stuck(Rank),
}

impl Rebuilds {
    /// The list of `service`.
    pub fn of(service: &ServiceName) -> Self {
        Self { key: shared::rebuilds(service) }
    }

    /// Counts the rebuild of this VM, and steps back where it is one too many.
    pub fn count(&self, published: &Published, now: UnixMillis) -> Rebuilt {
        let rank = published.told().rank;
        if rank == Rank::default() {
            return Rebuilt::Counted;
        }
        let vm = *VM.get_or_init(|| entropy::random().unwrap_or(now.0));
        let mut count = 0;
        let _ = data::update_shared(&self.key, |kept| {
            let mut list = Self::within(kept, rank, now);
            if list.iter().all(|(counted, _)| *counted != vm) {
                list.push((vm, now));
            }
            count = list.len();
            let excess = count.saturating_sub(REBUILDS_MAX);
            let numbers = list.iter().skip(excess).flat_map(|(vm, at)| [*vm, at.0]);
            Some(rank.to_bytes().into_iter().chain(numbers.flat_map(u64::to_le_bytes)).collect())
        });
        if count < REBUILDS_MAX || rank.step == Step::Back {
            return Rebuilt::Counted;
        }
        match published.step_back(rank.version, now) {
            Ok(Retreat::Done) => Rebuilt::Left(rank),
            Ok(Retreat::Overtaken) => Rebuilt::Counted,
            Ok(Retreat::NoneBefore) | Err(_) => Rebuilt::Stuck(rank),
        }
    }

    /// Whether no VM was rebuilt under `rank` of late.
    pub fn is_sound(&self, rank: Rank, now: UnixMillis) -> bool {
        let kept = data::shared(&self.key).ok().flatten();
        Self::within(kept.as_deref(), rank, now).is_empty()
    }

    fn within(kept: Option<&[u8]>, rank: Rank, now: UnixMillis) -> Vec<(u64, UnixMillis)> {
        let Some((of, list)) = kept.and_then(|kept| kept.split_at_checked(Rank::SIZE)) else { return Vec::new() };
        if Rank::from_bytes(of) != Some(rank) {
            return Vec::new();
        }
        let mut numbers = list.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let entries = std::iter::from_fn(|| Some((numbers.next()?, UnixMillis(numbers.next()?))));
        entries.filter(|(_, at)| now.is_within(WINDOW_MS, *at)).collect()
    }
}
