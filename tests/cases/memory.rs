//! The proxy's memory of sessions: between its workers, under contention, and when it is full.

use std::collections::BTreeMap;

use colorfast_core::ids::Sid;
use colorfast_core::keys::SidHasher;
use colorfast_core::memory::{Bucket, Certainty, RECORD, Remembered, Visits};
use colorfast_core::names::shared;
use colorfast_core::settings::{PinSettings, ServiceSettings, SessionRoom};
use colorfast_core::snapshot::Snapshot;
use colorfast_core::time::UnixSeconds;

use crate::proxy::{Proxy, Worker};
use crate::releases::{BLUE, GREEN, blue_live, green_live, keys, rolled_back, service, split};
use crate::request::Request;
use crate::rng::Rng;

/// Where a request of this session goes, and by which rule. Its client echoes nothing.
fn goes(worker: &Worker, id: &str) -> (String, String) {
    let sent = worker.send(Request::new().session(id));
    let found = (sent.slot().unwrap(), sent.decision().unwrap());
    sent.answered(&[]);
    sent.stream.finish().unwrap();
    found
}

fn sid(id: &str) -> Sid {
    SidHasher::new(&keys(&[1]).sid).sid(id.as_bytes())
}

/// The key of the bucket that an id belongs to, with the settings' defaults.
fn key_of(id: &str) -> String {
    let bucket = ServiceSettings::default().memory.buckets().of(sid(id));
    format!("{}{bucket:x}", shared::memory(&service("chat")))
}

fn by(slot: &str, rule: &str) -> (String, String) {
    (slot.to_owned(), rule.to_owned())
}

/// Kept: sessions whose clients echo nothing stay through a switch, on every worker; a break moves each at its next
/// request, once.
#[test]
fn sessions_that_echo_nothing_stay() {
    let proxy = Proxy::chat();
    let [leader, other] = proxy.workers();
    leader.tick();
    leader.hear(&blue_live(1));
    let ids: Vec<_> = (0..200).map(|n| format!("session-{n}")).collect();
    for id in &ids {
        assert_eq!(goes(&leader, id), by("blue", "hash"));
    }
    leader.hear(&green_live(2));
    for id in &ids {
        assert_eq!(goes(&other, id), by("blue", "memory"), "{id}");
    }
    assert_eq!(goes(&other, "a new one"), by("green", "hash"));
    leader.hear(&rolled_back(3));
    assert_eq!(goes(&other, "a new one"), by("blue", "hash"));
    assert_eq!(goes(&leader, "a new one"), by("blue", "memory"));
    for id in &ids {
        assert_eq!(goes(&leader, id), by("blue", "memory"), "{id}");
    }
    assert_eq!(proxy.count("memory_evictions"), 0);
}

/// Kept: a session is found again by a new configuration of the same process, since memory is the process's.
#[test]
fn memory_outlives_a_worker() {
    let proxy = Proxy::chat();
    let first = proxy.with(&split(1, 5_000));
    let ids: Vec<_> = (0..50).map(|n| format!("session-{n}")).collect();
    let began: Vec<_> = ids.iter().map(|id| goes(&first, id).0).collect();
    drop(first);
    let next = proxy.worker();
    for (id, slot) in ids.iter().zip(&began) {
        assert_eq!(goes(&next, id), by(slot, "memory"), "{id}");
    }
}

/// Kept: whatever two workers have met of late, both decide at once by what either has ended, moved or begun anew: after
/// each step, one that has met nobody decides the same. The steps are a few sessions' requests, the agent's word that one
/// has ended, switches, and rollbacks that break.
#[test]
fn what_was_met_of_late_is_never_old() {
    let ending = |mut snapshot: Snapshot| {
        snapshot.settings.session_end_header = Some("x-agent-session-end".parse().unwrap());
        snapshot
    };
    let (mut rng, mut reasons) = (Rng::seeded(29), BTreeMap::new());
    for _ in 0..12 {
        let proxy = Proxy::chat();
        let workers = proxy.workers::<2>();
        workers[0].tick();
        workers[0].hear(&ending(split(1, 5_000)));
        let mut version = 1;
        for _ in 0..60 {
            let (id, worker) = (format!("session-{}", rng.below(5)), &workers[rng.below(2)]);
            match rng.below(12) {
                0 => {
                    version += 1;
                    let releases = [blue_live, green_live, rolled_back, |version| split(version, 3_000)];
                    workers[0].hear(&ending(releases[rng.below(4)](version)));
                }
                1 | 2 => {
                    worker.send(Request::new().session(&id)).answered(&[("x-agent-session-end", "1")]);
                    continue;
                }
                _ => {}
            }
            let found = goes(worker, &id);
            *reasons.entry(found.1.clone()).or_insert(0) += 1;
            let stranger = proxy.worker();
            for other in workers.iter().chain([&stranger]) {
                assert_eq!(goes(other, &id), by(&found.0, "memory"), "{id} at version {version}");
            }
        }
    }
    assert!(reasons["hash"] > 100 && reasons["memory"] > 100, "{reasons:?}");
}

/// Kept: a session that another one has pushed out is begun anew by whoever meets it, also where it was met of late.
#[test]
fn what_was_pushed_out_is_not_met_any_more() {
    let proxy = Proxy::chat();
    let [worker, other] = proxy.workers();
    let mut snapshot: Snapshot = blue_live(1);
    snapshot.settings.memory.sessions = SessionRoom(1_024);
    worker.tick();
    worker.hear(&snapshot);
    goes(&other, "first");
    proxy.wait(1_000);
    for n in 0..6_000 {
        goes(&worker, &format!("session-{n}"));
    }
    assert_eq!(goes(&other, "first"), by("blue", "hash"));
}

/// Kept: of two workers that begin the same session at once the first to write decides, and the other follows, though its
/// own plan would have put the session elsewhere.
#[test]
fn the_loser_follows() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&split(1, 5_000));
    for n in 0..50 {
        let id = format!("session-{n}");
        // Half of them are put where the worker would have put them, half elsewhere.
        let (slot, other) = if n % 2 == 0 { (BLUE, "blue") } else { (GREEN, "green") };
        let now = UnixSeconds(worker.now().as_secs());
        let rival = Remembered {
            assignment: slot,
            sid: sid(&id),
            began: now,
            seen: now,
            certainty: Certainty::Guess,
            visits: Visits::First,
        };
        let mut bucket = Bucket::default();
        bucket.put(sid(&id), &rival, &PinSettings::default(), now);
        proxy.process.plan_rival(&key_of(&id), bucket.bytes());
        assert_eq!(goes(&worker, &id), by(other, "memory"), "{id}");
    }
}

/// Kept: a rival that writes another session into the same bucket takes nothing away.
#[test]
fn neighbours_do_not_collide() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&split(1, 5_000));
    let now = UnixSeconds(worker.now().as_secs());
    let rival = Remembered {
        assignment: BLUE,
        sid: Sid(1),
        began: now,
        seen: now,
        certainty: Certainty::Guess,
        visits: Visits::First,
    };
    let mut bucket = Bucket::default();
    bucket.put(Sid(1), &rival, &PinSettings::default(), now);
    proxy.process.plan_rival(&key_of("alpha"), bucket.bytes());
    let (slot, rule) = goes(&worker, "alpha");
    assert_eq!(rule, "hash");
    assert_eq!(goes(&worker, "alpha"), by(&slot, "memory"));
    let (bytes, _) = proxy.process.shared_data(&key_of("alpha")).unwrap();
    assert_eq!(Bucket::read(bytes).get(Sid(1)), Some(rival));
}

/// Bounded: whatever comes, memory has no more keys than buckets, and no more records in one than there are ways; what is
/// pushed out was seen longest ago, and is counted.
#[test]
fn memory_is_bounded() {
    let proxy = Proxy::chat();
    let mut snapshot: Snapshot = blue_live(1);
    snapshot.settings.memory.sessions = SessionRoom(1_024);
    let worker = proxy.with(&snapshot);
    let buckets = snapshot.settings.memory.buckets().count() as usize;
    for n in 0..6_000 {
        if n % 1_000 == 0 {
            proxy.wait(1_000);
        }
        goes(&worker, &format!("session-{n}"));
    }
    let prefix = shared::memory(&service("chat"));
    let keys: Vec<_> = proxy.process.shared_keys().into_iter().filter(|key| key.starts_with(&prefix)).collect();
    assert_eq!(keys.len(), buckets);
    let sizes = keys.iter().map(|key| proxy.process.shared_data(key).unwrap().0.len() / RECORD);
    let kept: usize = sizes.inspect(|size| assert!(*size <= Bucket::WAYS)).sum();
    assert_eq!(kept, buckets * Bucket::WAYS, "all are full by now");
    assert_eq!(proxy.count("memory_evictions"), (6_000 - kept) as u64);
    assert_eq!(goes(&worker, "session-5999").1, "memory");
    assert_eq!(goes(&worker, "session-0").1, "hash");
}
