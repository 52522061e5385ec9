//! What a decision does to the headers of its request: stamps are put on, and what must not reach the agent is taken off.

use std::borrow::Cow;

use colorfast_core::decide::{Reason, RunAction};
use colorfast_core::ids::HeaderName;
use colorfast_core::names::{HEADER_CLIENT_SENT, PROPERTY_DECIDED};
use colorfast_core::plan::{Plan, SlotPlan};
use colorfast_core::seen::Seen;
use colorfast_core::{baggage, cookie};

use crate::host::{self, HeaderMap, Map};

/// Puts the stamps of `slot` on the request and takes off it what must not reach the agent.
pub fn stamp(headers: &HeaderMap, seen: &Seen<'_>, plan: &Plan, slot: &SlotPlan, reason: Reason) {
    let names = &plan.settings.headers;
    strip(headers, seen, plan);
    for (name, value) in &slot.headers {
        let _ = host::set_header(Map::Request, name.as_str(), value.as_bytes());
    }
    for name in plan.settings.part_headers.values().filter(|name| !slot.headers.contains_key(name)) {
        let _ = host::remove_header(Map::Request, name.as_str());
    }
    let decided = slot.decided(reason).unwrap_or_default();
    let _ = host::set_property(PROPERTY_DECIDED, decided.as_bytes());
    let bundle = slot.bundle.as_ref().map(|bundle| bundle.id.as_str()).unwrap_or_default();
    let _ = host::set_header(Map::Request, names.decision.as_str(), reason.as_str().as_bytes());
    let _ = host::set_header(Map::Request, names.bundle.as_str(), bundle.as_bytes());
    // Last, since every change of a header drops the cached route, and routes match on this one.
    let _ = host::set_header(Map::Request, names.slot.as_str(), slot.name.as_str().as_bytes());
}

/// Takes off the request everything that only a stamp may carry.
pub fn clear(headers: &HeaderMap, seen: &Seen<'_>, plan: &Plan) {
    strip(headers, seen, plan);
    if seen.stamps.is_present() {
        for name in plan.settings.headers.stamps() {
            let _ = host::remove_header(Map::Request, name.as_str());
        }
    }
    for name in plan.settings.part_headers.values() {
        let _ = host::remove_header(Map::Request, name.as_str());
    }
}

/// Tokens and copies end here.
fn strip(headers: &HeaderMap, seen: &Seen<'_>, plan: &Plan) {
    let names = &plan.settings.headers;
    if seen.stamps.is_present() {
        let _ = host::remove_header(Map::Request, HEADER_CLIENT_SENT);
    }
    if seen.pin_header.is_present() {
        let _ = host::remove_header(Map::Request, names.pin.as_str());
    }
    if seen.preview.is_some() {
        let _ = host::remove_header(Map::Request, names.preview.as_str());
    }
    match (seen.enveloped, &plan.settings.pin.envelope_header) {
        // There was nothing but the pin.
        (Some(b""), Some(name)) => drop(host::remove_header(Map::Request, name.as_str())),
        (Some(id), Some(name)) => drop(host::set_header(Map::Request, name.as_str(), id)),
        _ => {}
    }
    if seen.pin_cookie.is_present() {
        replace("cookie", cookie::lines_without(lines(headers, "cookie"), plan.cookie.as_bytes()));
    }
}

/// Does to the run tokens of a request what was decided. No other member of the baggage is touched.
pub fn carry_run(headers: &HeaderMap, seen: &Seen<'_>, plan: &Plan, action: &RunAction) {
    let token = match action {
        RunAction::Keep => return,
        RunAction::Only(place) => {
            place.and_then(|place| seen.runs.iter().nth(place)).map(|token| baggage::line_of(token.bytes()))
        }
        RunAction::Issue(claims) => plan.mint_run(claims).map(|token| baggage::line_of(token.as_bytes())),
    };
    if !seen.runs.is_empty() {
        drop_runs(headers);
    }
    if let Some(token) = token {
        let _ = host::add_header(Map::Request, baggage::HEADER, &token);
    }
}

/// Takes our member out of the baggage of a request.
pub fn drop_runs(headers: &HeaderMap) {
    replace(baggage::HEADER, baggage::lines_without(lines(headers, baggage::HEADER)));
}

/// The lines of a header.
fn lines<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |(found, _)| *found == name.as_bytes()).map(|(_, line)| line)
}

/// Puts `lines` in the place of all lines of a header.
fn replace<'a>(name: &str, lines: impl Iterator<Item = Cow<'a, [u8]>>) {
    let _ = host::remove_header(Map::Request, name);
    for line in lines {
        let _ = host::add_header(Map::Request, name, &line);
    }
}

/// Takes off the trailers of a request what must not reach the agent: early mutation does not see them.
pub fn strip_trailers(plan: &Plan) {
    let Ok(trailers) = host::headers(Map::RequestTrailers) else { return };
    let settings = &plan.settings;
    let ours = settings.headers.all().into_iter().map(|(_, name)| name).chain(settings.part_headers.values());
    let ours: Vec<&str> = ours.map(HeaderName::as_str).chain([HEADER_CLIENT_SENT]).collect();
    for name in ours.into_iter().filter(|name| trailers.iter().any(|(found, _)| found == name.as_bytes())) {
        let _ = host::remove_header(Map::RequestTrailers, name);
    }
}
