//! A row through `why`: the same request, explained.

use colorfast_core::decide::Reason;
use colorfast_core::plan::Plan;
use colorfast_core::time::UnixMillis;
use colorfast_core::why::{HeaderLine, Outcome, Recall, Request, Verdict, explain};

use super::native::ARRIVED;
use super::table::Case;
use crate::decisions::table::Bytes;

/// Checks one row. A redirect's second pass cannot be asked about, nor can what is no text.
pub fn check(case: &Case) {
    let Some(request) = request(case).filter(|_| case.request.earlier_pass.is_none()) else { return };
    let (name, wanted) = (&case.name, &case.wanted);
    let plan = Plan::compile(&case.given.snapshot(), case.given.keys().as_ref()).unwrap();
    let waited: u64 = wanted.waits_for.iter().map(|wait| wait.limit_ms()).sum();
    let now = UnixMillis(ARRIVED.0 + waited);
    let remembered = case.given.remembered(ARRIVED.seconds());
    let recall = |id| remembered.iter().find(|(known, _)| *known == id).map(|(_, session)| *session);
    let explained = explain(&plan, &request, now, &Recall::Fleet(&recall));
    let (slots, reason) = match &explained.outcome {
        Outcome::Slot { slot, reason, .. } => (vec![slot.as_str()], Some(*reason)),
        Outcome::Chance { shares, reason } => (shares.iter().map(|share| share.slot.as_str()).collect(), Some(*reason)),
        Outcome::Gone | Outcome::Ended | Outcome::Unrouted => (Vec::new(), None),
    };
    assert_eq!(reason.map(Reason::as_str), wanted.decision.as_deref(), "{name}: {explained:#?}");
    assert_eq!(slots, wanted.slot.names(), "{name}: {explained:#?}");
    let rules: Vec<_> = explained.rules.iter().map(|said| said.rule).collect();
    assert_eq!(rules, Reason::ALL, "{name}: a line for every rule");
    let applied = explained.rules.iter().filter(|said| said.verdict == Verdict::Applied).map(|said| said.rule);
    assert_eq!(applied.collect::<Vec<_>>(), Vec::from_iter(reason), "{name}");
    assert!(explained.rules.iter().all(|said| !said.said.is_empty()), "{name}");
    // Every pin that was looked at is told of, the one that held too.
    let pins: u8 = wanted.refused.iter().filter(|(cause, _)| !cause.contains('.')).map(|(_, times)| times).sum();
    let told = explained.rules.iter().find(|said| said.rule == Reason::Pin).unwrap();
    if told.verdict != Verdict::NotAsked {
        let held = u8::from(told.verdict == Verdict::Applied);
        assert_eq!(told.said.matches("the pin in ").count(), usize::from(pins + held), "{name}: {told:?}");
    }
}

/// The row's request as a document, where it can be one.
fn request(case: &Case) -> Option<Request> {
    let asked = &case.request;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
    let now = ARRIVED.seconds();
    let line = |name: &str, value: String| HeaderLine { name: name.to_owned(), value };
    let mut request = Request::default();
    if let Some(session) = &asked.session {
        request.headers.push(line("X-Agent-Session", text(Bytes::bytes(session))?));
    }
    for pin in &asked.pins {
        request.headers.push(line("x-agent-pin", text(pin.token(now))?));
    }
    for pin in &asked.cookie_pins {
        request.headers.push(line("cookie", format!("agent-pin-chat={}", text(pin.token(now))?)));
    }
    request.headers.extend(asked.cookie.clone().map(|cookie| line("cookie", cookie)));
    if let Some(preview) = &asked.preview {
        request.headers.push(line("x-agent-preview", text(preview.token(now))?));
    }
    for run in &asked.runs {
        request.headers.push(line("baggage", format!("agent.run={}", text(run.token(now))?)));
    }
    if let Some(client) = &asked.client {
        request.client_address = Some(client.address.clone());
        request.headers.push(line("user-agent", client.user_agent.clone()));
    }
    Some(request)
}
