//! Session ids in bodies: a request waits for its body where that may name the session, and nowhere else.

use colorfast_core::snapshot::Snapshot;
use colorfast_core::wire::reports::Bodies;
use wasm_host::{Action, HeaderPause};

use crate::proxy::{Proxy, Worker};
use crate::releases::{as_bootstrap, blue_live, split};
use crate::request::{Request, Sent};
use crate::sidecar;

/// Alpha is blue's by its hash, and beta green's; the body comes before the header.
fn by_body() -> Snapshot {
    sources(split(5, 5_000))
}

fn sources(mut snapshot: Snapshot) -> Snapshot {
    let json = r#"[{"cookie":"first"},{"body":"/metadata/thread"},{"body":"/id"},{"header":"x-thread"}]"#;
    snapshot.settings.session_sources = serde_json::from_str(json).unwrap();
    snapshot.settings.body.prefix_bytes = 64;
    snapshot
}

fn flagged() -> Proxy {
    Proxy::chat().header_pause(HeaderPause::Headers)
}

fn post() -> Request {
    Request::new().instead(":method", "POST").with("content-type", "application/json; charset=utf-8")
}

fn begin(worker: &Worker, request: Request) -> Sent {
    Sent::headers_before_body(worker.stream(), request)
}

/// The slot of a request that names its session: placed by it, and remembered from then on.
fn placed(sent: &Sent) -> String {
    let decision = sent.decision().unwrap();
    assert!(["hash", "memory"].contains(&decision.as_str()), "{decision}");
    sent.slot().unwrap()
}

/// Kept: the id is found however the body is cut, the request goes on with it, and the body arrives byte for byte.
#[test]
fn the_body_names_the_session() {
    let document = r#"{"x":[1,"}"],"metadata":{"thread":"be\u0074a"},"id":"alpha"}"#;
    for size in [1, 7, document.len()] {
        let proxy = flagged();
        let worker = proxy.with(&by_body());
        let sent = begin(&worker, post().with("x-thread", "alpha"));
        assert!(sent.waits(), "{size}");
        let chunks: Vec<_> = document.as_bytes().chunks(size).collect();
        let (last, before) = chunks.split_last().unwrap();
        for chunk in before {
            sent.stream.request_body(chunk).unwrap();
        }
        sent.stream.request_body_last(last).unwrap();
        assert_eq!(placed(&sent), "green", "{size}");
        assert_eq!(sent.stream.forwarded_request_body(), document.as_bytes(), "{size}");
        assert_eq!(proxy.count("session_bodies.result.found"), 1, "{size}");
        assert_eq!(proxy.count("waits.need.body.end.met"), 1, "{size}");
    }
}

/// Kept: it goes on as soon as the id is there, without the rest of the body.
#[test]
fn no_more_is_waited_for_than_the_id() {
    let worker = flagged().with(&by_body());
    let sent = begin(&worker, post());
    assert_eq!(sent.stream.request_body(r#"{"metadata":{"thre"#).unwrap(), Action::Pause);
    assert_eq!(sent.stream.request_body(r#"ad":"beta""#).unwrap(), Action::Continue);
    assert_eq!(placed(&sent), "green");
}

/// Kept: a body source that comes later is used where those before it have none, and where the body ends with trailers.
#[test]
fn the_first_source_of_a_body_that_has_an_id_wins() {
    let worker = flagged().with(&by_body());
    let sent = begin(&worker, post().with("x-thread", "alpha"));
    assert_eq!(sent.stream.request_body(r#"{"id":"beta""#).unwrap(), Action::Pause);
    assert_eq!(sent.stream.request_body("}").unwrap(), Action::Continue);
    assert_eq!(placed(&sent), "green");
    // Where nobody has seen the id of the header beside another.
    let worker = flagged().with(&by_body());
    let cut = begin(&worker, post().with("x-thread", "alpha"));
    assert_eq!(cut.stream.request_body(r#"{"id":"be"#).unwrap(), Action::Pause);
    assert_eq!(cut.stream.request_trailers([("x-checksum", "7")]).unwrap(), Action::Continue);
    assert_eq!(placed(&cut), "blue");
}

/// Cheap: nothing waits for a body that does not matter: a source before it has an id, it is no JSON, or there is none.
#[test]
fn nothing_else_waits_for_a_body() {
    let proxy = flagged();
    let worker = proxy.with(&by_body());
    let other = Request::new().instead(":method", "POST").with("x-thread", "beta");
    let cases = [
        (post().cookie("first=beta"), "green", ""),
        (other.clone(), "green", "not_json"),
        (other.clone().with("content-type", "text/plain"), "green", "not_json"),
        (other.with("content-type", "application/json").with("content-encoding", "gzip"), "green", "encoded"),
    ];
    for (request, slot, counted) in cases {
        let before = proxy.count(&format!("session_bodies.result.{counted}"));
        let sent = begin(&worker, request);
        assert!(!sent.waits());
        assert_eq!(placed(&sent), slot);
        assert_eq!(sent.stream.request_body("x".repeat(100)).unwrap(), Action::Continue);
        if !counted.is_empty() {
            assert_eq!(proxy.count(&format!("session_bodies.result.{counted}")), before + 1);
        }
    }
    let without = worker.send(post().with("x-thread", "beta"));
    assert_eq!(placed(&without), "green");
}

/// Bounded: beyond the prefix, past the wait, or where it is no JSON, the next source is taken, and that is counted.
#[test]
fn the_next_source_is_taken() {
    let proxy = flagged();
    let worker = proxy.with(&by_body());
    let beta = || post().with("x-thread", "beta");
    let long = format!(r#"{{"x":"{}","id":"alpha"}}"#, "x".repeat(64));
    for (body, counted) in [(long.as_str(), "over"), ("id=alpha", "malformed"), (r#"{"ids":"alpha"}"#, "missing")] {
        let sent = begin(&worker, beta());
        assert_eq!(sent.stream.request_body_last(body).unwrap(), Action::Continue, "{body}");
        assert_eq!(placed(&sent), "green", "{body}");
        assert_eq!(sent.stream.forwarded_request_body(), body.as_bytes());
        assert_eq!(proxy.count(&format!("session_bodies.result.{counted}")), 1, "{body}");
    }
    let slow = begin(&worker, beta());
    assert_eq!(slow.stream.request_body(r#"{"id":"#).unwrap(), Action::Pause);
    proxy.run(4_900, [&worker]);
    assert!(slow.waits());
    proxy.run(200, [&worker]);
    // It is decided, and goes on with its next piece.
    assert_eq!(proxy.count("session_bodies.result.late"), 1);
    assert_eq!(slow.stream.request_body_last(r#""alpha"}"#).unwrap(), Action::Continue);
    assert_eq!(placed(&slow), "green");
    assert_eq!(slow.stream.forwarded_request_body(), br#"{"id":"alpha"}"#);
    assert_eq!(proxy.count("session_bodies.result.late"), 1);
    assert_eq!(proxy.count("waits.need.body.end.timeout"), 1);
}

/// Kept: where the search ends before a source has its id, the next that has one in the body decides.
#[test]
fn a_later_source_of_the_same_body_is_taken() {
    let proxy = flagged();
    let worker = proxy.with(&by_body());
    let sent = begin(&worker, post().with("x-thread", "alpha"));
    let body = format!(r#"{{"id":"beta","x":"{}","metadata":{{"thread":"alpha"}}}}"#, "x".repeat(64));
    assert_eq!(sent.stream.request_body_last(&body).unwrap(), Action::Continue);
    assert_eq!(placed(&sent), "green");
    assert_eq!(proxy.count("session_bodies.result.found"), 1);
}

/// Bounded: what a worker holds of all bodies is counted exactly, however their requests end. Beyond it the next source
/// decides; where there is room again, bodies are waited for again.
#[test]
fn a_worker_holds_so_much() {
    const MIB: usize = 1 << 20;
    let mut snapshot = by_body();
    (snapshot.settings.body.prefix_bytes, snapshot.settings.body.held_bytes) = (16 << 20, 1 << 20);
    let proxy = flagged();
    let worker = proxy.with(&snapshot);
    let beta = || begin(&worker, post().with("x-thread", "beta"));
    let piece = |size: usize| format!(r#"{{"x":"{}"#, "x".repeat(size - 6));
    let full = || proxy.count("session_bodies.result.full");
    // One holds all that there is, but for a byte; each time it ends another way, and leaves all of it.
    let ends: [fn(&Sent); 5] = [
        |sent| _ = sent.stream.request_body_last(r#""}"#).unwrap(),
        |sent| _ = sent.stream.request_body(r#"","id":"beta""#).unwrap(),
        |sent| _ = sent.stream.request_trailers([("x-checksum", "7")]).unwrap(),
        |sent| sent.stream.finish().unwrap(),
        // Whoever is given up is held by Envoy until the next piece.
        |sent| _ = sent.stream.request_body("x").unwrap(),
    ];
    for (nth, end) in ends.into_iter().enumerate() {
        let (first, second) = (beta(), beta());
        assert_eq!(first.stream.request_body(piece(MIB - 10)).unwrap(), Action::Pause, "{nth}");
        assert_eq!(second.stream.request_body(piece(10)).unwrap(), Action::Pause, "{nth}");
        let before = full();
        // Where there is no room, what comes whole is read all the same.
        let whole = begin(&worker, post());
        assert_eq!(whole.stream.request_body_last(r#"{"id":"alpha","x":1}"#).unwrap(), Action::Continue);
        assert_eq!((placed(&whole).as_str(), full()), ("blue", before));
        let third = beta();
        assert_eq!(third.stream.request_body(piece(7)).unwrap(), Action::Continue, "{nth}");
        assert_eq!((placed(&third).as_str(), full()), ("green", before + 1));
        if nth == 4 {
            proxy.run(5_100, [&worker]);
            let third = beta();
            assert_eq!(third.stream.request_body(piece(7)).unwrap(), Action::Continue);
            assert_eq!(full(), before + 2);
        }
        let before = full();
        end(&first);
        second.stream.finish().unwrap();
        let next = beta();
        assert_eq!(next.stream.request_body(piece(MIB)).unwrap(), Action::Pause, "{nth}");
        next.stream.finish().unwrap();
        assert_eq!(full(), before);
    }
}

/// Cheap: each byte is fetched once, and none once it is known what the body says.
#[test]
fn each_byte_is_fetched_once() {
    let proxy = flagged();
    let mut snapshot = by_body();
    snapshot.settings.body.prefix_bytes = 1 << 20;
    let worker = proxy.with(&snapshot);
    let sent = begin(&worker, post());
    let fetched = || worker.host_calls().get("proxy_get_buffer_bytes").copied().unwrap_or_default();
    let before = fetched();
    for nth in 1..=10 {
        sent.stream.request_body(if nth == 1 { r#"{"x":[0"# } else { ",1" }).unwrap();
        assert_eq!(fetched(), before + nth);
    }
    worker.tick();
    assert_eq!(fetched(), before + 10);
}

/// Kept: a pin that is bound to another session than the body's does not apply, and one of its own does.
#[test]
fn a_pin_is_held_against_the_body() {
    let worker = flagged().with(&by_body());
    let first = begin(&worker, post());
    first.stream.request_body_last(r#"{"id":"alpha"}"#).unwrap();
    let pin = first.answered(&[]).text(colorfast_core::names::HEADER_PIN).unwrap().to_owned();
    for (id, slot, decision) in [("alpha", "blue", "pin"), ("beta", "green", "hash")] {
        let sent = begin(&worker, post().pin(&pin));
        assert!(sent.waits());
        sent.stream.request_body_last(format!(r#"{{"id":"{id}"}}"#)).unwrap();
        assert_eq!((sent.slot().as_deref(), sent.decision().as_deref()), (Some(slot), Some(decision)));
    }
}

/// Kept: a body that comes while its request waits for the first snapshot is read by the settings that this brings.
#[test]
fn a_body_may_come_before_the_settings() {
    let proxy = Proxy::bootstrapped(as_bootstrap(blue_live(0))).header_pause(HeaderPause::Headers);
    let worker = proxy.worker();
    worker.tick();
    let sent = begin(&worker, post());
    assert_eq!(sent.stream.request_body_last(r#"{"id":"beta"}"#).unwrap(), Action::Pause);
    worker.hear(&by_body());
    assert_eq!(placed(&sent), "green");
    assert_eq!(sent.stream.forwarded_request_body(), br#"{"id":"beta"}"#);
}

/// Last good: where the listener lacks the flag that is found out within three requests, none of which waits for long;
/// from then on none waits, and the sidecar is told.
#[test]
fn a_missing_flag_is_found_out() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&by_body());
    let says = || sidecar::reports(&worker).pop().and_then(|report| report.says.hello).expect("a hello").bodies;
    proxy.run(100, [&worker]);
    assert_eq!(says(), Bodies::Read);
    for number in 0..2 {
        let sent = begin(&worker, post().with("x-thread", "beta"));
        assert_eq!(sent.stream.request_body_last(r#"{"id":"alpha"}"#).unwrap(), Action::Held);
        assert!(sent.waits());
        proxy.run(540, [&worker]);
        assert_eq!(placed(&sent), "green", "{number}");
        assert_eq!(sent.stream.forwarded_request_body(), br#"{"id":"alpha"}"#);
    }
    let third = begin(&worker, post().with("x-thread", "beta"));
    assert!(!third.waits());
    assert_eq!(placed(&third), "green");
    assert_eq!(proxy.count("session_bodies.result.late"), 3);
    assert_eq!(worker.log().iter().filter(|line| line.text.contains("allow_on_headers_stop_iteration")).count(), 1);
    proxy.run(16_000, [&worker]);
    assert_eq!(says(), Bodies::Held);
}

/// Kept: a slow client is not taken for a missing flag, and where one body has come others are waited for as long as the
/// settings say.
#[test]
fn a_slow_client_is_no_missing_flag() {
    let proxy = flagged();
    let worker = proxy.with(&by_body());
    for _ in 0..4 {
        let slow = begin(&worker, post().with("x-thread", "beta"));
        proxy.run(540, [&worker]);
        assert!(!slow.waits());
        proxy.wait(40);
        slow.stream.request_body_last(r#"{"id":"alpha"}"#).unwrap();
    }
    let prompt = begin(&worker, post());
    assert!(prompt.waits());
    prompt.stream.request_body_last(r#"{"id":"beta"}"#).unwrap();
    assert_eq!(placed(&prompt), "green");
    let slow = begin(&worker, post());
    proxy.run(4_000, [&worker]);
    assert!(slow.waits());
    slow.stream.request_body_last(r#"{"id":"beta"}"#).unwrap();
    assert_eq!(placed(&slow), "green");
}

/// Cheap: a stream that ends while it waits for its body is forgotten.
#[test]
fn a_stream_may_end_while_it_waits_for_its_body() {
    let proxy = flagged();
    let worker = proxy.with(&by_body());
    let leaves = begin(&worker, post());
    leaves.stream.request_body(r#"{"id":"#).unwrap();
    leaves.stream.finish().unwrap();
    proxy.run(6_000, [&worker]);
    assert_eq!(leaves.stream.forwarded_request(), None);
}
