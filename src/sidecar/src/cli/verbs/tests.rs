use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::cli::fake::{self, Fake, applied, confirmation};
use serde_json::Value;

const SWITCH: &str = r#"{"verb": "switch", "slot": "green"}"#;

fn verb(json: &str) -> Verb {
    serde_json::from_str(json).unwrap()
}

fn manner(patience: Patience) -> Manner {
    let (key, lost_limit) = ("a \"key\"".parse().unwrap(), Duration::from_secs(10));
    Manner { patience, expected_version: None, key, lost_limit }
}

async fn switch(fake: &Fake, patience: Patience) -> Result<Carried, Failure> {
    let request = VerbRequest { expected_version: Some(6), verb: verb(SWITCH) };
    carry_out(&fake.client, &"chat".parse().unwrap(), &request, &manner(patience)).await
}

/// Answers each question of a kind with the next answer of its row, and the last one for ever.
fn rows(verbs: Vec<(u16, Value)>, confirmations: Vec<Value>) -> impl Fn(&fake::Asked) -> (u16, Value) + Send + Sync {
    let (sent, asked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    move |question| {
        if question.line.starts_with("POST") {
            return verbs[sent.fetch_add(1, Ordering::SeqCst).min(verbs.len() - 1)].clone();
        }
        (200, confirmations[asked.fetch_add(1, Ordering::SeqCst).min(confirmations.len() - 1)].clone())
    }
}

fn refusal() -> Value {
    let mut refusal = fake::problem(409, "not-introduced");
    refusal["awaited_version"] = 5.into();
    refusal["members"] = serde_json::json!(["b/2"]);
    refusal
}

const WAIT: Patience = Patience::Wait(Duration::from_secs(10));
const MOMENT: Patience = Patience::Wait(Duration::from_millis(30));

/// A verb returns once every member has obeyed.
#[tokio::test]
async fn waits_until_every_member_has_obeyed() {
    let answers = rows(
        vec![(200, applied(7, confirmation(7, "pending", &[("a/1", "silent"), ("b/2", "silent")])))],
        vec![
            confirmation(7, "pending", &[("a/1", "acknowledged"), ("b/2", "lagging")]),
            confirmation(7, "confirmed", &[("a/1", "acknowledged"), ("b/2", "acknowledged")]),
        ],
    );
    let fake = Fake::start(answers).await;
    let carried = switch(&fake, WAIT).await.unwrap();
    assert_eq!(carried.ending, Some(Ending::Confirmed));
    assert_eq!(fake.asked()[0].body, serde_json::json!({"expected_version": 6, "verb": "switch", "slot": "green"}));
    assert_eq!(fake.asked().len(), 3);
    let text = report(&verb(SWITCH), &carried.response, carried.ending, Duration::ZERO, &Output::plain());
    assert_eq!(text, "switched to green (v7, assignment 9): 2 of 2 members obeyed after 34.1 ms\n");
}

/// Confirmation is not claimed over a member that stays silent, nor waited for over one that refused.
#[tokio::test]
async fn never_claims_confirmation() {
    for (state, patience) in [("silent", MOMENT), ("refused", WAIT)] {
        let pending = confirmation(7, "pending", &[("a/1", "acknowledged"), ("b/2", state)]);
        let fake = Fake::start(rows(vec![(200, applied(7, pending.clone()))], vec![pending])).await;
        let carried = switch(&fake, patience).await.unwrap();
        assert_eq!(carried.ending.map(Ending::exit), Some(Exit::Unconfirmed), "{state}");
        let text = report(&verb(SWITCH), &carried.response, carried.ending, Duration::from_secs(1), &Output::plain());
        assert!(text.contains("applied, not confirmed: 1 of 2 members obeyed"), "{text}");
        assert!(text.contains(&format!("  b/2  {state}")), "{text}");
    }
}

/// Without waiting, and without members, a verb is done when it is in the log, and says no more than that.
#[tokio::test]
async fn claims_no_more_than_it_knows() {
    let pending = confirmation(7, "pending", &[("a/1", "silent")]);
    let fake = Fake::start(rows(vec![(200, applied(7, pending))], vec![])).await;
    let carried = switch(&fake, Patience::Return).await.unwrap();
    assert_eq!(carried.ending, Some(Ending::NotAwaited));
    let nobody = confirmation(7, "no_members", &[]);
    let fake = Fake::start(rows(vec![(200, applied(7, nobody))], vec![])).await;
    let carried = switch(&fake, WAIT).await.unwrap();
    assert_eq!(carried.ending, Some(Ending::NoMembers));
    let text = report(&verb(SWITCH), &carried.response, carried.ending, Duration::ZERO, &Output::plain());
    assert_eq!(text, "switched to green (v7, assignment 9): applied, unconfirmed (0 members)\n");
}

/// No weight goes to what a member does not know: the verb waits for that member, and is then sent again.
#[tokio::test]
async fn waits_for_introductions() {
    let known = confirmation(5, "confirmed", &[("b/2", "acknowledged")]);
    let done = confirmation(7, "confirmed", &[("b/2", "acknowledged")]);
    let verbs = vec![(409, refusal()), (200, applied(7, done))];
    let fake = Fake::start(rows(verbs, vec![confirmation(5, "pending", &[("b/2", "lagging")]), known])).await;
    let carried = switch(&fake, WAIT).await.unwrap();
    assert_eq!(carried.ending, Some(Ending::Confirmed));
    let lines = fake.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("POST")).count(), 2, "{lines:?}");
    assert!(lines[1].ends_with("/confirmations/5"), "{lines:?}");
}

/// A member that never learns of the assignment ends in the refusal, and nothing has changed.
#[tokio::test]
async fn introductions_that_do_not_come_are_refusals() {
    let lagging = confirmation(5, "pending", &[("b/2", "lagging")]);
    for (patience, sent) in [(MOMENT, 2), (Patience::Return, 1)] {
        let fake = Fake::start(rows(vec![(409, refusal())], vec![lagging.clone()])).await;
        let refused = switch(&fake, patience).await.unwrap_err();
        assert_eq!(refused.exit(), Exit::Refused);
        assert_eq!(fake.lines().iter().filter(|line| line.starts_with("POST")).count(), sent);
    }
    // Nor is a sidecar asked for ever that contradicts itself.
    let known = confirmation(5, "confirmed", &[("b/2", "acknowledged")]);
    let fake = Fake::start(rows(vec![(409, refusal())], vec![known])).await;
    assert_eq!(switch(&fake, WAIT).await.unwrap_err().exit(), Exit::Refused);
    assert_eq!(fake.lines().len(), 3);
}

/// Such a refusal says what each member said, and offers to forget nobody but the silent.
#[tokio::test]
async fn refused_introductions_say_why() {
    for patience in [WAIT, Patience::Return] {
        let nack = confirmation(5, "pending", &[("a/1", "acknowledged"), ("b/2", "refused"), ("-c/3", "silent")]);
        let settled = confirmation(5, "pending", &[("a/1", "acknowledged"), ("b/2", "refused")]);
        for (confirmation, forget) in [(settled, None), (nack, Some("colorfast member forget -- -c/3"))] {
            let patience = if forget.is_some() && patience == WAIT { MOMENT } else { patience };
            let fake = Fake::start(rows(vec![(409, refusal())], vec![confirmation])).await;
            let Failure::Told(told) = switch(&fake, patience).await.unwrap_err() else { panic!("not told") };
            assert!(told.problem.detail.contains("\nb/2  refused it: settings.x: no"), "{}", told.problem.detail);
            assert!(!told.problem.detail.contains("a/1"), "{}", told.problem.detail);
            assert_eq!(told.next[0], "colorfast status");
            assert_eq!(told.next.get(1).map(|step| step.split("   ").next().unwrap()), forget);
        }
    }
}

/// What came of a verb alone gives the exit code, also where nobody can be told.
#[tokio::test]
async fn unwritable_output_changes_no_outcome() {
    use std::io::ErrorKind;
    let chat = "chat".parse().unwrap();
    for (state, outcome, exit) in [("acknowledged", "confirmed", Exit::Done), ("refused", "pending", Exit::Unconfirmed)]
    {
        for kind in [ErrorKind::StorageFull, ErrorKind::BrokenPipe] {
            for format in [Format::Text, Format::Json] {
                let done = confirmation(7, outcome, &[("a/1", state)]);
                let fake = Fake::start(rows(vec![(200, applied(7, done.clone()))], vec![done])).await;
                let output = Output::broken(format, kind);
                let ended = run(&fake.client, &output, &chat, verb(SWITCH), manner(WAIT)).await;
                assert_eq!(ended.unwrap(), exit, "{kind} {format:?}");
            }
        }
    }
}

/// A sidecar that goes away while a verb waits does not undo the verb: it is applied, and unconfirmed.
#[tokio::test]
async fn outages_while_waiting_leave_it_unconfirmed() {
    let pending = confirmation(7, "pending", &[("a/1", "silent")]);
    let answer = move |asked: &fake::Asked| match asked.line.starts_with("POST") {
        true => (200, applied(7, pending.clone())),
        false => (503, fake::problem(503, "outage")),
    };
    let carried = switch(&Fake::start(answer).await, MOMENT).await.unwrap();
    assert_eq!(carried.ending.map(Ending::exit), Some(Exit::Unconfirmed));
    assert_eq!(carried.lost.map(|lost| lost.exit()), Some(Exit::Outage));
}

/// A verb whose answer is lost is sent again under its key, and the operator is told what came of it the first time;
/// one whose sidecar does not come back is left with the key, and the command that finds out.
#[tokio::test]
async fn lost_answers_are_asked_for_again() {
    for (comes_back, limit) in [(true, Duration::from_secs(20)), (false, Duration::from_millis(300))] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sidecar = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut keys = Vec::new();
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut seen = String::new();
                while !seen.ends_with('}') {
                    let mut bytes = [0; 4096];
                    let read = stream.read(&mut bytes).await.unwrap();
                    seen.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
                }
                keys.push(seen.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap().to_owned());
                // The connection breaks twice: nobody can know whether the verb was carried out.
                if number < 2 || !comes_back {
                    continue;
                }
                let mut done = applied(7, confirmation(7, "no_members", &[]));
                done["repeated"] = true.into();
                let done = done.to_string();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", done.len());
                stream.write_all(format!("{head}{done}").as_bytes()).await.unwrap();
                break;
            }
            keys
        });
        let request = VerbRequest { expected_version: None, verb: verb(SWITCH) };
        let manner = Manner { lost_limit: limit, ..manner(Patience::Return) };
        let client = fake::client(&format!("http://{address}"));
        let carried = carry_out(&client, &"chat".parse().unwrap(), &request, &manner).await;
        if comes_back {
            let response = carried.unwrap().response;
            assert!(response.repeated && response.changed);
            assert_eq!(sidecar.await.unwrap(), [r#""a \"key\"""#; 3]);
            let text = report(&verb(SWITCH), &response, Some(Ending::NoMembers), Duration::ZERO, &Output::plain());
            assert!(text.starts_with("done when this was sent first: switched to green (v7"), "{text}");
        } else {
            let Failure::Told(told) = carried.unwrap_err() else { panic!("not told") };
            assert_eq!(told.exit, Exit::Outage);
            assert!(told.problem.detail.contains("may have been done or not"), "{}", told.problem.detail);
            assert!(told.next[1].contains("--idempotency-key 'a \"key\"'"), "{:?}", told.next);
            sidecar.abort();
        }
    }
}

/// Each verb tells what it did.
#[test]
fn verbs_tell_what_they_did() {
    let response: VerbResponse = serde_json::from_value(applied(7, confirmation(7, "no_members", &[]))).unwrap();
    let cases = [
        (r#"{"verb": "stage", "slot": "green", "bundle": "b1"}"#, "staged b1 in green"),
        (r#"{"verb": "ramp", "slot": "green", "weight": 250}"#, "ramped green to 2.5% of new sessions"),
        (r#"{"verb": "ramp", "slot": "green", "weight": 0}"#, "ramped green to 0%, it drains"),
        (r#"{"verb": "abort", "slot": "green", "pins": "keep"}"#, "aborted green, its sessions stay until they end"),
        (
            r#"{"verb": "rollback", "to": null, "pins": "break"}"#,
            "rolled back to green, sessions left behind leave at their next request",
        ),
        (r#"{"verb": "migrate", "slot": "blue"}"#, "migrated blue, its sessions leave at their next request"),
        (r#"{"verb": "recycle", "slot": "blue", "force": null}"#, "recycled blue, it is idle"),
        (r#"{"verb": "apply", "settings": {}}"#, "settings of chat"),
    ];
    for (json, wanted) in cases {
        assert_eq!(said(&verb(json), &response), wanted);
    }
}
