//! Verbs: sent, followed until every member has obeyed, and reported.

use std::time::{Duration, Instant};

use colorfast_core::ids::{AssignmentId, ServiceName, SlotName};
use colorfast_core::release::{Phase, Pins, Verb};
use serde::Serialize;

use crate::api::{ServiceStatus, SlotStatus, VerbRequest, VerbResponse};
use crate::cli::client::Client;
use crate::cli::confirm::{self, Ending, Followed};
use crate::cli::error::{Exit, Failure};
use crate::cli::output::{Format, Output};

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
    let deadline = Instant::now() + manner.patience.limit();
    let request = VerbRequest { expected_version: manner.expected_version, verb };
    let mut response = send(client, service, &request, deadline).await?;
    let mut lost = None;
    if changes_snapshot(&request.verb) && manner.patience != Patience::Return {
        let purpose = format!("v{} is applied", response.version);
        let first = response.confirmation;
        let followed = confirm::follow(client, service, first, deadline, &purpose).await?;
        (response.confirmation, lost) = (followed.confirmation, followed.lost);
    }
    let ending = match Ending::of(&response.confirmation) {
        Ending::Unconfirmed if manner.patience == Patience::Return => Ending::NotAwaited,
        ending => ending,
    };
    if output.format == Format::Json {
        // The service as it is after the waiting, unless somebody has moved it on.
        if let Ok(status) = client.service(service).await
            && status.version == response.version
        {
            response.status = status;
        }
        output.document(&Report { outcome: ending.as_str(), response: &response })?;
    } else {
        output.text(&report(&request.verb, &response, ending, manner.patience.limit(), output))?;
    }
    if let Some(lost) = lost {
        output.failure(&lost);
    }
    Ok(if changes_snapshot(&request.verb) { ending.exit() } else { Exit::Done })
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
        let awaited = refusal.awaited_version().filter(|awaited| known != Some(*awaited));
        let (Some(awaited), true) = (awaited, Instant::now() < deadline) else {
            return Err(refusal);
        };
        let first = client.confirmation(service, awaited, Duration::ZERO).await?;
        let purpose = format!("v{awaited} must be known everywhere first");
        let Followed { confirmation, .. } = confirm::follow(client, service, first, deadline, &purpose).await?;
        if Ending::of(&confirmation) == Ending::Unconfirmed {
            return Err(refusal);
        }
        known = Some(awaited);
    }
}

/// Adding a bundle changes nothing that a proxy decides by, so nobody waits for proxies there.
fn changes_snapshot(verb: &Verb) -> bool {
    !matches!(verb, Verb::AddBundle { .. })
}

/// What a verb prints for programs.
#[derive(Serialize)]
struct Report<'a> {
    outcome: &'static str,
    #[serde(flatten)]
    response: &'a VerbResponse,
}

/// What a verb prints for people.
fn report(verb: &Verb, response: &VerbResponse, ending: Ending, waited: Duration, output: &Output) -> String {
    let paint = output.paint;
    let done = said(verb, response);
    let place = match assignment(verb, &response.status) {
        Some(assignment) => format!("(v{}, assignment {assignment})", response.version),
        None => format!("(v{})", response.version),
    };
    let unchanged = if response.changed { "" } else { "nothing to change: " };
    let begin = format!("{unchanged}{} {}", paint.strong(&done), paint.dim(&place));
    if !changes_snapshot(verb) {
        return format!("{begin}\n");
    }
    let mut text = format!("{begin}: {}\n", confirm::tell(&response.confirmation, ending, waited, paint));
    if ending == Ending::Unconfirmed {
        for line in confirm::laggards(&response.confirmation, paint) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

/// What was done, in the words of the verb.
fn said(verb: &Verb, VerbResponse { status, .. }: &VerbResponse) -> String {
    match verb {
        Verb::Apply { .. } => format!("applied the settings of {}", status.service),
        Verb::AddBundle { id, .. } => format!("added bundle {id}"),
        Verb::Stage { slot, bundle } => format!("staged {bundle} in {slot}"),
        Verb::Ramp { slot, weight } if weight.takes_sessions() => format!("ramped {slot} to {weight} of new sessions"),
        Verb::Ramp { slot, .. } => format!("ramped {slot} to 0%, it drains"),
        Verb::Abort { slot, pins } => format!("aborted {slot}, its sessions {}", fate(*pins)),
        Verb::Switch { slot } => format!("switched to {slot}"),
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
        Verb::Stage { slot, .. } | Verb::Ramp { slot, .. } | Verb::Switch { slot } => of(slot),
        Verb::Rollback { .. } => live(status)?.assignment,
        _ => None,
    }
}
