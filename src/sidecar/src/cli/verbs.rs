//! Verbs: sent, followed until every member has obeyed, and reported.

use std::time::{Duration, Instant};

use colorfast_core::ids::{AssignmentId, IdempotencyKey, ServiceName, SlotName};
use colorfast_core::release::{Phase, Pins, Verb};
use serde::Serialize;

use crate::api::{Confirmation, Preparation, ServiceStatus, SlotStatus, VerbRequest, VerbResponse};
use crate::cli::client::{Client, Subject};
use crate::cli::confirm::{self, Ending, Followed};
use crate::cli::error::{Doubt, Exit, Failure};
use crate::cli::output::{Format, Output, Paint};
use crate::cli::words;

/// A sidecar that went away before it answered is asked again this often.
const RETRY: Duration = Duration::from_millis(200);

/// How verbs are carried out.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Whether to wait, and for how long.
    pub patience: Patience,
    /// The version that the operator has seen.
    pub expected_version: Option<u64>,
    /// Sent with the verb, which is carried out once however often that is.
    pub key: IdempotencyKey,
    /// How long a sidecar that went away before it answered is asked again.
    pub lost_limit: Duration,
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
    /// How long it waits at most.
    pub fn limit(self) -> Duration {
        match self {
            Self::Wait(limit) => limit,
            Self::Return => Duration::ZERO,
        }
    }
}

impl Manner {
    /// Asks once; where the connection breaks before the answer is there, again, until it is told what came of it.
    pub async fn ask<T, F: Future<Output = Result<T, Failure>>>(&self, once: impl Fn() -> F) -> Result<T, Failure> {
        let lost = match once().await {
            Err(lost) if lost.doubt() == Doubt::Unanswered => lost,
            answer => return answer,
        };
        let deadline = tokio::time::Instant::now() + self.lost_limit;
        while tokio::time::Instant::now() < deadline {
            match tokio::time::timeout_at(deadline, once()).await {
                Ok(Err(away)) if away.exit() == Exit::Outage => tokio::time::sleep(RETRY).await,
                Ok(answer) => return answer,
                Err(_) => break,
            }
        }
        let key = self.key.as_str();
        Err(lost.next(format!("the same command with --idempotency-key '{key}'   (tells, or does it once)")))
    }

    /// Follows a verb that is applied until every member has obeyed, as long as there is patience.
    pub async fn follow(
        &self,
        client: &Client,
        subject: Subject<'_>,
        first: Confirmation,
        deadline: Instant,
    ) -> (Followed, Ending) {
        let mut followed = Followed { confirmation: first, lost: None };
        if let Patience::Wait(_) = self.patience {
            let purpose = format!("v{} is applied", followed.confirmation.version);
            followed = confirm::follow(client, subject, followed.confirmation, deadline, &purpose).await;
        }
        let ending = match (Ending::of(&followed.confirmation), self.patience) {
            (Ending::Unconfirmed, Patience::Return) => Ending::NotAwaited,
            (ending, _) => ending,
        };
        (followed, ending)
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
    let carried = carry_out(client, service, &request, &manner).await;
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
    manner: &Manner,
) -> Result<Carried, Failure> {
    let sending = Sending { client, service, request, manner };
    let deadline = Instant::now() + manner.patience.limit();
    let mut response = sending.send(deadline).await?;
    // The time that proxies took to get ready is none of the time that they have to obey.
    let prepared = response.preparation.as_ref().map_or(0, |preparation| preparation.took_ms.0);
    let deadline = deadline + Duration::from_micros(prepared);
    if let Verb::AddBundle { .. } = request.verb {
        // A bundle that is nowhere staged changes nothing that a proxy decides by.
        return Ok(Carried { response, ending: None, lost: None });
    }
    if client.is_offline() {
        return Ok(Carried { response, ending: Some(Ending::Stored), lost: None });
    }
    let (followed, ending) = manner.follow(client, service.into(), response.confirmation, deadline).await;
    response.confirmation = followed.confirmation;
    Ok(Carried { response, ending: Some(ending), lost: followed.lost })
}

/// A verb on its way.
struct Sending<'a> {
    client: &'a Client,
    service: &'a ServiceName,
    request: &'a VerbRequest,
    manner: &'a Manner,
}

impl Sending<'_> {
    /// Sends the verb. Where weight would go to an assignment that a member does not know yet, waits for that member.
    async fn send(&self, deadline: Instant) -> Result<VerbResponse, Failure> {
        let mut known = None;
        loop {
            let refusal = match self.ask().await {
                Ok(response) => return Ok(response),
                Err(refusal) => refusal,
            };
            let Some(awaited) = refusal.awaited_version().filter(|awaited| known != Some(*awaited)) else {
                return Err(refusal);
            };
            let Ok(first) = self.client.confirmation(self.service.into(), awaited, Duration::ZERO).await else {
                return Err(refusal);
            };
            if Instant::now() >= deadline {
                return Err(explained(refusal, &first));
            }
            let purpose = format!("v{awaited} must be known everywhere first");
            let followed = confirm::follow(self.client, self.service.into(), first, deadline, &purpose).await;
            if Ending::of(&followed.confirmation) == Ending::Unconfirmed {
                // Once more, for a refusal that names those alone who still lack it.
                return self.ask().await.map_err(|refusal| match refusal.awaited_version() {
                    Some(version) if version == awaited => explained(refusal, &followed.confirmation),
                    _ => refusal,
                });
            }
            known = Some(awaited);
        }
    }

    async fn ask(&self) -> Result<VerbResponse, Failure> {
        self.manner.ask(|| self.client.verb(self.service, self.request, &self.manner.key)).await
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
pub struct Report<'a, R> {
    /// How it ended.
    pub outcome: &'static str,
    /// What the sidecar answered.
    #[serde(flatten)]
    pub response: &'a R,
}

/// What a verb prints for people.
fn report(verb: &Verb, response: &VerbResponse, ending: Option<Ending>, waited: Duration, output: &Output) -> String {
    let paint = output.paint;
    let place = match assignment(verb, &response.status) {
        Some(assignment) => format!("(v{}, assignment {assignment})", response.version),
        None => format!("(v{})", response.version),
    };
    let mut text = begun(&said(verb, response), &place, (response.changed, response.repeated), paint);
    if let Some(ending) = ending {
        text.push_str(": ");
        text.push_str(&confirm::tell(&response.confirmation, ending, waited, paint));
    }
    text.push('\n');
    response.preparation.iter().for_each(|before| text.push_str(&prepared(before, paint)));
    if ending == Some(Ending::Unconfirmed) {
        text.push_str(&confirm::laggards(&response.confirmation, paint));
    }
    text
}

/// The beginning of what people are told: what was `said` to be done, and whether it was done now.
pub fn begun(said: &str, place: &str, (changed, repeated): (bool, bool), paint: Paint) -> String {
    let unchanged = match (changed, repeated) {
        (true, false) => "",
        (true, true) => "done when this was sent first: ",
        (false, _) => "already done: ",
    };
    format!("{unchanged}{} {}", paint.strong(said), paint.dim(place))
}

/// How proxies got ready before the verb, and who did not.
fn prepared(Preparation { took_ms, laggards, .. }: &Preparation, paint: Paint) -> String {
    let took = words::measured(*took_ms);
    let mut lines = match laggards.len() {
        0 => format!("  {}\n", paint.dim(&format!("before it, every member had told its sessions after {took}"))),
        late => format!(
            "  before it, {} had not told all sessions after {took}; of those begun there last some may move:\n",
            words::count(late, "member")
        ),
    };
    laggards.iter().for_each(|name| lines.push_str(&format!("    {}\n", words::tame(name))));
    lines
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
        Verb::SetDeadline { slot, within_seconds: None } => format!("{slot} drains until its sessions end"),
        Verb::SetDeadline { slot, within_seconds: Some(seconds) } => {
            format!("{slot} drains for {seconds} s at most, then its last sessions leave")
        }
        Verb::RotateKeys => {
            let newest = status.keys.last().map_or_else(String::new, |newest| format!(" {}", newest.key));
            format!("added key{newest}, it signs once every proxy has it")
        }
        Verb::TurnKeys => "turned keys".to_owned(),
        Verb::Settle => "ended the asking".to_owned(),
        Verb::RetireKey { key, .. } => format!("retired key {key}, what it signed is refused"),
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
