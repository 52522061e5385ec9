//! Sessions that proxies report, counted for as long as they hold their slot.

use serde_json::{Value, json};

use super::*;
use crate::server::rig::Rig;

const REPORTS: &str = "/v3/reports";
const HOUR: u64 = 3_600_000;

/// The marks of sessions, numbered.
fn marks(sessions: std::ops::Range<u64>) -> String {
    let mut tally = colorfast_core::sketch::Tally::default();
    for session in sessions {
        tally.note(colorfast_core::ids::Sid(colorfast_core::rendezvous::mix(session + 1)));
    }
    sketch::text(&tally.take(usize::MAX))
}

fn node() -> Value {
    json!({"id": "edge-1", "metadata": {"process_id": "00000000000000aa"}})
}

/// A member polls, and holds what it is sent.
async fn join(rig: &Rig) {
    let mut poll = json!({
        "version_info": "", "resource_names": ["chat"], "type_url": colorfast_core::names::SNAPSHOT_TYPE_URL, "node": node(),
    });
    let sent = rig.shown("/v3/discovery:snapshots", &poll).await.json(200);
    poll["version_info"] = sent["version_info"].clone();
    let mut held = rig.shown("/v3/discovery:snapshots", &poll);
    assert!(crate::server::rig::is_held(&mut held).await);
}

/// A report of one instance about a slot, under what runs there now.
async fn report(rig: &Rig, sequence: u64, slot: &str, seen: Value) -> crate::server::rig::Answer {
    let status = rig.status().await;
    let assignment = status.slots.iter().find(|known| known.slot.as_str() == slot).unwrap().assignment.unwrap();
    let mut entry = json!({"service": "chat", "slot": slot, "assignment": assignment});
    entry.as_object_mut().unwrap().extend(seen.as_object().unwrap().clone());
    let hello = json!({
        "filter_version": "1", "snapshot_format": 1,
        "services": [{"name": "chat", "version_info": "", "keyed": true}],
    });
    let report = json!({
        "node": node(), "instance": "00000000000000bb", "sequence": sequence, "hello": hello, "slots": [entry],
    });
    rig.shown(REPORTS, &report).await
}

async fn sessions(rig: &Rig, slot: &str) -> crate::api::Sessions {
    let status = rig.status().await;
    status.slots.iter().find(|known| known.slot.as_str() == slot).unwrap().sessions.unwrap()
}

/// Accounted: recycling a slot that drains is refused, with what it holds and until when, until it is empty; requests under
/// way end with the report that says so. A restart goes on counting.
#[tokio::test]
async fn a_slot_that_holds_sessions_is_not_recycled() {
    let rig = Rig::with_chat().await;
    rig.verb(json!({"verb": "apply", "settings": {"quarantine_seconds": 0}})).await;
    join(&rig).await;
    report(
        &rig,
        1,
        "blue",
        json!({"held": marks(0..3), "issued": marks(2..9), "in_flight": 1, "oldest": 1_795_258_707}),
    )
    .await
    .json(200);
    let counted = sessions(&rig, "blue").await;
    assert_eq!((counted.held, counted.issued, counted.in_flight), (3, 6, 1), "who came back is issued no more");
    assert_eq!(counted.oldest, Some(UnixSeconds(1_795_258_707)));
    rig.verb(json!({"verb": "switch", "slot": "green"})).await;

    let rig = rig.restart().await;
    assert_eq!(sessions(&rig, "blue").await, counted);
    let refused = rig.try_verb(json!({"verb": "recycle", "slot": "blue"})).await.problem(409);
    assert_eq!(refused.0, "slot-held");
    let until = counted.until.unwrap().0;
    let wanted = format!(
        "blue still has 3 sessions, 6 sessions that have not come back yet, 1 request under way until {until} (Unix ms)"
    );
    assert!(refused.2.starts_with(&wanted), "{}", refused.2);
    let day = colorfast_core::settings::PinSettings::default().idle_timeout_seconds;
    assert!(
        (u64::from(day) * 1000..2 * u64::from(day) * 1000)
            .contains(&until.saturating_sub(crate::server::clock::now().0))
    );

    report(&rig, 2, "blue", json!({})).await.json(200);
    assert_eq!(sessions(&rig, "blue").await.in_flight, 0);
    rig.verb(json!({"verb": "migrate", "slot": "blue"})).await;
    rig.verb(json!({"verb": "recycle", "slot": "blue"})).await;
}

/// A member that has not reported may know of sessions that nobody else does: it is named.
#[tokio::test]
async fn who_has_not_reported_is_named() {
    let rig = Rig::with_chat().await;
    rig.verb(json!({"verb": "apply", "settings": {"quarantine_seconds": 0}})).await;
    join(&rig).await;
    rig.verb(json!({"verb": "switch", "slot": "green"})).await;
    let refused = rig.try_verb(json!({"verb": "recycle", "slot": "blue"})).await;
    assert_eq!(refused.json(409)["members"], json!(["edge-1/00000000000000aa"]));
    assert_eq!(refused.problem(409).0, "not-accounted");
    report(&rig, 1, "blue", json!({})).await.json(200);
    rig.verb(json!({"verb": "recycle", "slot": "blue"})).await;
}

/// Requests under way keep a slot whose pins are broken, too.
#[tokio::test]
async fn a_condemned_slot_ends_its_requests() {
    let rig = Rig::with_chat().await;
    join(&rig).await;
    rig.verb(json!({"verb": "ramp", "slot": "green", "weight": 100, "force": null})).await;
    rig.verb(json!({"verb": "rollback", "to": null, "pins": "break"})).await;
    report(&rig, 1, "green", json!({"in_flight": 2, "held": marks(0..5)})).await.json(200);
    let refused = rig.try_verb(json!({"verb": "recycle", "slot": "green"})).await.problem(409);
    assert!(refused.2.starts_with("green still has 2 requests under way: wait"), "{}", refused.2);
    report(&rig, 2, "green", json!({})).await.json(200);
    rig.verb(json!({"verb": "recycle", "slot": "green"})).await;
}

/// Marks that are none are refused by field, and the report changes nothing.
#[tokio::test]
async fn strange_marks_are_refused() {
    let rig = Rig::with_chat().await;
    join(&rig).await;
    for (field, marks) in [("held", "!"), ("held", "AAA"), ("issued", "AAAA"), ("issued", "____")] {
        let mut seen = json!({"in_flight": 1});
        seen[field] = json!(marks);
        let problem = report(&rig, 1, "blue", seen).await.problem(422);
        assert_eq!(problem.1, Some(format!("slots[0].{field}")), "{marks}");
    }
    assert_eq!(sessions(&rig, "blue").await, crate::api::Sessions::default());
}

/// Sessions count for the idle timeout, or for `first_return` where they never came back, and not much longer; what was
/// told of another assignment counts nowhere; ten thousand are counted to 2 %.
#[tokio::test]
async fn sessions_end() {
    let rig = Rig::with_chat().await;
    let directory = rig.sidecar.errands.directory.clone();
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(crate::store::sqlite::Sqlite::open(&folder.path().join("store.db")).unwrap());
    let accounts = Accounts::new(directory.clone(), store);
    let (service, slot): (ServiceName, SlotName) = ("chat".parse().unwrap(), "blue".parse().unwrap());
    let state = directory.watch(&service).unwrap().borrow().state.clone();
    let assignment = state.slots[&slot].assignment.unwrap();
    let told = |assignment, held, issued| {
        serde_json::from_value::<SlotReport>(
            json!({"service": "chat", "slot": "blue", "assignment": assignment, "held": held, "issued": issued}),
        )
        .unwrap()
    };
    let start = UnixMillis(1_800_000_000_000);
    let at = |millis| {
        let account = accounts.of(&service, &slot, assignment, &state.settings.pin, start.plus_millis(millis));
        (account.held, account.issued)
    };
    accounts.add("a", &told(assignment, marks(0..10_000), marks(10_000..10_500)), start);
    accounts.add("a", &told(AssignmentId(1), marks(50_000..60_000), String::new()), start);
    let (held, issued) = at(0);
    assert!((9_800..=10_200).contains(&held) && (300..=700).contains(&issued), "{held} {issued}");
    assert_eq!((at(600_000).0, at(600_000).1), (held, issued), "ten minutes for the first return");
    assert_eq!(at(800_000), (held, 0));
    assert_eq!(at(24 * HOUR), (held, 0), "a day of idle time");
    assert_eq!(at(31 * HOUR), (0, 0));

    // One that goes on is told again, by another proxy, and holds on; the others do not.
    accounts.add("b", &told(assignment, marks(7..8), String::new()), start.plus_millis(20 * HOUR));
    assert_eq!(at(40 * HOUR), (1, 0));
    assert_eq!(at(52 * HOUR), (0, 0));
}
