//! The checks: each a function from what is known to what is wrong.

mod filter;
mod headers;
mod life;
mod routes;

use super::evidence::{Evidence, Site};
use super::finding::Finding;

/// A check of one chain with our filter.
type Check = fn(&Site<'_>, &Evidence) -> Vec<Finding>;

/// In the order in which they are told: what follows from an earlier finding comes after it.
const CHECKS: &[Check] = &[
    filter::configuration,
    filter::twice,
    filter::order,
    filter::failure_policy,
    filter::environment,
    filter::digest,
    filter::body_buffering,
    headers::stripping,
    headers::copying,
    headers::underscores,
    routes::client_sent,
    routes::none_by_slot,
    routes::default,
    routes::shadowed,
    routes::by_header,
    routes::unknown_slots,
    routes::missing_slots,
    routes::disabled,
    routes::timeouts,
    routes::body_limit,
    life::sidecar_cluster,
];

/// Everything that is wrong.
pub fn diagnose(evidence: &Evidence) -> Vec<Finding> {
    let sites = evidence.sites();
    if sites.is_empty() {
        return vec![filter::absent()];
    }
    let mut findings = Vec::new();
    for site in &sites {
        let found = CHECKS.iter().flat_map(|check| check(site, evidence));
        let mut found: Vec<_> = found.collect();
        found.extend(routes::unlike(site, &sites, evidence));
        // What a proxy without a token or a sidecar shows is no finding of its own.
        if !found.iter().any(|finding| life::CAUSES.contains(&finding.check)) {
            found.extend(life::snapshot(site, evidence));
        }
        for finding in &mut found {
            finding.place.listener = Some(site.listener.to_owned());
            finding.place.filter_chain = Some(site.chain.clone());
        }
        findings.extend(found);
    }
    findings.extend(life::node(evidence));
    findings.extend(life::stats_tags(evidence));
    findings
}

#[cfg(test)]
mod tests;
