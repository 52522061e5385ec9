//! What answers say of the agent in a slot: counted, told to the sidecar, and heeded where the settings say so.

use colorfast_core::ids::KeyId;
use colorfast_core::names::{HEADER_ATTESTATION, HEADER_PREVIEW};
use colorfast_core::settings::OnSlotDown;
use colorfast_core::snapshot::Snapshot;
use colorfast_core::time::UnixSeconds;
use colorfast_core::token::preview;
use colorfast_core::wire::reports::{Report, SlotReport};

use crate::proxy::{Proxy, Worker};
use crate::releases::{BLUE, Forger, GREEN, blue_live, free_pin, green_live, ring_key, service, split};
use crate::request::{Request, Sent};
use crate::sidecar::{self, Waiting};

/// Longer than the filter may go without looking at an answer.
const LOOKS_AGAIN_MS: u64 = 10;
/// What Envoy says of an agent that nobody listens for.
const REFUSED: &str = "upstream_reset_before_response_started{connection_failure}";

fn pinned(proxy: &Proxy) -> Request {
    Request::new().pin(free_pin(proxy.process.now(), BLUE))
}

/// The agent of blue answers a pinned session, and says that it runs `bundle`.
fn attests(proxy: &Proxy, worker: &Worker, bundle: &str) {
    let sent = worker.send(pinned(proxy));
    sent.answered(&[(HEADER_ATTESTATION, bundle)]);
    sent.stream.finish().unwrap();
    proxy.wait(LOOKS_AGAIN_MS);
}

fn replies(sent: &Sent, details: &str, status: &str) {
    sent.stream.proxy_reply(details, [(":status", status)]).unwrap();
}

/// Envoy answers a request of the pinned session itself, since blue cannot be had.
fn fails(proxy: &Proxy, worker: &Worker) {
    let sent = worker.send(pinned(proxy));
    replies(&sent, REFUSED, "503");
    sent.stream.finish().unwrap();
}

fn acknowledge(report: Waiting<Report>) {
    let acknowledged = report.says.sequence;
    report.answer(200, format!(r#"{{"acknowledged":{acknowledged}}}"#));
}

/// What the report that is out says of blue, if one is; it is acknowledged.
fn reported(worker: &Worker) -> Option<SlotReport> {
    let mut reports = sidecar::reports(worker);
    assert!(reports.len() < 2, "one report at a time");
    let report = reports.pop()?;
    let slots = report.says.slots.clone();
    acknowledge(report);
    of_blue(slots)
}

/// What is said of the agent in blue. Who holds the slot is another matter.
fn of_blue(slots: Vec<SlotReport>) -> Option<SlotReport> {
    let of_blue = slots.into_iter().find(|seen| seen.slot.as_str() == "blue");
    let of_blue = of_blue.map(|seen| SlotReport {
        in_flight: 0,
        held: String::new(),
        issued: String::new(),
        oldest: UnixSeconds(0),
        ..seen
    });
    of_blue.filter(|seen| seen.answered > 0 || seen.unavailable > 0)
}

/// A worker whose hello is said, so that what it reports is about slots.
fn begun(snapshot: &Snapshot) -> (Proxy, Worker) {
    let proxy = Proxy::chat();
    let worker = proxy.with(snapshot);
    worker.tick();
    assert_eq!(reported(&worker), None);
    proxy.run(1_000, [&worker]);
    (proxy, worker)
}

fn seen(answered: u32, unavailable: u32, matched: u32, mismatched: u32, found: Option<&str>) -> Option<SlotReport> {
    let (service, slot) = ("chat".parse().unwrap(), "blue".parse().unwrap());
    let (found, held, issued) = (found.map(str::to_owned), String::new(), String::new());
    Some(SlotReport {
        service,
        slot,
        assignment: BLUE,
        answered,
        unavailable,
        matched,
        mismatched,
        found,
        in_flight: 0,
        held,
        issued,
        oldest: UnixSeconds(0),
    })
}

/// Stamped: an agent that says it runs another bundle than the stamp does is counted, by slot, and the sidecar is told
/// which it was.
#[test]
fn attestations_are_compared_with_the_stamp() {
    let (proxy, worker) = begun(&blue_live(5));
    attests(&proxy, &worker, "b-1");
    attests(&proxy, &worker, "b-0");
    attests(&proxy, &worker, "b-1");
    attests(&proxy, &worker, "");
    worker.send(pinned(&proxy)).answered(&[]);
    proxy.run(20, [&worker]);
    assert_eq!(proxy.count("attestations.slot.blue.result.match"), 2);
    assert_eq!(proxy.count("attestations.slot.blue.result.mismatch"), 1);
    assert_eq!(reported(&worker), seen(5, 0, 2, 1, Some("b-0")));
}

/// Stamped: what an agent says reaches the client as it was sent, whatever it is, and the sidecar as a short word.
#[test]
fn attestations_are_bounded_words_and_stay() {
    let (proxy, worker) = begun(&blue_live(5));
    let long = "x".repeat(60 * 1024);
    let cases: [(&[u8], String); 4] = [
        (b"b 2\r", "b?2?".to_owned()),
        ("b-\u{e9}".as_bytes(), "b-??".to_owned()),
        (b"\xff\x00", "??".to_owned()),
        (long.as_bytes(), "x".repeat(64)),
    ];
    for (says, told) in cases {
        let sent = worker.send(pinned(&proxy));
        let mut headers = wasm_host::HeaderMap::from([(":status", "200")]);
        headers.add(HEADER_ATTESTATION, says);
        sent.stream.response_headers(headers).unwrap();
        let answer = sent.stream.forwarded_response().unwrap();
        assert_eq!(answer.get(HEADER_ATTESTATION), Some(says));
        proxy.run(1_000, [&worker]);
        assert_eq!(reported(&worker).unwrap().found, Some(told));
    }
}

/// Stamped: the settings name the header; another one is none.
#[test]
fn the_settings_name_the_attestation() {
    let mut snapshot = blue_live(5);
    snapshot.settings.headers.attestation = "x-release".parse().unwrap();
    let (proxy, worker) = begun(&snapshot);
    worker.send(pinned(&proxy)).answered(&[("x-release", "b-0"), (HEADER_ATTESTATION, "b-1")]);
    proxy.run(20, [&worker]);
    assert_eq!(reported(&worker), seen(1, 0, 0, 1, Some("b-0")));
}

/// Stamped: an answer counts for what its request was stamped with, though the slot has been left since.
#[test]
fn answers_count_for_their_own_slot() {
    let (proxy, worker) = begun(&blue_live(5));
    let sent = worker.send(Request::new());
    worker.hear(&green_live(6));
    sent.answered(&[(HEADER_ATTESTATION, "b-1")]);
    worker.send(Request::new()).answered(&[(HEADER_ATTESTATION, "b-1")]);
    proxy.run(20, [&worker]);
    let report = sidecar::reports(&worker).pop().unwrap();
    let slots: Vec<_> = report.says.slots.iter().map(|seen| (seen.assignment, seen.matched, seen.mismatched)).collect();
    assert_eq!(slots, [(BLUE, 1, 0), (GREEN, 0, 1)]);
}

/// Accounted: what Envoy answers by itself for the sake of the upstream is told apart from what it answers for any
/// other reason, and from what the agent answers, errors too.
#[test]
fn upstreams_that_cannot_be_had_are_counted() {
    let cases = [
        (REFUSED, "503", 1),
        ("upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_111}", "503", 1),
        ("upstream_reset_before_response_started{connection_termination}", "503", 1),
        ("no_healthy_upstream", "503", 1),
        ("cluster_not_found", "503", 1),
        ("upstream_response_timeout", "504", 1),
        ("upstream_per_try_timeout", "504", 1),
        ("upstream_reset_before_response_started{overflow}", "503", 0),
        ("route_not_found", "404", 0),
        ("direct_response", "503", 0),
        ("request_payload_too_large", "413", 0),
        ("via_upstream", "503", 0),
        ("", "503", 0),
    ];
    for (details, status, wanted) in cases {
        let (proxy, worker) = begun(&blue_live(5));
        replies(&worker.send(pinned(&proxy)), details, status);
        replies(&worker.send(Request::new()), details, status);
        proxy.run(20, [&worker]);
        assert_eq!(proxy.count("upstream_unavailable.slot.blue"), wanted * 2, "{details}");
        let told = reported(&worker).map_or(0, |seen| u64::from(seen.unavailable));
        assert_eq!(told, wanted * 2, "{details}");
    }
    // gRPC clients are told beside a 200.
    let (proxy, worker) = begun(&blue_live(5));
    let sent = worker.send(pinned(&proxy));
    sent.stream.proxy_reply(REFUSED, [(":status", "200"), ("grpc-status", "14")]).unwrap();
    proxy.run(20, [&worker]);
    assert_eq!(reported(&worker), seen(0, 1, 0, 0, None));
}

/// Cheap: while all is well answers are looked at now and then; once one was bad each is, until one is good again.
#[test]
fn answers_are_sampled_while_all_is_well() {
    let (proxy, worker) = begun(&blue_live(5));
    for _ in 0..5 {
        worker.send(pinned(&proxy)).answered(&[]);
    }
    fails(&proxy, &worker);
    proxy.wait(LOOKS_AGAIN_MS);
    worker.send(pinned(&proxy)).answered(&[]);
    proxy.run(20, [&worker]);
    assert_eq!(reported(&worker), seen(2, 0, 0, 0, None));
    for _ in 0..5 {
        fails(&proxy, &worker);
    }
    worker.send(pinned(&proxy)).answered(&[]);
    worker.send(pinned(&proxy)).answered(&[]);
    proxy.run(1_000, [&worker]);
    assert_eq!(reported(&worker), seen(1, 5, 0, 0, None));
}

/// Accounted: what a report says of slots is the same until it is acknowledged, however often it is sent; what is seen
/// meanwhile is told by the next.
#[test]
fn deltas_are_kept_until_they_are_acknowledged() {
    let (proxy, worker) = begun(&blue_live(5));
    fails(&proxy, &worker);
    proxy.run(20, [&worker]);
    for fail in [|report: Waiting<Report>| report.refuse(), |report: Waiting<Report>| report.answer(500, "")] {
        let report = sidecar::reports(&worker).pop().unwrap();
        assert_eq!((report.says.sequence, of_blue(report.says.slots.clone())), (2, seen(0, 1, 0, 0, None)));
        fail(report);
        fails(&proxy, &worker);
        proxy.run(1_000, [&worker]);
    }
    assert_eq!(reported(&worker), seen(0, 1, 0, 0, None));
    proxy.run(1_000, [&worker]);
    let report = sidecar::reports(&worker).pop().unwrap();
    assert_eq!((report.says.sequence, of_blue(report.says.slots.clone())), (3, seen(0, 2, 0, 0, None)));
    acknowledge(report);
    proxy.run(1_000, [&worker]);
    assert_eq!(sidecar::reports(&worker).len(), 0, "there is nothing to tell");
}

/// Cheap: the first word of an assignment, bad news and their end are told within a second; that all is well goes along
/// with the next hello.
#[test]
fn good_news_wait_for_the_hello() {
    let (proxy, worker) = begun(&blue_live(5));
    attests(&proxy, &worker, "b-1");
    proxy.run(20, [&worker]);
    assert_eq!(reported(&worker), seen(1, 0, 1, 0, None));
    attests(&proxy, &worker, "b-1");
    proxy.run(2_000, [&worker]);
    assert_eq!(sidecar::reports(&worker).len(), 0);
    attests(&proxy, &worker, "b-0");
    proxy.run(20, [&worker]);
    assert_eq!(reported(&worker), seen(2, 0, 1, 1, Some("b-0")));
    attests(&proxy, &worker, "b-1");
    proxy.run(1_000, [&worker]);
    assert_eq!(reported(&worker), seen(1, 0, 1, 0, None));
    attests(&proxy, &worker, "b-1");
    proxy.run(3_000, [&worker]);
    assert_eq!(sidecar::reports(&worker).len(), 0);
    proxy.run(4_000, [&worker]);
    let report = sidecar::reports(&worker).pop().unwrap();
    assert!(report.says.hello.is_some());
    assert_eq!(of_blue(report.says.slots.clone()), seen(1, 0, 1, 0, None));
}

/// Blue and green take new sessions by halves, and sessions leave a slot that is down.
fn reassigning() -> Snapshot {
    let mut snapshot = split(5, 5_000);
    snapshot.settings.on_slot_down = OnSlotDown::Reassign;
    snapshot
}

/// Kept, or not where the operator says so: sessions of a slot that is down go on in another, pinned there, and new ones
/// begin there; now and then one is let through, and the slot is back with the first good answer.
#[test]
fn sessions_leave_a_slot_that_is_down() {
    let (proxy, worker) = begun(&reassigning());
    fails(&proxy, &worker);
    fails(&proxy, &worker);
    assert_eq!(worker.send(pinned(&proxy)).slot().as_deref(), Some("blue"), "two in a row are an accident");
    fails(&proxy, &worker);
    let moved = worker.send(pinned(&proxy));
    assert_eq!((moved.slot().as_deref(), moved.decision().as_deref()), (Some("green"), Some("random")));
    assert_eq!(moved.pin().unwrap().assignment, GREEN);
    assert_eq!(proxy.count("tokens_refused.kind.pin.cause.slot_down"), 1);
    for number in 0..32 {
        let fresh = worker.send(Request::new().session(format!("s-{number}")));
        assert_eq!(fresh.slot().as_deref(), Some("green"), "nobody begins in a slot that is down");
    }

    // One finds out every second, and finds it down still.
    proxy.wait(1_000);
    let tried = worker.send(pinned(&proxy));
    assert_eq!(tried.slot().as_deref(), Some("blue"));
    assert_eq!(worker.send(pinned(&proxy)).slot().as_deref(), Some("green"), "one at a time");
    replies(&tried, "no_healthy_upstream", "503");
    assert_eq!(worker.send(pinned(&proxy)).slot().as_deref(), Some("green"));

    proxy.wait(1_000);
    let tried = worker.send(pinned(&proxy));
    tried.answered(&[]);
    assert_eq!(worker.send(pinned(&proxy)).slot().as_deref(), Some("blue"), "it is back");
}

/// Kept: a slot is not down for failures that lie far apart, or that a good answer parts.
#[test]
fn accidents_move_nobody() {
    let (proxy, worker) = begun(&reassigning());
    for _ in 0..3 {
        fails(&proxy, &worker);
        fails(&proxy, &worker);
        worker.send(pinned(&proxy)).answered(&[]);
        proxy.wait(LOOKS_AGAIN_MS);
    }
    for _ in 0..4 {
        fails(&proxy, &worker);
        fails(&proxy, &worker);
        proxy.wait(5_000);
    }
    assert_eq!(worker.send(pinned(&proxy)).slot().as_deref(), Some("blue"));
}

/// Kept: nobody is moved where the settings do not say so, nor where there is nowhere to go.
#[test]
fn sessions_stay_where_nothing_else_would_serve() {
    let down = |slot: colorfast_core::ids::AssignmentId, proxy: &Proxy, worker: &Worker| {
        for _ in 0..3 {
            let request = Request::new().pin(free_pin(proxy.process.now(), slot));
            replies(&worker.send(request), REFUSED, "503");
        }
    };
    let (proxy, worker) = begun(&split(5, 5_000));
    down(BLUE, &proxy, &worker);
    assert_eq!(worker.send(pinned(&proxy)).slot().as_deref(), Some("blue"), "the default is to fail");

    let (proxy, worker) = begun(&reassigning());
    down(GREEN, &proxy, &worker);
    down(BLUE, &proxy, &worker);
    let stays = worker.send(pinned(&proxy));
    assert_eq!((stays.slot().as_deref(), stays.decision().as_deref()), (Some("blue"), Some("pin")));
    assert_eq!(proxy.count("tokens_refused.kind.pin.cause.slot_down"), 0);

    // Green does not take new sessions, so those of blue have nowhere to go.
    let mut alone = blue_live(5);
    alone.settings.on_slot_down = OnSlotDown::Reassign;
    let (proxy, worker) = begun(&alone);
    down(BLUE, &proxy, &worker);
    assert_eq!(worker.send(pinned(&proxy)).slot().as_deref(), Some("blue"));
}

/// Stamped: a slot that takes no session yet is seen through by its previews.
#[test]
fn previews_tell_of_a_slot_before_its_sessions_do() {
    let (proxy, worker) = begun(&blue_live(5));
    let key = ring_key(KeyId(1), Forger::Nobody);
    let signer = preview::Signer::new(&service("chat"), KeyId(1), [(KeyId(1), &key)]).unwrap();
    let expires = UnixSeconds(proxy.process.now().as_secs() + 60);
    let token = signer.mint(&preview::Claims { expires, slot: "green".parse().unwrap() });
    let sent = worker.send(Request::new().with(HEADER_PREVIEW, token));
    assert_eq!(sent.slot().as_deref(), Some("green"));
    sent.answered(&[(HEADER_ATTESTATION, "b-1")]);
    proxy.run(20, [&worker]);
    let report = sidecar::reports(&worker).pop().unwrap();
    let slots: Vec<_> = report.says.slots.iter().map(|seen| (seen.assignment, seen.matched, seen.mismatched)).collect();
    assert_eq!(slots, [(GREEN, 0, 1)]);
}
