//! The fleet's memory as a proxy uses it: what it tells, what it asks, and what it does without an answer.

use colorfast_core::ids::{AssignmentId, Sid};
use colorfast_core::keys::SidHasher;
use colorfast_core::memory::{Certainty, Remembered, Visits};
use colorfast_core::settings::AskWaitMs;
use colorfast_core::snapshot::Snapshot;
use colorfast_core::time::UnixSeconds;
use colorfast_core::wire::sessions::{Ask, Records};
use wasm_host::{Action, HeaderPause};

use crate::proxy::{Proxy, TICK_MS, Worker};
use crate::releases::{BLUE, GREEN, blue_live, green_live, keys};
use crate::request::{Request, Sent};
use crate::sidecar::{self, Waiting};

/// How long a request waits in these cases.
const WAIT_MS: u32 = 20;
/// How long a second question does.
const HALF_MS: u32 = 10;
/// How long a question waits that no request waits for, and the next one after it.
const LATER_MS: u64 = 1_000;
/// When a call is taken for lost that Envoy has not ended.
const LOST_MS: u64 = 1_000;

/// The snapshot whose proxies ask the fleet.
fn asking(snapshot: Snapshot) -> Snapshot {
    waiting(WAIT_MS, snapshot)
}

/// The same with another wait.
fn waiting(wait_ms: u32, mut snapshot: Snapshot) -> Snapshot {
    snapshot.settings.memory.ask_wait_ms = AskWaitMs(wait_ms);
    snapshot.flush = (snapshot.version > 1).then_some(snapshot.version);
    snapshot
}

fn sid(id: &str) -> Sid {
    SidHasher::new(&keys(&[1]).sid).sid(id.as_bytes())
}

/// The one question that is out.
fn question(worker: &Worker) -> Waiting<Ask> {
    let mut asks = sidecar::asks(worker);
    assert_eq!(asks.len(), 1, "questions that are out");
    asks.remove(0)
}

/// The fleet remembers that the session of a question holds `assignment`.
fn tell(question: Waiting<Ask>, assignment: AssignmentId) {
    question.place(assignment);
}

/// The fleet remembers that the session of a question began at another proxy, some time ago.
fn elsewhere(question: Waiting<Ask>, assignment: AssignmentId) {
    let (id, proposal) = question.proposal();
    let version = question.says.version_info.parse().unwrap();
    question.say(&[(id, Remembered { assignment, began: UnixSeconds(proposal.began.0 - 1), ..proposal })], version);
}

fn went(sent: &Sent) -> (Option<String>, Option<String>) {
    (sent.slot(), sent.decision())
}

fn to(slot: &str, rule: &str) -> (Option<String>, Option<String>) {
    (Some(slot.to_owned()), Some(rule.to_owned()))
}

/// Kept: a session that another proxy knows goes on where it is; the question names it by its keyed hash alone, and is
/// asked once.
#[test]
fn the_fleet_knows_where_a_session_is() {
    for pause in [HeaderPause::All, HeaderPause::Headers] {
        let proxy = Proxy::chat().header_pause(pause);
        let worker = proxy.with(&asking(green_live(2)));
        let sent = worker.send(Request::new().session("alpha"));
        assert!(sent.waits());
        let asked = question(&worker);
        let (id, proposal) = asked.proposal();
        assert_eq!((id, proposal.assignment, proposal.sid), (sid("alpha"), GREEN, sid("alpha")));
        assert!(!asked.call.text().contains("alpha"));
        assert_eq!(asked.call.timeout_ms, WAIT_MS);
        tell(asked, BLUE);
        assert_eq!(went(&sent), to("blue", "memory"));
        // Its client may never have got one: it begins here, as far as anybody knows.
        assert_eq!(sent.pin().map(|pin| (pin.assignment, pin.sid)), Some((BLUE, sid("alpha"))));
        assert_eq!(went(&worker.send(Request::new().session("alpha"))), to("blue", "memory"));
        assert!(sidecar::asks(&worker).is_empty(), "what was told is remembered here");
        assert_eq!(proxy.count("waits.need.fleet.end.met"), 1);
    }
}

/// Kept: a session that nobody knows begins as the proxy has proposed, with its pin.
#[test]
fn a_proposal_that_stands_begins_the_session() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&asking(green_live(2)));
    let sent = worker.send(Request::new().session("alpha"));
    tell(question(&worker), GREEN);
    assert_eq!(went(&sent), to("green", "hash"));
    assert_eq!(sent.pin().map(|pin| pin.assignment), Some(GREEN));
}

/// Kept: a question without an answer is asked once more in the same words, for half of the wait, whatever came
/// meanwhile: a switch, or a tick that is late since the whole machine stood still. The second answer counts like the first.
#[test]
fn a_question_without_an_answer_is_asked_once_more() {
    let silences: [fn(Waiting<Ask>); 3] = [Waiting::time_out, Waiting::refuse, Waiting::break_off];
    for (number, silent) in (1..).zip(silences) {
        let proxy = Proxy::chat();
        let worker = proxy.with(&asking(blue_live(2)));
        worker.tolerate("proxy_get_header_map_value");
        let sent = worker.send(Request::new().session("alpha"));
        let first = question(&worker);
        let says = first.says.clone();
        worker.hear(&asking(green_live(3)));
        proxy.run(u64::from(WAIT_MS), [&worker]);
        assert!(sent.waits(), "{number}: how long a question takes is not the clock's to say");
        silent(first);
        let second = question(&worker);
        assert_eq!((&second.says, second.call.timeout_ms), (&says, HALF_MS), "{number}");
        proxy.run(u64::from(WAIT_MS), [&worker]);
        assert!(sent.waits(), "{number}");
        elsewhere(second, BLUE);
        assert_eq!(went(&sent), to("blue", "memory"), "{number}");
        let ends = ["again", "met", "timeout"].map(|end| proxy.count(&format!("waits.need.fleet.end.{end}")));
        assert_eq!(ends, [1, 1, 0], "{number}");
    }
}

/// Kept: where the worker itself is late, a call that ran out of time says nothing of the sidecar: it is asked again, for a
/// second at most, and a sidecar that does not answer then is known for it.
#[test]
fn a_late_worker_asks_again() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&asking(green_live(2)));
    let sent = worker.send(Request::new().session("alpha"));
    for _ in 0..3 {
        proxy.wait(5 * u64::from(WAIT_MS));
        let asked = question(&worker);
        assert_eq!(asked.call.timeout_ms, WAIT_MS);
        asked.time_out();
        assert!(sent.waits());
    }
    elsewhere(question(&worker), BLUE);
    assert_eq!(went(&sent), to("blue", "memory"));
    let sent = worker.send(Request::new().session("beta"));
    let mut asked = 0;
    while sent.waits() {
        asked += 1;
        assert!(asked < 20, "it waits for ever");
        proxy.wait(5 * u64::from(WAIT_MS));
        question(&worker).time_out();
        worker.tick();
    }
    assert_eq!(went(&sent), to("green", "hash"));
}

/// Last good: without an answer to either question the request goes on by itself, and that is counted; a body that comes
/// meanwhile does not let it go unstamped.
#[test]
fn no_answer_costs_a_request_two_waits_at_most() {
    type End = fn(Waiting<Ask>);
    let ends: [End; 5] = [
        |asked| asked.time_out(),
        |asked| asked.refuse(),
        |asked| asked.break_off(),
        |asked| asked.answer(404, "{}"),
        |asked| asked.answer(200, "{}"),
    ];
    let proxy = Proxy::chat().header_pause(HeaderPause::Headers);
    let worker = proxy.with(&asking(green_live(2)));
    worker.tolerate("proxy_get_header_map_value");
    for (number, end) in ends.into_iter().enumerate() {
        let post = Request::new().instead(":method", "POST").session(format!("session-{number}"));
        let sent = Sent::headers_before_body(worker.stream(), post);
        assert_eq!(sent.stream.request_body_last("{}").unwrap(), Action::Pause);
        question(&worker).time_out();
        assert!(sent.waits());
        end(question(&worker));
        assert_eq!(went(&sent), to("green", "hash"), "{number}");
        assert!(sidecar::asks(&worker).is_empty(), "{number}: it is asked twice");
    }
    assert_eq!(proxy.count("waits.need.fleet.end.timeout"), 5);
    assert_eq!(proxy.count("waits.need.fleet.end.again"), 5);
    let sent = worker.send(Request::new().session("beta"));
    proxy.wait(u64::from(WAIT_MS) + LOST_MS);
    worker.tick();
    assert_eq!(went(&sent), to("green", "hash"), "the tick ends a wait whose call says nothing");
    tell(sidecar::asks(&worker).remove(0), BLUE);
    assert_eq!(
        went(&worker.send(Request::new().session("beta"))),
        to("green", "memory"),
        "a late word changes nothing"
    );
}

/// Last good: an answer that says nothing of the session is one all the same, and nothing is asked a second time.
#[test]
fn an_answer_without_a_session_is_not_asked_for_again() {
    let useless = [200, 400, 401, 403, 404, 409, 429, 500].map(|status| (status, "{}"));
    let useless = useless.into_iter().chain([(200, ""), (200, r#"{"session":"AAAA"}"#)]);
    let proxy = Proxy::chat();
    let worker = proxy.with(&asking(green_live(2)));
    let times = useless.clone().count();
    for (number, (status, body)) in useless.enumerate() {
        let sent = worker.send(Request::new().session(format!("session-{number}")));
        question(&worker).answer(status, body);
        assert_eq!(went(&sent), to("green", "hash"), "{status} {body}");
        assert!(sidecar::asks(&worker).is_empty(), "{status} {body}");
    }
    assert_eq!(proxy.count("waits.need.fleet.end.timeout"), times as u64);
    assert_eq!(proxy.count("waits.need.fleet.end.again"), 0);
}

/// Last good: where there is no way any more for the second question, the request goes on by itself at once.
#[test]
fn a_second_question_may_have_no_way() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&asking(green_live(2)));
    worker.tolerate("proxy_http_call");
    let sent = worker.send(Request::new().session("alpha"));
    let asked = question(&worker);
    proxy.process.remove_cluster(sidecar::CLUSTER);
    asked.time_out();
    assert_eq!(went(&sent), to("green", "hash"));
    let ends = ["again", "no_way", "timeout"].map(|end| proxy.count(&format!("waits.need.fleet.end.{end}")));
    assert_eq!(ends, [1, 1, 0]);
}

/// Kept: a session that was placed without the fleet's word is asked after with nobody waiting, once a second until there is
/// an answer, and goes where the fleet has it: it does not move from proxy to proxy for ever.
#[test]
fn a_session_placed_in_vain_goes_where_the_fleet_has_it() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&asking(green_live(2)));
    for session in ["alpha", "beta"] {
        let sent = worker.send(Request::new().session(session));
        question(&worker).time_out();
        question(&worker).time_out();
        assert_eq!(went(&sent), to("green", "hash"));
    }
    proxy.run(u64::from(WAIT_MS), [&worker]);
    let asked = question(&worker);
    assert_eq!(asked.proposals().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [sid("alpha"), sid("beta")]);
    assert_eq!(u64::from(asked.call.timeout_ms), LATER_MS);
    proxy.run(LATER_MS, [&worker]);
    question(&worker).time_out();
    proxy.run(LATER_MS - TICK_MS, [&worker]);
    assert!(sidecar::asks(&worker).is_empty(), "a sidecar that is away is not crowded");
    proxy.run(2 * TICK_MS, [&worker]);
    assert_eq!(went(&worker.send(Request::new().session("alpha"))), to("green", "memory"));
    let asked = question(&worker);
    let stands = asked.proposals().into_iter().filter(|(id, _)| *id == sid("alpha"));
    let stands: Vec<_> = stands.map(|(id, proposal)| (id, Remembered { assignment: BLUE, ..proposal })).collect();
    let version = asked.says.version_info.parse().unwrap();
    asked.say(&stands, version);
    assert_eq!(went(&worker.send(Request::new().session("alpha"))), to("blue", "memory"));
    assert_eq!(went(&worker.send(Request::new().session("beta"))), to("green", "memory"));
    proxy.run(2 * LATER_MS, [&worker]);
    assert!(sidecar::asks(&worker).is_empty(), "an answer is an answer");
    assert_eq!(proxy.count("waits.need.fleet.end.timeout"), 2);
}

/// Bounded: a second question has half of the wait, and after 1 ms there is none: none is ever made without a limit.
#[test]
fn every_question_has_a_limit() {
    for (wait, limits) in [(1, &[1][..]), (2, &[2, 1]), (3, &[3, 1]), (21, &[21, 10]), (5_000, &[5_000, 2_500])] {
        let proxy = Proxy::chat();
        let worker = proxy.with(&waiting(wait, green_live(2)));
        let sent = worker.send(Request::new().session("alpha"));
        for limit in limits {
            let asked = question(&worker);
            assert_eq!(asked.call.timeout_ms, *limit, "{wait}");
            asked.time_out();
        }
        assert_eq!(went(&sent), to("green", "hash"), "{wait}");
    }
}

/// Kept, bounded: a crowd of unknown sessions is asked after in few calls, each with many questions; none is placed without
/// the fleet's word, and whoever asks for the same session is answered with it.
#[test]
fn a_crowd_is_asked_after_in_few_calls() {
    const CROWD: usize = 4_000;
    let proxy = Proxy::chat();
    let worker = proxy.with(&asking(green_live(2)));
    let crowd: Vec<_> = (0..CROWD).map(|n| worker.send(Request::new().session(format!("session-{n}")))).collect();
    let same = worker.send(Request::new().session("session-0"));
    assert!(crowd.iter().all(Sent::waits) && same.waits());
    let mut calls = 0;
    loop {
        let mut out = sidecar::asks(&worker);
        assert!(out.len() <= 8, "{} calls are out", out.len());
        if out.is_empty() {
            break;
        }
        calls += 1;
        let next = out.remove(0);
        assert!(next.proposals().len() <= Records::MAX);
        tell(next, BLUE);
    }
    assert!(crowd.iter().chain([&same]).all(|sent| went(sent) == to("blue", "memory")));
    assert_eq!(calls, 8 + (CROWD - 8 + 1).div_ceil(Records::MAX), "calls");
    let ends = ["met", "full", "timeout"].map(|end| proxy.count(&format!("waits.need.fleet.end.{end}")));
    // The last one found its session here by then.
    assert_eq!(ends, [CROWD as u64, 0, 0]);
}

/// Last good: where nobody answers a crowd, each of it waits for its own two questions and no longer, and goes on by itself.
#[test]
fn a_crowd_without_an_answer_goes_on() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&asking(green_live(2)));
    let crowd: Vec<_> = (0..600).map(|n| worker.send(Request::new().session(format!("session-{n}")))).collect();
    let mut calls = 0;
    while crowd.iter().any(Sent::waits) {
        sidecar::asks(&worker).remove(0).time_out();
        calls += 1;
        assert!(calls < 40, "{} wait for ever", crowd.iter().filter(|sent| sent.waits()).count());
    }
    assert!(crowd.iter().all(|sent| went(sent) == to("green", "hash")));
    assert_eq!(proxy.count("waits.need.fleet.end.timeout"), 600);
}

/// Kept: the questions of a crowd do not end with the client whose callback has sent them.
#[test]
fn a_client_that_leaves_takes_no_question_with_it() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&asking(green_live(2)));
    let first: Vec<_> = (0..8).map(|n| worker.send(Request::new().session(format!("first-{n}")))).collect();
    let rest: Vec<_> = (0..10).map(|n| worker.send(Request::new().session(format!("rest-{n}")))).collect();
    // The answer to the first sends the rest, out of its callback.
    tell(sidecar::asks(&worker).remove(0), BLUE);
    drop(first.into_iter().map(|sent| sent.stream.finish().unwrap()).collect::<Vec<_>>());
    proxy.run(TICK_MS, [&worker]);
    let asks = sidecar::asks(&worker);
    let again = asks.into_iter().rfind(|asked| asked.proposals().len() == rest.len()).expect("asked anew");
    tell(again, BLUE);
    assert!(rest.iter().all(|sent| went(sent) == to("blue", "memory")));
}

/// Cheap: while one slot alone holds sessions nothing is asked, nor for a session that a pin keeps.
#[test]
fn nothing_is_asked_without_need() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&asking(blue_live(1)));
    let sent = worker.send(Request::new().session("alpha"));
    assert_eq!(went(&sent), to("blue", "hash"));
    let pin = sent.answered(&[]).get("x-agent-pin").unwrap().to_vec();
    worker.hear(&asking(green_live(2)));
    let other = Proxy::chat();
    let elsewhere = other.with(&asking(green_live(2)));
    let sent = elsewhere.send(Request::new().session("alpha").pin(&pin));
    assert_eq!(went(&sent), to("blue", "pin"));
    assert!(sidecar::asks(&elsewhere).is_empty() && sidecar::asks(&worker).is_empty());
}

/// Kept: what a worker learns is told with the next tick, whole and once; what was not heard is told again.
#[test]
fn what_is_learnt_is_told_at_the_next_tick() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&asking(blue_live(1)));
    worker.tick();
    let acknowledge = |sequence: u64| format!(r#"{{"acknowledged":{sequence}}}"#);
    let hello = sidecar::reports(&worker).remove(0);
    let first = hello.says.sequence;
    hello.answer(200, acknowledge(first));
    for n in 0..3 {
        worker.send(Request::new().session(format!("session-{n}")));
    }
    worker.send(Request::new());
    proxy.wait(20);
    worker.tick();
    let report = sidecar::reports(&worker).remove(0);
    let [learnt] = report.says.sessions.as_slice() else { panic!("{:?}", report.says) };
    let now = UnixSeconds(worker.now().as_secs());
    let (certainty, visits) = (Certainty::Guess, Visits::First);
    let begun = |id| (id, Remembered { assignment: BLUE, sid: id, began: now, seen: now, certainty, visits });
    let wanted: Vec<_> = (0..3).map(|n| begun(sid(&format!("session-{n}")))).collect();
    assert_eq!(learnt.records.sessions(), Some(wanted));
    let told = report.says.sessions.clone();
    report.answer(503, "");
    proxy.run(1_020, [&worker]);
    let again = sidecar::reports(&worker).remove(0);
    assert_eq!(again.says.sessions, told);
    again.answer(200, acknowledge(first + 1));
    worker.send(Request::new().session("session-0"));
    proxy.run(40, [&worker]);
    let report = sidecar::reports(&worker).remove(0);
    let (id, returned) = report.says.sessions[0].records.only().unwrap();
    assert_eq!(
        (id, returned.visits),
        (sid("session-0"), Visits::Returned),
        "that a session has come back is told once"
    );
    report.answer(200, acknowledge(first + 2));
    worker.send(Request::new().session("session-0"));
    proxy.run(500, [&worker]);
    assert!(
        sidecar::reports(&worker).iter().all(|report| report.says.sessions.is_empty()),
        "what is known is not told again"
    );
}

/// Kept: a snapshot that has proxies flush is answered with all that was learnt, and only then with its number, once for
/// each; a worker that has learnt nothing says so at once.
#[test]
fn a_flush_is_told_when_all_is_told() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&asking(blue_live(1)));
    worker.tick();
    let mut sequence = 0;
    let mut next = || {
        let report = sidecar::reports(&worker).remove(0);
        sequence = report.says.sequence;
        let told = report.says.sessions.clone();
        report.answer(200, format!(r#"{{"acknowledged":{sequence}}}"#));
        told.into_iter().map(|told| (told.records.sessions().unwrap().len(), told.flushed)).collect::<Vec<_>>()
    };
    assert_eq!(next(), [], "nothing was asked");
    for n in 0..Records::MAX + 3 {
        worker.send(Request::new().session(format!("session-{n}")));
    }
    worker.hear(&asking(blue_live(2)));
    worker.tick();
    assert_eq!(next(), [(Records::MAX, None)]);
    proxy.wait(20);
    worker.tick();
    assert_eq!(next(), [(3, Some(2))]);
    proxy.run(500, [&worker]);
    assert!(sidecar::reports(&worker).is_empty(), "it is told once");
    worker.hear(&asking(green_live(3)));
    worker.tick();
    assert_eq!(next(), [(0, Some(3))]);
}

/// Atomic: a proposal on which a newer snapshot comes is made anew by that one, whether the fleet has answered or not: no
/// session begins by an older snapshot than the newest that its proxy has.
#[test]
fn a_switch_while_the_fleet_is_asked_decides_anew() {
    for answers in [true, false] {
        let proxy = Proxy::chat();
        let mut before = asking(blue_live(2));
        before.flush = Some(2);
        let worker = proxy.with(&before);
        let sent = worker.send(Request::new().session("alpha"));
        let asked = question(&worker);
        assert_eq!(asked.proposal().1.assignment, BLUE);
        worker.hear(&asking(green_live(3)));
        if answers {
            tell(asked, BLUE);
            let anew = question(&worker);
            assert_eq!((anew.proposal().1.assignment, &*anew.says.version_info), (GREEN, &*version(3)));
            tell(anew, GREEN);
        } else {
            asked.time_out();
            question(&worker).time_out();
        }
        assert_eq!(went(&sent), to("green", "hash"), "answered: {answers}");
        assert_eq!(went(&worker.send(Request::new().session("alpha"))), to("green", "memory"));
    }
}

/// Atomic: a proposal that the fleet does not take, since a newer snapshot is out, is made anew once that one has come; where
/// it does not come in time the request goes on, counted.
#[test]
fn a_late_proposal_waits_for_the_snapshot() {
    for comes in [true, false] {
        let proxy = Proxy::chat();
        let worker = proxy.with(&asking(blue_live(2)));
        let sent = worker.send(Request::new().session("alpha"));
        let newest = asking(green_live(3));
        question(&worker).say(&[], newest.version());
        assert!(sent.waits(), "comes: {comes}");
        if comes {
            worker.hear(&newest);
            proxy.run(TICK_MS, [&worker]);
            let anew = question(&worker);
            assert_eq!(anew.proposal().1.assignment, GREEN);
            tell(anew, GREEN);
            assert_eq!(went(&sent), to("green", "hash"));
        } else {
            proxy.run(520, [&worker]);
            assert_eq!(went(&sent), to("blue", "hash"));
            assert_eq!(proxy.count("waits.need.fleet.end.late"), 1);
        }
    }
}

fn version(number: u64) -> String {
    asking(green_live(number)).version().to_string()
}
