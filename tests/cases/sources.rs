//! Where session ids come from, and how sessions are shared out among slots.

use colorfast_core::settings::SessionSource;
use wasm_host::Process;

use crate::proxy::{Proxy, Worker};
use crate::releases::split;
use crate::request::Request;

/// Kept: the first source that has an id wins, an empty one has none, and the agent gets what the client sent.
#[test]
fn the_first_source_that_has_an_id_wins() {
    let mut snapshot = split(5, 5_000);
    snapshot.settings.session_sources = vec![
        SessionSource::Header("mcp-session-id".parse().unwrap()),
        SessionSource::Cookie("conversation".parse().unwrap()),
        SessionSource::Header("x-thread".parse().unwrap()),
    ];
    // With half of the weight each, alpha is blue's by its hash, and beta green's.
    type Headers = &'static [(&'static str, &'static str)];
    let cases: [(Headers, &str, &str); 8] = [
        (&[("mcp-session-id", "alpha"), ("cookie", "conversation=beta"), ("x-thread", "beta")], "hash", "blue"),
        (&[("x-thread", "beta"), ("cookie", "conversation=beta"), ("mcp-session-id", "alpha")], "hash", "blue"),
        (&[("cookie", "theme=dark; conversation=beta"), ("x-thread", "alpha")], "hash", "green"),
        (&[("cookie", "theme=dark"), ("cookie", "conversation=beta"), ("x-thread", "alpha")], "hash", "green"),
        (&[("mcp-session-id", ""), ("cookie", "conversation="), ("x-thread", "beta")], "hash", "green"),
        (&[("mcp-session-id", ""), ("mcp-session-id", "beta")], "hash", "green"),
        (&[("cookie", "conversations=beta"), ("x-thread", "alpha")], "hash", "blue"),
        (&[("x-agent-session", "beta"), ("cookie", "conversation")], "random", ""),
    ];
    for (headers, decision, slot) in cases {
        // A proxy for each: what one request shows beside its id is remembered as another name of the session.
        let worker = Proxy::chat().with(&snapshot);
        let request = headers.iter().fold(Request::new(), |request, (name, value)| request.with(name, value));
        let sent = worker.send(request);
        assert_eq!(sent.decision().as_deref(), Some(decision), "{headers:?}");
        assert!(slot.is_empty() || sent.slot().as_deref() == Some(slot), "{headers:?}");
        for (name, value) in headers {
            assert!(sent.forwarded().all(name).contains(&value.as_bytes()), "{headers:?}: {name} is the agent's");
        }
    }
}

/// Kept: one session has one place, whichever kind of source brings its id and however that encodes it; and the agent
/// gets what the client sent.
#[test]
fn every_kind_of_source_names_the_same_session() {
    let mut snapshot = split(5, 5_000);
    snapshot.settings.session_sources = vec![
        SessionSource::Path("/threads/{session}/runs".parse().unwrap()),
        SessionSource::Query("thread".parse().unwrap()),
        SessionSource::Baggage("session.id".parse().unwrap()),
        SessionSource::Header("x-thread".parse().unwrap()),
    ];
    // A proxy for each, since one alone would remember the session.
    let proxies = [(); 4].map(|()| Proxy::chat());
    let workers = proxies.each_ref().map(|proxy| proxy.with(&snapshot));
    let mut slots = Vec::new();
    for id in 0..16 {
        let (path, query) = (format!("/threads/t%20{id}/runs?x=1"), format!("/turn?thread=t+{id}&thread=other"));
        let baggage = format!("tenant=7, session.id=t%20{id};ttl=1");
        let requests = [
            Request::new().with("x-thread", format!("t {id}")),
            Request::new().instead(":path", &path).with("x-thread", "other"),
            Request::new().instead(":path", &query),
            Request::new().with("baggage", &baggage),
        ];
        let sent = requests.into_iter().zip(&workers);
        let sent: Vec<_> = sent.map(|(request, worker)| (request.headers().clone(), worker.send(request))).collect();
        let places: Vec<_> = sent.iter().map(|(_, sent)| (sent.slot(), sent.decision().unwrap())).collect();
        assert!(places.iter().all(|place| *place == places[0] && place.1 == "hash"), "{id}: {places:?}");
        for (came, sent) in &sent {
            let went = sent.forwarded();
            for name in [":path", "baggage", "x-thread"] {
                assert_eq!(went.all(name), came.all(name), "{id}: {name} is the agent's");
            }
        }
        slots.extend(places[0].0.clone());
    }
    assert!(["blue", "green"].iter().all(|slot| slots.iter().any(|found| found == slot)), "{slots:?}");
}

/// Split: proxies that never heard of each other place every session alike.
#[test]
fn proxies_agree_on_every_hashed_session() {
    let [here, there] = [1, 2].map(|seed| Proxy::chat().on(Process::seeded(seed)));
    let workers = [here.with(&split(5, 3_000)), there.with(&split(5, 3_000))];
    for number in 0..500 {
        let place = |worker: &Worker| worker.send(Request::new().session(format!("session-{number}"))).slot();
        assert_eq!(place(&workers[0]), place(&workers[1]), "session-{number}");
    }
}

/// Split: chance gives each slot its weight.
#[test]
fn chance_follows_the_weights() {
    const REQUESTS: usize = 4_000;
    let proxy = Proxy::chat();
    let worker = proxy.with(&split(5, 2_500));
    let green = (0..REQUESTS).filter(|_| worker.send(Request::new()).slot().as_deref() == Some("green")).count();
    // Four standard deviations.
    assert!(green.abs_diff(REQUESTS / 4) < 110, "{green} of {REQUESTS}");
}
