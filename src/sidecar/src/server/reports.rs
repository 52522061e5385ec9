//! Reports: what VM instances tell, each document applied once.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use colorfast_core::error::FieldError;
use colorfast_core::ids::{ServiceName, SnapshotVersion};
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::reports::{Hello, Report, ReportAck};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::clock;
use super::http::Document;
use super::members::{MemberId, is_number};
use super::problem::ApiError;
use crate::api::InstanceStatus;
use crate::store::Ephemera;

/// Most services of one hello: as many as a plugin configuration may have.
const SERVICES_MAX: usize = 64;
/// Longest text of a version that an instance may send.
const TEXT_MAX: usize = 64;

/// The reports of every instance.
#[derive(Debug)]
pub struct Reports {
    ephemera: Arc<dyn Ephemera>,
    ttl: Duration,
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
}

impl Reports {
    /// Reports that are kept for `ttl` after the instance was heard last.
    pub fn new(ephemera: Arc<dyn Ephemera>, ttl: Duration) -> Self {
        Self { ephemera, ttl }
    }

    /// Takes a report in, once. One that has been applied, or is older than one that was, is acknowledged again.
    fn apply(&self, member: &MemberId, report: &Report, now: UnixMillis) -> ReportAck {
        let mut acknowledged = report.sequence;
        let expires = now.plus_millis(u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX));
        self.ephemera.merge(&key(member, &report.instance), Some(expires), &mut |known| {
            let known = known.and_then(|bytes| serde_json::from_slice::<Instance>(bytes).ok());
            if let Some(known) = &known
                && known.sequence >= report.sequence
            {
                acknowledged = known.sequence;
                return None;
            }
            let hello = report.hello.clone().or(known.and_then(|known| known.hello));
            let instance = Instance { member: member.clone(), sequence: report.sequence, seen: now, hello };
            serde_json::to_vec(&instance).map_err(|error| warn!(%error, "cannot keep a report")).ok()
        });
        ReportAck { acknowledged }
    }

    /// The instances of a member that run `service`, in order of their numbers.
    pub fn instances(&self, service: &ServiceName, member: &MemberId) -> Vec<InstanceStatus> {
        let kept = self.ephemera.scan(&prefix(member)).into_iter();
        let kept = kept.filter_map(|(key, bytes)| Some((key, serde_json::from_slice::<Instance>(&bytes).ok()?)));
        let of_member = kept.filter(|(_, instance)| instance.member == *member);
        let status = of_member.filter_map(|(key, instance)| {
            let hello = instance.hello?;
            let said = hello.services.iter().find(|said| said.name == *service)?;
            Some(InstanceStatus {
                instance: key.split('/').nth(2).unwrap_or_default().to_owned(),
                version_info: said.version_info.clone(),
                keyed: said.keyed,
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

/// `POST /v3/reports`
pub async fn receive(
    State(reports): State<Arc<Reports>>,
    Document(report): Document<Report>,
) -> Result<Json<ReportAck>, ApiError> {
    let member = validate(&report)?;
    Ok(Json(reports.apply(&member, &report, clock::now())))
}

fn validate(report: &Report) -> Result<MemberId, FieldError> {
    let member = MemberId::of(&report.node)?;
    if !is_number(&report.instance) {
        return Err(FieldError::new("instance", "is not 16 lower-case hex digits"));
    }
    if report.sequence == 0 {
        return Err(FieldError::new("sequence", "is 0, but the first report of an instance is 1"));
    }
    let Some(hello) = &report.hello else { return Ok(member) };
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
    for (index, service) in hello.services.iter().enumerate() {
        let version = &service.version_info;
        if !version.is_empty() && version.parse::<SnapshotVersion>().is_err() {
            let field = format!("hello.services[{index}].version_info");
            return Err(FieldError::new(field, "is neither empty nor <epoch>.<version>"));
        }
    }
    Ok(member)
}

#[cfg(test)]
mod tests;
