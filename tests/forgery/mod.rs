//! Forgery, whole: every token and header that a client can make up, and the counter that each must raise and no other.
//!
//! One table, run against the built filter in a small host, and through a real Envoy. The proxy has a bootstrap snapshot
//! and keys, so what comes of a row is known: blue with `b-1` is live, and green with `g-1` drains, so that only a token
//! reaches green.

use std::collections::BTreeMap;

use colorfast_core::ids::{AssignmentId, KeyId, RunId, ServiceName};
use colorfast_core::keys::{Secret, ServiceKeys, SidHasher};
use colorfast_core::time::UnixSeconds;
use colorfast_core::token::{Claims, Signer, pin, preview, run};
use serde_json::{Value, json};

/// The session that every row names.
pub const SESSION: &str = "s-1";

const DAY: u64 = 24 * 3600;
const GREEN: AssignmentId = AssignmentId(102);
const SID_KEY: [u8; 16] = [7; 16];
const KEY: [u8; 32] = [1; 32];
const RUN_KEY: [u8; 32] = [3; 32];

/// One forgery.
#[derive(Debug)]
pub struct Row {
    /// What it is.
    pub what: String,
    /// What the client sends beside the session.
    pub headers: Vec<(&'static str, Vec<u8>)>,
    /// What it sends behind the body.
    pub trailers: Vec<&'static str>,
    /// The counter of the service, and how much it rises; none where the row raises none.
    pub counter: Option<(String, u64)>,
    /// Who sees the row.
    pub meets: Meets,
}

/// Who sees a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meets {
    /// The filter.
    Filter,
    /// Envoy, which lets it not come so far: the header is dropped.
    EnvoyDrops,
    /// Envoy, which refuses the request with 431.
    EnvoyRefuses,
}

/// What the proxy decides by.
pub fn snapshot() -> Value {
    json!({
        "format": 1,
        "service": "chat",
        "settings": {"pin": {"cookie": "always"}, "bootstrap_wait_ms": 0},
        "ring": {"signing": 1, "verifying": [1]},
        "run_ring": {"signing": 1, "verifying": [1]},
        "newest_assignment": 103,
        "slots": [
            {"name": "blue", "phase": "live", "weight": 10_000, "assignment": 101, "bundle": {"id": "b-1"}},
            {"name": "green", "phase": "draining", "assignment": GREEN, "bundle": {"id": "g-1"}},
        ],
    })
}

/// The keys of the proxy, as `COLORFAST_KEYS` has them.
pub fn keys() -> String {
    let ring = |key| BTreeMap::from([(KeyId(1), Secret::new(key))]);
    let keys = ServiceKeys { sid: Secret::new(SID_KEY), ring: ring(KEY), runs: ring(RUN_KEY) };
    json!({ "chat": keys }).to_string()
}

/// Every forgery at this time.
pub fn rows(now: UnixSeconds) -> Vec<Row> {
    let mut rows = Vec::new();
    pins(now, &mut rows);
    others(now, &mut rows);
    stamps(&mut rows);
    rows
}

/// Requests whose tokens are true: each reaches green, by this rule. What is refused above is refused for what is wrong
/// with it.
pub fn true_tokens(now: UnixSeconds) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let cookie = [b"agent-pin-chat=", sign(&pin_of(now), KEY).as_slice()].concat();
    vec![
        ("pin", "x-agent-pin", sign(&pin_of(now), KEY)),
        ("pin", "cookie", cookie),
        ("preview", "x-agent-preview", sign(&preview_of(now), KEY)),
        ("run", "baggage", baggage(&run_token(&run_of(now), RUN_KEY))),
    ]
}

fn pins(now: UnixSeconds, rows: &mut Vec<Row>) {
    let claims = pin_of(now);
    let good = sign(&claims, KEY);
    let mut add = |what: &str, pin: Vec<u8>, cause: &str| {
        let counter = |times| Some((format!("tokens_refused.kind.pin.cause.{cause}"), times));
        let row = |what: String, headers, times| Row { counter: counter(times), ..row(what, headers) };
        rows.push(row(format!("pin {what}"), vec![("x-agent-pin", pin.clone())], 1));
        // Clients put quotation marks around cookies: those are none of the pin's.
        let is_quoted = pin.starts_with(b"\"");
        if !is_quoted {
            rows.push(row(format!("pin {what}, by cookie"), vec![cookie(&pin)], 1));
        }
        let twice = vec![("x-agent-pin", pin.clone()), ("x-agent-pin", pin.clone())];
        rows.push(row(format!("pin {what}, duplicated"), twice, 2));
        if !is_quoted {
            let both = vec![("x-agent-pin", pin.clone()), cookie(&pin)];
            rows.push(row(format!("pin {what}, by both carriers"), both, 2));
        }
    };
    spoilt(&good, &mut add);
    add("signed with another key of the id", sign(&claims, [2; 32]), "bad_mac");
    add("signed by a key that is not in the ring", sign_as(&claims, "chat", 9, KEY), "unknown_key");
    add("of another service", sign_as(&claims, "code", 1, KEY), "bad_mac");
    let past = |age: u64| UnixSeconds(now.0 - age);
    let ages = |began, refreshed| sign(&pin::Claims { began, refreshed, ..claims }, KEY);
    add("expired", ages(past(8 * DAY), now), "expired");
    add("idle", ages(past(2 * DAY), past(2 * DAY)), "idle");
    add("that begins tomorrow", ages(now.plus(DAY), now), "future");
    add("refreshed tomorrow", ages(now, now.plus(DAY)), "future");
    let broken = pin::Claims { assignment: AssignmentId(99), ..claims };
    add("of a broken assignment", sign(&broken, KEY), "broken");
    let other = pin::Claims { sid: SidHasher::new(&Secret::new(SID_KEY)).sid(b"s-2"), ..claims };
    add("of another conversation in a shared cookie jar", sign(&other, KEY), "other_session");

    let malformed = |times| Some(("tokens_refused.kind.pin.cause.malformed".to_owned(), times));
    let (first, second) = good.split_at(29);
    let alone = |part: &[u8]| ("cookie", [b"agent-pin-chat=", part].concat());
    let split = [alone(first), alone(second)];
    rows.push(Row { counter: malformed(2), ..row("pin split over two cookie lines", split.to_vec()) });
    let one_line = [b"agent-pin-chat=", first, b"; agent-pin-chat=", second].concat();
    rows.push(Row { counter: malformed(2), ..row("pin split over two cookies", vec![("cookie", one_line)]) });
    let long = |bytes: usize| vec![("x-agent-pin", good.iter().copied().cycle().take(bytes).collect())];
    rows.push(Row { counter: malformed(1), ..row("pin of almost 60 KiB", long(59 * 1024)) });
    let refused = Row { meets: Meets::EnvoyRefuses, ..row("pin of 60 KiB", long(60 * 1024)) };
    rows.push(Row { counter: malformed(1), ..refused });
}

fn others(now: UnixSeconds, rows: &mut Vec<Row>) {
    let claims = preview_of(now);
    let mut add = |what: &str, token: Vec<u8>, cause: &str| {
        let counter = Some((format!("tokens_refused.kind.preview.cause.{cause}"), 1));
        rows.push(Row { counter, ..row(format!("preview token {what}"), vec![("x-agent-preview", token)]) });
    };
    spoilt(&sign(&claims, KEY), &mut add);
    add("signed with another key of the id", sign(&claims, [2; 32]), "bad_mac");
    add("signed by a key that is not in the ring", sign_as(&claims, "chat", 9, KEY), "unknown_key");
    add("of another service", sign_as(&claims, "code", 1, KEY), "bad_mac");
    let ends = |expires| sign(&preview::Claims { expires, ..claims.clone() }, KEY);
    add("expired", ends(UnixSeconds(now.0 - 1)), "expired");
    add("good for two days", ends(now.plus(2 * DAY)), "future");
    let to = |slot: &str| sign(&preview::Claims { slot: slot.parse().unwrap(), ..claims.clone() }, KEY);
    add("of a slot that there is not", to("mauve"), "no_slot");
    add("that is a pin", sign(&pin_of(now), KEY), "malformed");

    let claims = run_of(now);
    let mut add = |what: &str, token: Vec<u8>, cause: &str| {
        let counter = |times| Some((format!("tokens_refused.kind.run.cause.{cause}"), times));
        let member = baggage(&token);
        rows.push(Row { counter: counter(1), ..row(format!("run token {what}"), vec![("baggage", member.clone())]) });
        let twice = vec![("baggage", [member.as_slice(), b",", &member].concat())];
        rows.push(Row { counter: counter(2), ..row(format!("run token {what}, duplicated"), twice) });
    };
    spoilt(&run_token(&claims, RUN_KEY), &mut add);
    add("of another application", run_token(&claims, [4; 32]), "bad_mac");
    add("signed with the key of pins", run_token(&claims, KEY), "bad_mac");
    let began = |began| run_token(&run::Claims { began, ..claims.clone() }, RUN_KEY);
    add("expired", began(UnixSeconds(now.0 - 8 * DAY)), "expired");
    add("that begins tomorrow", began(now.plus(DAY)), "future");
    add("that is a pin", sign(&pin_of(now), KEY), "malformed");
}

/// What can be done to the text of a token.
fn spoilt(good: &[u8], add: &mut impl FnMut(&str, Vec<u8>, &str)) {
    let flipped = |at: usize| {
        let mut token = good.to_vec();
        token[at] = if token[at] == b'A' { b'B' } else { b'A' };
        token
    };
    add("altered in its kind", flipped(0), "malformed");
    add("altered in what it says", flipped(8), "bad_mac");
    add("altered in its signature", flipped(good.len() - 9), "bad_mac");
    add("cut to nothing", Vec::new(), "malformed");
    add("cut to eight characters", good[..8].to_vec(), "malformed");
    add("made longer by one character", [good, b"~"].concat(), "malformed");
    add("padded", [good, b"=="].concat(), "malformed");
    add("in quotation marks", [b"\"", good, b"\""].concat(), "malformed");
    add("in hexadecimal digits", good.iter().flat_map(|b| format!("{b:02x}").into_bytes()).collect(), "malformed");
    add("percent-encoded", good.iter().flat_map(|b| format!("%{b:02X}").into_bytes()).collect(), "malformed");
    add("in no text at all", vec![0xff; good.len()], "malformed");
}

/// Every internal header, sent by a client.
fn stamps(rows: &mut Vec<Row>) {
    let forged = || Some(("forged_headers".to_owned(), 1));
    let stamps = ["x-agent-slot", "x-agent-bundle", "x-agent-decision"];
    let values: [&[u8]; 6] = [b"green", b"g-1", b"preview", b"\xff\xfegreen", b"agent_green", b"a, green"];
    for name in stamps {
        for value in values {
            let what = format!("{name}: {}", value.escape_ascii());
            rows.push(Row { counter: forged(), ..row(what, vec![(name, value.to_vec())]) });
        }
        let twice = vec![(name, b"green".to_vec()), (name, b"blue".to_vec())];
        rows.push(Row { counter: forged(), ..row(format!("{name}, duplicated"), twice) });
    }
    let all = stamps.iter().map(|name| (*name, b"green".to_vec())).collect();
    rows.push(Row { counter: forged(), ..row("every stamp at once", all) });
    let underscores = ["x_agent_slot", "x_agent_bundle", "x_agent_decision", "x_agent_pin", "x_agent_preview"];
    for name in underscores {
        let meets = Meets::EnvoyDrops;
        rows.push(Row { meets, ..row(format!("{name}, with underscores"), vec![(name, b"green".to_vec())]) });
    }
    let ours =
        ["x-agent-slot", "x-agent-bundle", "x-agent-decision", "x-agent-pin", "x-agent-preview", "x-agent-client-sent"];
    for name in ours {
        rows.push(Row { trailers: vec![name], ..row(format!("{name}, in a trailer"), Vec::new()) });
    }
}

fn row(what: impl Into<String>, headers: Vec<(&'static str, Vec<u8>)>) -> Row {
    Row { what: what.into(), headers, trailers: Vec::new(), counter: None, meets: Meets::Filter }
}

fn cookie(pin: &[u8]) -> (&'static str, Vec<u8>) {
    ("cookie", [b"theme=dark; agent-pin-chat=", pin].concat())
}

fn baggage(token: &[u8]) -> Vec<u8> {
    [b"agent.run=", token].concat()
}

fn pin_of(now: UnixSeconds) -> pin::Claims {
    let sid = SidHasher::new(&Secret::new(SID_KEY)).sid(SESSION.as_bytes());

    pin::Claims { kind: pin::Kind::Bound, sid, assignment: GREEN, began: now, refreshed: now }
}

fn preview_of(now: UnixSeconds) -> preview::Claims {
    preview::Claims { expires: now.plus(3600), slot: "green".parse().unwrap() }
}

fn run_of(now: UnixSeconds) -> run::Claims {
    run::Claims { run: RunId(9), began: now, bundle: "g-1".parse().unwrap() }
}

fn sign<C: Claims>(claims: &C, key: [u8; 32]) -> Vec<u8> {
    sign_as(claims, "chat", 1, key)
}

fn sign_as<C: Claims>(claims: &C, service: &str, id: u16, key: [u8; 32]) -> Vec<u8> {
    let (service, id, key): (ServiceName, _, _) = (service.parse().unwrap(), KeyId(id), Secret::new(key));
    Signer::new(&service, id, [(id, &key)]).unwrap().mint(claims).into_bytes()
}

fn run_token(claims: &run::Claims, key: [u8; 32]) -> Vec<u8> {
    let key = Secret::new(key);
    run::Signer::of_application(KeyId(1), [(KeyId(1), &key)]).unwrap().mint(claims).into_bytes()
}
