//! One snapshot at a time, for all workers at once, and never an older one again.

use colorfast_core::ids::{AssignmentId, Epoch, SnapshotVersion};
use colorfast_core::names::shared;
use colorfast_core::snapshot::Snapshot;
use colorfast_core::time::UnixMillis;
use wasm_host::HeaderPause;

use crate::proxy::{Proxy, Worker};
use crate::releases::{EPOCH, as_bootstrap, blue_live, free_pin, green_live, numbered, service};
use crate::request::{Request, Sent};
use crate::rng::Rng;
use crate::sidecar::{bytes, response};

/// Atomic: once the leader has acknowledged a snapshot, every worker's next request is decided by it, without a tick.
#[test]
fn every_worker_obeys_at_once() {
    let proxy = Proxy::chat();
    let workers: [Worker; 4] = proxy.workers();
    let [leader, ..] = &workers;
    leader.tick();
    for version in 1..=5 {
        leader.hear(&numbered(version));
        assert_eq!(leader.poll().says.version_info, numbered(version).version().to_string());
        for worker in &workers {
            assert_eq!(worker.serves(), Some(format!("v{version}")));
        }
    }
}

/// Atomic: a request that was paused across the switch is decided by the snapshot after it, on every worker, whether
/// the tick or its own body wakes it.
#[test]
fn paused_requests_obey_too() {
    let proxy = Proxy::chat().header_pause(HeaderPause::Headers);
    let [leader, other] = proxy.workers();
    leader.tick();
    leader.hear(&numbered(1));
    // They wait for a snapshot that knows what their pin names.
    let pin = free_pin(proxy.process.now(), AssignmentId(500));
    let request = || Request::new().pin(&pin);
    let by_tick = [&leader, &other].map(|worker| worker.send(request()));
    let by_body = [&leader, &other].map(|worker| Sent::headers_before_body(worker.stream(), request()));
    leader.tick();
    leader.newest_poll().bring(&numbered(2));
    assert_eq!(leader.newest_poll().says.version_info, numbered(2).version().to_string());
    proxy.wait(500);
    for request in &by_body {
        if request.waits() {
            request.stream.request_body_last("body").unwrap();
        }
        assert_eq!(request.bundle().as_deref(), Some("v2"));
    }
    [&leader, &other].into_iter().for_each(Worker::tick);
    for request in &by_tick {
        assert_eq!(request.bundle().as_deref(), Some("v2"));
    }
}

/// Atomic: whatever the order of snapshots, requests, pauses and ticks, no decision is made by an older snapshot than
/// the newest that was acknowledged.
#[test]
fn no_order_of_events_decides_by_an_older_snapshot() {
    for seed in 0..40 {
        let proxy = Proxy::bootstrapped(as_bootstrap(numbered(0)));
        let workers: [Worker; 3] = proxy.workers();
        let mut rng = Rng::seeded(seed);
        let (mut acknowledged, mut waiting) = (0, Vec::new());
        for _ in 0..60 {
            let worker = rng.pick(&workers);
            match rng.below(6) {
                0 | 1 => worker.tick(),
                2 => proxy.wait(rng.next() % 30),
                3 | 4 => {
                    let request = worker.send(Request::new());
                    if request.waits() {
                        assert_eq!(acknowledged, 0, "seed {seed}");
                        waiting.push(request);
                    } else {
                        assert_eq!(request.bundle(), Some(format!("v{acknowledged}")), "seed {seed}");
                    }
                }
                _ => {
                    if let Some(leader) = workers.iter().find(|worker| worker.polls()) {
                        acknowledged += 1;
                        leader.hear(&numbered(acknowledged));
                    }
                }
            }
            waiting.retain(|request| {
                if !request.waits() {
                    let newest = Some(format!("v{acknowledged}"));
                    assert_eq!(request.bundle(), newest, "seed {seed}");
                }
                request.waits()
            });
        }
    }
}

/// Atomic: keys of shared data that do not fit together, as a leader leaves them that died between two writes, take no
/// worker back, and the next snapshot heals them.
#[test]
fn torn_shared_data_takes_no_worker_back() {
    // The rank ends with 0: the version was taken. Behind it stands when that was.
    let at = |epoch: Epoch, version| [&SnapshotVersion { epoch, version }.to_bytes()[..], &[0]].concat();
    let stands = |answer: &[u8]| [&at(EPOCH, 5)[..], &[0; 8], answer].concat();
    let published =
        |snapshot: &Snapshot| [at(snapshot.epoch, snapshot.version), vec![0; 8], bytes(&response(snapshot))].concat();
    let (version, snapshot) = (shared::version(&service("chat")), shared::snapshot(&service("chat")));
    let older_log = Epoch(UnixMillis(EPOCH.0.0 - 1));
    let torn: [(&str, &str, Vec<u8>); 10] = [
        ("a lower version", &version, at(EPOCH, 1)),
        ("a version of an older log", &version, at(older_log, 99)),
        ("a version cut short", &version, at(EPOCH, 9)[..9].to_vec()),
        ("no version", &version, Vec::new()),
        ("a version whose snapshot is not there", &version, at(EPOCH, 6)),
        ("an older snapshot", &snapshot, published(&numbered(1))),
        ("a newer snapshot without its version", &snapshot, published(&numbered(6))),
        ("a snapshot cut short", &snapshot, published(&numbered(5))[..40].to_vec()),
        ("no snapshot", &snapshot, Vec::new()),
        ("a snapshot that is none", &snapshot, stands(b"{}")),
    ];
    for (what, key, value) in torn {
        let proxy = Proxy::chat();
        let [leader, other] = proxy.workers();
        leader.tick();
        leader.hear(&numbered(5));
        assert_eq!(other.serves().as_deref(), Some("v5"));
        proxy.process.set_shared_data(key, value, None).unwrap();
        for worker in [&leader, &other] {
            assert_eq!(worker.serves().as_deref(), Some("v5"), "{what}");
            worker.tick();
            assert_eq!(worker.serves().as_deref(), Some("v5"), "{what}");
        }
        leader.hear(&numbered(7));
        let late = proxy.worker();
        for worker in [&leader, &other, &late] {
            assert_eq!(worker.serves().as_deref(), Some("v7"), "{what}");
        }
    }
}

/// Last good: a worker that finds a published snapshot it cannot use keeps the one it has, and says so.
#[test]
fn an_unusable_publication_is_told() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    let rank = [&SnapshotVersion { epoch: EPOCH, version: 6 }.to_bytes()[..], &[0]].concat();
    proxy.process.set_shared_data("cf1/chat/snapshot", [&rank[..], &[0; 8], b"{}"].concat(), None).unwrap();
    proxy.process.set_shared_data("cf1/chat/version", [&rank[..], &[0; 8]].concat(), None).unwrap();
    for _ in 0..3 {
        assert_eq!(worker.serves().as_deref(), Some("b-1"));
    }
    assert_eq!(proxy.count("snapshots_refused"), 1, "told once, not at every request");
    assert!(worker.logged("the published snapshot"));
    worker.hear(&green_live(7));
    assert_eq!(worker.serves().as_deref(), Some("g-1"));
}
