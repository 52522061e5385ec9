//! Envelopes: the pin rides inside the session id that the agent issues, and the agent sees its own id alone.

use colorfast_core::envelope;
use colorfast_core::names::HEADER_MCP_SESSION;
use colorfast_core::settings::{CookieCarrier, HeaderCarrier, OnBundleGone};
use colorfast_core::snapshot::Snapshot;
use wasm_host::HeaderMap;

use crate::proxy::{Proxy, Worker};
use crate::releases::{blue_live, green_live, rolled_back, signer};
use crate::request::{Request, Sent};

/// No other carrier: neither pin header nor cookie.
fn alone(mut snapshot: Snapshot) -> Snapshot {
    snapshot.settings.pin.header = HeaderCarrier::Never;
    snapshot.settings.pin.cookie = CookieCarrier::Never;
    snapshot.settings.session_sources = Vec::new();
    snapshot
}

/// Where the settings have sessions begin anew.
fn anew(mut snapshot: Snapshot) -> Snapshot {
    snapshot.settings.on_bundle_gone = OnBundleGone::New;
    alone(snapshot)
}

/// The session id that the client gets for that of the agent.
fn issued(sent: &Sent, id: &str) -> String {
    let answer = sent.answered(&[(HEADER_MCP_SESSION, id)]);
    assert_eq!(answer.all(HEADER_MCP_SESSION).len(), 1);
    answer.text(HEADER_MCP_SESSION).unwrap().to_owned()
}

fn turn(id: impl AsRef<[u8]>) -> Request {
    Request::new().with(HEADER_MCP_SESSION, id)
}

/// Where a request goes and by which rule, and the session id that the agent sees.
fn goes(worker: &Worker, request: Request) -> (String, String, String) {
    let sent = worker.send(request);
    let seen = sent.forwarded().text(HEADER_MCP_SESSION).unwrap().to_owned();
    let found = (sent.slot().unwrap(), sent.decision().unwrap(), seen);
    sent.answered(&[]);
    sent.stream.finish().unwrap();
    found
}

fn to(slot: &str, rule: &str, id: &str) -> (String, String, String) {
    (slot.to_owned(), rule.to_owned(), id.to_owned())
}

/// Kept: a client that can do nothing but echo the id stays on its bundle, here and at a proxy that never saw it; the
/// agent gets exactly its own id.
#[test]
fn the_envelope_holds_the_session() {
    let (here, there) = (Proxy::chat(), Proxy::chat());
    let (first, second) = (here.with(&alone(blue_live(1))), there.with(&alone(blue_live(1))));
    let begun = first.send(Request::new());
    let envelope = issued(&begun, "agents-own-id");
    let (id, pin) = envelope::open(envelope.as_bytes()).unwrap();
    assert_eq!(id, b"agents-own-id");
    assert!(signer("chat").read(pin).is_ok());
    first.hear(&alone(green_live(2)));
    second.hear(&alone(green_live(2)));
    assert_eq!(goes(&first, turn(&envelope)), to("blue", "memory", "agents-own-id"));
    assert_eq!(goes(&second, turn(&envelope)), to("blue", "pin", "agents-own-id"));
    assert_eq!(goes(&second, turn(&envelope)), to("blue", "memory", "agents-own-id"));
    let again = first.send(turn(&envelope));
    assert_eq!(envelope::open(issued(&again, "agents-own-id").as_bytes()).unwrap().0, b"agents-own-id");
}

/// Kept: after a break, where the settings have it begin anew, the client goes on with its first value; where its session went is known under the agent's id.
#[test]
fn after_a_break_memory_goes_on() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&anew(green_live(1)));
    let envelope = issued(&worker.send(Request::new()), "inner");
    worker.hear(&anew(rolled_back(2)));
    assert_eq!(goes(&worker, turn(&envelope)), to("blue", "hash", "inner"));
    assert_eq!(proxy.count("tokens_refused.kind.pin.cause.broken"), 1);
    assert_eq!(goes(&worker, turn(&envelope)), to("blue", "memory", "inner"));
}

/// Kept: the pin of an envelope is as old as its session, so only memory says whether that is idle; max-age holds.
#[test]
fn an_envelope_is_never_refreshed_and_ends_with_max_age() {
    let aged = |mut snapshot: Snapshot| {
        (snapshot.settings.pin.idle_timeout_seconds, snapshot.settings.pin.max_age_seconds) = (100, 1_000);
        alone(snapshot)
    };
    let (here, there) = (Proxy::chat(), Proxy::chat());
    let (worker, other) = (here.with(&aged(blue_live(1))), there.with(&aged(blue_live(1))));
    let envelope = issued(&worker.send(Request::new()), "inner");
    for _ in 0..3 {
        [&here, &there].iter().for_each(|proxy| proxy.wait(90_000));
        assert_eq!(goes(&worker, turn(&envelope)).1, "memory");
    }
    assert_eq!(goes(&other, turn(&envelope)).1, "pin");
    [&here, &there].iter().for_each(|proxy| proxy.wait(731_000));
    worker.hear(&aged(green_live(2)));
    assert_eq!(worker.send(turn(&envelope)).stream.local_reply().map(|reply| reply.status), Some(404));
    assert_eq!(here.count("tokens_refused.kind.pin.cause.expired"), 1);
}

/// Kept: unless the settings say otherwise a dead envelope is answered 404, as MCP has it, and nothing reaches the agent: a GET
/// that would have a stream replayed as little.
#[test]
fn a_dead_envelope_is_told() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&alone(green_live(1)));
    let envelope = issued(&worker.send(Request::new()), "inner");
    assert_eq!(goes(&worker, turn(&envelope)).0, "green");
    worker.hear(&alone(rolled_back(2)));
    for request in [turn(&envelope), turn(&envelope).with("last-event-id", "7")] {
        let sent = worker.send(request);
        let answer = sent.stream.local_reply().expect("an answer");
        assert_eq!(answer.status, 404);
        assert!(String::from_utf8_lossy(&answer.body).contains("urn:colorfast:problem:session-ended"));
    }
    assert_eq!(proxy.count("requests_ended"), 2);
    assert_eq!(goes(&worker, turn("a plain one")), to("blue", "hash", "a plain one"));
}

/// Kept: an envelope is what verifies. An id that merely looks like one, and one that was altered or cut, is the agent's own
/// and reaches it untouched; the forgery is counted. A pin that verifies never reaches the agent, not even without an id.
#[test]
fn an_envelope_is_what_verifies() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&alone(green_live(1)));
    let envelope = issued(&worker.send(Request::new()), "inner");
    let (cut, pin) = (&envelope[..envelope.len() - 1], &envelope["inner".len()..]);
    let altered = [&envelope[..envelope.len() - 1], if envelope.ends_with('A') { "B" } else { "A" }].concat();
    let alike = format!("x~{}", "a".repeat(58));
    for (id, counted) in [(alike.as_str(), 0), (cut, 0), (altered.as_str(), 1)] {
        assert_eq!(goes(&worker, turn(id)), to("green", "hash", id));
        assert_eq!(proxy.count("tokens_refused.kind.pin.cause.bad_mac"), counted, "{id}");
    }
    let sent = worker.send(turn(pin));
    assert_eq!((sent.slot().as_deref(), sent.decision().as_deref()), (Some("green"), Some("pin")));
    assert!(!sent.forwarded().has(HEADER_MCP_SESSION), "nothing is left of it");
}

/// Kept: sessions of one id, as agents with `default` or a counter have them, each stay where their own envelope says,
/// whatever is remembered under that id.
#[test]
fn ids_of_agents_need_not_be_unique() {
    let (here, there) = (Proxy::chat(), Proxy::chat());
    let (first, second) = (here.with(&alone(blue_live(1))), there.with(&alone(blue_live(1))));
    let old: Vec<_> = (0..10).map(|_| issued(&first.send(Request::new()), "default")).collect();
    [&first, &second].into_iter().for_each(|worker| worker.hear(&alone(green_live(2))));
    let new: Vec<_> = (0..10).map(|_| issued(&first.send(Request::new()), "default")).collect();
    for _ in 0..2 {
        for (envelopes, slot) in [(&old, "blue"), (&new, "green")] {
            for envelope in envelopes {
                for worker in [&first, &second] {
                    let (found, _, id) = goes(worker, turn(envelope));
                    assert_eq!((&*found, &*id), (slot, "default"));
                }
            }
        }
    }
}

/// Kept: an id near the limit of headers is left alone, and counted.
#[test]
fn a_long_id_is_left_alone() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&alone(blue_live(1)));
    let long = "x".repeat(4_090);
    assert_eq!(issued(&worker.send(Request::new()), &long), long);
    assert_eq!(proxy.count("envelopes_refused"), 1);
    worker.hear(&alone(green_live(2)));
    assert_eq!(goes(&worker, turn(&long)), to("blue", "memory", &long));
}

/// Kept: what shared caches may keep, and what is no success, is handed out as it is.
#[test]
fn no_envelope_where_others_may_read_it() {
    let worker = Proxy::chat().with(&alone(blue_live(1)));
    let shared = worker.send(Request::new()).answered(&[("cache-control", "public"), (HEADER_MCP_SESSION, "own")]);
    assert_eq!(shared.text(HEADER_MCP_SESSION), Some("own"));
    let sent = worker.send(Request::new());
    let headers: HeaderMap = [(":status", "400"), (HEADER_MCP_SESSION, "own")].into_iter().collect();
    sent.stream.response_headers(headers).unwrap();
    assert_eq!(sent.stream.forwarded_response().unwrap().text(HEADER_MCP_SESSION), Some("own"));
}
