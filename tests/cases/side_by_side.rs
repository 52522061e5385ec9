//! Filters of other VM ids and other formats in one process, each with data of its own.

use wasm_host::{Plugin, Process};

use crate::proxy::Proxy;
use crate::releases::{blue_live, green_live, numbered};
use crate::rng::Rng;

/// Last good: filters of two VM ids in one process know nothing of each other: each has its snapshot, and both obey at
/// once where both are sent one.
#[test]
fn two_vm_ids_are_two_proxies() {
    let proxy = Proxy::chat();
    let beside = |proxy: &Proxy| proxy.worker_of(proxy.plugin().vm_id("beside"));
    let (ours, theirs) = ([proxy.worker(), proxy.worker()], [beside(&proxy), beside(&proxy)]);
    for (workers, snapshot) in [(&ours, blue_live(5)), (&theirs, green_live(9))] {
        workers[0].tick();
        workers[0].hear(&snapshot);
    }
    let serve = |workers: &[crate::proxy::Worker; 2], bundle: &str| {
        assert!(workers.iter().all(|worker| worker.serves().as_deref() == Some(bundle)), "not all serve {bundle}");
    };
    serve(&ours, "b-1");
    serve(&theirs, "g-1");
    for workers in [&ours, &theirs] {
        workers[0].hear(&numbered(10));
        serve(workers, "v10");
    }
    assert_ne!(ours[0].poll().says.node, theirs[0].poll().says.node, "each is a member of its own");
}

/// Last good: keys of an older and of a newer format under the same VM id are neither read nor written, whatever they
/// hold, and lead to no other decision.
#[test]
fn other_formats_are_left_alone() {
    let mut rng = Rng::seeded(7);
    for _ in 0..20 {
        let process = Process::new();
        process.set_env(colorfast_core::names::ENV_TOKEN, "secret");
        process.offer(&["xds", "node", "id"], "edge-1");
        let proxy = Proxy::chat().on(process);
        let mut foreign = Vec::new();
        for format in ["cf0", "cf2"] {
            for what in ["chat/version", "chat/snapshot", "chat/lease", "chat/wanted", "process", "configurations"] {
                foreign.push((format!("{format}/{what}"), rng.bytes(64)));
            }
        }
        for (key, value) in &foreign {
            proxy.process.set_shared_data(key, value, None).unwrap();
        }
        let workers: [_; 2] = proxy.workers();
        workers[0].tick();
        workers[0].hear(&blue_live(5));
        proxy.run(1_000, &workers);
        workers[0].hear(&green_live(6));
        for worker in &workers {
            assert_eq!(worker.serves().as_deref(), Some("g-1"));
        }
        for (key, value) in &foreign {
            assert_eq!(proxy.process.shared_data(key).map(|(value, _)| value).as_ref(), Some(value), "{key}");
        }
    }
}

/// Last good: garbage under our own keys, as a filter with a fault may leave it, costs nobody a decision: the next
/// snapshot replaces it.
#[test]
fn garbage_under_our_keys_is_replaced() {
    let keys = ["chat/version", "chat/snapshot", "chat/previous", "chat/rebuilds", "chat/lease", "chat/wanted"];
    let keys: Vec<String> = keys.iter().chain(&["configurations", "doubled"]).map(|key| format!("cf1/{key}")).collect();
    let mut rng = Rng::seeded(11);
    for _ in 0..40 {
        let proxy = Proxy::chat();
        for key in &keys {
            proxy.process.set_shared_data(key, rng.bytes(80), None).unwrap();
        }
        let config = proxy.plugin();
        let workers = [proxy.worker_of(config.clone()), proxy.worker_of(Plugin::clone(&config))];
        proxy.run(3_000, &workers);
        let leader = workers.iter().find(|worker| worker.polls()).expect("a leader");
        leader.hear(&green_live(6));
        for worker in &workers {
            assert_eq!(worker.serves().as_deref(), Some("g-1"));
        }
    }
}
