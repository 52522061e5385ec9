//! What clients send under the names of the proxy.

use std::collections::BTreeMap;

use colorfast_core::names::{
    self, HEADER_BUNDLE, HEADER_CLIENT_SENT, HEADER_DECISION, HEADER_PIN, HEADER_PREVIEW, HEADER_SLOT,
};
use colorfast_core::plugin::{Direction, PluginConfig};
use colorfast_core::settings::CookieCarrier;
use colorfast_core::snapshot::Snapshot;
use colorfast_core::time::UnixSeconds;
use wasm_host::HeaderMap;

use crate::forgery::{self, Meets};
use crate::proxy::Proxy;
use crate::releases::{GREEN, blue_live, free_pin, none_live, split};
use crate::request::{Request, Sent};

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
                let session = Request::new().session(format!("session-{forged}"));
                let request = (0..times).fold(session, |request, _| request.with(name, value));
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
    let sent = worker.send(Request::new().with(HEADER_CLIENT_SENT, "greeng-1pin").session("b"));
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
    assert_eq!(
        proxy.count("tokens_refused.kind.pin.cause.malformed"),
        1,
        "those behind the one that held are not looked at"
    );
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
    assert_eq!(proxy.count("tokens_refused.kind.pin.cause.malformed"), 2 * 16);
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

/// Unforgeable: whatever a client makes up decides nothing and raises its one counter, and no other; see the table.
#[test]
fn forgery_whole() {
    let snapshot: Snapshot = serde_json::from_value(forgery::snapshot()).unwrap();
    let proxy = Proxy::bootstrapped(snapshot);
    proxy.process.set_env(names::ENV_KEYS, &forgery::keys());
    let worker = proxy.worker();
    let now = UnixSeconds(proxy.process.now().as_secs());
    let told = || proxy.counted().into_iter().filter(|(name, _)| name.contains("refused") || name.contains("forged"));
    let mut wanted = BTreeMap::new();
    for row in forgery::rows(now) {
        let what = &row.what;
        let mut request = Request::new().session(forgery::SESSION);
        for (name, value) in &row.headers {
            request = request.with(name, value);
        }
        let sent = Sent::headers_before_body(worker.stream(), request);
        let found = (sent.slot(), sent.bundle(), sent.decision());
        // The session begins with the first row: from then on it is remembered, whatever stands beside its id.
        let rule = if wanted.is_empty() { "hash" } else { "memory" };
        assert_eq!(found, (Some("blue".into()), Some("b-1".into()), Some(rule.into())), "{what}");
        let forwarded = sent.forwarded();
        for header in [HEADER_PIN, HEADER_PREVIEW, HEADER_CLIENT_SENT, "baggage"] {
            assert!(!forwarded.has(header), "{what}: {header} reached the agent");
        }
        if row.meets == Meets::EnvoyDrops {
            assert!(row.headers.iter().all(|(name, _)| forwarded.has(name)), "{what}: none of our names");
        }
        let cookies = forwarded.all("cookie");
        assert!(cookies.iter().all(|line| *line == b"theme=dark"), "{what}: {cookies:?}");
        if !row.trailers.is_empty() {
            sent.stream.request_body("{}").unwrap();
            sent.stream
                .request_trailers(row.trailers.iter().map(|name| (*name, "green")).collect::<HeaderMap>())
                .unwrap();
            assert_eq!(sent.stream.request_trailers_left(), HeaderMap::default(), "{what}");
        }
        if let Some((counter, times)) = row.counter {
            *wanted.entry(counter).or_insert(0) += times;
        }
        assert_eq!(told().collect::<BTreeMap<_, _>>(), wanted, "{what}");
    }
    for (rule, header, token) in forgery::true_tokens(now) {
        let sent = worker.send(Request::new().session(forgery::SESSION).with(header, token));
        assert_eq!((sent.slot().as_deref(), sent.decision().as_deref()), (Some("green"), Some(rule)));
    }
    assert_eq!(told().collect::<BTreeMap<_, _>>(), wanted, "true tokens raise none");
}

/// Stamped: at an egress listener our member is taken out of the baggage, and nothing else is touched or decided.
#[test]
fn run_tokens_end_at_an_egress() {
    let config = PluginConfig { services: Vec::new(), sidecar_cluster: String::new(), direction: Direction::Egress };
    let proxy = Proxy::configured(config);
    let worker = proxy.worker();
    let cases: [(&[&str], &[&str]); 4] = [
        (&[], &[]),
        (&["a=1 ;p, b=2"], &["a=1 ;p, b=2"]),
        (&["a=1 , agent.run=T;p=1,b=2", "agent.run=U"], &["a=1 ,b=2"]),
        (&["agent.run=T"], &[]),
    ];
    for (lines, wanted) in cases {
        let mut request = Request::new().with(HEADER_SLOT, "green").pin("mine").cookie("agent-pin-chat=mine");
        for line in lines {
            request = request.with("baggage", line);
        }
        let sent = worker.send(request.clone());
        let forwarded = sent.forwarded();
        let found: Vec<_> =
            forwarded.all("baggage").iter().map(|line| str::from_utf8(line).unwrap().to_owned()).collect();
        assert_eq!(found, wanted);
        for header in [HEADER_SLOT, HEADER_PIN, "cookie"] {
            assert_eq!(forwarded.all(header), request.headers().all(header), "{header} is none of ours here");
        }
        assert!(!forwarded.has(HEADER_DECISION));
    }
    assert_eq!(proxy.process.counters().values().sum::<u64>(), 0);
}
