//! Two colorfast filters in one filter chain: the second sees a request that the first has stamped.

use colorfast_core::names::{HEADER_ORIGINAL_URL, PROPERTY_DECIDED, PROPERTY_PASSED};
use colorfast_core::wire::reports::Chain;
use wasm_host::HeaderMap;

use crate::proxy::{Proxy, Worker, configured};
use crate::releases::{blue_live, green_live, of_service};
use crate::request::{Request, Sent};
use crate::sidecar;

/// The request goes on to the second filter, with the filter state that the first has set.
fn next(second: &Worker, first: &Sent, headers: HeaderMap) -> Sent {
    let stream = second.stream();
    for name in [PROPERTY_DECIDED, PROPERTY_PASSED] {
        if let Some(state) = first.stream.filter_state(name) {
            stream.offer(&[name], state);
        }
    }
    let action = stream.request_headers(&headers).unwrap();
    Sent { stream, action }
}

/// Nothing of the request was changed, and nothing of its answer will be.
fn assert_untouched(sent: &Sent, headers: &HeaderMap) {
    assert_eq!(sent.forwarded(), *headers);
    assert!(sent.stream.filter_states().is_empty(), "{:?}", sent.stream.filter_states());
    assert_eq!(sent.pin(), None);
}

fn says(worker: &Worker) -> Chain {
    sidecar::reports(worker).pop().and_then(|report| report.says.hello).expect("a hello").chain
}

/// Stamped: what the first filter decided stands: the second stamps nothing, hands out no pin and decides nothing. It
/// counts, says so once, and tells the sidecar.
#[test]
fn the_first_filter_decides() {
    let proxy = Proxy::chat();
    let [first, second] = proxy.workers();
    first.tick();
    first.hear(&blue_live(5));
    second.tick();
    assert_eq!(says(&second), Chain::Single);
    for number in 1..=3 {
        let sent = first.send(Request::new().session("alpha"));
        let counted = proxy.count("requests.slot.blue.decision.hash");
        let headers = sent.forwarded();
        assert_untouched(&next(&second, &sent, headers.clone()), &headers);
        assert_eq!(proxy.count("requests.slot.blue.decision.hash"), counted, "the first alone counts it");
        assert_eq!(proxy.count("doubled"), number);
    }
    assert_eq!(proxy.count("forged_headers"), 0);
    let told = second.log().iter().filter(|line| line.text.contains("twice in a filter chain")).count();
    assert_eq!(told, 1);
    proxy.run(16_000, [&first, &second]);
    assert_eq!((says(&first), says(&second)), (Chain::Single, Chain::Doubled));
}

/// Stamped: so it is where the second filter serves another service, one that would take the request.
#[test]
fn another_service_does_not_decide_again() {
    let proxy = Proxy::chat();
    let other = Proxy::of([configured("code", None)]).on(proxy.process.clone());
    let first = proxy.with(&blue_live(5));
    let second = other.worker();
    second.tick();
    second.poll().bring(&of_service("code", green_live(5)));
    let sent = first.send(Request::new().session("alpha"));
    let headers = sent.forwarded();
    assert_untouched(&next(&second, &sent, headers.clone()), &headers);
    assert_eq!(proxy.process.counter("colorfast.service.code.doubled"), 1);
}

/// Stamped: and where it serves none that takes the request, no stamp is taken off for that.
#[test]
fn a_second_filter_without_a_match_takes_nothing_off() {
    let proxy = Proxy::chat();
    let elsewhere = Proxy::of([crate::proxy::hosted("chat", "elsewhere.example.com")]).on(proxy.process.clone());
    let first = proxy.with(&blue_live(5));
    let second = elsewhere.worker();
    second.tick();
    let sent = first.send(Request::new().session("alpha"));
    let headers = sent.forwarded();
    assert_untouched(&next(&second, &sent, headers.clone()), &headers);
}

/// Unforgeable: a client that sends the mark of a redirect does not make the second filter decide.
#[test]
fn the_mark_of_a_redirect_cannot_be_forged() {
    let proxy = Proxy::chat();
    let other = Proxy::of([configured("code", None)]).on(proxy.process.clone());
    let first = proxy.with(&blue_live(5));
    let second = other.worker();
    second.tick();
    second.poll().bring(&of_service("code", green_live(5)));
    let sent = first.send(Request::new().session("alpha").with(HEADER_ORIGINAL_URL, "http://chat.example.com/"));
    assert_eq!(sent.bundle().as_deref(), Some("b-1"));
    let headers = sent.forwarded();
    assert_untouched(&next(&second, &sent, headers.clone()), &headers);
}

/// Kept: a request that is redirected is decided once by each chain that it comes through, and by its first filter.
#[test]
fn a_redirect_is_no_second_filter() {
    let proxy = Proxy::chat();
    let [first, second] = proxy.workers();
    first.tick();
    first.hear(&blue_live(5));
    let sent = first.send(Request::new().session("alpha"));
    assert_eq!(sent.stream.filter_state(PROPERTY_PASSED), None, "an ordinary request pays nothing");
    // What a redirect keeps: the declared state and the headers, with Envoy's mark.
    let stream = first.stream();
    stream.offer(&[PROPERTY_DECIDED], sent.stream.filter_state(PROPERTY_DECIDED).unwrap());
    let mut headers = sent.forwarded();
    headers.replace(HEADER_ORIGINAL_URL, "http://chat.example.com/turn");
    let action = stream.request_headers(&headers).unwrap();
    let again = Sent { stream, action };
    assert_eq!((again.slot(), again.decision()), (sent.slot(), sent.decision()));
    assert_eq!(proxy.count("doubled"), 0);
    let headers = again.forwarded();
    assert_untouched(&next(&second, &again, headers.clone()), &headers);
    assert_eq!(proxy.count("doubled"), 1);
}
