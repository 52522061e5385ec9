//! The first requests of a proxy: they wait for a snapshot, and never for long.

use std::time::Duration;

use colorfast_core::names;
use colorfast_core::settings::{BootstrapWaitMs, CookieCarrier};
use colorfast_core::snapshot::Snapshot;
use wasm_host::{Action, HeaderPause};

use crate::proxy::{Proxy, Worker};
use crate::releases::{BLUE, GREEN, as_bootstrap, blue_live, environment_keys, free_pin, green_live};
use crate::request::{Request, Sent};

const BOTH_PAUSES: [HeaderPause; 2] = [HeaderPause::All, HeaderPause::Headers];

/// A proxy whose configuration says blue, while the sidecar says green.
fn cold(pause: HeaderPause) -> Proxy {
    Proxy::bootstrapped(as_bootstrap(blue_live(0))).header_pause(pause)
}

/// The headers of an upload whose body and trailers follow.
fn upload(worker: &Worker) -> Sent {
    Sent::headers_before_body(worker.stream(), Request::new().instead(":method", "POST").session("alpha"))
}

/// Kept: a restarted proxy pauses its first requests until it has a snapshot, and resumes them on every worker.
#[test]
fn first_requests_wait_for_the_snapshot() {
    for pause in BOTH_PAUSES {
        let proxy = cold(pause);
        let [leader, other] = proxy.workers();
        leader.tick();
        let request = |worker: &Worker, id| worker.send(Request::new().session(id));
        let requests = [request(&leader, "alpha"), request(&other, "beta")];
        proxy.run(500, [&leader, &other]);
        assert!(requests.iter().all(|request| request.action == Action::Pause && request.waits()), "{pause:?}");
        leader.hear(&green_live(5));
        assert!(!requests[0].waits(), "{pause:?}: the leader's own requests go on with the answer");
        assert!(requests[1].waits(), "{pause:?}: those of other workers with their tick");
        other.tick();
        for (request, worker) in requests.iter().zip([&leader, &other]) {
            assert_eq!(request.stream.continued_by(), Some(worker.root().id()), "{pause:?}");
            assert_eq!(request.slot().as_deref(), Some("green"), "{pause:?}");
            assert_eq!(request.pin().map(|pin| pin.assignment), Some(GREEN), "{pause:?}: the pin goes out as ever");
        }
        assert_eq!(proxy.count("waits.need.bootstrap.end.met"), 2, "{pause:?}");
        assert_eq!(proxy.count("waits.need.bootstrap.end.timeout"), 0, "{pause:?}");
    }
}

/// Kept: an upload that waits is held whole, headers, body and trailers, and goes on whole. Without the listener's
/// flag the proxy holds the body; with it the filter sees the body come, and must hold it.
#[test]
fn uploads_wait_whole() {
    for pause in BOTH_PAUSES {
        let proxy = cold(pause);
        let worker = proxy.worker();
        worker.tick();
        let upload = upload(&worker);
        let held = match pause {
            HeaderPause::All => Action::Held,
            HeaderPause::Headers => Action::Pause,
        };
        assert_eq!(upload.action, Action::Pause);
        assert_eq!(upload.stream.request_body("one ").unwrap(), held, "{pause:?}");
        assert_eq!(upload.stream.request_body("two").unwrap(), held, "{pause:?}");
        assert_eq!(upload.stream.request_trailers([("x-checksum", "7")]).unwrap(), held, "{pause:?}");
        assert_eq!(upload.stream.forwarded_request(), None, "{pause:?}: released to the default route");
        worker.hear(&green_live(5));
        assert_eq!(upload.slot().as_deref(), Some("green"), "{pause:?}");
        assert_eq!(upload.stream.forwarded_request_body(), b"one two", "{pause:?}");
        assert_eq!(upload.stream.continued_by(), Some(worker.root().id()), "{pause:?}");
        upload.stream.finish().unwrap();
    }
}

/// Kept: a body that comes after the snapshot did lets its request go on at once, decided by that snapshot, where the
/// listener's flag lets the filter see it.
#[test]
fn a_body_settles_its_request() {
    let proxy = cold(HeaderPause::Headers);
    let [leader, other] = proxy.workers();
    leader.tick();
    let upload = upload(&other);
    assert_eq!(upload.stream.request_body("one ").unwrap(), Action::Pause);
    leader.hear(&green_live(5));
    assert_eq!(upload.stream.request_body_last("two").unwrap(), Action::Continue);
    assert_eq!(upload.slot().as_deref(), Some("green"));
    assert_eq!(upload.stream.forwarded_request_body(), b"one two");
    // Nothing is left to resume.
    other.tick();
}

/// Last good: a proxy without a sidecar waits its time and no longer, then goes by its bootstrap snapshot; the sidecar
/// is heard when it appears.
#[test]
fn the_wait_ends_with_the_bootstrap_snapshot() {
    for pause in BOTH_PAUSES {
        let proxy = cold(pause);
        let worker = proxy.worker();
        worker.tick();
        let upload = upload(&worker);
        upload.stream.request_body_last("body").unwrap();
        proxy.run(1_980, [&worker]);
        assert!(upload.waits(), "{pause:?}: the wait is over before its time");
        proxy.run(20, [&worker]);
        assert_eq!(upload.slot().as_deref(), Some("blue"), "{pause:?}");
        assert_eq!(upload.stream.forwarded_request_body(), b"body", "{pause:?}");
        assert_eq!(proxy.count("waits.need.bootstrap.end.timeout"), 1, "{pause:?}");
        assert_eq!(worker.send(Request::new()).action, Action::Continue, "{pause:?}: one wait is enough");
        assert_eq!(worker.serves().as_deref(), Some("b-1"), "{pause:?}");
        worker.hear(&green_live(5));
        assert_eq!(worker.serves().as_deref(), Some("g-1"), "{pause:?}");
    }
}

/// Last good: without a bootstrap snapshot and a sidecar requests wait, then pass unstamped to the default route.
#[test]
fn without_any_snapshot_requests_pass_unstamped() {
    let proxy = Proxy::chat();
    let worker = proxy.worker();
    worker.tick();
    let request = worker.send(Request::new().session("alpha").with(names::HEADER_SLOT, "green"));
    proxy.run(2_000, [&worker]);
    assert_eq!((request.slot(), request.bundle(), request.decision()), (None, None, None));
    assert_eq!(request.pin(), None);
    assert_eq!(proxy.count("requests_unrouted"), 1);
}

/// Kept: the time to wait is that of the bootstrap snapshot's settings, and none where they say so.
#[test]
fn the_settings_say_how_long_to_wait() {
    let waiting = |millis| {
        let mut bootstrap = as_bootstrap(blue_live(0));
        bootstrap.settings.bootstrap_wait_ms = BootstrapWaitMs(millis);
        let proxy = Proxy::bootstrapped(bootstrap);
        let worker = proxy.worker();
        worker.tick();
        (proxy, worker)
    };
    let (_, worker) = waiting(0);
    assert_eq!(worker.send(Request::new()).slot().as_deref(), Some("blue"));
    let (proxy, worker) = waiting(5_000);
    let request = worker.send(Request::new());
    proxy.run(4_980, [&worker]);
    assert!(request.waits());
    proxy.run(20, [&worker]);
    assert_eq!(request.slot().as_deref(), Some("blue"));
}

/// Kept: the wait is counted from the first configuration of the process, so a later worker does not wait again.
#[test]
fn later_workers_do_not_wait_again() {
    let proxy = cold(HeaderPause::All);
    let first = proxy.worker();
    first.tick();
    proxy.wait(2_000);
    let second = proxy.worker();
    assert_eq!(second.send(Request::new()).slot().as_deref(), Some("blue"));
}

/// Cheap: a stream that ends while it waits is forgotten, and those beside it are not.
#[test]
fn a_stream_may_end_while_it_waits() {
    for pause in BOTH_PAUSES {
        let proxy = cold(pause);
        let worker = proxy.worker();
        worker.tick();
        let (leaves, stays) = (upload(&worker), worker.send(Request::new()));
        leaves.stream.request_body("body").unwrap();
        leaves.stream.finish().unwrap();
        worker.tick();
        worker.hear(&green_live(5));
        assert_eq!(leaves.stream.forwarded_request(), None, "{pause:?}");
        assert_eq!(stays.slot().as_deref(), Some("green"), "{pause:?}");
    }
}

/// Last good: a request that Envoy answers by itself while it waits hands out no pin, and harms nobody.
#[test]
fn a_waiting_request_may_be_answered_by_the_proxy() {
    let proxy = cold(HeaderPause::All);
    let worker = proxy.worker();
    worker.tick();
    let request = worker.send(Request::new().session("alpha"));
    request.stream.proxy_reply("request_overall_timeout", [(":status", "408")]).unwrap();
    assert!(!request.stream.response().has(names::HEADER_PIN));
    request.stream.finish().unwrap();
    worker.hear(&green_live(5));
}

/// Kept: a request that waited is read by the settings of the snapshot that came, not by those it came under: its pin
/// travels in a cookie that the configuration knew nothing of.
#[test]
fn the_snapshot_that_came_says_where_pins_are() {
    let snapshot = in_cookies();
    for pause in BOTH_PAUSES {
        let proxy = Proxy::chat().header_pause(pause);
        let worker = proxy.worker();
        worker.tick();
        let pin = free_pin(proxy.process.now(), BLUE);
        let request = worker.send(Request::new().cookie(&format!("theme=dark; agent-pin-chat={pin}")));
        assert!(request.waits());
        worker.hear(&snapshot);
        assert_eq!(request.decision().as_deref(), Some("pin"), "{pause:?}");
        assert_eq!(request.slot().as_deref(), Some("blue"), "{pause:?}");
        assert_eq!(request.forwarded().all("cookie"), [b"theme=dark"], "{pause:?}");
    }
}

/// Green is live, and pins travel in cookies.
fn in_cookies() -> Snapshot {
    let mut snapshot = green_live(1);
    snapshot.settings.session_sources.clear();
    snapshot.settings.pin.cookie = CookieCarrier::Always;
    snapshot
}

/// Kept: with keys in the environment a bootstrap snapshot hands out pins that the sidecar's snapshots honour.
#[test]
fn bootstrap_pins_outlast_the_bootstrap() {
    let proxy = cold(HeaderPause::All);
    proxy.process.set_env(names::ENV_KEYS, &environment_keys("chat"));
    let worker = proxy.worker();
    worker.tick();
    proxy.wait(2_000);
    let first = worker.send(Request::new().session("alpha"));
    assert_eq!(first.slot().as_deref(), Some("blue"));
    let answer = first.answered(&[]);
    let pin = answer.text(names::HEADER_PIN).unwrap();
    worker.hear(&green_live(5));
    let second = worker.send(Request::new().session("alpha").pin(pin));
    assert_eq!((second.slot().as_deref(), second.decision().as_deref()), (Some("blue"), Some("pin")));
}

/// Last good: a clock that steps back leaves no request waiting until the old time comes again.
#[test]
fn no_clock_makes_the_wait_longer() {
    let proxy = cold(HeaderPause::All);
    let worker = proxy.worker();
    worker.tick();
    let request = worker.send(Request::new());
    proxy.process.set_now(proxy.process.now() - Duration::from_secs(3_600));
    proxy.run(2_000, [&worker]);
    assert_eq!(request.slot().as_deref(), Some("blue"));
}
