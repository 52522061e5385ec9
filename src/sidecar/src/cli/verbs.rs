//! Verbs: sent, followed until every member has obeyed, and reported.

use std::time::{Duration, Instant};

use colorfast_core::ids::{AssignmentId, ServiceName, SlotName};
use colorfast_core::release::{Phase, Pins, Verb};
use serde::Serialize;

use crate::api::{Confirmation, ServiceStatus, SlotStatus, VerbRequest, VerbResponse};
use crate::cli::client::Client;
use crate::cli::confirm::{self, Ending, Followed};
use crate::cli::error::{Exit, Failure};
use crate::cli::output::{Format, Output, Paint};

/// How verbs are carried out.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Whether to wait, and for how long.
    pub patience: Patience,
    /// The version that the operator has seen.
    pub expected_version: Option<u64>,
}

/// Whether a verb waits for confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// So long at most.
    Wait(Duration),
    /// Not at all.
    Return,
}

impl Patience {
    fn limit(self) -> Duration {
        match self {
            Self::Wait(limit) => limit,
            Self::Return => Duration::ZERO,
        }
    }
}

/// Carries out a verb and reports how far it came.
///
/// # Errors
/// Where it was refused, or the sidecar is away.
pub async fn run(
    client: &Client,
    output: &Output,
    service: &ServiceName,
    verb: Verb,
    manner: Manner,
) -> Result<Exit, Failure> {
    let request = VerbRequest { expected_version: manner.expected_version, verb };
    let carried = carry_out(client, service, &request, manner.patience).await;
    let Carried { mut response, ending, lost } =
        carried.map_err(|refusal| forcible(refusal, service, &request.verb))?;
    let written = match output.format {
        Format::Json => {
            // The service as it is after the waiting, unless somebody has moved it on.
            if let Ok(status) = client.service(service).await
                && status.version == response.version
            {
                response.status = status;
            }
            output.document(&Report { outcome: ending.map_or("applied", Ending::as_str), response: &response })
        }
        Format::Text => output.text(&report(&request.verb, &response, ending, manner.patience.limit(), output)),
    };
    if let Some(lost) = lost {
        output.failure(&lost);
    }
    Ok(output.end(ending.map_or(Exit::Done, Ending::exit), written))
}

/// A verb that is in the log, and how far the members are.
#[derive(Debug)]
struct Carried {
    response: VerbResponse,
    /// None for a verb that members have nothing to do with.
    ending: Option<Ending>,
    /// The failure that the waiting ended in; the verb stays applied.
    lost: Option<Failure>,
}

async fn carry_out(
    client: &Client,
    service: &ServiceName,
    request: &VerbRequest,
    patience: Patience,
) -> Result<Carried, Failure> {
    let deadline = Instant::now() + patience.limit();
    let mut response = send(client, service, request, deadline).await?;
    if let Verb::AddBundle { .. } = request.verb {
        // A bundle that is nowhere staged changes nothing that a proxy decides by.
        return Ok(Carried { response, ending: None, lost: None });
    }
    let mut lost = None;
    if let Patience::Wait(_) = patience {
        let purpose = format!("v{} is applied", response.version);
        let followed = confirm::follow(client, service, response.confirmation, deadline, &purpose).await;
        (response.confirmation, lost) = (followed.confirmation, followed.lost);
    }
    let ending = match (Ending::of(&response.confirmation), patience) {
        (Ending::Unconfirmed, Patience::Return) => Ending::NotAwaited,
        (ending, _) => ending,
    };
    Ok(Carried { response, ending: Some(ending), lost })
}

/// Sends a verb. Where weight would go to an assignment that a member does not know yet, waits for that member.
async fn send(
    client: &Client,
    service: &ServiceName,
    request: &VerbRequest,
    deadline: Instant,
) -> Result<VerbResponse, Failure> {
    let mut known = None;
    loop {
        let refusal = match client.verb(service, request).await {
            Ok(response) => return Ok(response),
            Err(refusal) => refusal,
        };
        let Some(awaited) = refusal.awaited_version().filter(|awaited| known != Some(*awaited)) else {
            return Err(refusal);
        };
        let Ok(first) = client.confirmation(service, awaited, Duration::ZERO).await else {
            return Err(refusal);
        };
        if Instant::now() >= deadline {
            return Err(explained(refusal, &first));
        }
        let purpose = format!("v{awaited} must be known everywhere first");
        let Followed { confirmation, .. } = confirm::follow(client, service, first, deadline, &purpose).await;
        if Ending::of(&confirmation) == Ending::Unconfirmed {
            // Once more, for a refusal that names those alone who still lack it.
            return client.verb(service, request).await.map_err(|refusal| match refusal.awaited_version() {
                Some(version) if version == awaited => explained(refusal, &confirmation),
                _ => refusal,
            });
        }
        known = Some(awaited);
    }
}

/// A refusal for the sake of members that lack a version, with what each of them says about that version.
fn explained(refusal: Failure, confirmation: &Confirmation) -> Failure {
    let reasons = confirm::reasons(confirmation, Paint::Off);
    let refusal = reasons.iter().fold(refusal, |refusal, reason| refusal.because(reason));
    confirm::forget(confirmation).fold(refusal, Failure::next)
}

/// A refusal for the sake of a slot that cannot serve, with the very command that goes over it: nobody has time to look
/// one up while things are down.
fn forcible(refusal: Failure, service: &ServiceName, verb: &Verb) -> Failure {
    if !matches!(refusal.code(), "attestation-mismatch" | "cannot-serve") {
        return refusal;
    }
    let act = match verb {
        Verb::Ramp { slot, weight, .. } => format!("ramp {slot} {weight}"),
        Verb::Switch { slot, .. } => format!("switch {slot}"),
        Verb::Rollback { to, pins, .. } => {
            let to = to.as_ref().map_or_else(String::new, |to| format!(" --to {to}"));
            format!("rollback{to}{}", if *pins == Pins::Keep { " --keep-pins" } else { "" })
        }
        _ => return refusal,
    };
    refusal.next(format!("colorfast {act} --service {service} --force --reason TEXT"))
}

/// What a verb prints for programs.
#[derive(Serialize)]
struct Report<'a> {
    outcome: &'static str,
    #[serde(flatten)]
    response: &'a VerbResponse,
}

/// What a verb prints for people.
fn report(verb: &Verb, response: &VerbResponse, ending: Option<Ending>, waited: Duration, output: &Output) -> String {
    let paint = output.paint;
    let place = match assignment(verb, &response.status) {
        Some(assignment) => format!("(v{}, assignment {assignment})", response.version),
        None => format!("(v{})", response.version),
    };
    let unchanged = if response.changed { "" } else { "already done: " };
    let mut text = format!("{unchanged}{} {}", paint.strong(&said(verb, response)), paint.dim(&place));
    if let Some(ending) = ending {
        text.push_str(": ");
        text.push_str(&confirm::tell(&response.confirmation, ending, waited, paint));
    }
    text.push('\n');
    if ending == Some(Ending::Unconfirmed) {
        text.push_str(&confirm::laggards(&response.confirmation, paint));
    }
    text
}

/// What was done, in the words of the verb.
fn said(verb: &Verb, VerbResponse { status, .. }: &VerbResponse) -> String {
    match verb {
        Verb::Apply { .. } => format!("settings of {}", status.service),
        Verb::AddBundle { id, .. } => format!("added bundle {id}"),
        Verb::Stage { slot, bundle } => format!("staged {bundle} in {slot}"),
        Verb::Ramp { slot, weight, .. } if weight.takes_sessions() => {
            format!("ramped {slot} to {weight} of new sessions")
        }
        Verb::Ramp { slot, .. } => format!("ramped {slot} to 0%, it drains"),
        Verb::Abort { slot, pins } => format!("aborted {slot}, its sessions {}", fate(*pins)),
        Verb::Switch { slot, .. } => format!("switched to {slot}"),
        Verb::Rollback { pins, .. } => {
            let live = live(status).map_or_else(String::new, |live| format!(" to {}", live.slot));
            format!("rolled back{live}, sessions left behind {}", fate(*pins))
        }
        Verb::Migrate { slot } => format!("migrated {slot}, its sessions {}", fate(Pins::Break)),
        Verb::Recycle { slot, .. } => format!("recycled {slot}, it is idle"),
    }
}

fn fate(pins: Pins) -> &'static str {
    match pins {
        Pins::Keep => "stay until they end",
        Pins::Break => "leave at their next request",
    }
}

fn live(status: &ServiceStatus) -> Option<&SlotStatus> {
    status.slots.iter().find(|slot| slot.phase == Phase::Live)
}

/// The assignment that the verb made, or that its slot now takes sessions with.
fn assignment(verb: &Verb, status: &ServiceStatus) -> Option<AssignmentId> {
    let of = |name: &SlotName| status.slots.iter().find(|slot| slot.slot == *name)?.assignment;
    match verb {
        Verb::Stage { slot, .. } | Verb::Ramp { slot, .. } | Verb::Switch { slot, .. } => of(slot),
        Verb::Rollback { .. } => live(status)?.assignment,
        _ => None,
    }
}

#[cfg(test)]
mod tests;
