//! Requests that begin no session: CORS preflights and HEAD.

use colorfast_core::settings::{AskWaitMs, CookieCarrier, OnBundleGone, RunMint};
use colorfast_core::snapshot::Snapshot;

use crate::proxy::Proxy;
use crate::releases::{BLUE, blue_live, free_pin, green_live, rolled_back};
use crate::request::Request;
use crate::sidecar;

fn asking(mut snapshot: Snapshot) -> Snapshot {
    snapshot.settings.pin.cookie = CookieCarrier::Always;
    snapshot.settings.memory.ask_wait_ms = AskWaitMs(20);
    snapshot.flush = Some(snapshot.version);
    snapshot
}

fn preflight() -> Request {
    let request = Request::new().instead(":method", "OPTIONS").with("origin", "https://page.example.com");
    request.with("access-control-request-method", "POST")
}

/// A thousand preflights and HEADs get no pin and no cookie, are not remembered, and are not proposed to the fleet, whether
/// they show an id or none; they are counted apart.
#[test]
fn they_mint_nothing_and_are_counted_apart() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&asking(blue_live(2)));
    for _ in 0..250 {
        for request in [preflight(), Request::new().instead(":method", "HEAD")] {
            for request in [request.clone(), request.session("alpha")] {
                let sent = worker.send(request);
                assert_eq!(sent.slot().as_deref(), Some("blue"));
                let answer = sent.answered(&[]);
                assert!(!answer.has("x-agent-pin") && !answer.has("set-cookie"));
                sent.stream.finish().unwrap();
            }
        }
    }
    assert!(sidecar::asks(&worker).is_empty());
    assert_eq!(proxy.count("requests_beginning_nothing.kind.preflight"), 500);
    assert_eq!(proxy.count("requests_beginning_nothing.kind.head"), 500);
    worker.hear(&asking(green_live(3)));
    let sent = worker.send(preflight().session("alpha"));
    assert_eq!(sent.decision().as_deref(), Some("hash"), "nothing was remembered");
}

/// Nor does a run begin with them, where one begins with every other request.
#[test]
fn they_begin_no_run() {
    let minting = |mut snapshot: Snapshot| {
        snapshot.settings.runs.mint = RunMint::Always;
        snapshot
    };
    let worker = Proxy::chat().with(&minting(blue_live(2)));
    for (request, begins) in
        [(preflight(), false), (Request::new().instead(":method", "HEAD"), false), (Request::new(), true)]
    {
        assert_eq!(worker.send(request).forwarded().has("baggage"), begins);
    }
}

/// What they carry decides their slot; an OPTIONS that is no preflight is a request as any other.
#[test]
fn what_they_carry_decides() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&green_live(2));
    let pin = free_pin(proxy.process.now(), BLUE);
    for request in [preflight(), Request::new().instead(":method", "HEAD")] {
        let sent = worker.send(request.pin(&pin));
        assert_eq!((sent.slot().as_deref(), sent.decision().as_deref()), (Some("blue"), Some("pin")));
    }
    let plain = worker.send(Request::new().instead(":method", "OPTIONS"));
    assert!(plain.pin().is_some());
}

/// A preflight of a session whose bundle is gone is answered by no policy: its page could not read why.
#[test]
fn a_preflight_is_refused_for_no_session() {
    let proxy = Proxy::chat();
    let refusing = |mut snapshot: Snapshot| {
        snapshot.settings.on_bundle_gone = OnBundleGone::Refuse;
        snapshot
    };
    let worker = proxy.with(&refusing(green_live(2)));
    worker.send(Request::new().session("alpha")).answered(&[]);
    worker.hear(&refusing(rolled_back(3)));
    assert_eq!(worker.send(preflight().session("alpha")).slot().as_deref(), Some("blue"));
    assert_eq!(proxy.count("requests_gone"), 0);
    assert_eq!(worker.send(Request::new().session("alpha")).stream.local_reply().unwrap().status, 409);
}
