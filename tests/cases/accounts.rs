//! Who holds a slot, as a worker tells it: sessions by marks, requests by number, and none of it for a host call.

use colorfast_core::ids::{KeyId, Sid};
use colorfast_core::rendezvous::mix;
use colorfast_core::sketch::Sketch;
use colorfast_core::time::UnixSeconds;
use colorfast_core::token::pin::{Claims, Kind};
use colorfast_core::token::preview;
use colorfast_core::wire::reports::SlotReport;

use crate::proxy::{Proxy, Worker};
use crate::releases::{BLUE, Forger, blue_live, ring_key, service, signer, split};
use crate::request::Request;
use crate::sidecar;

/// How soon a worker tells that sessions have come or gone.
const TELLS_WITHIN_MS: u64 = 3_000;

/// A worker whose hello is said.
fn begun(proxy: &Proxy) -> Worker {
    let worker = proxy.with(&blue_live(5));
    worker.tick();
    assert!(told(proxy, &worker).is_none(), "nobody holds anything");
    worker
}

/// What the next report says of blue, which comes within the time that it may take; none where none does.
fn told(proxy: &Proxy, worker: &Worker) -> Option<SlotReport> {
    proxy.run(TELLS_WITHIN_MS, [worker]);
    let report = sidecar::reports(worker).pop()?;
    let slots = report.says.slots.clone();
    let acknowledged = report.says.sequence;
    report.answer(200, format!(r#"{{"acknowledged":{acknowledged}}}"#));
    slots.into_iter().find(|seen| seen.slot.as_str() == "blue")
}

fn count(marks: &str) -> u64 {
    Sketch::of_text(marks).unwrap().count()
}

/// A pin of blue, of the session of this number, that began so many seconds ago.
fn pin(proxy: &Proxy, session: u64, age: u64) -> String {
    let now = proxy.process.now().as_secs();
    let (began, refreshed) = (UnixSeconds(now - age), UnixSeconds(now));
    let sid = Sid(mix(session + 1));
    signer("chat").mint(&Claims { kind: Kind::Free, sid, assignment: BLUE, began, refreshed })
}

/// Accounted: a session of a pin is issued until that comes back, and held from then on; it is told once, and again in the next
/// part of its window, with the moment at which the oldest began.
#[test]
fn sessions_are_issued_then_held() {
    let proxy = Proxy::chat();
    let worker = begun(&proxy);
    for _ in 0..20 {
        // Those that name no session: one that begins by its id is counted by its record.
        let sent = worker.send(Request::new());
        sent.answered(&[]);
        sent.stream.finish().unwrap();
    }
    let seen = told(&proxy, &worker).unwrap();
    assert_eq!((count(&seen.issued), count(&seen.held), seen.in_flight), (20, 0, 0));
    assert_eq!(seen.oldest, UnixSeconds(0));
    let comes_back = |session, age| worker.send(Request::new().pin(pin(&proxy, session, age))).stream.finish().unwrap();
    (0..5).for_each(|session| comes_back(session, 50 + session));
    let began = proxy.process.now().as_secs() - 54;
    let seen = told(&proxy, &worker).unwrap();
    assert_eq!((count(&seen.issued), count(&seen.held)), (0, 5));
    assert_eq!(seen.oldest, UnixSeconds(began));

    (0..5).for_each(|session| comes_back(session, 60));
    let seen = told(&proxy, &worker);
    assert!(seen.is_none_or(|seen| seen.held.is_empty()), "what was told is told once");
    proxy.wait(3 * 3_600_000);
    (0..2).for_each(|session| comes_back(session, 60));
    assert_eq!(count(&told(&proxy, &worker).unwrap().held), 2, "who is still there is told anew");
}

/// Accounted: a request counts until its stream is gone, also where the slot is given another assignment meanwhile, and is
/// told with every report while it lasts.
#[test]
fn requests_count_while_they_last() {
    let proxy = Proxy::chat();
    let worker = begun(&proxy);
    let open: Vec<_> = (0..3).map(|_| worker.send(Request::new())).collect();
    assert_eq!(told(&proxy, &worker).unwrap().in_flight, 3);
    open[0].answered(&[]);
    open[0].stream.finish().unwrap();
    assert_eq!(told(&proxy, &worker).unwrap().in_flight, 2, "the others are not even answered");
    proxy.run(10_000, [&worker]);
    assert_eq!(told(&proxy, &worker).unwrap().in_flight, 2, "said again with the hello");

    let mut broken = split(6, 5_000);
    let newest = broken.newest_assignment.as_mut().unwrap();
    newest.0 += 1;
    let newest = *newest;
    broken.slots[0].assignment = Some(newest);
    worker.hear(&broken);
    let seen = told(&proxy, &worker).unwrap();
    assert_eq!((seen.assignment, seen.in_flight), (newest, 2));
    open.iter().skip(1).for_each(|sent| sent.stream.finish().unwrap());
    assert_eq!(told(&proxy, &worker).unwrap().in_flight, 0);
}

/// Accounted: smoke tests hold nothing, and a request that a forged or foreign pin comes with counts as a new session.
#[test]
fn previews_and_forgeries_hold_nothing() {
    let proxy = Proxy::chat();
    let worker = begun(&proxy);
    let key = ring_key(KeyId(1), Forger::Nobody);
    let previews = preview::Signer::new(&service("chat"), KeyId(1), [(KeyId(1), &key)]).unwrap();
    let expires = UnixSeconds(proxy.process.now().as_secs() + 60);
    let preview = previews.mint(&preview::Claims { expires, slot: "blue".parse().unwrap() });
    let sent = worker.send(Request::new().with(colorfast_core::names::HEADER_PREVIEW, preview));
    assert_eq!(sent.decision().as_deref(), Some("preview"));
    sent.stream.finish().unwrap();
    let mut forged = pin(&proxy, 1, 5);
    forged.replace_range(20..21, if &forged[20..21] == "A" { "B" } else { "A" });
    worker.send(Request::new().pin(forged)).stream.finish().unwrap();
    let seen = told(&proxy, &worker).unwrap();
    assert_eq!((count(&seen.held), count(&seen.issued)), (0, 1));
}

/// Bounded: twelve thousand sessions make reports of bounded size, and all are told in the end.
#[test]
fn a_crowd_is_told_in_pieces() {
    let proxy = Proxy::chat();
    let worker = begun(&proxy);
    for session in 0..12_000 {
        worker.send(Request::new().pin(pin(&proxy, session, 5))).stream.finish().unwrap();
    }
    let mut whole = Sketch::default();
    for _ in 0..8 {
        let Some(seen) = told(&proxy, &worker) else { break };
        assert!(seen.held.len() / 4 <= SlotReport::MARKS_MAX, "{}", seen.held.len());
        whole.merge(&Sketch::of_text(&seen.held).unwrap());
    }
    let found = whole.count();
    assert!((11_760..=12_240).contains(&found), "{found}");
}
