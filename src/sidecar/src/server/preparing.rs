//! The first part of a verb that moves weight or frees a slot: proxies ask the fleet, and have told it what they know. Who
//! is not ready in time is named; no weight waits for it, and no slot is freed over it.

use std::time::Duration;

use colorfast_core::ids::ServiceName;
use colorfast_core::release::Acknowledgements;
use tokio::time::Instant;

use super::clock;
use super::members::{Asked, Members};
use super::reports::Reports;
use crate::api::{Millis, Preparation};

/// How long proxies are waited for.
const LIMIT: Duration = Duration::from_secs(1);
/// Looks follow each other no sooner than this: with a thousand members each of them wakes who waits.
const PAUSE: Duration = Duration::from_millis(2);

/// Waits until every member decides by the version `flush`, which asks for it, and has told all that it had learnt before.
pub async fn wait(
    members: &Members,
    reports: &Reports,
    service: &ServiceName,
    flush: u64,
    begun: Instant,
) -> Preparation {
    let (mut moved, mut flushed) = (members.watch(service), reports.flushes());
    let end = begun + LIMIT;
    loop {
        let laggards = laggards(members, reports, service, flush);
        if laggards.is_empty() || Instant::now() >= end {
            let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            return Preparation { version: flush, took_ms: Millis(took), laggards };
        }
        tokio::select! {
            _ = moved.changed() => {}
            _ = flushed.changed() => {}
            () = tokio::time::sleep_until(end) => {}
        }
        tokio::time::sleep_until(end.min(Instant::now() + PAUSE)).await;
    }
}

fn laggards(members: &Members, reports: &Reports, service: &ServiceName, flush: u64) -> Vec<String> {
    let lacking = Asked { members, service }.lacking(flush);
    let now = clock::now();
    let all = members.of(service).into_iter().map(|record| record.member);
    let late = all.filter(|member| !reports.has_flushed(service, member, flush, now)).map(|member| member.to_string());
    let mut named: Vec<_> = lacking.into_iter().chain(late).collect();
    named.sort_unstable();
    named.dedup();
    named
}

#[cfg(test)]
mod tests;
