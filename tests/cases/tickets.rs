//! The ticket: what proves to the sidecar that a poll or a report is of this process.

use colorfast_core::names::{self, shared};
use colorfast_core::plugin::{Direction, PluginConfig};

use crate::proxy::{Proxy, Worker, configured};
use crate::releases::{blue_live, green_live, of_service};
use crate::sidecar::{self, Poll, TICKET, bytes, response, ticketed};

/// The poll of a service.
fn poll_of(worker: &Worker, service: &str) -> Poll {
    let mut polls = sidecar::polls(worker).into_iter();
    polls.rfind(|poll| poll.says.resource_names[0].as_str() == service).expect("a poll")
}

/// What stands in shared data for all.
fn stands(proxy: &Proxy) -> Option<Vec<u8>> {
    proxy.process.shared_data(shared::TICKET).map(|(ticket, _)| ticket)
}

/// Confirmed: the first poll has nothing to show, and is answered at once; every poll and every report after it shows what
/// came, whichever worker sends it.
#[test]
fn the_ticket_is_shown_from_then_on() {
    let proxy = Proxy::chat();
    let [first, second] = proxy.workers();
    first.tick();
    assert_eq!(first.poll().shows(), None);
    first.hear(&blue_live(5));
    let poll = first.poll();
    assert_eq!(poll.shows(), Some(TICKET), "the acknowledgement shows it");
    assert_eq!(poll.says.version_info, blue_live(5).version().to_string());
    poll.bring(&green_live(6));
    assert_eq!(first.poll().shows(), Some(TICKET));
    [&first, &second].into_iter().for_each(Worker::tick);
    for worker in [&first, &second] {
        assert_eq!(sidecar::reports(worker)[0].says.ticket.as_ref().unwrap().as_str(), TICKET);
    }
}

/// Confirmed: leaders of several services that ask side by side settle on the one ticket. One whose question comes after
/// another has shown it is refused once, and asks again at once.
#[test]
fn leaders_settle_on_one_ticket() {
    let proxy = Proxy::of(["chat", "code", "docs"].map(|name| configured(name, None)));
    let worker = proxy.worker();
    worker.tick();
    for service in ["chat", "code", "docs"] {
        assert_eq!(poll_of(&worker, service).shows(), None);
    }
    poll_of(&worker, "chat").bring(&blue_live(5));
    assert_eq!(poll_of(&worker, "chat").shows(), Some(TICKET));
    // Sent before, and heard by the sidecar before, too: it brings the same.
    poll_of(&worker, "code").bring(&of_service("code", blue_live(5)));
    assert_eq!(poll_of(&worker, "code").shows(), Some(TICKET));
    // Sent before, and heard after.
    poll_of(&worker, "docs").want_ticket();
    let again = poll_of(&worker, "docs");
    assert_eq!(again.shows(), Some(TICKET), "no time has passed");
    again.bring(&of_service("docs", blue_live(5)));
    assert_eq!(poll_of(&worker, "docs").says.version_info, blue_live(5).version().to_string());
    assert_eq!(worker.poll_count(), 3);
    assert_eq!(proxy.process.counter("colorfast.service.docs.polls_failed"), 0);
}

/// Confirmed: a ticket that is refused is shown no more; the process asks for another, after a while, and shows that.
#[test]
fn a_refused_ticket_is_asked_for_anew() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    worker.poll().want_ticket();
    assert!(!worker.polls(), "not at once");
    assert_eq!(stands(&proxy).as_deref(), Some(&b""[..]));
    proxy.run(100, [&worker]);
    assert_eq!(worker.poll().shows(), None);
    assert!(sidecar::reports(&worker).is_empty(), "without a ticket nothing is reported");
    worker.poll().answer(200, bytes(&ticketed(&blue_live(5), "ticket-2")));
    let poll = worker.poll();
    assert_eq!(poll.shows(), Some("ticket-2"), "an answer for the ticket's sake is acknowledged at once");
    assert_eq!((poll.nack(), proxy.count("snapshots_refused")), (None, 0));
    worker.tick();
    assert_eq!(sidecar::reports(&worker)[0].says.ticket.as_ref().unwrap().as_str(), "ticket-2");
}

/// Confirmed: what a report is refused for is cleared as well, and the next answer mends it.
#[test]
fn a_report_may_find_the_ticket_refused() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    worker.tick();
    sidecar::reports(&worker).remove(0).want_ticket();
    assert_eq!(stands(&proxy).as_deref(), Some(&b""[..]));
    worker.poll().answer(200, bytes(&ticketed(&green_live(6), "ticket-2")));
    proxy.run(1_000, [&worker]);
    let report = sidecar::reports(&worker).remove(0);
    assert_eq!(report.says.ticket.as_ref().unwrap().as_str(), "ticket-2");
    assert_eq!(report.says.sequence, 1, "it is sent again");
}

/// Confirmed: a refusal that comes late, when a newer ticket stands there, clears nothing; its leader shows the newer one.
#[test]
fn a_late_refusal_clears_nothing_newer() {
    let proxy = Proxy::of(["chat", "code"].map(|name| configured(name, None)));
    let worker = proxy.worker();
    worker.tick();
    poll_of(&worker, "chat").bring(&blue_live(5));
    poll_of(&worker, "code").bring(&of_service("code", blue_live(5)));
    poll_of(&worker, "chat").answer(200, bytes(&ticketed(&green_live(6), "ticket-2")));
    let late = poll_of(&worker, "code");
    assert_eq!(late.shows(), Some(TICKET));
    late.want_ticket();
    assert_eq!(poll_of(&worker, "code").shows(), Some("ticket-2"));
    assert_eq!(stands(&proxy).as_deref(), Some(&b"ticket-2"[..]));
}

/// Last good: a sidecar that refuses every ticket makes no worker spin, and traffic goes on.
#[test]
fn endless_refusals_make_no_worker_spin() {
    let proxy = Proxy::of(["chat", "code"].map(|name| configured(name, None)));
    let worker = proxy.worker();
    worker.tick();
    poll_of(&worker, "chat").bring(&blue_live(5));
    let mut asked = 0;
    for _ in 0..1_000 {
        for poll in sidecar::polls(&worker) {
            poll.want_ticket();
            asked += 1;
        }
        proxy.run(20, [&worker]);
    }
    assert!(asked <= 100, "{asked} polls of two leaders in 20 s");
    assert_eq!(worker.serves().as_deref(), Some("b-1"));
    assert!(worker.logged("wants the ticket of this process"));
}

/// Confirmed: what is no ticket is not shown.
#[test]
fn garbage_is_no_ticket() {
    for garbage in ["", "a b", "a\\nb", "ü", &"x".repeat(127 + 2)] {
        let proxy = Proxy::chat();
        let worker = proxy.worker();
        worker.tick();
        worker.poll().answer(200, bytes(&ticketed(&blue_live(5), garbage)));
        assert_eq!((worker.poll().shows(), stands(&proxy)), (None, None), "{garbage:?}");
        assert_eq!(worker.serves().as_deref(), Some("b-1"));
    }
    // Nor is a header of that name in the snapshot.
    let proxy = Proxy::chat();
    let worker = proxy.worker();
    worker.tick();
    let answer = String::from_utf8(bytes(&response(&blue_live(5)))).unwrap();
    let with = answer.replace(r#""type_url""#, r#""advice":{"ticket":"green"},"type_url""#);
    assert_ne!(with, answer);
    worker.poll().answer(200, with);
    assert_eq!((worker.poll().shows(), worker.serves().as_deref()), (None, Some("b-1")));
}

/// Confirmed: listeners with sidecars of their own have a ticket for each; a sidecar under another name is shown the ticket
/// that the process has.
#[test]
fn every_sidecar_gives_its_own() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    let config = PluginConfig {
        services: vec![configured("code", None)],
        sidecar_cluster: "another".to_owned(),
        direction: Direction::Ingress,
    };
    let beside = Proxy::configured(config).on(proxy.process.clone());
    let other = beside.worker();
    other.tick();
    let poll = || other.calls().into_iter().rfind(|call| call.path() == names::DISCOVERY_PATH).unwrap();
    let asked = || -> serde_json::Value { serde_json::from_slice(&poll().body).unwrap() };
    assert_eq!(poll().cluster, "another");
    assert_eq!(asked()["ticket"], TICKET, "it may be the same sidecar");
    let call = poll();
    let answer = ticketed(&of_service("code", blue_live(5)), "ticket-2");
    other.answer(call.token, [(":status", "200")], bytes(&answer)).unwrap();
    assert_eq!(asked()["ticket"], "ticket-2");
    worker.hear(&green_live(6));
    assert_eq!(worker.poll().shows(), Some(TICKET), "each its own");
}
