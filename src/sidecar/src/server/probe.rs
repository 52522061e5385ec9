//! Probes: a slot is asked, by the real path through a proxy, before a verb gives it sessions.

use std::time::Duration;

use colorfast_core::ids::{AssignmentId, BundleId, SlotName};
use colorfast_core::plan::Plan;
use colorfast_core::release::{Circumstances, Observed, ProbeOutcome, Serving, State, Verb};
use colorfast_core::settings::{Headers, Probe};
use colorfast_core::token::preview;
use colorfast_core::wire::reports::SlotReport;
use parking_lot::Mutex;
use reqwest::{Response, redirect};

use super::clock;
use super::directory::Published;

/// The longest that a rollback waits for a probe: it must be quick when things are bad.
const ROLLBACK_LIMIT: Duration = Duration::from_secs(1);
/// How long the token of a probe holds, for clocks that differ.
const TOKEN_SECONDS: u64 = 120;

/// What a probe of a slot came to, under the assignment that it had then.
#[derive(Debug, Clone)]
pub struct Probed {
    /// The slot.
    pub slot: SlotName,
    /// What ran in it.
    pub assignment: AssignmentId,
    /// What came of it.
    pub outcome: ProbeOutcome,
}

/// Probes the slot that `verb` would give sessions to; none where it gives none, is forced or would be refused anyway, or
/// no probe is configured.
pub async fn probe(published: &Published, verb: &Verb) -> Option<Probed> {
    let probe = published.state.settings.probe.as_ref()?;
    let (slot, assignment) = given_sessions(published, verb)?;
    let limit = Duration::from_millis(probe.timeout_ms.0.into());
    let limit = if matches!(verb, Verb::Rollback { .. }) { limit.min(ROLLBACK_LIMIT) } else { limit };
    let outcome = match token(published, &slot) {
        None => ProbeOutcome::Failed("no key signs a preview token".to_owned()),
        Some(token) => ask(published, probe, &slot, &token, limit).await,
    };
    Some(Probed { slot, assignment, outcome })
}

async fn ask(published: &Published, probe: &Probe, slot: &SlotName, token: &str, limit: Duration) -> ProbeOutcome {
    let headers = &published.state.settings.headers;
    let url = format!("{}{}", probe.address, probe.path);
    let failed = |error: reqwest::Error| {
        ProbeOutcome::Failed(format!("GET {url}: {:#}", anyhow::Error::from(error.without_url())))
    };
    let http = match client(probe) {
        Ok(http) => http,
        Err(error) => return failed(error),
    };
    let mut request = http.get(&url).timeout(limit).header(headers.preview.as_str(), token);
    if let Some(host) = &probe.host {
        request = request.header(reqwest::header::HOST, host);
    }
    match request.send().await {
        Ok(response) => {
            let bundle = published.state.slots.get(slot).and_then(|slot| slot.bundle.as_ref());
            judge(&response, probe, headers, bundle)
        }
        Err(error) if error.is_timeout() => {
            ProbeOutcome::Failed(format!("GET {url} was not answered within {limit:?}"))
        }
        Err(error) => failed(error),
    }
}

/// A client without any connection: a probe goes the way of a new one, to the address that was configured and nowhere
/// else.
fn client(probe: &Probe) -> Result<reqwest::Client, reqwest::Error> {
    // Whoever installed one before keeps it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .user_agent(concat!("colorfast-probe/", env!("CARGO_PKG_VERSION")));
    // The system's authorities are looked for only where they are needed.
    match probe.address.starts_with("https:") {
        true => client.build(),
        false => client.tls_certs_only([]).build(),
    }
}

/// What the head of an answer says; its body is not read.
fn judge(response: &Response, probe: &Probe, names: &Headers, bundle: Option<&BundleId>) -> ProbeOutcome {
    let url = response.url();
    let (status, headers) = (response.status(), response.headers());
    let good = match probe.expect_status {
        Some(expected) => status == expected,
        None => status.is_success(),
    };
    // A preview mints no pin. One that does was taken for a new session, and may have gone anywhere.
    if good && headers.contains_key(names.pin.as_str()) {
        let token = names.preview.as_str();
        return ProbeOutcome::Failed(format!(
            "GET {url} was answered as a new session's: the proxy there took no notice of the token in {token}"
        ));
    }
    if !good {
        let wanted = probe.expect_status.map_or_else(|| "200 to 299".to_owned(), |status| status.to_string());
        return ProbeOutcome::Failed(format!("GET {url} was answered with {}, not {wanted}", status.as_u16()));
    }
    let attested = headers.get(names.attestation.as_str()).map(|value| value.as_bytes());
    match attested.filter(|found| !found.is_empty() && Some(*found) != bundle.map(|id| id.as_str().as_bytes())) {
        Some(found) => ProbeOutcome::Mismatched(word(found)),
        None => ProbeOutcome::Served,
    }
}

/// What an agent says, as a short word.
fn word(found: &[u8]) -> String {
    let printable = |b: &u8| if b.is_ascii_graphic() { char::from(*b) } else { '?' };
    found.iter().take(SlotReport::FOUND_MAX).map(printable).collect()
}

/// A preview token for `slot` that holds for this probe.
fn token(published: &Published, slot: &SlotName) -> Option<String> {
    let plan = Plan::compile(&published.snapshot, Some(&published.keys)).ok()?;
    plan.mint_preview(&preview::Claims { expires: clock::now().seconds().plus(TOKEN_SECONDS), slot: slot.clone() })
}

/// The slot that a check of `verb` asks about, since the verb would give it sessions.
fn given_sessions(published: &Published, verb: &Verb) -> Option<(SlotName, AssignmentId)> {
    /// Notes what is asked.
    #[derive(Debug, Default)]
    struct Noting(Mutex<Option<(SlotName, AssignmentId)>>);

    impl Serving for Noting {
        fn of(&self, slot: &SlotName, assignment: AssignmentId) -> Observed {
            *self.0.lock() = Some((slot.clone(), assignment));
            Observed::default()
        }
    }

    let service = &published.snapshot.service;
    let state = State {
        epoch: published.snapshot.epoch,
        services: [(service.clone(), published.state.clone())].into(),
        ..State::default()
    };
    let noting = Noting::default();
    let at = Circumstances { now: clock::now(), acknowledgements: &(), serving: &noting, holding: &() };
    state.check(service, verb, &at).ok()?;
    noting.0.into_inner()
}

#[cfg(test)]
mod tests;
