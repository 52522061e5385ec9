//! A snapshot that kills whoever reads it.

use colorfast_core::names::shared;
use colorfast_core::snapshot::Snapshot;

use crate::proxy::{LEASE_OVER_MS, Proxy, Worker};
use crate::releases::{blue_live, green_live, service};
use crate::sidecar::{bytes, response};

/// An answer that takes a great many steps to read, under this nonce.
fn poison(snapshot: &Snapshot, nonce: &str) -> Vec<u8> {
    let mut answer = serde_json::to_value(response(snapshot)).unwrap();
    answer["nonce"] = nonce.into();
    answer["resources"][0]["state"]["advice"] = serde_json::json!(vec!["be kind"; 100_000]);
    answer.to_string().into_bytes()
}

/// The steps that reading the poison takes.
fn dose() -> u64 {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    worker.poll().answer(200, poison(&green_live(6), "dose"));
    worker.steps()
}

/// A leader reads the poison and dies of it in the middle; the worker that leads after it.
fn killed(proxy: &Proxy) -> Worker {
    let leader = proxy.worker_of(proxy.plugin().fuel(dose() / 2));
    let next = proxy.worker();
    leader.tick();
    leader.hear(&blue_live(5));
    let poll = leader.poll();
    let died = leader.answer(poll.call.token, [(":status", "200")], poison(&green_live(6), "first"));
    assert!(died.is_err() && leader.died_of().is_some(), "the poison is none");
    drop(leader);
    proxy.run(LEASE_OVER_MS, [&next]);
    next
}

/// Last good: a snapshot that killed its reader is not read a second time, under whatever nonce it is sent again and with whatever ticket: the
/// next leader refuses it, naming the answer, and traffic goes on; another snapshot is taken.
#[test]
fn a_snapshot_kills_once() {
    let proxy = Proxy::chat();
    let next = killed(&proxy);
    assert_eq!(next.serves().as_deref(), Some("b-1"));
    for (nonce, ticket) in [("second", r#""ticket":"ticket-2","#), ("third", "")] {
        let poison = String::from_utf8(poison(&green_live(6), nonce)).unwrap();
        next.poll().answer(200, poison.replace(r#""nonce":"#, &format!(r#"{ticket}"nonce":"#)));
        while !next.polls() {
            proxy.run(20, [&next]);
        }
        let poll = next.poll();
        assert!(poll.nack().unwrap().starts_with("quarantined"), "{:?}", poll.nack());
        assert_eq!(poll.says.response_nonce, nonce, "the refusal names its answer");
        assert_eq!(poll.says.version_info, blue_live(5).version().to_string());
        assert_eq!(next.serves().as_deref(), Some("b-1"));
    }
    assert_eq!(proxy.count("snapshots_refused"), 2);
    next.hear(&green_live(7));
    assert_eq!((next.poll().nack(), next.serves().as_deref()), (None, Some("g-1")));
}

/// Last good: the same version, written better, is taken.
#[test]
fn a_snapshot_that_was_mended_is_taken() {
    let proxy = Proxy::chat();
    let next = killed(&proxy);
    next.hear(&green_live(6));
    assert_eq!((next.poll().nack(), next.serves().as_deref()), (None, Some("g-1")));
}

/// Last good: a snapshot that was read well leaves no mark, and neither does one that was refused.
#[test]
fn no_mark_stays_after_a_good_end() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    let mark = || proxy.process.shared_data(&shared::attempting(&service("chat"))).unwrap().0;
    assert_eq!(mark(), b"");
    let bad = bytes(&response(&Snapshot { format: 2, ..green_live(6) }));
    worker.poll().answer(200, &bad);
    assert_eq!(mark(), b"");
    worker.poll().answer(200, &bad);
    while !worker.polls() {
        proxy.run(20, [&worker]);
    }
    assert!(worker.poll().nack().unwrap().contains("format"), "refused for its fault, not for a death");
}
