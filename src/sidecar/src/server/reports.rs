//! Reports: what VM instances tell, each document applied once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use colorfast_core::error::FieldError;
use colorfast_core::ids::{ServiceName, SnapshotVersion};
use colorfast_core::sketch::Sketch;
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::incarnation::Incarnation;
use colorfast_core::wire::reports::{Hello, Report, ReportAck, SlotReport};
use colorfast_core::wire::sessions::{Records, SessionsReport};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;

use super::access::Caller;
use super::accounts::Accounts;
use super::clock;
use super::http::Document;
use super::members::{MemberId, Members, is_number};
use super::observations::Observations;
use super::openapi::Operation;
use super::problem::{ApiError, Kind};
use super::sessions::Sessions;
use super::tickets::Tickets;
use crate::api::InstanceStatus;
use crate::store::Ephemera;

/// Most services of one hello: as many as a plugin configuration may have.
const SERVICES_MAX: usize = 64;
/// Most instances of one member: an Envoy has one a worker thread, and a few more while it reloads.
const INSTANCES_MAX: usize = 256;
/// How long an instance is waited for after it was heard last: it says hello every ten seconds.
const LEASE_MS: u64 = 25_000;
/// Longest text of a version that an instance may send.
const TEXT_MAX: usize = 64;

/// The reports of every instance.
#[derive(Debug)]
pub struct Reports {
    members: Arc<Members>,
    tickets: Arc<Tickets>,
    ephemera: Arc<dyn Ephemera>,
    told: Told,
    ttl: Duration,
    incarnation: Incarnation,
    flushed: watch::Sender<()>,
}

/// What is kept of an instance. Its place names its proxy, so no proxy can report for another's instance.
#[derive(Debug, Serialize, Deserialize)]
struct Instance {
    member: MemberId,
    /// The last report that was applied.
    sequence: u64,
    seen: UnixMillis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hello: Option<Hello>,
    /// The last flush of each service that it has told all for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    flushed: BTreeMap<ServiceName, Flushed>,
}

/// A flush that an instance has told all for.
#[derive(Debug, Serialize, Deserialize)]
struct Flushed {
    flush: u64,
    /// The life of the sidecar that it told; none where it knows of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incarnation: Option<Incarnation>,
}

/// Where what reports tell goes.
#[derive(Debug)]
pub struct Told {
    /// What was seen of the agents of slots.
    pub observations: Arc<Observations>,
    /// Who holds slots.
    pub accounts: Arc<Accounts>,
    /// What was learnt of sessions.
    pub sessions: Arc<Sessions>,
}

/// Whether a report is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Applies {
    Yes,
    No,
}

impl Reports {
    /// Reports of `members`, kept for `ttl` after the instance was heard last.
    pub fn new(
        members: Arc<Members>,
        tickets: Arc<Tickets>,
        ephemera: Arc<dyn Ephemera>,
        told: Told,
        ttl: Duration,
        incarnation: Incarnation,
    ) -> Self {
        Self { members, tickets, ephemera, told, ttl, incarnation, flushed: watch::Sender::new(()) }
    }

    /// Admits a report of a member, cut to the services that it is a member of: what is kept of reports is bounded by
    /// the members that there are.
    fn admit(&self, member: &MemberId, report: &mut Report) -> Result<(), ApiError> {
        let services = self.members.services_of(member);
        if services.is_empty() {
            let detail = format!("{member} is no member of any service: it becomes one by asking for a snapshot");
            return Err(ApiError::new(Kind::NOT_MEMBER, detail));
        }
        if let Some(hello) = &mut report.hello {
            hello.services.retain(|said| services.contains(&said.name));
        }
        report.slots.retain(|seen| services.contains(&seen.service));
        report.sessions.retain(|learnt| services.contains(&learnt.service));
        let known = self.ephemera.scan(&prefix(member));
        let place = key(member, &report.instance);
        if known.len() >= INSTANCES_MAX && !known.iter().any(|(key, _)| *key == place) {
            let detail = format!("{member} has {INSTANCES_MAX} instances already: wait until some are silent");
            return Err(ApiError::new(Kind::OUTAGE, detail));
        }
        Ok(())
    }

    /// Takes a report in, once. One that has been applied, or is older than one that was, is acknowledged again.
    fn apply(&self, member: &MemberId, report: &Report, now: UnixMillis) -> ReportAck {
        let mut acknowledged = report.sequence;
        let mut applies = Applies::No;
        let expires = now.plus_millis(u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX));
        let place = key(member, &report.instance);
        let before = self.ephemera.get(&place).and_then(|bytes| serde_json::from_slice::<Instance>(&bytes).ok());
        if before.is_none_or(|before| before.sequence < report.sequence) {
            // First of all: once the instance is said to have told everything, weight may move.
            self.told.sessions.learn(member, &report.instance, &report.sessions, now);
        }
        self.ephemera.merge(&place, Some(expires), &mut |known| {
            let known = known.and_then(|bytes| serde_json::from_slice::<Instance>(bytes).ok());
            if let Some(known) = &known
                && known.sequence >= report.sequence
            {
                acknowledged = known.sequence;
                return None;
            }
            let (before, mut flushed) = known.map(|known| (known.hello, known.flushed)).unwrap_or_default();
            let hello = report.hello.clone().or(before);
            flushed.extend(self.flushed_by(report));
            let instance = Instance { member: member.clone(), sequence: report.sequence, seen: now, hello, flushed };
            applies = Applies::Yes;
            serde_json::to_vec(&instance).map_err(|error| warn!(%error, "cannot keep a report")).ok()
        });
        if applies == Applies::Yes {
            let source = format!("{}-{}", member.process(), report.instance);
            for seen in &report.slots {
                self.told.observations.add(seen, now);
                self.told.accounts.add(&source, seen, now);
            }
            if report.sessions.iter().any(|told| told.flushed.is_some()) {
                self.flushed.send_replace(());
            }
        }
        ReportAck { acknowledged, incarnation: Some(self.incarnation.clone()) }
    }

    /// The flushes that a report tells of. One that was made for another life of the sidecar says nothing: what it told
    /// may be lost.
    fn flushed_by(&self, report: &Report) -> impl Iterator<Item = (ServiceName, Flushed)> {
        let heard = report.incarnation.clone();
        let counts = heard.as_ref().is_none_or(|heard| *heard == self.incarnation);
        report.sessions.iter().filter(move |_| counts).filter_map(move |told| {
            let incarnation = heard.clone();
            Some((told.service.clone(), Flushed { flush: told.flushed?, incarnation }))
        })
    }

    /// Wakes whenever an instance has told all for some flush.
    pub fn flushes(&self) -> watch::Receiver<()> {
        self.flushed.subscribe()
    }

    /// Whether every instance of a member that runs `service`, and was heard lately, has told all that it had learnt before
    /// `flush`.
    pub fn has_flushed(&self, service: &ServiceName, member: &MemberId, flush: u64, now: UnixMillis) -> bool {
        self.kept(member).all(|(_, instance)| {
            let runs = |hello: &Hello| hello.services.iter().any(|said| said.name == *service);
            now.since(instance.seen) >= LEASE_MS
                || !instance.hello.as_ref().is_some_and(runs)
                || instance.flushed.get(service).is_some_and(|told| {
                    told.flush >= flush && told.incarnation.as_ref().is_none_or(|heard| *heard == self.incarnation)
                })
        })
    }

    /// What is kept of each instance of a member, by its place.
    fn kept(&self, member: &MemberId) -> impl Iterator<Item = (String, Instance)> {
        let kept = self.ephemera.scan(&prefix(member)).into_iter();
        let kept = kept.filter_map(|(key, bytes)| Some((key, serde_json::from_slice::<Instance>(&bytes).ok()?)));
        kept.filter(move |(_, instance)| instance.member == *member)
    }

    /// The instances of a member that run `service`, in order of their numbers.
    pub fn instances(&self, service: &ServiceName, member: &MemberId) -> Vec<InstanceStatus> {
        let status = self.kept(member).filter_map(|(key, instance)| {
            let hello = instance.hello?;
            let said = hello.services.iter().find(|said| said.name == *service)?;
            Some(InstanceStatus {
                instance: key.split('/').nth(2).unwrap_or_default().to_owned(),
                version_info: said.version_info.clone(),
                keyed: said.keyed,
                chain: hello.chain,
                bodies: hello.bodies,
                filter_version: hello.filter_version,
                last_seen: instance.seen,
            })
        });
        status.collect()
    }
}

fn prefix(member: &MemberId) -> String {
    format!("instance/{}/", member.process())
}

/// What has a fixed length comes first, so that no node id can reach another's place.
fn key(member: &MemberId, instance: &str) -> String {
    format!("{}{instance}/{}", prefix(member), member.node())
}

/// What `receive` is for.
pub fn describe_receive(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("report", "What a VM instance tells", "proxies")
        .describe("One document, applied once: it is sent again until its sequence number is acknowledged.")
        .body::<Report>("The report.")
        .answers::<ReportAck>("It need not be sent again.")
        .may_fail(&[Kind::NOT_MEMBER, Kind::OTHER_NODE, Kind::TICKET])
}

/// `POST /v3/reports`
pub async fn receive(
    State(reports): State<Arc<Reports>>,
    caller: Caller,
    Document(mut report): Document<Report>,
) -> Result<Json<ReportAck>, ApiError> {
    let member = validate(&mut report)?;
    caller.be(member.node())?;
    reports.tickets.admit(&member, report.ticket.as_ref(), "a report")?;
    reports.admit(&member, &mut report)?;
    Ok(Json(reports.apply(&member, &report, clock::now())))
}

/// Checks a report, and writes its versions in their one form: leading zeros could be of any length.
fn validate(report: &mut Report) -> Result<MemberId, FieldError> {
    let member = MemberId::of(&report.node)?;
    if !is_number(&report.instance) {
        return Err(FieldError::new("instance", "is not 16 lower-case hex digits"));
    }
    if report.sequence == 0 {
        return Err(FieldError::new("sequence", "is 0, but the first report of an instance is 1"));
    }
    if !report.incarnation.as_ref().is_none_or(|heard| is_number(heard.as_str())) {
        return Err(FieldError::new("incarnation", "is not 16 lower-case hex digits"));
    }
    validate_slots(&report.slots)?;
    validate_sessions(&report.sessions)?;
    let Some(hello) = &mut report.hello else { return Ok(member) };
    if hello.filter_version.len() > TEXT_MAX || !hello.filter_version.bytes().all(|b| b.is_ascii_graphic()) {
        let rule = format!("is not a version: at most {TEXT_MAX} printable ASCII characters");
        return Err(FieldError::new("hello.filter_version", rule));
    }
    if hello.services.len() > SERVICES_MAX {
        let found = hello.services.len();
        return Err(FieldError::new(
            "hello.services",
            format!("has {found} entries, at most {SERVICES_MAX} are allowed"),
        ));
    }
    for (index, service) in hello.services.iter_mut().enumerate() {
        if service.version_info.is_empty() {
            continue;
        }
        let Ok(version) = service.version_info.parse::<SnapshotVersion>() else {
            let field = format!("hello.services[{index}].version_info");
            return Err(FieldError::new(field, "is neither empty nor <epoch>.<version>"));
        };
        service.version_info = version.to_string();
    }
    Ok(member)
}

fn validate_sessions(sessions: &[SessionsReport]) -> Result<(), FieldError> {
    if sessions.len() > SERVICES_MAX {
        let found = sessions.len();
        return Err(FieldError::new("sessions", format!("has {found} entries, at most {SERVICES_MAX} are allowed")));
    }
    match sessions.iter().position(|learnt| learnt.records.sessions().is_none()) {
        Some(index) => {
            let rule = format!("are not whole records in base64url without padding, {} at most", Records::MAX);
            Err(FieldError::new(format!("sessions[{index}].records"), rule))
        }
        None => Ok(()),
    }
}

fn validate_slots(slots: &[SlotReport]) -> Result<(), FieldError> {
    if slots.len() > SlotReport::ENTRIES_MAX {
        let (found, most) = (slots.len(), SlotReport::ENTRIES_MAX);
        return Err(FieldError::new("slots", format!("has {found} entries, at most {most} are allowed")));
    }
    let is_word = |text: &str| text.len() <= SlotReport::FOUND_MAX && text.bytes().all(|b| b.is_ascii_graphic());
    let strange = |marks: &String| !marks.is_empty() && Sketch::of_text(marks).is_none();
    for (index, seen) in slots.iter().enumerate() {
        for (field, marks) in [("held", &seen.held), ("issued", &seen.issued)] {
            if strange(marks) {
                let rule = "is not marks of sessions in base64url without padding";
                return Err(FieldError::new(format!("slots[{index}].{field}"), rule));
            }
        }
    }
    match slots.iter().position(|seen| !seen.found.as_deref().is_none_or(is_word)) {
        Some(index) => {
            let rule = format!("is not a word: at most {} printable ASCII characters", SlotReport::FOUND_MAX);
            Err(FieldError::new(format!("slots[{index}].found"), rule))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
