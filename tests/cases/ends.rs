//! Sessions that end by the agent's word, or since its client asked for it: they are forgotten, and begin anew.

use colorfast_core::names::HEADER_MCP_SESSION;
use colorfast_core::snapshot::Snapshot;
use colorfast_core::time::UnixSeconds;

use crate::proxy::{Proxy, Worker};
use crate::releases::{RunKey, blue_live, green_live, run_token};
use crate::request::Request;
use crate::sidecar;

/// The agent says so by `x-agent-session-end`.
fn ending(mut snapshot: Snapshot) -> Snapshot {
    snapshot.settings.session_end_header = Some("x-agent-session-end".parse().unwrap());
    snapshot
}

fn goes(worker: &Worker, request: Request) -> (String, String) {
    let sent = worker.send(request);
    (sent.slot().unwrap(), sent.decision().unwrap())
}

fn to(slot: &str, rule: &str) -> (String, String) {
    (slot.to_owned(), rule.to_owned())
}

/// Kept: a session goes on until the agent ends it; from then on its id begins a new one, on what is live. Its answer hands
/// out no pin, and takes back the one that came in a cookie.
#[test]
fn the_agent_ends_a_session() {
    let worker = Proxy::chat().with(&ending(blue_live(1)));
    let alpha = || Request::new().session("alpha");
    let pin = worker.send(alpha()).answered(&[]).text("x-agent-pin").unwrap().to_owned();
    worker.hear(&ending(green_live(2)));
    worker.send(alpha()).answered(&[("x-agent-session-end", "")]);
    assert_eq!(goes(&worker, alpha()), to("blue", "memory"));
    let last = worker.send(alpha().cookie(&format!("agent-pin-chat={pin}")));
    let answer = last.answered(&[("x-agent-session-end", "1")]);
    assert_eq!(answer.get("x-agent-pin"), None);
    let taken_back = answer.text("set-cookie").unwrap();
    assert!(taken_back.starts_with("agent-pin-chat=;") && taken_back.contains("Max-Age=0"), "{taken_back}");
    assert_eq!(goes(&worker, alpha()), to("green", "hash"));
}

/// Kept: a run goes on until the agent says that it has completed or failed; any other word says nothing. Whoever comes with
/// its token, and whose bundle is gone, begins a session anew then.
#[test]
fn the_agent_ends_a_run() {
    for (status, decision) in
        [("completed", "hash"), (" failed", "hash"), ("running", "memory"), ("", "memory"), ("Completed", "memory")]
    {
        let of_runs = |mut snapshot: Snapshot| {
            snapshot.settings.runs.status_header = Some("x-agent-run-status".parse().unwrap());
            snapshot
        };
        let proxy = Proxy::chat();
        let worker = proxy.with(&of_runs(blue_live(1)));
        let token = run_token(UnixSeconds(proxy.process.now().as_secs()), "gone-1", RunKey::Own);
        let run = || Request::new().with("baggage", format!("agent.run={token}"));
        assert_eq!(goes(&worker, run()), to("blue", "hash"));
        worker.hear(&of_runs(green_live(2)));
        assert_eq!(goes(&worker, run()), to("blue", "memory"));
        worker.send(run()).answered(&[("x-agent-run-status", status)]);
        let slot = if decision == "hash" { "green" } else { "blue" };
        assert_eq!(goes(&worker, run()), to(slot, decision), "{status}");
    }
}

/// Kept: a client of MCP that deletes its session has ended it, once the agent agrees. Its envelope still leads to the agent
/// that knows the session to be over, and answers so.
#[test]
fn a_client_of_mcp_ends_its_session() {
    let worker = Proxy::chat().with(&blue_live(1));
    let begun = worker.send(Request::new()).answered(&[(HEADER_MCP_SESSION, "inner")]);
    let envelope = begun.text(HEADER_MCP_SESSION).unwrap().to_owned();
    worker.hear(&green_live(2));
    let with = |method: &str| Request::new().instead(":method", method).with(HEADER_MCP_SESSION, &envelope);
    let delete = worker.send(with("DELETE"));
    delete.stream.response_headers([(":status", "405")]).unwrap();
    assert_eq!(goes(&worker, with("POST")), to("blue", "memory"));
    worker.send(with("DELETE")).answered(&[]);
    assert_eq!(goes(&worker, with("POST")), to("blue", "pin"));
}

/// Kept: the fleet is told of the end, under the keyed hash of the id alone.
#[test]
fn the_fleet_is_told() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&ending(blue_live(1)));
    worker.tick();
    let hear = || {
        let report = sidecar::reports(&worker).remove(0);
        let sequence = report.says.sequence;
        let told = report.says.sessions.iter().flat_map(|told| told.records.sessions().unwrap()).collect::<Vec<_>>();
        report.answer(200, format!(r#"{{"acknowledged":{sequence}}}"#));
        told
    };
    hear();
    worker.send(Request::new().session("alpha")).answered(&[("x-agent-session-end", "1")]);
    proxy.wait(20);
    worker.tick();
    let told = hear();
    let [(id, begun), (ended, end)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((id, begun.sid), (ended, end.sid));
    assert!(!begun.has_ended() && end.has_ended());
}

/// Cheap: where no setting names the header, it means nothing.
#[test]
fn by_default_the_header_means_nothing() {
    let worker = Proxy::chat().with(&blue_live(1));
    let alpha = || Request::new().session("alpha");
    worker.send(alpha()).answered(&[("x-agent-session-end", "1")]);
    worker.hear(&green_live(2));
    assert_eq!(goes(&worker, alpha()), to("blue", "memory"));
}
