//! What is different between two looks at a service, in words.

use colorfast_core::ids::SlotName;

use crate::api::{MemberStatus, ServiceStatus, SlotStatus};
use crate::cli::words;

/// The changes from `old` to `new`, none where only times went on. Without `old` everything is new.
pub fn between(old: Option<&ServiceStatus>, new: &ServiceStatus) -> Vec<String> {
    let Some(old) = old else {
        let slots: Vec<_> = new.slots.iter().map(|slot| format!("{} {}", slot.slot, slot.phase)).collect();
        return vec![format!("{}, {}", slots.join(", "), words::count(new.members.len(), "member"))];
    };
    let mut changes = Vec::new();
    if old.epoch != new.epoch {
        changes.push("another log: the sidecar's data was restored or replaced".to_owned());
    }
    if old.settings != new.settings {
        changes.push("settings changed".to_owned());
    }
    slots(old, new, &mut changes);
    members(old, new, &mut changes);
    if changes.is_empty() && old.version != new.version {
        changes.push("moved on, slots as before".to_owned());
    }
    changes
}

fn slots(old: &ServiceStatus, new: &ServiceStatus, changes: &mut Vec<String>) {
    let find = |status: &'_ ServiceStatus, name: &SlotName| status.slots.iter().position(|slot| slot.slot == *name);
    for slot in &new.slots {
        let before = find(old, &slot.slot).and_then(|index| old.slots.get(index));
        match before {
            None => changes.push(format!("{}: new, {}", slot.slot, slot.phase)),
            Some(before) => changes.extend(moved(before, slot)),
        }
    }
    let gone = old.slots.iter().filter(|slot| find(new, &slot.slot).is_none());
    changes.extend(gone.map(|slot| format!("{}: gone", slot.slot)));
}

fn moved(old: &SlotStatus, new: &SlotStatus) -> Option<String> {
    let mut parts = Vec::new();
    if old.phase != new.phase {
        parts.push(format!("{} → {}", old.phase, new.phase));
    }
    if let Some(bundle) = new.bundle.as_ref().filter(|bundle| old.bundle.as_ref() != Some(bundle)) {
        parts.push(format!("runs {bundle}"));
    }
    if old.weight != new.weight {
        parts.push(format!("{} → {} of new sessions", old.weight, new.weight));
    }
    if let Some(assignment) = new.assignment.filter(|assignment| old.assignment != Some(*assignment)) {
        parts.push(format!("assignment {assignment}"));
    }
    (!parts.is_empty()).then(|| format!("{}: {}", new.slot, parts.join(", ")))
}

fn members(old: &ServiceStatus, new: &ServiceStatus, changes: &mut Vec<String>) {
    for member in &new.members {
        let name = words::tame(&member.member);
        match old.members.iter().find(|before| before.member == member.member) {
            None => changes.push(format!("{name}: a new member, {}", state(member))),
            Some(before) if before.refused != member.refused || before.version_info != member.version_info => {
                changes.push(format!("{name}: {}", state(member)));
            }
            Some(_) => {}
        }
    }
    let gone = |before: &&MemberStatus| new.members.iter().all(|member| member.member != before.member);
    changes.extend(old.members.iter().filter(gone).map(|before| format!("{}: gone", words::tame(&before.member))));
}

fn state(member: &MemberStatus) -> String {
    match &member.refused {
        Some(refused) => format!("refused v{}: {}", refused.version, words::tame(&refused.error)),
        None if member.version_info.is_empty() => "has no snapshot yet".to_owned(),
        None if member.current => "has obeyed".to_owned(),
        None => "lags behind".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(version: u64, slots: &str, members: &str) -> ServiceStatus {
        let document = format!(
            r#"{{"service":"chat","epoch":5,"version":{version},"slots":[{slots}],"members":[{members}],"settings":{{}}}}"#
        );
        serde_json::from_str(&document).unwrap()
    }

    fn slot(phase: &str, weight: u32) -> String {
        format!(r#"{{"slot":"green","phase":"{phase}","since":1,"weight":{weight},"bundle":"b1","assignment":9}}"#)
    }

    fn member(version: u64, rest: &str) -> String {
        format!(
            r#"{{"member":"a/1","node":"a","process":"1","version_info":"5.{version}","current":true,"last_seen":{version},"instances":[]{rest}}}"#
        )
    }

    /// Each change is told, and the passing of time is none.
    #[test]
    fn changes_are_told() {
        let staged = status(3, &slot("staged", 0), "");
        assert_eq!(between(None, &staged), ["green staged, 0 members"]);
        let ramped = status(4, &slot("candidate", 1000), "");
        assert_eq!(between(Some(&staged), &ramped), ["green: staged → candidate, 0% → 10% of new sessions"]);
        let joined = status(4, &slot("candidate", 1000), &member(4, ""));
        assert_eq!(between(Some(&ramped), &joined), ["a/1: a new member, has obeyed"]);
        let refused = r#","refused":{"version":5,"error":"settings.x"}"#;
        let refused = status(5, &slot("candidate", 1000), &member(4, refused));
        assert_eq!(between(Some(&joined), &refused), ["a/1: refused v5: settings.x"]);
        assert_eq!(between(Some(&joined), &ramped), ["a/1: gone"]);
        let mut later = joined.clone();
        later.members[0].last_seen.0 += 1000;
        assert!(between(Some(&joined), &later).is_empty());
    }
}
