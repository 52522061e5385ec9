//! How a proxy asks for snapshots, takes them, and says what is wrong with them.

use std::time::Duration;

use colorfast_core::ids::{AssignmentId, Epoch};
use colorfast_core::names;
use colorfast_core::snapshot::Snapshot;
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::discovery::{DiscoveryResponse, Status};
use wasm_host::Process;

use crate::proxy::{LEASE_OVER_MS, Proxy, Worker};
use crate::releases::{
    EPOCH, blue_live, environment_keys, free_pin, green_live, none_live, numbered, of_service, rolled_back, service,
};
use crate::request::Request;
use crate::sidecar::{CLUSTER, bytes, response};

/// Confirmed: the first poll says who asks, for what, and that nothing is held.
#[test]
fn the_first_poll_holds_nothing() {
    let proxy = Proxy::chat();
    let worker = proxy.worker();
    worker.tick();
    let poll = worker.poll();
    let headers = &poll.call.headers;
    assert_eq!(poll.call.cluster, CLUSTER);
    assert_eq!((headers.text(":method"), headers.text(":path")), (Some("POST"), Some("/v3/discovery:snapshots")));
    assert_eq!(headers.text("authorization"), Some("Bearer secret"));
    assert_eq!(headers.text("content-type"), Some("application/json"));
    assert_eq!(poll.call.timeout_ms, 30_000, "a poll without an end is never known to be lost");
    assert_eq!((poll.says.version_info.as_str(), poll.says.response_nonce.as_str()), ("", ""));
    assert_eq!(poll.says.resource_names, [service("chat")]);
    assert_eq!(poll.says.type_url, names::SNAPSHOT_TYPE_URL);
    assert_eq!(poll.says.node.id, "edge-1");
    let process = &poll.says.node.metadata.process_id;
    assert!(process.len() == 16 && process.bytes().all(|digit| digit.is_ascii_hexdigit()), "{process}");
    assert_eq!(poll.nack(), None);
}

/// Confirmed: proxies of one node id are told apart, and the workers of one proxy are not.
#[test]
fn a_process_has_one_id() {
    let id = |worker: &Worker| worker.poll().says.node.metadata.process_id;
    let other = Proxy::chat().on(Process::seeded(7));
    let proxy = Proxy::chat();
    let [first, second, elsewhere] = [proxy.worker(), proxy.worker(), other.worker()];
    [&first, &elsewhere].into_iter().for_each(Worker::tick);
    assert_ne!(id(&first), id(&elsewhere));
    let before = id(&first);
    drop(first);
    proxy.run(LEASE_OVER_MS, [&second]);
    assert_eq!(id(&second), before);
}

/// Confirmed: a proxy without a node id is told from others all the same, by its process.
#[test]
fn a_node_may_have_no_name() {
    let proxy = Proxy::chat().on(Process::new());
    let worker = proxy.worker();
    worker.tick();
    let poll = worker.poll();
    assert_eq!(poll.says.node.id, "unnamed");
    assert!(!poll.call.headers.has("authorization"), "without a token none is sent");
}

/// Confirmed: the acknowledgement is the next poll, and it comes once the process decides by the snapshot.
#[test]
fn the_next_poll_acknowledges() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    let poll = worker.poll();
    assert_eq!(poll.says.version_info, blue_live(5).version().to_string());
    assert_eq!(poll.says.response_nonce, response(&blue_live(5)).nonce);
    assert_eq!(poll.nack(), None);
    assert!(proxy.process.shared_data("cf1/chat/snapshot").is_some());
    assert_eq!(worker.serves().as_deref(), Some("b-1"));
    assert_eq!(proxy.gauge("snapshot_version"), Some(5));
    poll.bring(&green_live(6));
    assert_eq!(worker.poll().says.version_info, green_live(6).version().to_string());
    assert_eq!(worker.serves().as_deref(), Some("g-1"));
}

/// An answer with one thing wrong with it, and what the refusal must name.
fn spoilt(version: u64) -> Vec<(DiscoveryResponse, &'static str)> {
    let with = |edit: fn(&mut Snapshot)| {
        let mut snapshot = green_live(version);
        edit(&mut snapshot);
        response(&snapshot)
    };
    let mut two = response(&green_live(version));
    two.resources.extend(response(&green_live(version)).resources);
    let none = DiscoveryResponse { resources: Vec::new(), ..response(&green_live(version)) };
    let mut keyless = response(&green_live(version));
    keyless.resources[0].keys.as_mut().unwrap().ring.clear();
    let foreign = response(&of_service("code", green_live(version)));
    vec![
        (with(|snapshot| snapshot.format = 2), "state.format: is 2, this release reads 1"),
        (with(|snapshot| snapshot.slots[0].weight = 1.try_into().unwrap()), "state.slots[0].weight"),
        (with(|snapshot| snapshot.slots[1].bundle = None), "state.slots[1].bundle"),
        (with(|snapshot| snapshot.slots[1].assignment = None), "state.slots[1].assignment"),
        (with(|snapshot| snapshot.newest_assignment = None), "state.slots[0].assignment"),
        (with(|snapshot| drop(snapshot.slots.pop())), "state.slots: must be exactly those of settings.slots"),
        (with(|snapshot| snapshot.settings.pin.idle_timeout_seconds = 0), "state.settings.pin.idle_timeout_seconds"),
        (with(|snapshot| snapshot.ring.as_mut().unwrap().verifying.clear()), "state.ring.verifying"),
        (
            with(|snapshot| drop(snapshot.slots[0].headers.insert("x-agent-slot".parse().unwrap(), "green".into()))),
            "state.slots[0].headers.x-agent-slot: is not one of settings.part_headers",
        ),
        (keyless, "keys.ring: lacks key 1"),
        (two, "resources: has 2 entries, exactly one is allowed"),
        (none, "resources: has 0 entries, exactly one is allowed"),
        (foreign, "state.service: is code, but chat was asked for"),
    ]
}

/// Last good: a snapshot that breaks a rule is refused with the field and the rule, and traffic goes on as before.
#[test]
fn refusals_name_the_field() {
    for (answer, wanted) in spoilt(6) {
        let proxy = Proxy::chat();
        let worker = proxy.with(&blue_live(5));
        worker.poll().answer(200, bytes(&answer));
        let poll = worker.poll();
        let error = poll.nack().unwrap_or_else(|| panic!("taken, though {wanted}"));
        assert!(error.starts_with(wanted), "{error:?} does not say {wanted:?}");
        assert_eq!(poll.says.error_detail.as_ref().unwrap().code, Status::INVALID_ARGUMENT);
        assert_eq!(poll.says.response_nonce, answer.nonce, "{wanted}: the refusal names its answer");
        assert_eq!(poll.says.version_info, blue_live(5).version().to_string(), "{wanted}: the held version");
        assert_eq!(worker.serves().as_deref(), Some("b-1"), "{wanted}: traffic goes on");
        assert_eq!(proxy.count("snapshots_refused"), 1, "{wanted}");
        assert!(worker.logged(wanted), "{wanted}: in the log");
        // What comes next is taken, and nothing is held against it.
        poll.bring(&green_live(7));
        assert_eq!((worker.poll().nack(), worker.serves().as_deref()), (None, Some("g-1")), "{wanted}");
    }
}

/// Last good: a setting that this release does not know is refused rather than overlooked; a field of the snapshot
/// that it does not know is not.
#[test]
fn newer_documents_are_read_with_care() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    let edited = |edit: fn(&mut serde_json::Value)| {
        let mut answer = serde_json::to_value(response(&green_live(6))).unwrap();
        edit(&mut answer["resources"][0]["state"]);
        answer.to_string()
    };
    worker.poll().answer(200, edited(|state| state["settings"]["colour"] = true.into()));
    assert!(worker.poll().nack().unwrap().starts_with("state.settings.colour: there is no such field"));
    worker.poll().answer(200, edited(|state| state["advice"] = "be kind".into()));
    assert_eq!((worker.poll().nack(), worker.serves().as_deref()), (None, Some("g-1")));
}

/// Last good: long words of refusal are cut, so that a NACK stays small.
#[test]
fn refusals_are_short() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    let mut answer = serde_json::to_value(response(&green_live(6))).unwrap();
    answer["resources"][0]["state"]["settings"]["x".repeat(100_000)] = 1.into();
    worker.poll().answer(200, answer.to_string());
    assert!(worker.poll().nack().unwrap().len() <= 512);
}

/// Confirmed: nothing newer, said by the sidecar or by the end of the poll, is asked for again at once.
#[test]
fn nothing_newer_is_asked_again_at_once() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    for _ in 0..3 {
        proxy.run(25_000, [&worker]);
        worker.poll().answer(304, "");
        assert_eq!(worker.poll().says.version_info, blue_live(5).version().to_string());
        proxy.run(25_000, [&worker]);
        worker.poll().time_out();
        assert_eq!(worker.poll().nack(), None);
    }
}

/// Milliseconds until the worker polls again.
fn silence(proxy: &Proxy, worker: &Worker) -> u64 {
    let since = proxy.process.now();
    while !worker.polls() {
        proxy.run(20, [worker]);
        assert!(proxy.process.now() - since < Duration::from_secs(10), "it never polls again");
    }
    (proxy.process.now() - since).as_millis() as u64
}

/// Last good: a sidecar that is away is asked ever less often, up to every second and a half, each time a bit off, and
/// found soon after it is back.
#[test]
fn failures_back_off_with_jitter() {
    let fails: [fn(&Worker); 6] = [
        |worker| worker.poll().refuse(),
        |worker| worker.poll().break_off(),
        |worker| worker.poll().answer(500, "oops"),
        |worker| worker.poll().answer(401, ""),
        |worker| worker.poll().answer(404, "not here"),
        // Not newer than what is held.
        |worker| worker.hear(&blue_live(5)),
    ];
    for fail in fails {
        let proxy = Proxy::chat();
        let worker = proxy.with(&blue_live(5));
        // The status of an answer that never came is asked for, and there is none.
        worker.tolerate("proxy_get_header_map_value");
        let silences: Vec<_> = (0..40)
            .map(|_| {
                fail(&worker);
                silence(&proxy, &worker)
            })
            .collect();
        assert!((20..=100).contains(&silences[0]), "{silences:?}");
        assert!(silences.iter().all(|silence| *silence <= 1_520), "{silences:?}");
        let late = &silences[10..];
        assert!(late.iter().all(|silence| *silence >= 480), "{silences:?}");
        assert!(late.iter().max() > late.iter().min(), "{silences:?}: no jitter");
        worker.hear(&green_live(6));
        assert_eq!(worker.serves().as_deref(), Some("g-1"));
        worker.poll().refuse();
        assert!(silence(&proxy, &worker) <= 100, "a success is no reason to wait");
    }
}

/// Last good: whoever answers at once without ever having news, or always with nonsense, makes no worker spin.
#[test]
fn answers_without_end_make_no_worker_spin() {
    let answers: [fn(&Worker); 3] = [
        |worker| worker.poll().answer(304, ""),
        |worker| worker.poll().answer(200, "<html>"),
        |worker| worker.hear(&Snapshot { format: 2, ..green_live(6) }),
    ];
    for (index, answer) in answers.into_iter().enumerate() {
        let proxy = Proxy::chat();
        let worker = proxy.with(&blue_live(5));
        let mut answered = 0;
        let until = proxy.process.now() + Duration::from_secs(20);
        while proxy.process.now() < until {
            // As fast as an answer can come over loopback.
            while worker.polls() && answered < 1_000 {
                answer(&worker);
                answered += 1;
            }
            proxy.run(20, [&worker]);
        }
        assert!(answered <= 50, "answer {index}: {answered} polls in 20 s");
        assert_eq!(worker.serves().as_deref(), Some("b-1"));
    }
}

/// Last good: with no cluster of that name polls fail, traffic goes on, and the cluster is used once it is there.
#[test]
fn the_cluster_may_come_later() {
    let proxy = Proxy::chat();
    proxy.process.remove_cluster(CLUSTER);
    let worker = proxy.worker();
    proxy.run(5_000, [&worker]);
    assert!(!worker.polls());
    assert!(worker.complaints().iter().all(|complaint| complaint.import == "proxy_http_call"));
    let request = worker.send(Request::new());
    assert_eq!(request.slot(), None);
    proxy.process.restore_cluster(CLUSTER);
    assert!(silence(&proxy, &worker) <= 1_520);
    worker.hear(&blue_live(5));
    assert_eq!(worker.serves().as_deref(), Some("b-1"));
    worker.tolerate("proxy_http_call");
}

/// Atomic: what is not above the held version is not taken, whatever it says.
#[test]
fn older_snapshots_are_not_taken() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&green_live(5));
    let old_log = Snapshot { epoch: Epoch(UnixMillis(EPOCH.0.0 - 1)), ..blue_live(99) };
    for older in [blue_live(4), blue_live(5), old_log] {
        worker.hear(&older);
        silence(&proxy, &worker);
        assert_eq!(worker.poll().says.version_info, green_live(5).version().to_string());
        assert_eq!(worker.serves().as_deref(), Some("g-1"));
    }
    assert_eq!(proxy.count("snapshots_refused"), 0, "an old answer is no fault of its snapshot");
}

/// Reversible: a restored log is newer than the one before it, however low it counts.
#[test]
fn a_restored_log_is_newer() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&green_live(50));
    let restored = Snapshot { epoch: Epoch(UnixMillis(EPOCH.0.0 + 1)), ..blue_live(2) };
    worker.hear(&restored);
    assert_eq!(worker.poll().says.version_info, restored.version().to_string());
    assert_eq!(worker.serves().as_deref(), Some("b-1"));
}

/// Last good: a snapshot without keys is decided by hash, mints nothing, and says so; with keys in the environment
/// nothing is lacking.
#[test]
fn keys_come_with_the_answer_or_by_environment() {
    let keyless = |version| {
        let mut answer = response(&green_live(version));
        answer.resources[0].keys = None;
        bytes(&answer)
    };
    let proxy = Proxy::chat();
    let worker = proxy.worker();
    worker.tick();
    worker.poll().answer(200, keyless(5));
    assert_eq!(proxy.gauge("keyed"), Some(0));
    assert!(worker.logged("no keys"));
    let request = worker.send(Request::new().session("alpha"));
    assert_eq!((request.decision().as_deref(), request.pin()), (Some("hash"), None));
    worker.hear(&green_live(6));
    assert_eq!(proxy.gauge("keyed"), Some(1));
    assert!(worker.send(Request::new().session("alpha")).pin().is_some());
    worker.poll().answer(200, keyless(7));
    assert_eq!(proxy.gauge("keyed"), Some(0), "keys do not outlast the answer that brought them");

    let proxy = Proxy::chat();
    proxy.process.set_env(names::ENV_KEYS, &environment_keys("chat"));
    let worker = proxy.worker();
    worker.tick();
    worker.poll().answer(200, keyless(5));
    assert_eq!(proxy.gauge("keyed"), Some(1));
    assert!(worker.send(Request::new().session("alpha")).pin().is_some());
}

/// Stamped: the info metric says which bundle is in which slot, for now and not for the past.
#[test]
fn gauges_tell_what_runs_where() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&numbered(5));
    assert_eq!(proxy.gauge("info.slot.blue.bundle.v5"), Some(1));
    worker.hear(&numbered(6));
    assert_eq!(proxy.gauge("info.slot.blue.bundle.v5"), Some(0));
    assert_eq!(proxy.gauge("info.slot.blue.bundle.v6"), Some(1));
    worker.hear(&rolled_back(7));
    assert_eq!(proxy.gauge("info.slot.green.bundle.g-1"), Some(1), "a condemned slot runs its bundle still");
    worker.hear(&none_live(8));
    assert_eq!(proxy.gauge("info.slot.green.bundle.g-1"), Some(0));
}

/// Confirmed: a pin of an assignment that this process does not know makes it ask again at once, whatever poll it has
/// open; the request waits for the answer, and the client keeps its pin where none comes.
#[test]
fn a_newer_pin_triggers_a_poll() {
    let proxy = Proxy::chat();
    let [leader, other] = proxy.workers();
    leader.tick();
    leader.hear(&blue_live(5));
    proxy.run(10_000, [&leader, &other]);
    let pin = |assignment: AssignmentId| {
        let mut snapshot = green_live(6);
        snapshot.slots[1].assignment = Some(assignment);
        snapshot.newest_assignment = Some(assignment);
        (free_pin(proxy.process.now(), assignment), snapshot)
    };
    let (token, snapshot) = pin(AssignmentId(150));
    let request = other.send(Request::new().pin(&token));
    assert!(request.waits());
    let before = leader.poll_count();
    proxy.run(20, [&leader, &other]);
    assert_eq!(leader.poll_count(), before + 1, "the leader asks anew");
    leader.newest_poll().bring(&snapshot);
    other.tick();
    assert_eq!((request.slot().as_deref(), request.decision().as_deref()), (Some("green"), Some("pin")));
    assert_eq!(proxy.count("waits.need.newer_snapshot.end.met"), 1);
}

/// Confirmed: an assignment that does not come is waited for and asked for once, not by every request that brings a pin
/// of it; after a while one waits again.
#[test]
fn a_newer_pin_is_not_waited_for_again_and_again() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    let pin = |assignment| Request::new().pin(free_pin(proxy.process.now(), AssignmentId(assignment)));
    proxy.run(1_000, [&worker]);
    let first = worker.send(pin(160));
    proxy.run(520, [&worker]);
    assert_eq!(worker.poll_count(), 2);
    let second = worker.send(pin(160));
    proxy.wait(10_000);
    let third = worker.send(pin(160));
    proxy.run(520, [&worker]);
    for request in [&first, &second, &third] {
        assert_eq!((request.decision().as_deref(), request.pin()), (Some("random"), None), "the client keeps its pin");
    }
    let resumed = [&first, &second, &third].map(|request| request.stream.continued_by().is_some());
    assert_eq!(resumed, [true, false, true], "which of them waited");
    assert_eq!(proxy.count("waits.need.newer_snapshot.end.timeout"), 2);
    assert_eq!(proxy.count("tokens_refused.kind.pin.cause.newer"), 3);
    assert_eq!(worker.poll_count(), 2, "asked for once");
    let newer = worker.send(pin(161));
    assert!(newer.waits(), "an assignment above it is another matter");
    proxy.run(520, [&worker]);
    assert_eq!(worker.poll_count(), 3);
}

/// Confirmed: a request that waited for its first snapshot waits for a newer one too, and asks for it.
#[test]
fn a_first_request_may_need_a_newer_snapshot() {
    let proxy = Proxy::chat();
    let [leader, other] = proxy.workers();
    leader.tick();
    let request = other.send(Request::new().pin(free_pin(proxy.process.now(), AssignmentId(150))));
    leader.hear(&blue_live(5));
    proxy.run(300, [&leader]);
    proxy.run(20, [&other, &leader]);
    assert!(request.waits());
    assert_eq!(leader.poll_count(), 2, "the leader asks anew");
    let mut snapshot = green_live(6);
    snapshot.slots[1].assignment = Some(AssignmentId(150));
    snapshot.newest_assignment = Some(AssignmentId(150));
    leader.newest_poll().bring(&snapshot);
    other.tick();
    assert_eq!((request.slot().as_deref(), request.decision().as_deref()), (Some("green"), Some("pin")));
}

/// Last good: an answer far larger than any snapshot is refused unread, and what comes next is taken.
#[test]
fn giant_answers_are_not_read() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    let giant = [bytes(&response(&green_live(6))), vec![b' '; 1 << 20]].concat();
    worker.poll().answer(200, giant);
    silence(&proxy, &worker);
    let poll = worker.poll();
    assert!(poll.nack().unwrap().starts_with("the answer has 10"), "{:?}", poll.nack());
    poll.bring(&green_live(6));
    assert_eq!(worker.serves().as_deref(), Some("g-1"));
}
