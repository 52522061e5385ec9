//! The routes that stamps lead to.

use std::collections::{BTreeMap, BTreeSet};

use colorfast_core::names::HEADER_CLIENT_SENT;
use colorfast_core::settings::{ServiceSettings, SessionSource};
use serde_json::Value;

use crate::cli::doctor::evidence::{Evidence, Site, Slot};
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::proxy::VirtualHost;

/// The names of the header that routes match on.
fn slot_headers(site: &Site<'_>, evidence: &Evidence) -> BTreeSet<String> {
    evidence.stamps(site).into_iter().map(|[slot, ..]| slot).collect()
}

/// Every slot that a route is for, with the first such route. None where a pattern may stand for any slot.
fn routed(site: &Site<'_>, evidence: &Evidence) -> Option<BTreeMap<String, String>> {
    let names = slot_headers(site, evidence);
    let mut routed = BTreeMap::new();
    for (_, route, name) in site.all_routes() {
        match Slot::of(route, &names) {
            Slot::None => {}
            Slot::Pattern => return None,
            Slot::Named(slot) => drop(routed.entry(slot).or_insert(name)),
        }
    }
    Some(routed)
}

/// The slots of a site's services; none where the sidecar does not say.
fn slots(site: &Site<'_>, evidence: &Evidence) -> Option<BTreeSet<String>> {
    let settings = evidence.settings_of(site)?;
    Some(settings.iter().flat_map(|settings| &settings.slots).map(|slot| slot.as_str().to_owned()).collect())
}

fn leads_by_slot(host: &VirtualHost, names: &BTreeSet<String>) -> bool {
    host.routes.iter().any(|route| !matches!(Slot::of(route, names), Slot::None))
}

/// The virtual hosts that stamps lead through.
fn stamped_hosts<'s>(site: &'s Site<'_>, evidence: &Evidence) -> impl Iterator<Item = &'s VirtualHost> {
    let names = slot_headers(site, evidence);
    let hosts = site.routes.iter().flat_map(|table| &table.virtual_hosts);
    hosts.filter(move |host| leads_by_slot(host, &names))
}

/// The copy of what clients sent ends at the proxy.
pub fn client_sent(site: &Site<'_>, _: &Evidence) -> Vec<Finding> {
    let Some(table) = &site.routes else { return Vec::new() };
    let removed = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case(HEADER_CLIENT_SENT));
    let host = |host: &VirtualHost| {
        removed(&host.request_headers_to_remove)
            || host.routes.iter().all(|route| route.route.is_none() || removed(&route.request_headers_to_remove))
    };
    if removed(&table.request_headers_to_remove) || table.virtual_hosts.iter().all(host) {
        return Vec::new();
    }
    vec![Finding::problem(
        "client-sent",
        format!("{HEADER_CLIENT_SENT} is not removed by the routes"),
        "where the filter does not run, the agent gets what a client sent under the names of stamps",
        format!("route_config: {{ request_headers_to_remove: [{HEADER_CLIENT_SENT}] }}"),
    )]
}

/// Stamps lead somewhere.
pub fn none_by_slot(site: &Site<'_>, evidence: &Evidence) -> Vec<Finding> {
    if site.routes.is_none() || stamped_hosts(site, evidence).next().is_some() {
        return Vec::new();
    }
    let names = slot_headers(site, evidence);
    let header = names.iter().next().cloned().unwrap_or_default();
    vec![Finding::problem(
        "no-slot-route",
        format!("no route matches {header}"),
        "every slot leads to the same place: a switch changes nothing but a header",
        format!(
            "match: {{ prefix: /, headers: [{{ name: {header}, string_match: {{ exact: blue }} }}] }}, one for each slot"
        ),
    )]
}

/// What carries no stamp has a route.
pub fn default(site: &Site<'_>, evidence: &Evidence) -> Vec<Finding> {
    let lacking = stamped_hosts(site, evidence).filter(|host| !host.routes.iter().any(|route| route.takes_all()));
    let problem = |host: &VirtualHost| {
        Finding::problem(
            "default-route",
            "there is no default route",
            "what carries no stamp gets 404: no slot is live yet, no service matched, or the filter has no snapshot",
            "last: match: { prefix: / } with the cluster of the slot that is live",
        )
        .on_route(host.name.clone())
    };
    lacking.map(problem).collect()
}

/// A route that is never reached.
pub fn shadowed(site: &Site<'_>, evidence: &Evidence) -> Vec<Finding> {
    let names = slot_headers(site, evidence);
    let mut findings = Vec::new();
    for host in site.routes.iter().flat_map(|table| &table.virtual_hosts) {
        let named = site.all_routes().filter(|(of, ..)| std::ptr::eq(*of, host));
        let mut before: Vec<(&BTreeMap<String, Value>, bool)> = Vec::new();
        for (_, route, name) in named {
            let by_slot = !matches!(Slot::of(route, &names), Slot::None);
            let hidden = before.iter().any(|(takes, all)| *all || **takes == route.takes);
            if by_slot && hidden {
                let problem = Finding::problem(
                    "route-shadowed",
                    "a route before it takes all of its requests",
                    "the sessions of its slot go where that route leads",
                    "the routes of slots first, each once, and the default route last",
                );
                findings.push(problem.on_route(name));
            }
            before.push((&route.takes, route.takes_all()));
        }
    }
    findings
}

/// A stamp that names a cluster.
pub fn by_header(site: &Site<'_>, evidence: &Evidence) -> Vec<Finding> {
    let stamps: BTreeSet<_> = evidence.stamps(site).into_iter().flatten().collect();
    let named = |header: &str| stamps.contains(&header.to_ascii_lowercase());
    let found = site
        .all_routes()
        .filter(|(_, route, _)| route.route.as_ref().is_some_and(|action| named(&action.cluster_header)));
    let problem = |name| {
        Finding::problem(
            "cluster-header",
            "a stamp names the cluster",
            "a value that got past the stripping could name any cluster of this proxy",
            "one route for each slot, with a cluster of its own",
        )
        .on_route(name)
    };
    found.map(|(.., name)| problem(name)).collect()
}

/// What a connection buffers unless it is said: so much may come on top of what is held already.
const PIECE_BYTES: u64 = 1 << 20;
/// What may come of a body besides while the fleet is asked after its session.
const ASKING_BYTES: u64 = 15 << 20;

/// Whether there is room for bodies that requests wait for.
pub fn body_limit(site: &Site<'_>, evidence: &Evidence) -> Vec<Finding> {
    let looks = |settings: &&ServiceSettings| {
        settings.session_sources.iter().any(|source| matches!(source, SessionSource::Body(_)))
    };
    let settings = evidence.settings_of(site).unwrap_or_default();
    let Some(bound) = settings.iter().filter(looks).map(|settings| settings.body.prefix_bytes).max() else {
        return Vec::new();
    };
    let least = u64::from(bound) + PIECE_BYTES;
    let note = |host: &VirtualHost| {
        let problem = match host.request_body_buffer_limit.as_ref().map(Value::as_u64) {
            None => "request_body_buffer_limit is not said, and a service looks for session ids in bodies".to_owned(),
            Some(Some(limit)) if limit < least => format!(
                "request_body_buffer_limit is {limit}, and a service looks for session ids in the first {bound} bytes of bodies"
            ),
            Some(_) => return None,
        };
        let finding = Finding::note(
            "body-limit",
            problem,
            "Envoy answers 413 where a large piece of a body comes on top of what is held already",
            format!(
                "request_body_buffer_limit: {}, on the virtual host (Envoy 1.37 and later), {least} at least; or a smaller \
                 body.prefix_bytes",
                u64::from(bound) + ASKING_BYTES
            ),
        );
        Some(finding.on_route(host.name.clone()))
    };
    stamped_hosts(site, evidence).filter_map(note).collect()
}

/// A route for a slot that no service has.
pub fn unknown_slots(site: &Site<'_>, evidence: &Evidence) -> Vec<Finding> {
    let (Some(known), Some(routed)) = (slots(site, evidence), routed(site, evidence)) else { return Vec::new() };
    let unknown = routed.into_iter().filter(|(slot, _)| !known.contains(slot));
    let names = known.iter().cloned().collect::<Vec<_>>().join(", ");
    let problem = |(slot, name): (String, String)| {
        Finding::problem(
            "unknown-slot",
            format!("the route matches the slot {slot}, which no service of the listener has"),
            "no request is ever stamped with it, so nothing takes this route",
            format!("one of {names}; or {slot} among the `slots` of the service"),
        )
        .on_route(name)
    };
    unknown.map(problem).collect()
}

/// A slot without a route.
pub fn missing_slots(site: &Site<'_>, evidence: &Evidence) -> Vec<Finding> {
    let (Some(known), Some(routed)) = (slots(site, evidence), routed(site, evidence)) else { return Vec::new() };
    if routed.is_empty() {
        return Vec::new();
    }
    known.into_iter().filter(|slot| !routed.contains_key(slot)).map(|slot| unrouted(site, evidence, &slot)).collect()
}

/// Where nobody says which slots there are, the listeners must agree.
pub fn unlike(site: &Site<'_>, sites: &[Site<'_>], evidence: &Evidence) -> Vec<Finding> {
    let (None, Some(here)) = (slots(site, evidence), routed(site, evidence)) else { return Vec::new() };
    let services = |site: &Site<'_>| site.config.as_ref().ok().map(|config| config.services.clone());
    let others = sites.iter().filter(|other| services(other) == services(site));
    let elsewhere: BTreeSet<_> =
        others.filter_map(|other| routed(other, evidence)).flat_map(BTreeMap::into_keys).collect();
    if here.is_empty() {
        return Vec::new();
    }
    elsewhere.into_iter().filter(|slot| !here.contains_key(slot)).map(|slot| unrouted(site, evidence, &slot)).collect()
}

fn unrouted(site: &Site<'_>, evidence: &Evidence, slot: &str) -> Finding {
    let header = slot_headers(site, evidence).into_iter().next().unwrap_or_default();
    Finding::problem(
        "slot-without-route",
        format!("no route matches the slot {slot}"),
        "its sessions take the default route, and with it whatever bundle runs there",
        format!(
            "match: {{ prefix: /, headers: [{{ name: {header}, string_match: {{ exact: {slot} }} }}] }} and its cluster"
        ),
    )
}

/// The filter runs on every route.
pub fn disabled(site: &Site<'_>, _: &Evidence) -> Vec<Finding> {
    let Some(table) = &site.routes else { return Vec::new() };
    let problem = || {
        Finding::problem(
            "filter-disabled",
            format!("{} is disabled", site.filter_name()),
            "its requests are not stamped, and sessions on it are not kept",
            "no FilterConfig with `disabled: true` for it; what needs no slot is left out by `match` of the services",
        )
    };
    let off = |configs: &BTreeMap<String, Value>| {
        configs.get(site.filter_name()).is_some_and(|config| config.get("disabled") == Some(&Value::Bool(true)))
    };
    let in_chain = site.http.http_filters.get(site.at).is_some_and(|filter| filter.disabled);
    if in_chain || off(&table.typed_per_filter_config) {
        return vec![problem()];
    }
    let hosts = table.virtual_hosts.iter().filter(|host| off(&host.typed_per_filter_config));
    let hosts = hosts.map(|host| problem().on_route(host.name.clone()));
    let routes = site.all_routes().filter(|(_, route, _)| off(&route.typed_per_filter_config));
    hosts.chain(routes.map(|(.., name)| problem().on_route(name))).collect()
}

/// Answers take as long as they take.
pub fn timeouts(site: &Site<'_>, evidence: &Evidence) -> Vec<Finding> {
    let names = slot_headers(site, evidence);
    let limited = site.all_routes().filter_map(|(_, route, name)| {
        let action = route.route.as_ref().filter(|_| !matches!(Slot::of(route, &names), Slot::None))?;
        let timeout = action.timeout.as_deref().unwrap_or("15s");
        (!matches!(timeout, "0s" | "0.0s" | "0")).then(|| (timeout.to_owned(), name))
    });
    let note = |(timeout, name): (String, String)| {
        Finding::note(
            "route-timeout",
            format!("an answer may take {timeout}"),
            "event streams and long runs are cut off in the middle",
            "route: { timeout: 0s }, and stream_idle_timeout for the longest silence",
        )
        .on_route(name)
    };
    limited.map(note).collect()
}
