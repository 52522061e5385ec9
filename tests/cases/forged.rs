//! What clients send under the names of the proxy.

use colorfast_core::names::{
    HEADER_BUNDLE, HEADER_CLIENT_SENT, HEADER_DECISION, HEADER_PIN, HEADER_PREVIEW, HEADER_SLOT,
};
use colorfast_core::settings::CookieCarrier;
use wasm_host::HeaderMap;

use crate::proxy::Proxy;
use crate::releases::{GREEN, blue_live, free_pin, none_live, split};
use crate::request::Request;

/// Unforgeable: whatever a client sends under the name of a stamp, or of the copy that early mutation makes of it,
/// decides nothing, does not reach the agent, and is counted once a request.
#[test]
fn stamps_of_clients_decide_nothing() {
    let values: [&[u8]; 6] = [b"green", b"", b"\xff\xfe\x80", b"green\tblue", &[b'g'; 20_000], "grün".as_bytes()];
    let names = [HEADER_SLOT, HEADER_BUNDLE, HEADER_DECISION, HEADER_CLIENT_SENT];
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    let mut forged = 0;
    for name in names {
        for value in values {
            for times in [1, 3] {
                let request = (0..times).fold(Request::new().session("alpha"), |request, _| request.with(name, value));
                let sent = worker.send(request);
                let found = (sent.slot(), sent.bundle(), sent.decision());
                assert_eq!(found, (Some("blue".into()), Some("b-1".into()), Some("hash".into())), "{name}");
                assert!(!sent.forwarded().has(HEADER_CLIENT_SENT), "{name}");
                forged += 1;
                assert_eq!(proxy.count("forged_headers"), forged, "{name}");
            }
        }
    }
    let everything = names.iter().fold(Request::new(), |request, name| request.with(name, "green"));
    assert_eq!(worker.send(everything).slot().as_deref(), Some("blue"));
    assert_eq!(proxy.count("forged_headers"), forged + 1, "once a request");
}

/// Unforgeable: a client that claims to be the second pass of its own request is taken for what it is.
#[test]
fn no_client_can_claim_an_earlier_pass() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&split(5, 1));
    let claim =
        Request::new().with(HEADER_SLOT, "green").with(HEADER_BUNDLE, "g-1").with(HEADER_DECISION, "pin").session("a");
    let sent = worker.send(claim);
    assert_eq!((sent.slot().as_deref(), sent.decision().as_deref()), (Some("blue"), Some("hash")));
    let sent = worker.send(Request::new().with(HEADER_CLIENT_SENT, "greeng-1pin").session("a"));
    assert_eq!((sent.slot().as_deref(), sent.decision().as_deref()), (Some("blue"), Some("hash")));
    assert_eq!(proxy.count("forged_headers"), 2);
}

/// Unforgeable: where nothing is live, and nothing is stamped, forged stamps are taken off all the same.
#[test]
fn nothing_forged_passes_where_nothing_is_live() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&none_live(5));
    let names = [HEADER_SLOT, HEADER_BUNDLE, HEADER_DECISION, HEADER_CLIENT_SENT, HEADER_PIN, HEADER_PREVIEW];
    for name in names {
        let sent = worker.send(Request::new().with(name, "green").with(name, b"\xff"));
        assert!(!sent.forwarded().has(name), "{name} reached the agent");
        assert_eq!(sent.slot(), None);
    }
    assert_eq!(proxy.count("forged_headers"), 4, "pins and previews are no stamps");
    assert_eq!(proxy.count("requests_unrouted"), 6);
}

/// Unforgeable: tokens end at the proxy, good ones and bad ones, in whatever number.
#[test]
fn tokens_never_reach_the_agent() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&split(5, 1));
    let pin = free_pin(proxy.process.now(), GREEN);
    let sent = worker.send(Request::new().pin("nonsense").pin(&pin).pin(b"\xff").with(HEADER_PREVIEW, "please"));
    assert_eq!((sent.slot().as_deref(), sent.decision().as_deref()), (Some("green"), Some("pin")));
    assert!(!sent.forwarded().has(HEADER_PIN) && !sent.forwarded().has(HEADER_PREVIEW));
    assert_eq!(proxy.count("tokens_refused.cause.malformed"), 1, "those behind the one that held are not looked at");
    assert_eq!(proxy.count("forged_headers"), 0);
}

/// Cheap: of a great many pins the first few are looked at.
#[test]
fn a_great_many_pins_cost_little() {
    let proxy = Proxy::chat();
    let mut snapshot = blue_live(5);
    snapshot.settings.pin.cookie = CookieCarrier::Always;
    let worker = proxy.with(&snapshot);
    let mut request = Request::new().session("alpha");
    for number in 0..100 {
        request = request.pin(format!("bad-{number}")).cookie(&format!("agent-pin-chat=bad-{number}"));
    }
    let sent = worker.send(request);
    assert_eq!(sent.decision().as_deref(), Some("hash"));
    assert_eq!(proxy.count("tokens_refused.cause.malformed"), 8);
    assert!(!sent.forwarded().has("cookie") && !sent.forwarded().has(HEADER_PIN));
}

/// Unforgeable: pin cookies end at the proxy; other cookies stay, line by line and byte by byte.
#[test]
fn other_cookies_stay_as_they_were() {
    let mut snapshot = blue_live(5);
    snapshot.settings.pin.cookie = CookieCarrier::Always;
    let proxy = Proxy::chat();
    let worker = proxy.with(&snapshot);
    let cases: [(&[&str], &[&str]); 7] = [
        (&["a=1; b=2"], &["a=1; b=2"]),
        (&["a=1;  b=2 ;c"], &["a=1;  b=2 ;c"]),
        (&["agent-pin-chat=x"], &[]),
        (&["a=1; agent-pin-chat=x; b=2"], &["a=1; b=2"]),
        (&["a=1", "agent-pin-chat=x", "b=2"], &["a=1", "b=2"]),
        (&["agent-pin-chat=x; a=1; agent-pin-chat=y", "b=2;c=3"], &["a=1", "b=2;c=3"]),
        (
            &["xagent-pin-chat=x; agent-pin-chatx=y; agent-pin-code=z"],
            &["xagent-pin-chat=x; agent-pin-chatx=y; agent-pin-code=z"],
        ),
    ];
    for (lines, wanted) in cases {
        let sent = worker.send(lines.iter().fold(Request::new(), |request, line| request.cookie(line)));
        let found = sent.forwarded();
        let found: Vec<_> = found.all("cookie").into_iter().map(|line| str::from_utf8(line).unwrap()).collect();
        assert_eq!(found, wanted, "{lines:?}");
    }
    let sent = worker.send(Request::new().with("cookie", b"a=\xff\xfe; agent-pin-chat=\xff"));
    assert_eq!(sent.forwarded().all("cookie"), [b"a=\xff\xfe"]);
}

/// Unforgeable: early mutation does not see trailers, so what stands there under our names ends here, and nothing else.
#[test]
fn trailers_carry_none_of_our_names() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    let stream = worker.stream();
    stream.request_headers_before_body(Request::new().headers()).unwrap();
    stream.request_body("{}").unwrap();
    let ours =
        ["x-agent-slot", "x-agent-bundle", "x-agent-decision", "x-agent-pin", "x-agent-preview", "x-agent-client-sent"];
    let trailers: HeaderMap = ours.into_iter().map(|name| (name, "green")).chain([("x-checksum", "7")]).collect();
    stream.request_trailers(trailers).unwrap();
    assert_eq!(stream.request_trailers_left(), HeaderMap::from([("x-checksum", "7")]));
}
