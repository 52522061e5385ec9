//! VMs that die and are rebuilt: after the third the process goes back to the snapshot before.

use std::time::Duration;

use colorfast_core::names::shared;
use colorfast_core::snapshot::Snapshot;

use crate::proxy::{LEASE_OVER_MS, Proxy, Worker};
use crate::releases::{blue_live, green_live, numbered, service};

/// Longer than a snapshot must be in force to be one to go back to, and than a configuration must tick to be settled.
const PROVED_MS: u64 = 11_000;

/// A proxy that was long on snapshot 5 (blue is live), and has just taken 6 (green is).
fn on_green(proxy: &Proxy) -> [Worker; 3] {
    let workers: [Worker; 3] = proxy.workers();
    workers[0].tick();
    workers[0].hear(&blue_live(5));
    proxy.run(PROVED_MS, &workers);
    workers[0].hear(&green_live(6));
    assert_all(&workers, "g-1");
    workers
}

fn assert_all<'a>(workers: impl IntoIterator<Item = &'a Worker>, bundle: &str) {
    for worker in workers {
        assert_eq!(worker.serves().as_deref(), Some(bundle));
    }
}

/// A worker dies without a word, and has a VM again.
fn rebuild(proxy: &Proxy, worker: &mut Worker) {
    let rebuilt = proxy.worker();
    *worker = rebuilt;
}

fn retreats(proxy: &Proxy) -> u64 {
    proxy.count("retreats")
}

/// Last good: the third rebuild within ten seconds takes every worker back to the snapshot before, at its next request.
/// The leader says that it holds that one, refuses the bad one when it comes again, and takes the next one as usual.
#[test]
fn the_third_rebuild_goes_back() {
    let proxy = Proxy::chat();
    let mut workers = on_green(&proxy);
    for _ in 0..2 {
        rebuild(&proxy, &mut workers[2]);
        assert_all(&workers, "g-1");
        proxy.run(1_000, &workers);
    }
    rebuild(&proxy, &mut workers[2]);
    assert_all(&workers, "b-1");
    assert_eq!(retreats(&proxy), 1);
    assert!(workers[2].logged("goes back to the one before"));
    proxy.run(40, &workers);
    // The rebuilt VM leads: it was configured last.
    let leader = &workers[2];
    let poll = leader.poll();
    assert_eq!((poll.says.version_info.clone(), poll.nack()), (blue_live(5).version().to_string(), None));
    for _ in 0..2 {
        leader.hear(&green_live(6));
        proxy.run(2_000, &workers);
        let poll = leader.poll();
        assert!(poll.nack().is_some_and(|said| said.starts_with("quarantined")), "{:?}", poll.nack());
        assert_eq!(poll.says.version_info, blue_live(5).version().to_string());
        assert_all(&workers, "b-1");
    }
    leader.hear(&green_live(7));
    assert_eq!(leader.poll().nack(), None);
    assert_all(&workers, "g-1");
}

/// Last good: a leader that lives on while others die asks again at once, and says that it holds the older snapshot.
#[test]
fn a_leader_that_lives_on_tells_the_sidecar() {
    let proxy = Proxy::chat();
    let mut workers = on_green(&proxy);
    proxy.run(1_000, &workers);
    for _ in 0..3 {
        rebuild(&proxy, &mut workers[2]);
        // A VM that dies before its first tick leads nothing.
        proxy.run(40, &workers[..1]);
    }
    let poll = workers[0].newest_poll();
    assert_eq!((poll.says.version_info.clone(), poll.nack()), (blue_live(5).version().to_string(), None));
}

/// Last good: where the leader's own VM is among the dead, the next leader finds the older snapshot in force, and
/// refuses the bad one.
#[test]
fn a_leader_that_died_is_replaced() {
    let proxy = Proxy::chat();
    let mut workers = on_green(&proxy);
    for _ in 0..3 {
        rebuild(&proxy, &mut workers[0]);
    }
    assert_all(&workers, "b-1");
    proxy.run(LEASE_OVER_MS, &workers);
    let leader = workers.iter().find(|worker| worker.polls()).expect("a leader");
    leader.newest_poll().bring(&green_live(6));
    proxy.run(2_000, &workers);
    let poll = leader.newest_poll();
    assert!(poll.nack().is_some_and(|said| said.starts_with("quarantined")), "{:?}", poll.nack());
    assert_all(&workers, "b-1");
}

/// Last good: of two workers that are rebuilt at once one steps back, and the other finds it done.
#[test]
fn workers_that_are_rebuilt_at_once_step_back_once() {
    let proxy = Proxy::chat();
    let mut workers = on_green(&proxy);
    for _ in 0..4 {
        let (one, other) = (proxy.worker(), proxy.worker());
        (workers[1], workers[2]) = (one, other);
    }
    assert_all(&workers, "b-1");
    assert_eq!(retreats(&proxy), 1);
}

/// Last good: rebuilds that go on under the older snapshot take nobody further back.
#[test]
fn nobody_steps_back_twice() {
    let proxy = Proxy::chat();
    let workers: [Worker; 3] = proxy.workers();
    workers[0].tick();
    for version in 1..=3 {
        workers[0].hear(&numbered(version));
        proxy.run(PROVED_MS, &workers);
    }
    workers[0].hear(&numbered(4));
    let mut workers = workers;
    for _ in 0..12 {
        rebuild(&proxy, &mut workers[2]);
        proxy.run(500, &workers);
    }
    assert_all(&workers, "v3");
    assert_eq!(retreats(&proxy), 1);
}

/// Last good: a snapshot that was replaced before it had proved itself is none to go back to.
#[test]
fn only_a_proved_snapshot_is_gone_back_to() {
    let proxy = Proxy::chat();
    let mut workers = on_green(&proxy);
    proxy.run(1_000, &workers);
    workers[0].hear(&numbered(7));
    assert_all(&workers, "v7");
    for _ in 0..3 {
        rebuild(&proxy, &mut workers[2]);
    }
    assert_all(&workers, "b-1");
}

/// Last good: one under which VMs were dying has not proved itself, however long that went on.
#[test]
fn a_snapshot_that_kills_now_and_then_proves_nothing() {
    let proxy = Proxy::chat();
    let mut workers = on_green(&proxy);
    proxy.run(PROVED_MS, &workers);
    rebuild(&proxy, &mut workers[2]);
    workers[0].hear(&numbered(7));
    for _ in 0..3 {
        rebuild(&proxy, &mut workers[2]);
    }
    assert_all(&workers, "b-1");
}

/// Last good: where there is nothing to go back to, the proxy stays where it is and says so.
#[test]
fn the_first_snapshot_has_none_before() {
    let proxy = Proxy::chat();
    let mut workers: [Worker; 2] = proxy.workers();
    workers[0].tick();
    workers[0].hear(&blue_live(5));
    proxy.run(PROVED_MS, &workers);
    for _ in 0..4 {
        rebuild(&proxy, &mut workers[1]);
    }
    assert_all(&workers, "b-1");
    assert!(workers[1].logged("there is none to go back to"));
    assert_eq!(retreats(&proxy), 0);
}

/// Last good: rebuilds that lie further apart do not count together, and a clock that is set back counts none twice.
#[test]
fn rebuilds_far_apart_do_not_count_together() {
    let proxy = Proxy::chat();
    let mut workers = on_green(&proxy);
    for _ in 0..4 {
        rebuild(&proxy, &mut workers[2]);
        proxy.run(6_000, &workers);
    }
    assert_all(&workers, "g-1");
    proxy.run(PROVED_MS, &workers);
    for _ in 0..2 {
        rebuild(&proxy, &mut workers[2]);
    }
    proxy.process.set_now(proxy.process.now() - Duration::from_secs(3_600));
    proxy.run(PROVED_MS, &workers);
    for _ in 0..2 {
        rebuild(&proxy, &mut workers[2]);
    }
    assert_all(&workers, "g-1");
    assert_eq!(retreats(&proxy), 0);
    rebuild(&proxy, &mut workers[2]);
    assert_all(&workers, "b-1");
}

/// Last good: what starts in order is no rebuild: a process with many workers, more roots in a VM, another
/// configuration, and a listener that was taken away and comes back.
#[test]
fn starts_in_order_do_not_count() {
    let proxy = Proxy::chat();
    let workers: [Worker; 8] = proxy.workers();
    workers[0].tick();
    workers[0].hear(&blue_live(5));
    proxy.run(PROVED_MS, &workers);
    workers[0].hear(&green_live(6));
    let plugin = |services: &[&str]| {
        let services: Vec<_> = services.iter().map(|name| serde_json::json!({"name": name})).collect();
        serde_json::json!({"sidecar_cluster": "sidecar", "services": services}).to_string()
    };
    for _ in 0..4 {
        workers[1].add_root(plugin(&["chat"])).unwrap();
    }
    let updated: Vec<Worker> =
        (0..6).map(|_| proxy.worker_of(wasm_host::Plugin::config(plugin(&["chat", "code"])))).collect();
    proxy.run(PROVED_MS, updated.iter().chain(&workers));
    let all: Vec<Worker> = workers.into_iter().collect();
    for worker in &all {
        worker.root().end().unwrap();
    }
    drop(all);
    let again: [Worker; 8] = proxy.workers();
    assert_all(again.iter().chain(&updated), "g-1");
    assert_eq!(retreats(&proxy), 0);
}

/// Atomic: a worker that died between the two writes of a step back leaves the process on one snapshot; the next
/// rebuild completes the step.
#[test]
fn a_step_back_that_broke_off_is_completed() {
    let proxy = Proxy::chat();
    let mut workers = on_green(&proxy);
    let version = shared::version(&service("chat"));
    let taken = proxy.process.shared_data(&version).unwrap().0;
    for _ in 0..3 {
        rebuild(&proxy, &mut workers[2]);
    }
    // As if the last write had not come to pass.
    proxy.process.set_shared_data(&version, &taken, None).unwrap();
    rebuild(&proxy, &mut workers[1]);
    assert_all(&workers, "b-1");
    assert_ne!(proxy.process.shared_data(&version).unwrap().0, taken);
}

/// Atomic: however rebuilds, snapshots, ticks and pauses fall, all workers decide by the same snapshot.
#[test]
fn all_workers_agree_in_any_order() {
    for seed in 0..6 {
        let proxy = Proxy::chat();
        let mut workers = on_green(&proxy);
        let mut rng = crate::rng::Rng::seeded(seed);
        let mut next = 7;
        for _ in 0..40 {
            match rng.below(5) {
                0 | 1 => {
                    let one = rng.below(3);
                    rebuild(&proxy, &mut workers[one]);
                }
                2 => proxy.run(1_000, &workers),
                3 => proxy.wait(rng.next() % 3_000),
                _ => {
                    let leader = workers.iter().find(|worker| worker.polls());
                    if let Some(leader) = leader {
                        let snapshot: Snapshot = numbered(next);
                        leader.newest_poll().bring(&snapshot);
                        next += 1;
                    }
                }
            }
            let serves: Vec<_> = workers.iter().map(Worker::serves).collect();
            assert!(serves.iter().all(|bundle| *bundle == serves[0]), "seed {seed}: {serves:?}");
        }
    }
}
