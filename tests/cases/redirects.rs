//! Internal redirects: the same request comes by a second time, with our stamps on it.
//!
//! Early mutation does not run again, so the stamps stand under their own names; filter state of the request, which no
//! client can set, tells them from a client's.

use colorfast_core::names::{
    HEADER_BUNDLE, HEADER_DECISION, HEADER_ORIGINAL_URL, HEADER_SLOT, PROPERTY_DECIDED, metric,
};
use wasm_host::{HeaderMap, Stream};

use crate::proxy::{Proxy, Worker, hosted};
use crate::releases::{BLUE, GREEN, blue_live, green_live, of_service, rolled_back, split};
use crate::request::{Request, Sent};
use crate::sidecar;

/// Sends what came of the first pass by again, as Envoy does.
fn again(worker: &Worker, first: &Sent) -> Sent {
    let stream = worker.stream();
    stream.offer(&[PROPERTY_DECIDED], first.stream.filter_state(PROPERTY_DECIDED).unwrap());
    let mut headers: HeaderMap = first.forwarded();
    headers.replace(HEADER_ORIGINAL_URL, "http://chat.example.com/turn");
    pass(stream, &headers)
}

fn pass(stream: Stream, headers: &HeaderMap) -> Sent {
    let action = stream.request_headers(headers).unwrap();
    Sent { stream, action }
}

fn stamps(sent: &Sent) -> (Option<String>, Option<String>, Option<String>) {
    (sent.slot(), sent.bundle(), sent.decision())
}

/// Kept: the second pass keeps slot, bundle and decision of the first, counts nothing twice, and hands out its pin.
#[test]
fn the_second_pass_keeps_the_first_decision() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&split(5, 5_000));
    for number in 0..20 {
        let mut request = Request::new();
        if number % 2 == 0 {
            request = request.session(format!("session-{number}"));
        }
        let first = worker.send(request);
        let counted = proxy.counted();
        let second = again(&worker, &first);
        assert_eq!(stamps(&second), stamps(&first));
        assert_eq!(proxy.counted(), counted);
        let slot = second.slot();
        let pin = second.pin().expect("the pin that the first pass owed");
        assert_eq!(pin.assignment, if slot.as_deref() == Some("blue") { BLUE } else { GREEN });
    }
}

/// Kept: a session that its pin keeps stays over a redirect, though the pin was taken off at the first pass.
#[test]
fn a_kept_session_stays_over_a_redirect() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    let pin = worker.send(Request::new()).answered(&[]).get("x-agent-pin").unwrap().to_vec();
    worker.hear(&green_live(6));
    let first = worker.send(Request::new().pin(pin));
    assert_eq!((first.slot().as_deref(), first.decision().as_deref()), (Some("blue"), Some("pin")));
    let second = again(&worker, &first);
    assert_eq!(stamps(&second), stamps(&first));
    assert_eq!(second.pin(), None);
}

/// Kept: a switch between the passes moves the request no more than one after it would.
#[test]
fn a_switch_between_the_passes_moves_nothing() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    let first = worker.send(Request::new());
    worker.hear(&green_live(6));
    assert_eq!(stamps(&again(&worker, &first)), stamps(&first));
}

/// Stamped: where the slot runs another bundle by then, the request is decided anew, and the stamp does not lie.
#[test]
fn a_bundle_that_is_gone_is_not_claimed() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    let first = worker.send(Request::new().session("alpha"));
    let mut snapshot = rolled_back(6);
    snapshot.slots[0].bundle.as_mut().unwrap().id = "b-2".parse().unwrap();
    worker.hear(&snapshot);
    let second = again(&worker, &first);
    assert_eq!(stamps(&second), (Some("blue".into()), Some("b-2".into()), Some("memory".into())));
}

/// Unforgeable: a redirect into another service is that service's to decide, though slots and bundles have the same
/// names there; and one into none takes no stamp along.
#[test]
fn decisions_do_not_cross_services() {
    let proxy = Proxy::of([hosted("chat", "chat.example.com"), hosted("code", "code.example.com")]);
    let worker = proxy.worker();
    worker.tick();
    for snapshot in [green_live(5), of_service("code", blue_live(5))] {
        let polls = sidecar::polls(&worker).into_iter();
        let poll = polls.rev().find(|poll| poll.says.resource_names == [snapshot.service.clone()]);
        poll.expect("a poll for the service").bring(&snapshot);
    }
    let first = worker.send(Request::new().instead(":authority", "chat.example.com").session("alpha"));
    assert_eq!(stamps(&first), (Some("green".into()), Some("g-1".into()), Some("hash".into())));
    let redirected = |host: &str| {
        let stream = worker.stream();
        stream.offer(&[PROPERTY_DECIDED], first.stream.filter_state(PROPERTY_DECIDED).unwrap());
        let mut headers = first.forwarded();
        headers.replace(":authority", host);
        headers.replace(HEADER_ORIGINAL_URL, "http://chat.example.com/turn");
        pass(stream, &headers)
    };
    let second = redirected("code.example.com");
    assert_eq!(stamps(&second), (Some("blue".into()), Some("b-1".into()), Some("hash".into())));
    let nowhere = redirected("other.example.com").forwarded();
    for stamp in [HEADER_SLOT, HEADER_BUNDLE, HEADER_DECISION] {
        assert!(!nowhere.has(stamp), "{stamp} went along");
    }
    for service in ["chat", "code"] {
        let forged = metric::forged_headers(&service.parse().unwrap());
        assert_eq!(proxy.process.counter(&forged), 0, "{service} takes our own stamps for a client's");
    }
}

/// Unforgeable: what a client sends of our names at the first pass is gone at the second.
#[test]
fn a_client_cannot_ride_on_a_redirect() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    let forged = Request::new().with("x-agent-client-sent", "greeng-1pin").with(HEADER_DECISION, "preview");
    let first = worker.send(forged.with(HEADER_SLOT, "green").with(HEADER_BUNDLE, "g-1"));
    let second = again(&worker, &first);
    assert_eq!(stamps(&second), (Some("blue".into()), Some("b-1".into()), Some("random".into())));
    assert_eq!(proxy.count("forged_headers"), 1);
}

/// Kept: the filter asks the proxy, in its root, to keep its state over redirects.
#[test]
fn filter_state_is_declared_for_the_request() {
    let proxy = Proxy::chat();
    let worker = proxy.worker();
    let declared: Vec<_> = worker.foreign_calls();
    let [call] = declared.as_slice() else { panic!("{declared:?}") };
    assert_eq!((call.name.as_str(), call.context), ("declare_property", worker.root().id()));
    // Name, type (string) and life span (the downstream request), as a protobuf message has them.
    let name = PROPERTY_DECIDED;
    let message = [&[0x0a, name.len() as u8], name.as_bytes(), &[0x18, 1, 0x28, 1]].concat();
    assert_eq!(call.arguments, message);
}
