//! What the control API shows of a service.

use colorfast_core::ids::{KeyId, SlotName, SnapshotVersion};
use colorfast_core::release::{ApplicationState, KeyState, Phase, Reach, RingState, ServiceState, Terms};

use super::accounts::Account;
use super::clock;
use super::control::Control;
use super::directory::Published;
use super::members::Record;
use crate::api::{ApplicationStatus, KeyStatus, MemberStatus, RefusedVersion, ServiceStatus, Sessions, SlotStatus};

/// The service as published, with its proxies as they are now.
pub fn of(published: &Published, control: &Control) -> ServiceStatus {
    let now = clock::now();
    let Control { members, reports, observations, holdings, .. } = control;
    let Published { state, snapshot, .. } = published;
    let newest = snapshot.version();
    let holds = holdings.of(&snapshot.service, &state.settings.pin, now);
    let slots = state.settings.slots.iter();
    let slots = slots.filter_map(|name| Some((name, state.slots.get(name)?)));
    let records = members.of(&snapshot.service);
    let pods = control.pods.as_ref();
    let all = records.iter().map(|record| &record.member);
    let watched = pods.map(|pods| pods.status(all));
    let member = |record: Record| {
        let pod = pods.and_then(|pods| pods.of(&record.member));
        member(&record, newest, pod, |record| reports.instances(&snapshot.service, &record.member))
    };
    ServiceStatus {
        service: snapshot.service.clone(),
        epoch: snapshot.epoch.0,
        version: snapshot.version,
        slots: slots
            .map(|(name, slot)| (name, slot, holds.runs(name, slot)))
            .map(|(name, slot, (runs, runs_until))| SlotStatus {
                slot: name.clone(),
                phase: slot.phase,
                since: slot.since,
                weight: slot.weight,
                bundle: slot.bundle.clone(),
                assignment: slot.assignment,
                quarantine_until: slot.quarantine_until,
                drain_until: slot.drain_until,
                sessions: holds.told(name, slot).map(sessions),
                runs,
                runs_until,
                serving: slot
                    .assignment
                    .filter(|_| holdings.reach == Reach::Live)
                    .map(|assignment| observations.shown(&snapshot.service, name, assignment, now)),
            })
            .collect(),
        way_back: way_back(state),
        keys: keys(&state.ring, Terms::of_pins(&state.settings)),
        members: records.into_iter().map(member).collect(),
        pods: watched,
        settings: state.settings.clone(),
        preset: state.preset.clone(),
    }
}

fn member(
    record: &Record,
    newest: SnapshotVersion,
    pod: Option<String>,
    instances: impl Fn(&Record) -> Vec<crate::api::InstanceStatus>,
) -> MemberStatus {
    MemberStatus {
        member: record.member.to_string(),
        node: record.member.node().to_owned(),
        process: record.member.process().to_owned(),
        pod,
        version_info: record.held().map(|held| held.to_string()).unwrap_or_default(),
        current: record.held_of_ours() == Some(newest),
        last_seen: record.seen,
        refused: record
            .refused
            .as_ref()
            .map(|refused| RefusedVersion { version: refused.version().version, error: refused.error.clone() }),
        instances: instances(record),
    }
}

fn sessions(account: Account) -> Sessions {
    let Account { held, issued, in_flight, oldest, until } = account;
    Sessions { held, issued, in_flight, oldest, until }
}

/// What is of all services, as published.
pub fn of_all(published: &ApplicationState, control: &Control) -> ApplicationStatus {
    let all = control.directory.all();
    let terms = Terms::of_runs(all.iter().map(|published| &published.state.settings));
    ApplicationStatus { version: published.version, keys: keys(&published.runs, terms) }
}

fn keys(ring: &RingState, terms: Terms) -> Vec<KeyStatus> {
    let key = |(key, known): (&KeyId, &KeyState)| KeyStatus {
        key: *key,
        duty: known.duty,
        since: known.since,
        retires: ring.retires(*key, terms),
    };
    ring.keys.iter().map(key).collect()
}

/// The slot that was live before, where it still runs what it ran then.
fn way_back(state: &ServiceState) -> Option<SlotName> {
    let former = state.history.last()?;
    let slot = state.slots.get(&former.slot)?;
    let stands = slot.assignment == Some(former.assignment) && !matches!(slot.phase, Phase::Idle | Phase::Condemned);
    stands.then(|| former.slot.clone())
}
