//! A row against core: `decide` step by step, with whatever it needs said not to be had.

use std::collections::{BTreeMap, BTreeSet};

use colorfast_core::decide::{Chosen, Decision, Need, PinAction, Reason, RunAction, Step, View, Why, decide};
use colorfast_core::ids::Sid;
use colorfast_core::memory::Remembered;
use colorfast_core::plan::Plan;
use colorfast_core::seen::{Carrier, Few, Pins, Token};
use colorfast_core::time::UnixMillis;
use colorfast_core::token::TokenKind;

use super::memory;
use super::pins::{self, PinGiven};
use super::table::{Case, RunsWanted, Wait};

/// When the request comes: as in [`super::wasm`], where every clock starts.
pub const ARRIVED: UnixMillis = UnixMillis(1_767_225_600_000);
/// Chance must not matter to a rule, so each row is tried with several draws.
const DRAWS: u64 = 64;

/// Checks one row.
pub fn check(case: &Case) {
    let plan = Plan::compile(&case.given.snapshot(), case.given.keys().as_ref()).unwrap();
    let token = |pin: &PinGiven| pin.token(ARRIVED.seconds());
    let of = |carrier, pins: &[PinGiven]| pins.iter().map(|pin| (carrier, token(pin))).collect::<Vec<_>>();
    let (header, cookie) = (&case.request.pins, &case.request.cookie_pins);
    let tokens = [of(Carrier::Header, header), of(Carrier::Cookie, cookie)].concat();
    let mut pins = Pins::default();
    for (carrier, token) in &tokens {
        if *carrier == Carrier::Header { pins.add_header(token) } else { pins.add_cookie(token) }
    }
    let preview = case.request.preview.as_ref().map(|preview| preview.token(ARRIVED.seconds()));
    let preview = preview.as_deref().map(Token::new);
    let run_tokens: Vec<_> = case.request.runs.iter().map(|run| run.token(ARRIVED.seconds())).collect();
    let mut runs = Few::default();
    run_tokens.iter().for_each(|token| runs.add(token));
    let session_id = case.session_id();
    let client = case.request.client.as_ref().map(|client| {
        let (host, _) = client.address.rsplit_once(':').unwrap();
        format!("{host}\0{}", client.user_agent).into_bytes()
    });
    let view = View {
        session_id: session_id.as_deref(),
        pins: Some(&pins),
        preview: preview.as_ref(),
        runs: Some(&runs),
        client: client.as_deref(),
        kept: kept(case, &plan),
        ..View::default()
    };
    let mut seen = BTreeSet::new();
    for draw in 0..DRAWS {
        let draw = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let remembered = case.given.remembered(ARRIVED.seconds());
        let (decision, waited, decided) = steps(&plan, view.clone(), &remembered, draw);
        assert_eq!(waited, case.wanted.waits_for, "{}: waits", case.name);
        seen.extend(compare(case, &plan, &decision, decided));
    }
    let wanted = case.wanted.slot.names().iter().map(|slot| (*slot).to_owned()).collect();
    assert_eq!(seen, wanted, "{}: the slots that chance comes to", case.name);
}

/// Steps until there is a decision; what was waited for on the way, and when it ended.
fn steps(
    plan: &Plan,
    mut view: View<'_>,
    remembered: &[(Sid, Remembered)],
    draw: u64,
) -> (Decision, Vec<Wait>, UnixMillis) {
    let (mut waited, mut now) = (Vec::new(), ARRIVED);
    loop {
        match decide(plan, &view, now, draw) {
            Step::Decided(decision) => return (decision, waited, now),
            Step::Needs(need @ Need::Memory(id)) => {
                view.memory = remembered.iter().find(|(known, _)| *known == id).map(|(_, session)| *session);
                if view.memory.is_none() {
                    view.without = view.without.with(need);
                }
            }
            // The tables have one proxy alone.
            Step::Needs(need @ Need::Fleet(..)) => view.without = view.without.with(need),
            Step::Needs(need) => {
                let wait = match need {
                    Need::Snapshot(Why::Bootstrap) => Wait::Bootstrap,
                    Need::Snapshot(Why::Newer(_)) => Wait::NewerSnapshot,
                    need => panic!("{need:?} is beyond these rules"),
                };
                waited.push(wait);
                now = now.plus_millis(wait.limit_ms());
                view.without = view.without.with(need);
            }
        }
    }
}

fn kept(case: &Case, plan: &Plan) -> Option<Chosen> {
    let earlier = case.request.earlier_pass.as_ref()?;
    let (slot, _) = plan.slots().find(|(_, slot)| slot.name.as_str() == earlier.slot)?;
    let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == earlier.decision)?;
    Some(Chosen { slot, reason })
}

/// Compares a decision with what was wanted; returns the slot that it chose.
fn compare(case: &Case, plan: &Plan, decision: &Decision, decided: UnixMillis) -> Option<String> {
    let (name, wanted) = (&case.name, &case.wanted);
    let slot = decision.chosen.and_then(|chosen| plan.slot(chosen.slot));
    let reason = decision.chosen.map(|chosen| chosen.reason.as_str().to_owned());
    assert_eq!(reason, wanted.decision, "{name}: decision");
    let refused = decision.refusals.iter().map(|(kind, refusal, times)| {
        let cause = refusal.as_str();
        (if kind == TokenKind::Pin { cause.to_owned() } else { format!("{}.{cause}", kind.as_str()) }, times)
    });
    assert_eq!(refused.collect::<BTreeMap<_, _>>(), wanted.refused, "{name}: refused");
    let last = case.request.runs.len().checked_sub(1);
    let runs = match &decision.run {
        RunAction::Keep => RunsWanted::Kept,
        RunAction::Only(place) if place.is_some() && *place == last => RunsWanted::Last,
        RunAction::Only(None) => RunsWanted::Removed,
        RunAction::Only(place) => panic!("{name}: {place:?} goes on"),
        RunAction::Issue(claims) => {
            assert_eq!(claims.began, decided.seconds(), "{name}: when the run began");
            assert_eq!(
                Some(&claims.bundle),
                slot.and_then(|slot| Some(&slot.bundle.as_ref()?.id)),
                "{name}: run's bundle"
            );
            RunsWanted::Issued
        }
    };
    assert_eq!(runs, wanted.runs, "{name}: run tokens");
    let claims = match decision.pin {
        PinAction::Keep => None,
        PinAction::Issue(claims) => Some(claims),
    };
    let assignment = slot.and_then(|slot| slot.assignment).map(|assignment| assignment.0);
    let known = case.session_id().map(|id| memory::sid(&id));
    if let (Some(remember), Some(known)) = (decision.remember, known) {
        assert_eq!(remember, known, "{name}: the id that is remembered");
    }
    let before = case.given.remembered(ARRIVED.seconds()).into_iter().find(|(id, _)| Some(*id) == known);
    let held = if decision.remember.is_some() { decision.session } else { before.map(|(_, session)| session) };
    memory::compare(case, held, ARRIVED.seconds(), decided.seconds());
    pins::compare(case, claims, ARRIVED.seconds(), decided.seconds(), assignment);
    slot.map(|slot| slot.name.to_string())
}
