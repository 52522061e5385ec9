//! Ids that the agent hands out in its answers: they name the session that the answer is of from then on.

use colorfast_core::ids::Sid;
use colorfast_core::keys::SidHasher;
use colorfast_core::memory::Remembered;
use colorfast_core::names;
use colorfast_core::snapshot::Snapshot;
use wasm_host::{Action, HeaderMap};

use crate::proxy::{Proxy, Worker};
use crate::releases::{BLUE, blue_live, green_live, keys, rolled_back};
use crate::request::{Request, Sent};
use crate::sidecar;

/// A request names its session by `x-thread`; answers hand out ids in every kind of source.
fn learning(mut snapshot: Snapshot) -> Snapshot {
    let settings = &mut snapshot.settings;
    settings.session_sources = serde_json::from_str(r#"[{"header":"x-thread"}]"#).unwrap();
    let from = r#"[{"header":"x-new-thread"},{"body":"/id"},{"body":"/thread/name"},{"event":"/response/id"}]"#;
    settings.learn_from = serde_json::from_str(from).unwrap();
    settings.body.prefix_bytes = 256;
    snapshot
}

fn thread(id: &str) -> Request {
    Request::new().with("x-thread", id)
}

fn sid(id: &str) -> Sid {
    SidHasher::new(&keys(&[1]).sid).sid(id.as_bytes())
}

/// The answer begins: of this type, with these headers more.
fn answers(sent: &Sent, content_type: &str, more: &[(&str, &str)]) {
    let own = [(":status", "200"), ("content-type", content_type)];
    let headers: HeaderMap = own.iter().chain(more).copied().collect();
    assert_eq!(sent.stream.response_headers_before_body(headers).unwrap(), Action::Continue);
}

/// Its body comes in pieces of so many bytes, and goes to the client byte for byte.
fn says(sent: &Sent, body: &[u8], size: usize) {
    for piece in body.chunks(size) {
        assert_eq!(sent.stream.response_body(piece).unwrap(), Action::Continue);
    }
    assert_eq!(sent.stream.response_body_last("").unwrap(), Action::Continue);
    assert_eq!(sent.stream.forwarded_response_body(), body);
}

fn went(worker: &Worker, id: &str) -> (Option<String>, Option<String>) {
    let sent = worker.send(thread(id));
    let found = (sent.slot(), sent.decision());
    sent.stream.finish().unwrap();
    found
}

fn to(slot: &str, rule: &str) -> (Option<String>, Option<String>) {
    (Some(slot.to_owned()), Some(rule.to_owned()))
}

const EVENTS: &str = ": hello\n\nevent: ping\ndata: {\"id\":\"no\"}\n\nevent: response.created\r\ndata: {\"type\":\"x\",\r\ndata:\"response\":{\"id\":\"new\"}}\r\n\r\ndata: [DONE]\n\n";

/// Kept: an id that the agent hands out holds the bundle that made it through a switch, by whichever source it comes and
/// however the body is cut.
#[test]
fn ids_of_answers_are_learnt() {
    type Answer = (&'static str, &'static [(&'static str, &'static str)], &'static str);
    let answers_given: [Answer; 5] = [
        ("application/json", &[("x-new-thread", "new")], "{}"),
        ("application/json", &[], r#"{"x":1,"id":"new"}"#),
        ("application/vnd.agent+json; charset=utf-8", &[], r#"{"thread":{"name":"new"}}"#),
        ("text/event-stream", &[], EVENTS),
        ("text/event-stream", &[("content-encoding", "identity")], EVENTS),
    ];
    for (content_type, headers, body) in answers_given {
        for size in [1, 7, 4096] {
            let proxy = Proxy::chat();
            let [leader, other] = proxy.workers();
            leader.tick();
            leader.hear(&learning(blue_live(1)));
            let sent = leader.send(Request::new());
            answers(&sent, content_type, headers);
            says(&sent, body.as_bytes(), size);
            leader.hear(&learning(green_live(2)));
            assert_eq!(went(&other, "new"), to("blue", "memory"), "{content_type} {size}");
            assert_eq!(went(&other, "no"), to("green", "hash"), "{content_type} {size}");
            assert_eq!(proxy.count("learnt_ids.result.found"), 1);
            leader.hear(&learning(rolled_back(3)));
            assert_eq!(went(&other, "no"), to("blue", "hash"));
        }
    }
}

/// Kept: an application's cookie that comes only on the third answer names the session that was begun before, whether its
/// client echoes the pin or nothing; at the other worker, at once after a switch, by the cookie alone. It is one session.
#[test]
fn a_cookie_that_comes_late_names_the_session_from_then_on() {
    for echoes_the_pin in [true, false] {
        let proxy = Proxy::chat();
        let [leader, other] = proxy.workers();
        let late = |mut snapshot: Snapshot| {
            snapshot.settings.session_sources = serde_json::from_str(r#"[{"cookie":"JSESSIONID"}]"#).unwrap();
            snapshot.settings.learn_from = serde_json::from_str(r#"[{"cookie":"JSESSIONID"}]"#).unwrap();
            snapshot
        };
        leader.tick();
        leader.hear(&late(blue_live(1)));
        let mut pin = None;
        for turn in 1..=3 {
            let request = pin.iter().fold(Request::new(), |request, pin: &String| request.pin(pin));
            let sent = leader.send(request);
            let more: &[(&str, &str)] = if turn == 3 {
                &[("set-cookie", "theme=dark"), ("set-cookie", "JSESSIONID=7F; Path=/; HttpOnly")]
            } else {
                &[]
            };
            let answer = sent.answered(more);
            let issued = answer.text(names::HEADER_PIN).map(str::to_owned);
            pin = issued.filter(|_| echoes_the_pin).or(pin);
        }
        leader.hear(&late(green_live(2)));
        let went = |request: Request| {
            let sent = other.send(request);
            let found = (sent.slot(), sent.decision());
            sent.stream.finish().unwrap();
            found
        };
        assert_eq!(went(Request::new().with("cookie", "theme=dark; JSESSIONID=7F")), to("blue", "memory"));
        assert_eq!(went(Request::new().with("cookie", "JSESSIONID=8A")), to("green", "hash"));
        if let Some(pin) = pin {
            assert_eq!(went(Request::new().with("cookie", "JSESSIONID=7F").pin(pin)), to("blue", "pin"));
        }
        assert_eq!(proxy.count("learnt_ids.result.found"), 1);
    }
}

/// Kept: the id is known as soon as the piece with it has passed, before the answer ends.
#[test]
fn an_id_is_known_before_the_answer_ends() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&learning(blue_live(1)));
    let sent = worker.send(Request::new());
    answers(&sent, "text/event-stream", &[]);
    sent.stream.response_body(&EVENTS[..EVENTS.len() - 16]).unwrap();
    worker.hear(&learning(green_live(2)));
    assert_eq!(went(&worker, "new"), to("blue", "memory"));
}

/// Accounted: an id that was learnt in a session is its alias: the same sid, the same beginning; so the sidecar counts
/// one session, and the fleet hears of it at the next tick.
#[test]
fn an_alias_is_the_same_session() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&learning(blue_live(1)));
    worker.tick();
    let mut told: Vec<(Sid, Remembered)> = Vec::new();
    let mut hear = || {
        let report = sidecar::reports(&worker).remove(0);
        let sequence = report.says.sequence;
        told.extend(report.says.sessions.iter().flat_map(|sessions| sessions.records.sessions().unwrap()));
        report.answer(200, format!(r#"{{"acknowledged":{sequence}}}"#));
    };
    hear();
    let began = worker.now().as_secs();
    worker.send(thread("first")).answered(&[]);
    proxy.wait(5_000);
    let again = worker.send(thread("first"));
    answers(&again, "application/json", &[]);
    says(&again, br#"{"id":"second"}"#, 4096);
    proxy.wait(20);
    worker.tick();
    hear();
    let of = |id: &str| told.iter().find(|(known, _)| *known == sid(id)).map(|(_, session)| *session);
    let (first, second) = (of("first").unwrap(), of("second").unwrap());
    assert_eq!((second.sid, second.began, second.assignment), (first.sid, first.began, BLUE));
    assert_eq!((second.sid, second.began.0), (sid("first"), began));
    assert!(second.seen.0 > began);
}

/// Bounded: only the beginning of an answer is read; what is encoded, is no success, may be shared, or is of Envoy itself
/// teaches nothing. All of it passes.
#[test]
fn other_answers_teach_nothing() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&learning(blue_live(1)));
    let long = format!(r#"{{"x":"{}","id":"new"}}"#, "x".repeat(256));
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);
    let cases: [Case; 7] = [
        ("application/json", &[], &long, "over"),
        ("application/json", &[], r#"{"ids":"new"}"#, "missing"),
        ("application/json", &[], r#"{"id":"ne"#, "missing"),
        ("application/json", &[], "id=new", "missing"),
        ("text/event-stream", &[], "data: {\"response\":{\"id\":\"a\n\n", "missing"),
        ("application/json", &[("content-encoding", "gzip")], r#"{"id":"new"}"#, "encoded"),
        ("application/json", &[("cache-control", "public")], r#"{"id":"new"}"#, ""),
    ];
    for (content_type, headers, body, counted) in cases {
        let before = proxy.count(&format!("learnt_ids.result.{counted}"));
        let sent = worker.send(Request::new());
        answers(&sent, content_type, headers);
        says(&sent, body.as_bytes(), 100);
        if !counted.is_empty() {
            assert_eq!(proxy.count(&format!("learnt_ids.result.{counted}")), before + 1, "{body}");
        }
    }
    let failed = worker.send(Request::new());
    let headers: HeaderMap = [(":status", "404"), ("content-type", "application/json")].into_iter().collect();
    failed.stream.response_headers_before_body(headers).unwrap();
    says(&failed, br#"{"id":"new"}"#, 100);
    let of_envoy = worker.send(Request::new());
    of_envoy.stream.proxy_reply("route_not_found", [(":status", "200"), ("x-new-thread", "new")]).unwrap();
    worker.hear(&learning(green_live(2)));
    assert_eq!(went(&worker, "new"), to("green", "hash"));
    assert_eq!(proxy.count("learnt_ids.result.found"), 0);
}

/// Kept: an id that an agent has handed out in one session stays that one's, whatever answer of another says it; and a fact
/// beats a guess: one that was only placed by its hash is the session's in which an agent hands it out.
#[test]
fn an_id_of_another_session_is_left_alone() {
    for handed_out in [true, false] {
        let proxy = Proxy::chat();
        let worker = proxy.with(&learning(blue_live(1)));
        match handed_out {
            true => {
                let sent = worker.send(thread("one"));
                answers(&sent, "application/json", &[]);
                says(&sent, br#"{"id":"taken"}"#, 4096);
            }
            false => drop(worker.send(thread("taken")).answered(&[])),
        }
        worker.hear(&learning(green_live(2)));
        let sent = worker.send(thread("another"));
        answers(&sent, "application/json", &[]);
        says(&sent, br#"{"id":"taken"}"#, 4096);
        let slot = if handed_out { "blue" } else { "green" };
        assert_eq!(went(&worker, "taken"), to(slot, "memory"));
    }
}
