//! What is written down of a decision: the session, and what is counted.

use colorfast_core::decide::{Decision, Reason, Way};
use colorfast_core::memory::{Remembered, Visits};
use colorfast_core::names::metric;
use colorfast_core::time::UnixMillis;

use super::body::Told;
use super::case::Case;
use super::names;
use super::redirect::EarlierPass;
use super::resolve::{Found, Resolver};
use crate::service::Learnt;
use crate::slots::open::{OpenStream, Stood};
use crate::slots::sessions::{Flight, is_young};

/// What was recorded, and ends with the stream or its answer.
#[derive(Debug)]
pub struct Recorded {
    /// What counts it as a request under way.
    pub flight: Option<Flight>,
    /// When it was decided, where it had waited for a body of which nothing came.
    pub missed_body: Option<UnixMillis>,
}

/// Writes down the session of a decision that asks for it, and says whether the fleet hears of what there is to hear.
///
/// # Errors
/// Another one, where that stands there by now.
pub fn remember(case: &Case<'_>, decision: &Decision, found: &mut Found<'_>) -> Result<Learnt, Remembered> {
    let (Some(_), Some(session), Some(place)) = (decision.remember, decision.session, &mut found.place) else {
        return Ok(Learnt::Noted);
    };
    case.service.remember(place, &session, &case.plan().settings.pin, case.now.seconds())
}

/// Counts a decision that stands.
pub fn record(
    case: &Case<'_>,
    decision: &Decision,
    (found, learnt): (&Found<'_>, Learnt),
    resolver: &mut Resolver,
) -> Recorded {
    resolver.waits.end(case.service, case.now);
    // Over a redirect the request was counted at its first pass, and so was its session.
    let is_first = !matches!(case.observed.earlier, EarlierPass::Kept(_));
    let mut missed_body = None;
    if is_first {
        count(case, decision);
        if decision.chosen.is_none_or(|chosen| chosen.reason != Reason::Preview) {
            let in_vain = count_body(case, resolver);
            missed_body = (in_vain && !case.observed.body.has_come()).then_some(case.now);
        }
    }
    let names = decision.chosen.is_some_and(|chosen| !matches!(chosen.reason, Reason::Preview | Reason::Run));
    let session = decision.session.filter(|_| is_first);
    let named = session.filter(|_| names);
    if let Some(session) = &named {
        names::remember(case, session);
    }
    let flight = decision.chosen.and_then(|chosen| {
        let watch = case.current.watch(chosen.slot)?;
        watch.sends(case.now);
        // What the sidecar counts by its record is not counted twice.
        let counts = |session: &Remembered| learnt == Learnt::Lost || !is_young(session, chosen.reason, case.now);
        if let Some(session) = session.filter(counts) {
            watch.counts(&session, chosen.reason, &case.plan().settings.pin, case.now);
        }
        let stream = named.and_then(|session| case.service.open.begin(stream(case, decision, session, found)));
        Some(watch.begins(stream))
    });
    Recorded { flight, missed_body }
}

/// The stream of a request of `session`.
fn stream(case: &Case<'_>, decision: &Decision, session: Remembered, found: &Found<'_>) -> OpenStream {
    let by_memory = decision.chosen.is_some_and(|chosen| chosen.reason == Reason::Memory);
    let stands = session.visits == Visits::Returned && (by_memory || decision.remember.is_some());
    let stood = if stands { Stood::Surely } else { Stood::Perhaps };
    OpenStream::new(session, found.named().unwrap_or(session.sid), stood, case.now)
}

fn count(case: &Case<'_>, decision: &Decision) {
    let (metrics, service) = (&case.service.metrics, &case.service.name);
    if case.observed.seen.stamps.is_present() && case.observed.earlier == EarlierPass::None {
        metrics.count(&metric::forged_headers(service), 1);
    }
    if let Some(kind) = case.observed.seen.beginning.of_nothing() {
        metrics.count(&metric::beginning_nothing(service, kind), 1);
    }
    for (kind, refusal, times) in decision.refusals.iter() {
        metrics.count(&metric::refused(service, kind.as_str(), refusal.as_str()), u32::from(times));
    }
    match decision.chosen {
        Some(chosen) => case.current.counters.count(metrics, case.plan(), chosen.slot, chosen.reason),
        None if decision.way == Way::Gone => metrics.count(&metric::gone(service), 1),
        None if decision.way == Way::Ended => metrics.count(&metric::ended(service), 1),
        None => metrics.count(&metric::unrouted(service), 1),
    }
}

/// Counts what came of the body. Returns whether it was waited for in vain.
fn count_body(case: &Case<'_>, resolver: &Resolver) -> bool {
    let told = case.observed.told;
    let in_vain = told == Told::Open && resolver.does_without_body();
    let result = match told {
        Told::Ended(result) => result,
        Told::Open if in_vain => "late",
        Told::Open | Told::NotAsked => return false,
    };
    case.service.metrics.count(&metric::session_bodies(&case.service.name, result), 1);
    in_vain
}
