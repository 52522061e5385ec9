//! Sessions that proxies report, counted for as long as they hold their slot.

use colorfast_core::memory::{self, Certainty, Visits};
use colorfast_core::wire::sessions::Records;
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

/// A slot is freed, once the member has told all for the flush that comes before.
async fn is_freed(rig: &Rig, slot: &str, sequence: u64) {
    let before = rig.status().await.version;
    let mut freeing = rig.try_verb(json!({"verb": "recycle", "slot": slot}));
    while rig.status().await.version == before {
        assert!(crate::server::rig::is_held(&mut freeing).await);
    }
    join(rig).await;
    let sessions = json!([{"service": "chat", "flushed": before + 1}]);
    let told = json!({"node": node(), "instance": "00000000000000bb", "sequence": sequence, "sessions": sessions});
    rig.shown(REPORTS, &told).await.json(200);
    freeing.await.json(200);
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
    is_freed(&rig, "blue", 3).await;
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
    rig.verb(json!({"verb": "recycle", "slot": "blue", "force": {"reason": "a test"}})).await;
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
    is_freed(&rig, "green", 3).await;
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

/// Ids of sessions: keyed hashes, as good as random.
fn id(number: u64) -> Sid {
    Sid(colorfast_core::rendezvous::mix(number.wrapping_mul(2).wrapping_add(1)))
}

/// A session that began by the hash of its id, and has not come back.
fn begun(id: Sid, assignment: AssignmentId) -> Remembered {
    let began = crate::server::clock::now().seconds();
    let (certainty, visits) = (Certainty::Guess, Visits::First);
    Remembered { assignment, sid: id, began, seen: began, certainty, visits }
}

/// A fleet of proxies that tell of sessions, and what its slots hold by that.
struct Fleet {
    rig: Rig,
    tellers: u64,
    /// What runs in blue and in green.
    slots: [(SlotName, AssignmentId); 2],
    sequences: BTreeMap<u64, u64>,
}

impl Fleet {
    async fn of(tellers: u64) -> Self {
        let rig = Rig::with_chat().await;
        rig.verb(json!({"verb": "ramp", "slot": "green", "weight": 5000})).await;
        let status = rig.status().await;
        let slot = |index: usize| (status.slots[index].slot.clone(), status.slots[index].assignment.unwrap());
        let slots = [slot(0), slot(1)];
        let fleet = Self { rig, tellers, slots, sequences: BTreeMap::new() };
        fleet.join().await;
        fleet
    }

    fn node(teller: u64) -> Value {
        json!({"id": "edge", "metadata": {"process_id": format!("{:016x}", teller + 1)}})
    }

    async fn join(&self) {
        for teller in 0..self.tellers {
            let poll = json!({
                "resource_names": ["chat"], "type_url": colorfast_core::names::SNAPSHOT_TYPE_URL, "node": Self::node(teller),
            });
            self.rig.discovery("/v3/discovery:snapshots", &poll).await.json(200);
        }
    }

    /// A proxy says what it would do with these sessions.
    async fn ask(&self, teller: u64, sessions: &[(Sid, Remembered)]) {
        for page in sessions.chunks(Records::MAX) {
            let bytes: Vec<u8> = page.iter().flat_map(|(id, session)| memory::record(*id, session)).collect();
            let status = self.rig.status().await;
            let ask = json!({
                "node": Self::node(teller), "instance": "00000000000000bb", "service": "chat",
                "version_info": format!("{}.{}", status.epoch.0, status.version), "proposals": Records::of(&bytes),
            });
            self.rig.shown("/v3/sessions:ask", &ask).await.json(200);
        }
    }

    /// A proxy tells what it has learnt.
    async fn report(&mut self, teller: u64, sessions: &[(Sid, Remembered)]) {
        for page in sessions.chunks(Records::MAX) {
            let bytes: Vec<u8> = page.iter().flat_map(|(id, session)| memory::record(*id, session)).collect();
            let sequence = self.sequences.entry(teller).or_default();
            *sequence += 1;
            let report = json!({
                "node": Self::node(teller), "instance": "00000000000000bb", "sequence": *sequence,
                "sessions": [{"service": "chat", "records": Records::of(&bytes)}],
            });
            self.rig.shown(REPORTS, &report).await.json(200);
        }
    }

    /// Sessions held and issued in a slot, `millis` from now.
    fn at(&self, slot: usize, millis: u64) -> (u64, u64) {
        let (name, assignment) = &self.slots[slot];
        let now = crate::server::clock::now().plus_millis(millis);
        let accounts = &self.rig.sidecar.errands.holdings.accounts;
        let account = accounts.of(&"chat".parse().unwrap(), name, *assignment, &PinSettings::default(), now);
        (account.held, account.issued)
    }
}

/// Accounted: a session that comes back at another proxy has come back, an id that a fact takes elsewhere counts there
/// alone, and an alias is no second session: exactly, at once and once they are marked. Then each window ends.
#[tokio::test]
async fn young_sessions_count_as_what_stands() {
    let mut fleet = Fleet::of(2).await;
    let [(_, blue), (_, green)] = fleet.slots.clone();
    let first: Vec<_> = (0..4).map(|number| (id(number), begun(id(number), blue))).collect();
    fleet.ask(0, &first).await;
    assert_eq!((fleet.at(0, 0), fleet.at(1, 0)), ((0, 4), (0, 0)));
    fleet.ask(0, &first[..1]).await;
    assert_eq!(fleet.at(0, 0), (0, 4), "the same proxy asks twice");
    fleet.ask(1, &[(id(0), begun(id(0), green))]).await;
    assert_eq!(fleet.at(0, 0), (1, 3));
    // What an answer hands out in the session of the first id, at each of the proxies.
    let alias = Remembered { certainty: Certainty::Fact, visits: Visits::Returned, ..begun(id(0), blue) };
    fleet.report(0, &[(id(100), alias)]).await;
    fleet.report(1, &[(id(101), alias)]).await;
    assert_eq!(fleet.at(0, 0), (1, 3));
    let elsewhere = Remembered { certainty: Certainty::Fact, ..begun(id(200), green) };
    fleet.report(1, &[(id(3), elsewhere)]).await;
    assert_eq!((fleet.at(0, 0), fleet.at(1, 0)), ((1, 2), (1, 0)));
    fleet.rig.sidecar.save().await.unwrap();
    assert_eq!((fleet.at(0, 0), fleet.at(1, 0)), ((1, 2), (1, 0)));
    assert_eq!((fleet.at(0, 900_000), fleet.at(1, 900_000)), ((1, 0), (1, 0)));
    assert_eq!((fleet.at(0, 32 * HOUR), fleet.at(1, 32 * HOUR)), ((0, 0), (0, 0)));
}

/// Accounted: to 2 %, however sessions are spread over proxies: those that came back at another one are held, those that
/// did not are issued; a slot that no session came to is empty; a restart counts on, and so does a sidecar that was killed
/// and is told again.
#[tokio::test]
async fn sessions_are_counted_over_any_number_of_proxies() {
    for tellers in [1, 2, 3] {
        let mut fleet = Fleet::of(tellers).await;
        let [(_, blue), _] = fleet.slots.clone();
        let sessions: Vec<_> = (0..700).map(|number| (id(number), begun(id(number), blue))).collect();
        let at = |number: usize, turn: u64| (number as u64 * 31 + turn * 7) % tellers;
        for turn in 0..2 {
            for teller in 0..tellers {
                let comes = |(number, _): &(usize, &(Sid, Remembered))| at(*number, turn) == teller;
                let back = |(number, _): &(usize, _)| turn == 0 || number % 2 == 0;
                let mine = sessions.iter().enumerate().filter(comes).filter(back);
                let mine: Vec<_> = mine.map(|(_, session)| *session).collect();
                match turn {
                    0 => fleet.ask(teller, &mine).await,
                    _ if tellers > 1 => fleet.ask(teller, &mine).await,
                    // Alone, it knows them, and says that they came back.
                    _ => {
                        let back =
                            |(id, what): &(Sid, Remembered)| (*id, Remembered { visits: Visits::Returned, ..*what });
                        fleet.report(teller, &mine.iter().map(back).collect::<Vec<_>>()).await;
                    }
                }
            }
        }
        let right = |fleet: &Fleet, what: &str| {
            let (held, issued) = fleet.at(0, 0);
            assert!(held.abs_diff(350) <= 7 && issued.abs_diff(350) <= 7, "{tellers} {what}: {held} {issued}");
            assert_eq!(fleet.at(1, 0), (0, 0), "{what}");
        };
        right(&fleet, "young");
        fleet.rig = fleet.rig.restart().await;
        right(&fleet, "after a restart");
        fleet.rig = Rig::start_in(fleet.rig.crash().await).await;
        fleet.join().await;
        fleet.sequences.values_mut().for_each(|sequence| *sequence += 1);
        for teller in 0..tellers {
            let its = |(number, _): &(usize, &(Sid, Remembered))| at(*number, 0) == teller;
            let its: Vec<_> = sessions.iter().enumerate().filter(its).map(|(_, session)| *session).collect();
            fleet.report(teller, &its).await;
        }
        right(&fleet, "after a death");
    }
}

/// Accounted: what a killed sidecar had not marked yet is told again, and counts once.
#[tokio::test]
async fn what_a_death_took_is_counted_when_it_is_told_again() {
    let mut fleet = Fleet::of(2).await;
    let [(_, blue), _] = fleet.slots.clone();
    let sessions: Vec<_> = (0..10).map(|number| (id(number), begun(id(number), blue))).collect();
    fleet.ask(0, &sessions).await;
    fleet.rig = Rig::start_in(fleet.rig.crash().await).await;
    fleet.join().await;
    assert_eq!(fleet.at(0, 0), (0, 0));
    fleet.report(0, &sessions).await;
    fleet.ask(1, &sessions[..4]).await;
    assert_eq!(fleet.at(0, 0), (4, 6));
}
