//! Snapshots that a configuration pushes: a release without any sidecar.

use colorfast_core::names::{self, shared};
use colorfast_core::plugin::{Direction, PluginConfig, ServiceConfig};
use colorfast_core::snapshot::Snapshot;
use wasm_host::{Cause, Plugin};

use crate::proxy::{Proxy, Worker, configured};
use crate::releases::{
    BLUE, EPOCH, GREEN, as_bootstrap, blue_live, environment_keys, free_pin, green_live, numbered, of_service,
    rolled_back, service, signer,
};
use crate::request::Request;

/// The plugin as a push has it: with this snapshot, and without a sidecar.
fn pushes(snapshot: &Snapshot) -> Plugin {
    with_sidecar(snapshot, "")
}

fn with_sidecar(snapshot: &Snapshot, cluster: &str) -> Plugin {
    let service = ServiceConfig { snapshot: Some(snapshot.clone()), ..configured("chat", None) };
    plugin(vec![service], cluster)
}

fn plugin(services: Vec<ServiceConfig>, cluster: &str) -> Plugin {
    let config = PluginConfig { services, sidecar_cluster: cluster.to_owned(), direction: Direction::Ingress };
    Plugin::config(serde_json::to_vec(&config).unwrap())
}

/// A proxy whose keys stand in its environment.
fn keyed() -> Proxy {
    let proxy = Proxy::chat();
    proxy.process.set_env(names::ENV_KEYS, &environment_keys("chat"));
    proxy
}

fn push(proxy: &Proxy, snapshot: &Snapshot) -> Worker {
    proxy.worker_of(pushes(snapshot))
}

/// How many lines say that a push was refused.
fn refusals(worker: &Worker) -> usize {
    worker.log().iter().filter(|line| line.text.contains("of the configuration is refused")).count()
}

/// Atomic: what the first VM of a new configuration brings is decided by on every worker at its next request, those of
/// the configuration before too.
#[test]
fn a_push_is_seen_by_all_workers_at_once() {
    let proxy = keyed();
    let old = [push(&proxy, &blue_live(5)), push(&proxy, &blue_live(5))];
    assert!(old.iter().all(|worker| worker.serves().as_deref() == Some("b-1")));
    // A canary: configured, never ticked, and gone.
    drop(push(&proxy, &green_live(6)));
    assert!(old.iter().all(|worker| worker.serves().as_deref() == Some("g-1")));
    assert_eq!((proxy.gauge("pushed_version"), proxy.gauge("pushed_epoch")), (Some(6), Some(EPOCH.0.0)));
    assert_eq!((proxy.gauge("snapshot_version"), proxy.gauge("snapshot_epoch")), (Some(6), Some(EPOCH.0.0)));
    assert_eq!(proxy.count("snapshots_refused"), 0);
}

/// Last good: a push that is older than what is held is refused, with both numbers in the log and in metrics, once for all
/// workers; the same push again says nothing.
#[test]
fn an_older_push_is_refused() {
    let proxy = keyed();
    let first = push(&proxy, &green_live(6));
    let reverted = [push(&proxy, &blue_live(5)), push(&proxy, &blue_live(5))];
    assert!(reverted.iter().chain([&first]).all(|worker| worker.serves().as_deref() == Some("g-1")));
    proxy.run(2_100, reverted.iter().chain([&first]));
    assert_eq!(reverted.iter().map(refusals).sum::<usize>(), 1);
    let (pushed, held) = (blue_live(5).version(), green_live(6).version());
    assert!(reverted[0].logged(&format!("snapshot {pushed} of the configuration is refused, since {held} is held")));
    assert_eq!((proxy.gauge("pushed_version"), proxy.gauge("snapshot_version")), (Some(5), Some(6)));
    assert_eq!(proxy.count("snapshots_refused"), 1);

    let back = push(&proxy, &rolled_back(7));
    assert!([&first, &back].iter().all(|worker| worker.serves().as_deref() == Some("b-1")));
    assert_eq!((proxy.gauge("pushed_version"), proxy.count("snapshots_refused")), (Some(7), 1));
}

/// A worker that is late is given two pushes in a row: the first of them, which others had before the second, is no refusal.
#[test]
fn a_late_worker_refuses_nothing() {
    let proxy = keyed();
    let early = [push(&proxy, &blue_live(5)), push(&proxy, &green_live(6))];
    let late = [push(&proxy, &blue_live(5)), push(&proxy, &green_live(6))];
    let workers = || early.iter().chain(&late);
    proxy.run(2_100, workers());
    assert!(workers().all(|worker| refusals(worker) == 0 && worker.serves().as_deref() == Some("g-1")));
    assert_eq!((proxy.count("snapshots_refused"), proxy.gauge("pushed_version")), (0, Some(6)));
}

/// Last good: where two copies of a log have parted, both of which say the same version, the second is refused and told; the
/// first stays, and pushed again it is nothing new.
#[test]
fn a_parted_log_is_told() {
    let proxy = keyed();
    let of = |lineage, snapshot: Snapshot| Snapshot { lineage: Some(lineage), ..snapshot };
    let (ours, theirs) = (of(1, green_live(6)), of(2, blue_live(6)));
    let first = push(&proxy, &ours);
    let parted = [push(&proxy, &theirs), push(&proxy, &theirs)];
    assert!(parted.iter().chain([&first]).all(|worker| worker.serves().as_deref() == Some("g-1")));
    proxy.run(2_100, parted.iter().chain([&first]));
    assert_eq!((parted.iter().map(refusals).sum::<usize>(), proxy.count("snapshots_refused")), (1, 1));
    let held = green_live(6).version();
    assert!(
        parted[0].logged(&format!("snapshot {held} of the configuration is refused, since another {held} is held"))
    );
    let again = push(&proxy, &ours);
    assert_eq!((refusals(&again), proxy.count("snapshots_refused")), (0, 1));
    assert_eq!(push(&proxy, &blue_live(7)).serves().as_deref(), Some("b-1"));
}

/// Last good: a log of an older epoch is older, whatever its versions say.
#[test]
fn an_older_log_is_refused() {
    let proxy = keyed();
    let worker = push(&proxy, &blue_live(5));
    let mut older = green_live(900);
    older.epoch.0.0 -= 1;
    push(&proxy, &older);
    assert_eq!(worker.serves().as_deref(), Some("b-1"));
    assert_eq!((proxy.gauge("pushed_epoch"), proxy.gauge("snapshot_epoch")), (Some(EPOCH.0.0 - 1), Some(EPOCH.0.0)));
}

/// Kept: with keys from the environment a pin holds its session through pushes, and leaves with a rollback that breaks it.
#[test]
fn pins_outlast_pushes() {
    let proxy = keyed();
    let worker = push(&proxy, &blue_live(5));
    let first = worker.send(Request::new().session("alpha"));
    let pin = first.answered(&[]).text(names::HEADER_PIN).unwrap().to_owned();
    assert_eq!(signer("chat").read(pin.as_bytes()).unwrap().0.assignment, BLUE);
    let worker = push(&proxy, &green_live(6));
    let again = worker.send(Request::new().session("alpha").pin(&pin));
    assert_eq!((again.slot().as_deref(), again.decision().as_deref()), (Some("blue"), Some("pin")));
    assert_eq!(proxy.gauge("keyed"), Some(1));

    let green = free_pin(proxy.process.now(), GREEN);
    assert_eq!(worker.send(Request::new().pin(&green)).slot().as_deref(), Some("green"));
    let worker = push(&proxy, &rolled_back(7));
    let moved = worker.send(Request::new().pin(&green));
    assert_eq!((moved.slot().as_deref(), moved.decision().as_deref()), (Some("blue"), Some("random")));
}

/// Cheap: without a sidecar nobody is asked, nothing is told, and the first request waits for nothing.
#[test]
fn without_a_sidecar_nobody_is_asked() {
    let proxy = keyed();
    let worker = push(&proxy, &blue_live(5));
    assert_eq!(worker.serves().as_deref(), Some("b-1"));
    for turn in 0..200 {
        worker.send(Request::new().session(format!("session-{turn}"))).answered(&[]);
        proxy.run(100, [&worker]);
    }
    assert!(worker.calls().is_empty());
    for counter in ["polls_failed", "memory_untold", "waits.need.bootstrap.end.timeout", "waits.need.fleet.end.no_way"]
    {
        assert_eq!(proxy.count(counter), 0, "{counter}");
    }
}

/// One rule for both ways: what a sidecar brings and what is pushed are ordered by the same numbers, and the sidecar is
/// told what is held.
#[test]
fn a_sidecar_and_a_push_are_ordered_alike() {
    let proxy = keyed();
    let worker = proxy.worker_of(with_sidecar(&numbered(5), crate::sidecar::CLUSTER));
    worker.tick();
    assert_eq!(worker.poll().says.version_info, numbered(5).version().to_string());
    worker.hear(&numbered(7));
    assert_eq!(worker.serves().as_deref(), Some("v7"));
    push(&proxy, &numbered(6));
    assert_eq!(worker.serves().as_deref(), Some("v7"));
    push(&proxy, &numbered(8));
    assert_eq!(worker.serves().as_deref(), Some("v8"));
    worker.hear(&numbered(7));
    assert_eq!(worker.serves().as_deref(), Some("v8"));
    proxy.run(2_000, [&worker]);
    assert_eq!(worker.newest_poll().says.version_info, numbered(8).version().to_string());
}

/// Last good: VMs that die again and again under a push take the process back to the one before it; the push that stands
/// in the configuration is not taken again, a newer one is.
#[test]
fn a_push_may_be_left_again() {
    let proxy = keyed();
    let old = push(&proxy, &blue_live(5));
    proxy.run(11_000, [&old]);
    let mut worker = push(&proxy, &green_live(6));
    proxy.run(6_000, [&old, &worker]);
    for _ in 0..3 {
        worker = push(&proxy, &green_live(6));
    }
    assert_eq!((worker.serves().as_deref(), old.serves().as_deref()), (Some("b-1"), Some("b-1")));
    assert_eq!(proxy.count("retreats"), 1);
    assert_eq!(push(&proxy, &green_live(7)).serves().as_deref(), Some("g-1"));
}

/// Last good: a push that breaks a rule is refused with its configuration, by field; what is held stays.
#[test]
fn bad_pushes_are_refused_by_field() {
    let proxy = keyed();
    let worker = push(&proxy, &blue_live(5));
    let mut foreign_key = green_live(6);
    foreign_key.ring.as_mut().unwrap().verifying.push(colorfast_core::ids::KeyId(7));
    let mut weightless = green_live(6);
    weightless.slots[1].weight = colorfast_core::weight::Weight::NONE;
    let cases = [
        (as_bootstrap(green_live(6)), "services[0].snapshot.epoch: is 0"),
        (of_service("code", green_live(6)), "services[0].snapshot.service: is code"),
        (weightless, "services[0].snapshot.slots: have weights that sum to 0"),
        (foreign_key, "snapshot of chat: keys.ring: lacks key 7"),
    ];
    for (snapshot, wanted) in cases {
        let error = proxy.try_worker(pushes(&snapshot)).err().expect("the push was taken");
        assert_eq!(error.cause, Cause::Refused);
        let said = &error.log.last().unwrap().text;
        assert!(said.contains(wanted), "{said}");
        assert_eq!(worker.serves().as_deref(), Some("b-1"));
    }
    let both =
        vec![ServiceConfig { snapshot: Some(blue_live(5)), ..configured("chat", None) }, configured("code", None)];
    assert!(proxy.try_worker(plugin(both, "")).is_err(), "a service without a snapshot needs a sidecar");
}

/// Several services in one configuration: each has its own.
#[test]
fn each_service_has_its_own_push() {
    let proxy = keyed();
    let pushed = |name: &str, snapshot: Snapshot| {
        let mut config = crate::proxy::hosted(name, &format!("{name}.example.com"));
        config.snapshot = Some(of_service(name, snapshot));
        config
    };
    let worker = proxy.worker_of(plugin(vec![pushed("chat", green_live(6)), pushed("code", numbered(3))], ""));
    let at = |host| worker.send(Request::new().instead(":authority", host)).bundle();
    assert_eq!((at("chat.example.com").as_deref(), at("code.example.com").as_deref()), (Some("g-1"), Some("v3")));
    assert!(proxy.process.shared_data(&shared::pushed(&service("code"))).is_some());
}
