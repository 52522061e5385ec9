//! A row against the built filter: the same request, through a worker of a proxy.

use std::collections::BTreeMap;
use std::time::Duration;

use colorfast_core::baggage;
use colorfast_core::ids::AssignmentId;
use colorfast_core::keys::ServiceKeys;
use colorfast_core::names;
use colorfast_core::snapshot::Snapshot;
use colorfast_core::time::UnixSeconds;
use colorfast_core::token::pin::{Claims, Signer};
use wasm_host::HeaderMap;

use super::table::{Case, Origin, RunsWanted};
use super::{memory, pins};
use crate::proxy::{Proxy, Worker};
use crate::releases::read_run;
use crate::request::{Request, Sent};
use crate::sidecar;

/// Checks one row.
pub fn check(case: &Case) {
    let name = &case.name;
    let (snapshot, keys) = (case.given.snapshot(), case.given.keys());
    let (proxy, worker) = start(case, &snapshot, keys.clone());
    let arrived = seconds(worker.now());
    memory::put(case, &proxy.process, arrived);
    let sent = send(case, &worker, arrived);
    assert_eq!(sent.waits(), !case.wanted.waits_for.is_empty(), "{name}: whether it waits");
    for wait in &case.wanted.waits_for {
        proxy.wait(wait.limit_ms() - 1);
        worker.tick();
        assert!(sent.waits(), "{name}: it waits to the end");
        proxy.wait(1);
        worker.tick();
        let timeouts = proxy.count(&format!("waits.need.{}.end.timeout", wait.as_str()));
        assert_eq!(timeouts, 1, "{name}: counted waits");
    }
    let decided = seconds(worker.now());
    let forwarded = sent.forwarded();
    check_stamps(case, &snapshot, &sent);
    check_counters(case, &proxy);
    for header in [names::HEADER_PIN, names::HEADER_CLIENT_SENT, names::HEADER_PREVIEW] {
        assert!(!forwarded.has(header), "{name}: {header} reached the agent");
    }
    let cookies = forwarded.all("cookie").concat();
    assert_eq!(String::from_utf8_lossy(&cookies), case.request.cookie.clone().unwrap_or_default(), "{name}: cookies");
    check_baggage(case, arrived, decided, &sent);
    memory::compare(case, memory::held(case, &proxy.process), arrived, decided);
    let found = keys.and_then(|keys| read(case, &sent.answered(&[]), &keys));
    let assignment = of_slot(&snapshot, sent.slot()).and_then(|slot| slot.0);
    pins::compare(case, found, arrived, decided, assignment.map(|assignment| assignment.0));
    let issued = u64::from(case.wanted.pin.is_some());
    assert_eq!(proxy.count("pins_issued"), issued, "{name}: counted pins");
    sent.stream.finish().unwrap();
}

/// A worker that decides by this snapshot.
fn start(case: &Case, snapshot: &Snapshot, keys: Option<ServiceKeys>) -> (Proxy, Worker) {
    if case.given.origin == Some(Origin::Bootstrap) {
        let proxy = Proxy::bootstrapped(snapshot.clone());
        if let Some(keys) = &keys {
            let keys = serde_json::to_string(&BTreeMap::from([("chat", keys)])).unwrap();
            proxy.process.set_env(names::ENV_KEYS, &keys);
        }
        let worker = proxy.worker();
        return (proxy, worker);
    }
    let proxy = Proxy::chat();
    let worker = proxy.worker();
    worker.tick();
    let mut response = sidecar::response(snapshot);
    response.resources[0].keys = keys;
    worker.poll().answer(200, sidecar::bytes(&response));
    (proxy, worker)
}

fn send(case: &Case, worker: &Worker, now: UnixSeconds) -> Sent {
    let asked = &case.request;
    let mut request = Request::new();
    if let Some(id) = &asked.session {
        request = request.session(id.bytes());
    }
    for pin in &asked.pins {
        request = request.pin(pin.token(now));
    }
    if let Some(line) = &asked.cookie {
        request = request.cookie(line);
    }
    for pin in &asked.cookie_pins {
        request = request.with("cookie", [b"agent-pin-chat=", pin.token(now).as_slice()].concat());
    }
    if let Some(earlier) = &asked.earlier_pass {
        request = request
            .with(names::HEADER_SLOT, &earlier.slot)
            .with(names::HEADER_BUNDLE, &earlier.bundle)
            .with(names::HEADER_DECISION, &earlier.decision)
            .with(names::HEADER_ORIGINAL_URL, "http://chat.example.com/turn");
    }
    if let Some(preview) = &asked.preview {
        request = request.with(names::HEADER_PREVIEW, preview.token(now));
    }
    for run in &asked.runs {
        request = request.with("baggage", [b"agent.run=", run.token(now).as_slice()].concat());
    }
    if let Some(baggage) = &asked.baggage {
        request = request.with("baggage", baggage);
    }
    if let Some(client) = &asked.client {
        request = request.with("user-agent", &client.user_agent);
    }
    let stream = worker.stream();
    if let Some(earlier) = &asked.earlier_pass {
        let text = format!("chat/{}/{}/1767000000000.7/{}", earlier.slot, earlier.decision, earlier.bundle);
        stream.offer(&[names::PROPERTY_DECIDED], text);
    }
    if let Some(client) = &asked.client {
        stream.offer(&["source", "address"], &client.address);
    }
    Sent::headers(stream, request)
}

fn check_stamps(case: &Case, snapshot: &Snapshot, sent: &Sent) {
    let (name, slot) = (&case.name, sent.slot());
    assert_eq!(sent.decision(), case.wanted.decision, "{name}: decision");
    match &slot {
        Some(slot) => assert!(case.wanted.slot.names().contains(&slot.as_str()), "{name}: went to {slot}"),
        None => assert_eq!(case.wanted.slot.names(), [""; 0], "{name}: went nowhere"),
    }
    assert_eq!(sent.bundle(), of_slot(snapshot, slot).map(|slot| slot.1), "{name}: bundle");
}

/// Assignment and bundle of a slot.
fn of_slot(snapshot: &Snapshot, name: Option<String>) -> Option<(Option<AssignmentId>, String)> {
    let slot = snapshot.slots.iter().find(|slot| Some(slot.name.as_str()) == name.as_deref())?;
    Some((slot.assignment, slot.bundle.as_ref()?.id.to_string()))
}

/// Run tokens are as they were wanted; the client's own members are as they were, to the byte.
fn check_baggage(case: &Case, arrived: UnixSeconds, decided: UnixSeconds, sent: &Sent) {
    let name = &case.name;
    let forwarded = sent.forwarded();
    let lines = forwarded.all("baggage");
    let found: Vec<_> = lines.iter().flat_map(|line| baggage::find(line)).map(<[u8]>::to_vec).collect();
    let given: Vec<_> = case.request.runs.iter().map(|run| run.token(arrived)).collect();
    match case.wanted.runs {
        RunsWanted::Kept => assert_eq!(found, given, "{name}: run tokens"),
        RunsWanted::Last => assert_eq!(found, given[given.len() - 1..], "{name}: run tokens"),
        RunsWanted::Removed => assert!(found.is_empty(), "{name}: run tokens"),
        RunsWanted::Issued => {
            let [token] = found.as_slice() else { panic!("{name}: {found:?}") };
            let claims = read_run(token).unwrap_or_else(|| panic!("{name}: no run token"));
            assert_eq!(
                (claims.began, Some(claims.bundle.to_string())),
                (decided, sent.bundle()),
                "{name}: the new run"
            );
        }
    }
    let others: Vec<_> = lines.iter().filter(|line| baggage::find(line).next().is_none()).collect();
    let wanted: Vec<_> = case.request.baggage.iter().map(String::as_bytes).collect();
    assert_eq!(others.into_iter().map(|line| &line[..]).collect::<Vec<_>>(), wanted, "{name}: others' baggage");
}

/// One request counts once, where it was decided first.
fn check_counters(case: &Case, proxy: &Proxy) {
    let name = &case.name;
    let counted = proxy.counted();
    let under = |prefix: &str| -> Vec<(String, u64)> {
        let under = counted.iter().filter_map(|(name, count)| Some((name.strip_prefix(prefix)?.to_owned(), *count)));
        under.collect()
    };
    let refused = under("tokens_refused.kind.").into_iter().map(|(what, times)| {
        let (kind, cause) = what.split_once(".cause.").unwrap();
        (if kind == "pin" { cause.to_owned() } else { format!("{kind}.{cause}") }, times as u8)
    });
    assert_eq!(refused.collect::<BTreeMap<_, _>>(), case.wanted.refused, "{name}: counted refusals");
    let first_pass = case.request.earlier_pass.is_none();
    let routed = under("requests.slot.");
    let stamped = case.wanted.decision.as_ref().filter(|_| first_pass);
    let (previewed, stamped) = match stamped {
        Some(decision) if decision == "preview" => (1, None),
        stamped => (0, stamped),
    };
    let previews = under("previews.slot.");
    assert_eq!(previews.iter().map(|(_, count)| count).sum::<u64>(), previewed, "{name}: {previews:?}");
    assert_eq!(routed.iter().map(|(_, count)| count).sum::<u64>(), u64::from(stamped.is_some()), "{name}: {routed:?}");
    if let Some(decision) = stamped {
        assert!(routed[0].0.ends_with(&format!(".decision.{decision}")), "{name}: {routed:?}");
    }
    assert_eq!(proxy.count("requests_unrouted"), u64::from(case.wanted.decision.is_none()), "{name}: unrouted");
    assert_eq!(proxy.count("forged_headers"), 0, "{name}: forged headers");
}

/// What the pin of an answer says: by header and, where it is on, by cookie alike; signed by the key that signs.
fn read(case: &Case, answer: &HeaderMap, keys: &ServiceKeys) -> Option<Claims> {
    let ring = case.given.ring();
    let known = ring.verifying.iter().map(|id| (*id, &keys.ring[id]));
    let signer = Signer::new(&crate::releases::service("chat"), ring.signing, known).unwrap();
    let token = answer.text(names::HEADER_PIN)?;
    if case.given.settings.as_ref().is_some_and(|settings| settings.uses_cookie()) {
        let cookie = answer.text("set-cookie").unwrap();
        assert!(cookie.starts_with(&format!("agent-pin-chat={token}; ")), "{}: {cookie}", case.name);
    }
    let (claims, key) = signer.read(token.as_bytes()).unwrap();
    assert!(signer.signs_with(key), "{}: signed by key {key}", case.name);
    Some(claims)
}

fn seconds(time: Duration) -> UnixSeconds {
    UnixSeconds(time.as_secs())
}
