use serde_json::{Value, json};

use super::*;
use crate::cli::fake::{self, Fake};

fn args(edit: impl FnOnce(&mut Why)) -> Why {
    let mut args = Why {
        session: None,
        pin: Vec::new(),
        header: Vec::new(),
        method: None,
        path: None,
        host: None,
        client_address: None,
        from_log: None,
        at: None,
    };
    edit(&mut args);
    args
}

fn explanation(outcome: Value) -> Value {
    json!({"service": "chat", "version": "5.3", "at": 1_763_719_200_000_u64, "outcome": outcome, "notes": ["n\u{1b}[2J"],
        "rules": [{"rule": "pin", "verdict": "did_not_apply", "said": "no pin"},
            {"rule": "hash", "verdict": "applied", "said": "it is so"},
            {"rule": "random", "verdict": "not_asked", "said": "not asked"}]})
}

fn green(reason: &str) -> Value {
    json!({"kind": "slot", "slot": "green", "bundle": "v2", "reason": reason})
}

fn line(decided: Value) -> String {
    json!({"time": "2025-11-21T10:00:00.250Z", "decided": decided, "gen_ai.conversation.id": "a1", "authority": "h", "path": "/p",
        "status": 200, "request_id": "r"})
    .to_string()
}

/// A tired person sees where the request goes first, then each rule in a line; strangers cannot write escapes.
#[test]
fn one_line_for_each_rule() {
    let explained: Explanation = serde_json::from_value(explanation(green("hash"))).unwrap();
    let wanted = "chat at 5.3, 2025-11-21T10:00:00Z\ngoes to green, which runs v2, by hash\n\n  pin      no   no pin\n  \
        hash     yes  it is so\n  random   -    not asked\n\nnote: n\\u{1b}[2J\n";
    assert_eq!(text(&explained, None, Paint::Off), wanted);
}

/// A header line is read as clients write it; anything else is refused with what would be right.
#[test]
fn header_lines() {
    let read = header("X-Agent-Session:  a:1 ").unwrap();
    assert_eq!((read.name.as_str(), read.value.as_str()), ("X-Agent-Session", "a:1"));
    for wrong in ["", ":", ": x", "x-agent-session"] {
        assert!(header(wrong).unwrap_err().contains("'x-agent-session: a1'"), "{wrong}");
    }
}

/// A line of the log is asked about at its own version and time, in its own service.
#[tokio::test]
async fn a_log_line_is_asked_at_its_version() {
    let fake = Fake::start(|asked| match asked.line.ends_with("/why") {
        true => (200, explanation(green("hash"))),
        false => (200, fake::status(9)),
    })
    .await;
    let asked = Asked::read(args(|args| args.from_log = Some(line(json!("chat/green/hash/5.3/v2"))))).unwrap();
    assert_eq!(asked.service().map(ServiceName::as_str), Some("chat"));
    run(&fake.client, &Output::plain(), &"chat".parse().unwrap(), asked).await.unwrap();
    let wanted =
        json!({"request": {"session": "a1", "path": "/p", "host": "h"}, "version": 3, "at": 1_763_719_200_250_u64});
    assert_eq!(fake.asked().last().unwrap().body, wanted);
    // Under another log a version of that number is another thing.
    let asked = Asked::read(args(|args| args.from_log = Some(line(json!("chat/green/hash/4.3/v2"))))).unwrap();
    run(&fake.client, &Output::plain(), &"chat".parse().unwrap(), asked).await.unwrap();
    assert_eq!(fake.asked().last().unwrap().body.get("version"), None);
}

/// What was logged and what is computed are compared, and a difference is explained for what it is.
#[test]
fn differences_are_explained() {
    let chance = json!({"kind": "chance", "reason": "random",
        "shares": [{"slot": "blue", "bundle": "v1", "weight": 7500}, {"slot": "green", "bundle": "v2", "weight": 2500}]});
    let cases = [
        (json!("chat/green/hash/5.3/v2"), green("hash"), "as computed"),
        (json!("chat/green/random/5.3/v2"), chance.clone(), "chance chose that one"),
        (json!("chat/blue/pin/5.3/v1"), green("hash"), "pins stand in no log"),
        (json!("chat/blue/preview/5.3/v1"), green("hash"), "preview token, which stands in no log"),
        (json!("chat/blue/hash/5.2/v1"), green("hash"), "decided by 5.2, and above by 5.3"),
        (json!("chat/blue/hash/5.3/v1"), chance, "a session id that is not in the log"),
        (json!("chat/blue/hash/5.3/v1"), green("hash"), "though the version is the same"),
        (json!(null), green("hash"), "nothing was decided then"),
        (json!("-"), json!({"kind": "unrouted"}), "as logged"),
    ];
    for (decided, outcome, wanted) in cases {
        let explained: Explanation = serde_json::from_value(explanation(outcome)).unwrap();
        let says = Logged::parse(&line(decided)).unwrap().compare(&explained).join("\n");
        assert!(says.contains(wanted), "{says}\nlacks {wanted}");
    }
}

/// A line that is none is refused with what is wrong with it.
#[test]
fn wrong_lines_are_refused() {
    for (text, wanted) in [
        ("nonsense", "is no such line"),
        ("{}", "missing field `time`"),
        (r#"{"time":"yesterday"}"#, "time: "),
        (r#"{"time":"2025-11-21T10:00:00Z","decided":"chat/green"}"#, "decided: "),
    ] {
        let Failure::Told(told) = Asked::read(args(|args| args.from_log = Some(text.to_owned()))).unwrap_err() else {
            panic!("{text}")
        };
        assert!(told.problem.detail.contains(wanted), "{}", told.problem.detail);
    }
}
