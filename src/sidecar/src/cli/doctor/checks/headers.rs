//! What is done to headers before anything else.

use colorfast_core::names::HEADER_CLIENT_SENT;

use crate::cli::doctor::evidence::{Evidence, Site};
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::proxy::{Append, Mutation};

/// Each stamp that a client may send is removed early.
pub fn stripping(site: &Site<'_>, evidence: &Evidence) -> Vec<Finding> {
    let mutations = site.http.early_mutations();
    let kept = |stamp: &&String| !mutations.iter().any(|mutation| removes(mutation, stamp));
    let stamps: Vec<_> = evidence.stamps(site).into_iter().flatten().collect();
    let missing = stamps.iter().filter(kept).map(|stamp| {
        Finding::problem(
            "early-stripping",
            format!("{stamp} of a client is not removed before routing"),
            "where the filter does not run (a crash, a route that disables it) the client's value decides the route and reaches the agent",
            format!("early_header_mutation_extensions: … mutations: [{{ remove: {stamp} }}]"),
        )
    });
    missing.collect()
}

/// What is removed is copied before, for the filter to count; and the copy is never the client's own.
pub fn copying(site: &Site<'_>, evidence: &Evidence) -> Vec<Finding> {
    let mutations = site.http.early_mutations();
    let stamps: Vec<_> = evidence.stamps(site).into_iter().flatten().collect();
    let value: String = stamps.iter().map(|stamp| format!("%REQ({stamp})%")).collect();
    let wanted = format!(
        "remove: {HEADER_CLIENT_SENT}; then append: {{ header: {{ key: {HEADER_CLIENT_SENT}, value: \"{value}\" }}, append_action: \
         OVERWRITE_IF_EXISTS_OR_ADD }}; then the removals"
    );
    let problem = |what: String, why| vec![Finding::problem("early-copy", what, why, &wanted)];
    let uncounted = "the filter cannot count what clients forge: forged_headers stays 0";
    let copy = mutations.iter().enumerate().find_map(|(at, mutation)| {
        let append = mutation.append.as_ref()?;
        append.header.key.eq_ignore_ascii_case(HEADER_CLIENT_SENT).then_some((at, append))
    });
    let Some((at, Append { header, append_action })) = copy else {
        return problem(format!("stamps of a client are not copied to {HEADER_CLIENT_SENT}"), uncounted);
    };
    let lacks = |stamp: &&String| !header.value.to_ascii_lowercase().contains(&format!("%req({stamp})%"));
    if let Some(stamp) = stamps.iter().find(lacks) {
        return problem(format!("{HEADER_CLIENT_SENT} does not copy {stamp}"), uncounted);
    }
    let before = mutations.get(..at).unwrap_or_default();
    if let Some(stamp) = stamps.iter().find(|stamp| before.iter().any(|mutation| removes(mutation, stamp))) {
        return problem(format!("{stamp} is removed before it is copied"), uncounted);
    }
    if !before.iter().any(|mutation| removes(mutation, HEADER_CLIENT_SENT)) {
        let why = "a client that sends that name is counted as a forger, and an empty copy overwrites nothing";
        return problem(format!("{HEADER_CLIENT_SENT} of a client is not removed first"), why);
    }
    if append_action != "OVERWRITE_IF_EXISTS_OR_ADD" {
        let action = if append_action.is_empty() { "APPEND_IF_EXISTS_OR_ADD" } else { append_action };
        return problem(format!("{HEADER_CLIENT_SENT} is set by {action}"), "it may hold more than the copy");
    }
    Vec::new()
}

fn removes(mutation: &Mutation, name: &str) -> bool {
    mutation.remove.as_ref().is_some_and(|removed| removed.eq_ignore_ascii_case(name))
}

/// Names that agents on WSGI and CGI read as ours.
pub fn underscores(site: &Site<'_>, _: &Evidence) -> Vec<Finding> {
    let action = site.http.common_http_protocol_options.headers_with_underscores_action.as_str();
    if matches!(action, "DROP_HEADER" | "REJECT_REQUEST") {
        return Vec::new();
    }
    vec![Finding::problem(
        "underscores",
        "headers with underscores are let through",
        "agents on WSGI and CGI read x_agent_slot and x-agent-slot as one: a client can forge a stamp",
        "common_http_protocol_options: { headers_with_underscores_action: DROP_HEADER }",
    )]
}
