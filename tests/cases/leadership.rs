//! Which of the workers asks the sidecar.

use std::time::Duration;

use colorfast_core::names::shared;

use crate::proxy::{LEASE_OVER_MS, Proxy, Worker};
use crate::releases::{blue_live, numbered, service};
use crate::sidecar::{self, bytes, response};

/// How many of the workers poll.
fn leaders<'a>(workers: impl IntoIterator<Item = &'a Worker>) -> usize {
    workers.into_iter().filter(|worker| worker.polls()).count()
}

/// Cheap: one worker polls for the process, however many there are, and goes on doing so.
#[test]
fn one_worker_polls() {
    let proxy = Proxy::chat();
    let workers: [Worker; 4] = proxy.workers();
    for _ in 0..20 {
        proxy.run(500, &workers);
        assert_eq!(leaders(&workers), 1);
        assert_eq!(workers.iter().map(Worker::poll_count).sum::<usize>(), 1);
    }
}

/// Last good: when the leader's worker is gone another one polls once the lease is over, and not before.
#[test]
fn another_worker_takes_over() {
    let proxy = Proxy::chat();
    let [leader, second, third] = proxy.workers();
    leader.tick();
    leader.hear(&numbered(1));
    proxy.run(1_000, [&leader, &second, &third]);
    drop(leader);
    proxy.run(1_400, [&second, &third]);
    assert_eq!(leaders([&second, &third]), 0, "the lease holds still");
    proxy.run(1_200, [&second, &third]);
    assert_eq!(leaders([&second, &third]), 1);
    let leader = if second.polls() { &second } else { &third };
    assert_eq!(leader.poll().says.version_info, numbered(1).version().to_string(), "it knows what is held");
    leader.hear(&numbered(2));
    assert_eq!([&second, &third].map(Worker::serves), [Some("v2".into()), Some("v2".into())]);
}

/// Confirmed: a newer configuration takes the lease over at once, and the older one, which is being drained, never
/// takes it back.
#[test]
fn a_newer_configuration_takes_over_at_once() {
    let proxy = Proxy::chat();
    let old = proxy.worker();
    old.tick();
    old.hear(&numbered(1));
    proxy.run(2_000, [&old]);
    let new = proxy.worker();
    new.tick();
    assert!(new.polls());
    proxy.run(60_000, [&old, &new]);
    // The old root's last poll is never asked again after it lost the lease.
    assert_eq!((old.poll_count(), new.polls()), (1, true));
    new.newest_poll().bring(&numbered(2));
    assert_eq!([&old, &new].map(Worker::serves), [Some("v2".into()), Some("v2".into())]);
}

/// Cheap: workers of one configuration, made one after the other, take nothing from each other.
#[test]
fn workers_of_one_configuration_do_not_compete() {
    let proxy = Proxy::chat();
    let first = proxy.worker();
    first.tick();
    for _ in 0..3 {
        proxy.wait(300);
        let later = proxy.worker();
        later.tick();
        assert!(!later.polls());
    }
    proxy.run(1_000, [&first]);
    assert_eq!(first.poll_count(), 1);
}

/// Confirmed: within one worker too, where the old and the new configuration's roots tick side by side.
#[test]
fn a_newer_configuration_of_the_same_worker_takes_over() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&numbered(1));
    proxy.wait(1_500);
    let config = serde_json::json!({"services": [{"name": "chat"}], "sidecar_cluster": sidecar::CLUSTER});
    let (old, new) = (worker.root(), worker.add_root(config.to_string()).unwrap());
    new.tick().unwrap();
    let by = |root: u32| sidecar::polls(&worker).into_iter().filter(move |poll| poll.call.context == root);
    assert_eq!((by(old.id()).count(), by(new.id()).count()), (1, 1));
    for _ in 0..100 {
        proxy.wait(20);
        old.tick().unwrap();
        new.tick().unwrap();
    }
    assert_eq!((by(old.id()).count(), by(new.id()).count()), (1, 1), "the old root asks no more");
    by(old.id()).next().unwrap().bring(&numbered(2));
    assert_eq!(worker.serves().as_deref(), Some("v1"), "an answer to a root that lost its lease");
    by(new.id()).next().unwrap().bring(&numbered(2));
    assert_eq!(worker.serves().as_deref(), Some("v2"));
    old.end().unwrap();
    assert!(old.is_gone());
    proxy.wait(20);
    new.tick().unwrap();
    assert_eq!(by(new.id()).count(), 1);
}

/// Atomic: a leader that was stopped past its lease, and is answered when it goes on, publishes nothing.
#[test]
fn a_late_answer_is_dropped() {
    let proxy = Proxy::chat();
    let [stopped, other] = proxy.workers();
    stopped.tick();
    stopped.hear(&numbered(1));
    proxy.run(LEASE_OVER_MS, [&other]);
    assert!(other.polls(), "another leads");
    stopped.poll().answer(200, bytes(&response(&numbered(2))));
    assert_eq!([&stopped, &other].map(Worker::serves), [Some("v1".into()), Some("v1".into())]);
    assert!(!stopped.polls(), "it asks no more");
    stopped.tick();
    assert!(!stopped.polls());
    other.hear(&numbered(3));
    assert_eq!([&stopped, &other].map(Worker::serves), [Some("v3".into()), Some("v3".into())]);
}

/// Atomic: a leader that lost the lease and won it again does not take an answer to what it asked in its first term.
#[test]
fn an_answer_of_an_earlier_term_is_dropped() {
    let proxy = Proxy::chat();
    let [first, second] = proxy.workers();
    first.tick();
    proxy.run(LEASE_OVER_MS, [&second]);
    assert!(second.polls());
    let asked_before = first.poll();
    proxy.run(LEASE_OVER_MS, [&first]);
    assert_eq!(first.poll_count(), 2, "it leads again, and has asked again");
    asked_before.bring(&numbered(2));
    assert_eq!(first.serves(), None, "an answer to a poll that was given up");
    first.newest_poll().bring(&numbered(1));
    assert_eq!(first.serves().as_deref(), Some("v1"));
}

/// Last good: a stopped leader that nobody has replaced leads on, and its answer counts.
#[test]
fn an_unchallenged_leader_goes_on() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&numbered(1));
    proxy.wait(20_000);
    worker.hear(&numbered(2));
    assert_eq!(worker.serves().as_deref(), Some("v2"));
}

/// Confirmed: a VM that is configured and never ticked, as Envoy's canary, acts on nothing: no lease, no call. What it
/// draws for the process is as good as any worker's.
#[test]
fn a_canary_acts_on_nothing() {
    let proxy = Proxy::chat();
    let canary = proxy.worker();
    assert_eq!(canary.calls(), []);
    assert_eq!(proxy.process.shared_keys(), [shared::PROCESS, shared::STARTED]);
    drop(canary);
    let worker = proxy.with(&blue_live(1));
    assert_eq!(worker.serves().as_deref(), Some("b-1"));
}

/// Last good: a poll that is never answered is given up and asked again, and its late answer is ignored.
#[test]
fn a_lost_poll_is_asked_again() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&numbered(1));
    let lost = worker.poll();
    proxy.run(39_000, [&worker]);
    assert_eq!(worker.poll_count(), 1);
    proxy.run(1_100, [&worker]);
    assert_eq!(worker.poll_count(), 2);
    lost.bring(&numbered(2));
    assert_eq!(worker.serves().as_deref(), Some("v1"));
    worker.hear(&numbered(2));
    assert_eq!(worker.serves().as_deref(), Some("v2"));
}

/// Last good: a clock that steps back by an hour leaves one leader that polls, and reports that go on.
#[test]
fn a_clock_may_step_back() {
    let proxy = Proxy::chat();
    let [first, second] = proxy.workers();
    first.tick();
    first.hear(&numbered(1));
    proxy.run(1_000, [&first, &second]);
    proxy.process.set_now(proxy.process.now() - Duration::from_secs(3_600));
    proxy.run(LEASE_OVER_MS, [&first, &second]);
    let lead: Vec<_> = [&first, &second].into_iter().filter(|worker| leads(&proxy, worker)).collect();
    assert_eq!(lead.len(), 1);
    lead[0].newest_poll().bring(&numbered(2));
    assert_eq!([&first, &second].map(Worker::serves), [Some("v2".into()), Some("v2".into())]);
    for worker in [&first, &second] {
        let report = sidecar::reports(worker).remove(0);
        let acknowledged = report.says.sequence;
        report.answer(200, format!(r#"{{"acknowledged":{acknowledged}}}"#));
    }
    proxy.process.set_now(proxy.process.now() - Duration::from_secs(3_600));
    proxy.run(11_000, [&first, &second]);
    assert!([&first, &second].iter().all(|worker| !sidecar::reports(worker).is_empty()), "hellos go on");
}

/// Last good: a clock that jumps ahead by an hour does too.
#[test]
fn a_clock_may_jump_ahead() {
    let proxy = Proxy::chat();
    let [first, second] = proxy.workers();
    first.tick();
    first.hear(&numbered(1));
    proxy.process.set_now(proxy.process.now() + Duration::from_secs(3_600));
    proxy.run(LEASE_OVER_MS, [&first, &second]);
    let lead: Vec<_> = [&first, &second].into_iter().filter(|worker| leads(&proxy, worker)).collect();
    assert_eq!(lead.len(), 1);
    lead[0].newest_poll().bring(&numbered(2));
    assert_eq!([&first, &second].map(Worker::serves), [Some("v2".into()), Some("v2".into())]);
}

/// Whether the lease in shared data is this worker's: alone, it moves the lease's end.
fn leads(proxy: &Proxy, worker: &Worker) -> bool {
    let lease = || proxy.process.shared_data(&shared::lease(&service("chat")));
    let before = lease();
    proxy.run(520, [worker]);
    lease() != before
}
