//! What a request costs: host calls dominate, so each kind is counted.

use std::collections::BTreeMap;

use crate::proxy::{Proxy, Worker};
use crate::releases::{blue_live, split};
use crate::request::Request;

/// The host calls of one request, from its headers to its end. The answer has the mark of Envoy's router.
fn calls(worker: &Worker, request: Request) -> BTreeMap<&'static str, u64> {
    worker.reset_host_calls();
    let sent = worker.send(request);
    sent.answered(&[("x-envoy-upstream-service-time", "3")]);
    sent.stream.finish().unwrap();
    worker.host_calls()
}

/// Cheap: the host calls of a request are these and no others. A number that rises here is paid by every request of
/// every agent; one that falls is to be written down.
#[test]
fn a_request_makes_these_host_calls() {
    let proxy = Proxy::chat();
    let [worker, other] = proxy.workers();
    worker.tick();
    worker.hear(&blue_live(5));
    (0..2).for_each(|_| drop(other.send(Request::new().session("gamma")).answered(&[])));
    let pin = worker.send(Request::new().session("alpha")).answered(&[]).get("x-agent-pin").unwrap().to_vec();
    // Metrics are defined at their first use.
    calls(&worker, Request::new().session("alpha"));
    calls(&worker, Request::new().session("alpha").pin(&pin));
    let pinned = || Request::new().session("alpha").pin(&pin);
    let looked_at: Vec<_> =
        PIN.iter().map(|(call, times)| (*call, times + u64::from(*call == READS_HEADERS))).collect();
    let looked_up: Vec<_> =
        MEMORY.iter().map(|(call, times)| (*call, times + u64::from(*call == READS_SHARED))).collect();
    let returned: Vec<_> = MEMORY
        .iter()
        .map(|(call, times)| (*call, times + u64::from(*call == READS_SHARED)))
        .chain([("proxy_set_shared_data", 1)])
        .collect();
    let kinds = [
        ("hash", 0, Request::new().session("beta"), HASH),
        ("memory, at the first return, which is written down", 0, Request::new().session("beta"), returned.as_slice()),
        ("memory, of a session that the worker has met of late", 0, Request::new().session("beta"), MEMORY),
        ("memory, of one that another has met", 0, Request::new().session("gamma"), looked_up.as_slice()),
        ("pin", 0, pinned(), PIN),
        ("pin, whose answer is looked at: one in ten milliseconds", 10, pinned(), looked_at.as_slice()),
    ];
    for (kind, later_ms, request, wanted) in kinds {
        proxy.wait(later_ms);
        let found = calls(&worker, request);
        println!("{kind}: {} host calls", found.values().sum::<u64>());
        found.iter().for_each(|(call, times)| println!("  {times} {call}"));
        assert_eq!(found, wanted.iter().copied().collect(), "{kind}");
    }
}

const READS_HEADERS: &str = "proxy_get_header_map_pairs";
const READS_SHARED: &str = "proxy_get_shared_data";

/// A new session: it is looked for, written down, and handed a pin.
const HASH: &[(&str, u64)] = &[
    ("proxy_get_current_time_nanoseconds", 1),
    (READS_HEADERS, 2),
    (READS_SHARED, 3),
    ("proxy_increment_metric", 2),
    ("proxy_replace_header_map_value", 4),
    ("proxy_set_property", 1),
    ("proxy_set_shared_data", 1),
];

/// A session that the proxy remembers: nothing goes back.
const MEMORY: &[(&str, u64)] = &[
    ("proxy_get_current_time_nanoseconds", 1),
    (READS_HEADERS, 1),
    (READS_SHARED, 1),
    ("proxy_increment_metric", 1),
    ("proxy_replace_header_map_value", 3),
    ("proxy_set_property", 1),
];

/// A session that its pin keeps: nothing goes back.
const PIN: &[(&str, u64)] = &[
    ("proxy_get_current_time_nanoseconds", 1),
    (READS_HEADERS, 1),
    (READS_SHARED, 1),
    ("proxy_increment_metric", 1),
    ("proxy_remove_header_map_value", 1),
    ("proxy_replace_header_map_value", 3),
    ("proxy_set_property", 1),
];

/// Cheap: a request of a plan of eight slots and one of two cost the same calls, and a snapshot is read once a worker.
#[test]
fn a_snapshot_is_read_once() {
    let proxy = Proxy::chat();
    let [leader, other] = proxy.workers();
    leader.tick();
    leader.hear(&split(5, 5_000));
    let first = calls(&other, Request::new())[READS_SHARED];
    let second = calls(&other, Request::new())[READS_SHARED];
    assert_eq!(first, second + 1, "the first request after a change reads the snapshot");
}

/// Largest module that is shipped, in bytes. Every worker compiles it, and every reload waits for that; and an upgrade has two
/// builds in one ConfigMap, which holds 1 MiB.
const SIZE_MAX: u64 = 500 * 1024;

/// Cheap: the module does not grow unnoticed. A limit that falls is to be written down.
#[test]
fn the_module_is_small() {
    let path = wasm_host::wasm_path().unwrap();
    let size = std::fs::metadata(path).unwrap().len();
    println!("{size} bytes");
    assert!(size <= SIZE_MAX, "{size} bytes, at most {SIZE_MAX} are allowed");
}
