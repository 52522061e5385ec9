//! Sessions whose bundle is gone: one policy, whatever names them.

use colorfast_core::settings::{AskWaitMs, CookieCarrier, OnBundleGone};
use colorfast_core::snapshot::Snapshot;
use colorfast_core::time::UnixSeconds;
use wasm_host::{Action, HeaderPause};

use crate::proxy::{Proxy, TICK_MS};
use crate::releases::{BLUE, GREEN, RunKey, free_pin, green_live, rolled_back, run_token};
use crate::request::{Request, Sent};
use crate::sidecar;

/// Green was broken; who held it is refused.
fn refusing(version: u64) -> Snapshot {
    let mut snapshot = rolled_back(version);
    snapshot.settings.on_bundle_gone = OnBundleGone::Refuse;
    snapshot.settings.pin.cookie = CookieCarrier::Always;
    snapshot
}

/// Checks that a request was answered with the problem, once, and goes nowhere.
fn is_refused(sent: &Sent) -> Vec<String> {
    assert_eq!(sent.action, Action::Pause);
    let reply = sent.stream.local_reply().expect("it is answered here");
    assert_eq!(reply.status, 409);
    assert_eq!(reply.details, "colorfast_bundle_gone");
    assert_eq!(reply.headers.text("content-type"), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((&problem["type"], &problem["status"]), (&"urn:colorfast:problem:bundle-gone".into(), &409.into()));
    assert!(sent.stream.forwarded_request().is_none());
    reply.headers.all("set-cookie").into_iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

/// A broken pin is answered 409 with a problem document, and its cookie taken back; the next request, without it, begins
/// anew. Whoever holds another assignment, or none, notices nothing.
#[test]
fn broken_sessions_are_told() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&refusing(6));
    let (blue, green) = (free_pin(proxy.process.now(), BLUE), free_pin(proxy.process.now(), GREEN));
    assert_eq!(is_refused(&worker.send(Request::new().pin(&green))), Vec::<String>::new());
    let cookie = format!("other=1; agent-pin-chat={green}");
    let ended = is_refused(&worker.send(Request::new().cookie(&cookie)));
    assert_eq!(ended.len(), 1);
    assert!(ended[0].starts_with("agent-pin-chat=; Path=/; Max-Age=0; HttpOnly"), "{ended:?}");
    assert_eq!(proxy.count("requests_gone"), 2);
    assert_eq!(proxy.count("tokens_refused.kind.pin.cause.broken"), 2);
    assert_eq!(proxy.count("requests_unrouted"), 0);

    assert_eq!(worker.send(Request::new()).decision().as_deref(), Some("random"));
    assert_eq!(worker.send(Request::new().pin(&blue)).decision().as_deref(), Some("pin"));
    let both = worker.send(Request::new().pin(&green).cookie(&format!("agent-pin-chat={blue}")));
    assert_eq!(both.decision().as_deref(), Some("pin"), "one that holds decides");
    let forged = worker.send(Request::new().pin(&green[..green.len() - 1]));
    assert_eq!(forged.decision().as_deref(), Some("random"), "a forged pin tells of no session");
}

/// The same for a request that waits first, in either manner of waiting: it is answered once, and not resumed.
#[test]
fn waiting_requests_are_answered_once() {
    for pause in [HeaderPause::All, HeaderPause::Headers] {
        let proxy = Proxy::chat().header_pause(pause);
        let worker = proxy.worker();
        worker.tick();
        let green = free_pin(proxy.process.now(), GREEN);
        let sent = Sent::headers_before_body(worker.stream(), Request::new().pin(green));
        assert!(sent.waits());
        worker.hear(&refusing(6));
        proxy.run(TICK_MS * 3, [&worker]);
        is_refused(&sent);
        assert_eq!(proxy.count("requests_gone"), 1);
    }
}

/// Unless it is set, a broken session begins anew by itself.
#[test]
fn by_default_sessions_begin_anew() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&rolled_back(6));
    let sent = worker.send(Request::new().pin(free_pin(proxy.process.now(), GREEN)));
    assert_eq!(sent.decision().as_deref(), Some("random"));
    assert!(sent.stream.local_reply().is_none());
}

fn ruled(mut snapshot: Snapshot, policy: OnBundleGone) -> Snapshot {
    snapshot.settings.on_bundle_gone = policy;
    snapshot.settings.pin.idle_timeout_seconds = 1_000;
    snapshot
}

fn status(sent: &Sent) -> Option<u32> {
    sent.stream.local_reply().map(|reply| reply.status)
}

/// The policy holds for every name of a session alike: a pin, a run token, and an id alone that is remembered. A run of a
/// bundle that no slot has may be of another service's, and goes on.
#[test]
fn one_policy_holds_for_every_name() {
    let cases = [
        (OnBundleGone::ByProtocol, None),
        (OnBundleGone::New, None),
        (OnBundleGone::NotFound, Some(404)),
        (OnBundleGone::Refuse, Some(409)),
    ];
    for (policy, wanted) in cases {
        let proxy = Proxy::chat();
        let worker = proxy.with(&ruled(green_live(5), policy));
        assert_eq!(worker.send(Request::new().session("alpha")).slot().as_deref(), Some("green"));
        worker.hear(&ruled(rolled_back(6), policy));
        let now = UnixSeconds(proxy.process.now().as_secs());
        let condemned = rolled_back(6).slots.iter().find(|slot| slot.assignment != Some(BLUE)).unwrap().clone();
        let run = |bundle: &str| format!("agent.run={}", run_token(now, bundle, RunKey::Own));
        let broken = run(condemned.bundle.as_ref().unwrap().id.as_str());
        let requests = [
            Request::new().session("alpha"),
            Request::new().session("alpha"),
            Request::new().pin(free_pin(proxy.process.now(), GREEN)),
            Request::new().with("baggage", &broken),
        ];
        for (at, request) in requests.into_iter().enumerate() {
            assert_eq!(status(&worker.send(request)), wanted, "{policy:?} {at}");
        }
        assert_eq!(status(&worker.send(Request::new().session("new"))), None);
        assert_eq!(status(&worker.send(Request::new().with("baggage", run("another-services")))), None);
    }
}

/// An id that a client chose is refused for as long as its session would have lasted: the idle timeout from its last request
/// that was served. To be refused does not make that longer.
#[test]
fn a_fixed_id_is_free_again_after_the_idle_timeout() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&ruled(green_live(5), OnBundleGone::Refuse));
    worker.send(Request::new().session("fixed"));
    worker.hear(&ruled(rolled_back(6), OnBundleGone::Refuse));
    for _ in 0..3 {
        assert_eq!(status(&worker.send(Request::new().session("fixed"))), Some(409));
        proxy.wait(330_000);
    }
    proxy.wait(20_000);
    let sent = worker.send(Request::new().session("fixed"));
    assert_eq!((sent.slot().as_deref(), sent.decision().as_deref()), (Some("blue"), Some("hash")));
}

/// A proxy that never saw the id asks the fleet, though one slot alone holds sessions, and answers by what that remembers.
#[test]
fn what_the_fleet_alone_remembers_is_refused() {
    let proxy = Proxy::chat();
    let mut snapshot = ruled(rolled_back(6), OnBundleGone::Refuse);
    snapshot.settings.memory.ask_wait_ms = AskWaitMs(20);
    let worker = proxy.with(&snapshot);
    let sent = worker.send(Request::new().session("alpha"));
    assert!(sent.waits());
    let mut asks = sidecar::asks(&worker);
    asks.remove(0).place(GREEN);
    assert_eq!(status(&sent), Some(409));
    assert_eq!(status(&worker.send(Request::new().session("alpha"))), Some(409), "it is remembered here, too");
    assert_eq!(proxy.count("requests_gone"), 2);
}
