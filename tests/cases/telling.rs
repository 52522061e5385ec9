//! Read your own writes: the part of an answer that hands out a new id waits until the fleet has it, and nothing else does.

use colorfast_core::memory::Certainty;
use colorfast_core::settings::{AskWaitMs, TellWaitMs};
use colorfast_core::snapshot::Snapshot;
use wasm_host::{Action, HeaderMap, HeaderPause};

use crate::proxy::{Proxy, Worker};
use crate::releases::{BLUE, GREEN, blue_live, green_live};
use crate::request::{Request, Sent};
use crate::sidecar;

/// How long a part of an answer waits in these cases.
const WAIT_MS: u32 = 20;

/// Answers hand out ids in every kind of source, while two slots hold sessions.
fn telling(mut snapshot: Snapshot) -> Snapshot {
    let settings = &mut snapshot.settings;
    let from = r#"[{"header":"x-new-thread"},{"body":"/id"},{"event":"/response/id"}]"#;
    settings.learn_from = serde_json::from_str(from).unwrap();
    (settings.memory.ask_wait_ms, settings.memory.tell_wait_ms) = (AskWaitMs(WAIT_MS), TellWaitMs(WAIT_MS));
    snapshot.flush = (snapshot.version > 1).then_some(snapshot.version);
    snapshot
}

/// A worker that asks, and a request without an id that has gone to green.
fn begun(proxy: &Proxy) -> (Worker, Sent) {
    let worker = proxy.with(&telling(green_live(2)));
    let sent = worker.send(Request::new());
    assert_eq!(sent.slot().as_deref(), Some("green"));
    (worker, sent)
}

fn headers(content_type: &str, more: &[(&str, &str)]) -> HeaderMap {
    [(":status", "200"), ("content-type", content_type)].iter().chain(more).copied().collect()
}

/// The fleet takes the one word that is out: a fact, of the slot that served.
fn hears(worker: &Worker) {
    let mut asks = sidecar::asks(worker);
    assert_eq!(asks.len(), 1, "words that are out");
    let word = asks.remove(0);
    let (_, said) = word.proposal();
    assert_eq!((said.assignment, said.certainty, word.call.timeout_ms), (GREEN, Certainty::Fact, WAIT_MS));
    word.place(GREEN);
}

/// Kept: headers with a new id wait, whatever the listener makes of a pause; all that comes meanwhile follows behind them.
#[test]
fn headers_with_a_new_id_wait() {
    for pause in [HeaderPause::All, HeaderPause::Headers] {
        let proxy = Proxy::chat().header_pause(pause);
        let (worker, sent) = begun(&proxy);
        let headers = headers("text/plain", &[("x-new-thread", "new")]);
        assert_eq!(sent.stream.response_headers_before_body(headers).unwrap(), Action::Pause);
        let _ = sent.stream.response_body("one ").unwrap();
        let _ = sent.stream.response_body_last("two").unwrap();
        assert!(sent.stream.is_response_paused() && sent.stream.forwarded_response().is_none());
        hears(&worker);
        assert!(!sent.stream.is_response_paused());
        assert_eq!(sent.stream.forwarded_response_body(), b"one two");
        assert_eq!(proxy.count("waits.need.tell.end.met"), 1);
    }
}

/// Kept: of an event stream the piece with the id waits, and what came before it has passed; it is searched once, in
/// whatever pieces it comes.
#[test]
fn the_event_with_a_new_id_waits() {
    let proxy = Proxy::chat();
    let (worker, sent) = begun(&proxy);
    sent.stream.response_headers_before_body(headers("text/event-stream", &[])).unwrap();
    assert_eq!(sent.stream.response_body(": hello\n\n").unwrap(), Action::Continue);
    assert_eq!(sent.stream.response_body("data: {\"response\":{\"id\":\"new\"}}\n\n").unwrap(), Action::Pause);
    assert_eq!(sent.stream.response_body("data: {\"response\":{\"id\":\"other\"}}\n\n").unwrap(), Action::Pause);
    assert_eq!(sent.stream.forwarded_response_body(), b": hello\n\n");
    hears(&worker);
    assert!(!sent.stream.is_response_paused());
    assert_eq!(sent.stream.response_body_last("data: [DONE]\n\n").unwrap(), Action::Continue);
    let whole = ": hello\n\ndata: {\"response\":{\"id\":\"new\"}}\n\ndata: {\"response\":{\"id\":\"other\"}}\n\ndata: [DONE]\n\n";
    assert_eq!(String::from_utf8(sent.stream.forwarded_response_body()).unwrap(), whole);
    assert_eq!(proxy.count("learnt_ids.result.found"), 1);
}

/// Kept, bounded: a document is of no use before its end, so its pieces pass and the last one waits, unless the fleet has the
/// id by then.
#[test]
fn a_document_waits_at_its_end() {
    for heard_before in [true, false] {
        let proxy = Proxy::chat();
        let (worker, sent) = begun(&proxy);
        sent.stream.response_headers_before_body(headers("application/json", &[])).unwrap();
        assert_eq!(sent.stream.response_body(r#"{"id":"new","text":""#).unwrap(), Action::Continue);
        assert_eq!(sent.stream.response_body("x".repeat(2 << 20)).unwrap(), Action::Continue, "however large");
        if heard_before {
            hears(&worker);
            assert_eq!(sent.stream.response_body_last("\"}").unwrap(), Action::Continue);
        } else {
            assert_eq!(sent.stream.response_body_last("\"}").unwrap(), Action::Pause);
            hears(&worker);
        }
        assert!(!sent.stream.is_response_paused());
        assert_eq!(sent.stream.forwarded_response_body().len(), r#"{"id":"new","text":""}"#.len() + (2 << 20));
    }
}

/// Kept: a client that has as many bytes as the headers say has the document, so the piece that makes it whole waits, though
/// the end comes behind it.
#[test]
fn a_document_of_known_length_waits_when_it_is_whole() {
    let proxy = Proxy::chat();
    let (worker, sent) = begun(&proxy);
    let (first, last) = (r#"{"id":"new","#, r#""x":1}"#);
    let length = (first.len() + last.len()).to_string();
    sent.stream.response_headers_before_body(headers("application/json", &[("content-length", &length)])).unwrap();
    assert_eq!(sent.stream.response_body(first).unwrap(), Action::Continue);
    assert_eq!(sent.stream.response_body(last).unwrap(), Action::Pause);
    assert_eq!(sent.stream.response_body_last("").unwrap(), Action::Pause);
    hears(&worker);
    assert!(!sent.stream.is_response_paused());
    assert_eq!(sent.stream.forwarded_response_body(), [first, last].concat().as_bytes());
}

/// Last good: an answer waits for no longer than the word may take, whatever becomes of it, and is whole; so does one of
/// which too much gathers.
#[test]
fn an_answer_goes_on_all_the_same() {
    for (number, end) in ["timeout", "timeout", "large", "no answer at all"].into_iter().enumerate() {
        let proxy = Proxy::chat();
        let (worker, sent) = begun(&proxy);
        worker.tolerate("proxy_get_header_map_value");
        sent.stream.response_headers_before_body(headers("text/event-stream", &[])).unwrap();
        assert_eq!(sent.stream.response_body("data: {\"response\":{\"id\":\"new\"}}\n\n").unwrap(), Action::Pause);
        let word = sidecar::asks(&worker).remove(0);
        match (number, end) {
            (0, _) => word.time_out(),
            (1, _) => word.answer(500, "{}"),
            (2, _) => assert_eq!(sent.stream.response_body("x".repeat(300_000)).unwrap(), Action::Continue),
            _ => proxy.run(u64::from(WAIT_MS) + 1_040, [&worker]),
        }
        assert!(!sent.stream.is_response_paused(), "{end}");
        assert_eq!(sent.stream.response_body_last("\n").unwrap(), Action::Continue);
        let counted = if number == 3 { "timeout" } else { end };
        assert_eq!(proxy.count(&format!("waits.need.tell.end.{counted}")), 1, "{end}");
    }
}

/// Cheap: nothing waits, and nothing is told at once, while one slot alone holds sessions, where the settings say so, or
/// where the id is known.
#[test]
fn nothing_else_waits() {
    let mut at_once = telling(green_live(2));
    at_once.settings.memory.tell_wait_ms = TellWaitMs(0);
    for snapshot in [telling(blue_live(1)), at_once] {
        let worker = Proxy::chat().with(&snapshot);
        let sent = worker.send(Request::new());
        let given = headers("text/plain", &[("x-new-thread", "new")]);
        assert_eq!(sent.stream.response_headers(given).unwrap(), Action::Continue);
        assert!(sidecar::asks(&worker).is_empty());
    }
    let proxy = Proxy::chat();
    let (worker, sent) = begun(&proxy);
    assert_eq!(sent.stream.response_headers(headers("text/plain", &[("x-new-thread", "new")])).unwrap(), Action::Pause);
    hears(&worker);
    let again = worker.send(Request::new().session("new"));
    let given = headers("text/plain", &[("x-new-thread", "new")]);
    assert_eq!(again.stream.response_headers(given).unwrap(), Action::Continue);
}

/// Kept: an answer waits though its request was decided while one slot alone held sessions: asking began meanwhile.
#[test]
fn an_answer_waits_by_the_newest_plan() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&telling(blue_live(1)));
    let sent = worker.send(Request::new());
    worker.hear(&telling(green_live(2)));
    assert_eq!(sent.stream.response_headers(headers("text/plain", &[("x-new-thread", "new")])).unwrap(), Action::Pause);
    sidecar::asks(&worker).remove(0).place(BLUE);
    assert!(!sent.stream.is_response_paused());
}
