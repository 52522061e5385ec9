//! Several services behind one listener.

use colorfast_core::names::{HEADER_BUNDLE, HEADER_CLIENT_SENT, HEADER_PIN, HEADER_SLOT, metric};
use wasm_host::{Action, HeaderMap};

use crate::proxy::{Proxy, Worker, hosted};
use crate::releases::{blue_live, green_live, numbered, of_service, service, signer};
use crate::request::Request;
use crate::sidecar;

fn two() -> Proxy {
    Proxy::of([hosted("chat", "chat.example.com"), hosted("code", "*.code.example.com")])
}

fn to(host: &str) -> Request {
    Request::new().instead(":authority", host)
}

/// Brings a snapshot to the poll of its service.
fn bring(worker: &Worker, snapshot: &colorfast_core::snapshot::Snapshot) {
    let polls = sidecar::polls(worker).into_iter();
    let poll = polls.rev().find(|poll| poll.says.resource_names == [snapshot.service.clone()]);
    poll.expect("a poll for the service").bring(snapshot);
}

/// Atomic: each service has a poll, a snapshot and a flip of its own.
#[test]
fn each_service_flips_alone() {
    let proxy = two();
    let [worker, other] = proxy.workers();
    worker.tick();
    assert_eq!(worker.poll_count(), 2);
    bring(&worker, &blue_live(5));
    bring(&worker, &of_service("code", numbered(3)));
    let serves = |host: &str| {
        let bundles = [&worker, &other].map(|worker| worker.send(to(host)).bundle());
        assert_eq!(bundles[0], bundles[1]);
        bundles[0].clone().unwrap()
    };
    assert_eq!((serves("chat.example.com"), serves("eu.code.example.com")), ("b-1".into(), "v3".into()));
    bring(&worker, &green_live(6));
    assert_eq!((serves("chat.example.com"), serves("eu.code.example.com")), ("g-1".into(), "v3".into()));
    bring(&worker, &of_service("code", numbered(4)));
    assert_eq!((serves("chat.example.com"), serves("eu.code.example.com")), ("g-1".into(), "v4".into()));
    let slot = "blue".parse().unwrap();
    assert_eq!(proxy.process.counter(&metric::requests(&service("code"), &slot, "random")), 6);
}

/// Unforgeable: a pin of one service is nothing to another, though their keys were the same.
#[test]
fn pins_do_not_cross_services() {
    let proxy = two();
    let worker = proxy.worker();
    worker.tick();
    bring(&worker, &blue_live(5));
    bring(&worker, &of_service("code", blue_live(3)));
    let answer = worker.send(to("eu.code.example.com")).answered(&[]);
    let pin = answer.get(HEADER_PIN).unwrap();
    assert!(signer("code").read(pin).is_ok());
    let sent = worker.send(to("chat.example.com").pin(pin));
    assert_eq!(sent.decision().as_deref(), Some("random"));
    assert_eq!(proxy.count("tokens_refused.kind.pin.cause.bad_mac"), 1);
}

/// Kept: a request of no service passes untouched, whatever it carries, and so does its answer.
#[test]
fn requests_of_no_service_pass_untouched() {
    let proxy = two();
    let worker = proxy.worker();
    worker.tick();
    bring(&worker, &blue_live(5));
    for host in ["other.example.com", "code.example.com", ""] {
        let request = to(host)
            .session("alpha")
            .pin("x")
            .cookie("agent-pin-chat=x")
            .with(HEADER_SLOT, "green")
            .with(HEADER_BUNDLE, b"\xff")
            .with(HEADER_CLIENT_SENT, "green");
        let sent = worker.send(request.clone());
        assert_eq!(sent.action, Action::Continue, "{host}");
        assert_eq!(sent.stream.forwarded_request().as_ref(), Some(request.headers()), "{host}");
        assert!(sent.stream.filter_states().is_empty(), "{host}");
        assert_eq!(sent.stream.route_cache_clears(), 0, "{host}");
        let answer = sent.answered(&[("x-agent", "yes")]);
        assert_eq!(answer, HeaderMap::from([(":status", "200"), ("x-agent", "yes")]), "{host}");
    }
    assert_eq!(proxy.counted(), []);
}

/// Last good: a service that the sidecar does not know leaves the other one alone.
#[test]
fn one_service_fails_alone() {
    let proxy = two();
    let worker = proxy.worker();
    worker.tick();
    for poll in sidecar::polls(&worker) {
        if poll.says.resource_names == [service("code")] {
            poll.answer(404, "no such service");
        } else {
            poll.bring(&blue_live(5));
        }
    }
    proxy.run(2_000, [&worker]);
    assert_eq!(worker.send(to("chat.example.com")).bundle().as_deref(), Some("b-1"));
    assert_eq!(worker.send(to("eu.code.example.com")).bundle(), None);
}
