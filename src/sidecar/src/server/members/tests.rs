//! Members on a paused clock: time passes only where a test says so.

use colorfast_core::time::UnixMillis;
use colorfast_core::wire::discovery::{Node, NodeMetadata};
use tempfile::TempDir;
use tokio::time::advance;

use super::*;
use crate::api::{Millis, Outcome, Progress};
use crate::store::sqlite::Sqlite;

const EPOCH: Epoch = Epoch(UnixMillis(1_000));
const TTL: Duration = Duration::from_secs(45);

/// The members of one service, and the store that remembers them.
struct Scene {
    members: Members,
    ephemera: Arc<dyn Ephemera>,
    /// When it came to version 1.
    began: UnixMillis,
    _folder: TempDir,
}

fn chat() -> ServiceName {
    "chat".parse().unwrap()
}

fn id(node: &str, process: u64) -> MemberId {
    let metadata = NodeMetadata { process_id: format!("{process:016x}") };
    MemberId::of(&Node { id: node.to_owned(), metadata }).unwrap()
}

fn holds(version: u64) -> Heard {
    Heard { held: Some(SnapshotVersion { epoch: EPOCH, version }), refused: None }
}

/// What a member says that shows its ticket.
fn proven(heard: Heard) -> Said {
    Said { key: TicketKey::default(), claims: Some(heard) }
}

/// What anybody may say under the key of that name.
fn unproven(key: &str) -> Said {
    Said { key: serde_json::from_value(key.into()).unwrap(), claims: None }
}

impl Scene {
    /// A service at version 1.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ephemera: Arc<dyn Ephemera> = Arc::new(Sqlite::open(&folder.path().join("store.db")).unwrap());
        let members = Members::new(EPOCH, TTL, ephemera.clone());
        let began = clock::now();
        members.append(&chat(), Appended::new(1, began, Some(Instant::now())));
        Self { members, ephemera, began, _folder: folder }
    }

    /// The sidecar starts again, the service being at `version` since `at`.
    fn restart(self, version: u64, at: UnixMillis) -> Self {
        let members = Members::new(EPOCH, TTL, self.ephemera.clone());
        members.append(&chat(), Appended::new(version, at, None));
        Self { members, ..self }
    }

    /// The service moves on, a moment after whatever was before.
    async fn append(&self, version: u64) {
        advance(Duration::from_millis(1)).await;
        self.members.append(&chat(), Appended::new(version, clock::now(), Some(Instant::now())));
    }

    fn poll(&self, id: &MemberId, heard: Heard) -> oneshot::Receiver<()> {
        self.members.heard(&chat(), id, proven(heard)).unwrap()
    }

    fn confirmation(&self, version: u64) -> Confirmation {
        self.members.confirmation(&chat(), &self.members.appended(&chat(), version).unwrap())
    }

    fn progress(&self, version: u64) -> Vec<(String, Progress)> {
        let members = self.confirmation(version).members.into_iter();
        members.map(|member| (member.member, member.progress)).collect()
    }

    fn lacking(&self, version: u64) -> Vec<String> {
        Asked { members: &self.members, service: &chat() }.lacking(version)
    }
}

/// Confirmed: without members a version is never called confirmed, with one it is once that one holds it.
#[tokio::test(start_paused = true)]
async fn confirmation_needs_every_member() {
    let scene = Scene::new();
    assert_eq!(scene.confirmation(1).outcome, Outcome::NoMembers);
    let (a, b) = (id("a", 1), id("b", 1));
    scene.poll(&a, holds(1));
    scene.poll(&b, Heard::default());
    assert_eq!(scene.confirmation(1).outcome, Outcome::Pending);
    scene.poll(&b, holds(1));
    scene.append(2).await;
    assert_eq!(scene.lacking(2), [a.to_string(), b.to_string()]);
    advance(Duration::from_micros(1_500)).await;
    scene.poll(&a, holds(2));
    assert_eq!(scene.confirmation(2).outcome, Outcome::Pending);
    assert_eq!(scene.lacking(2), [b.to_string()]);
    advance(Duration::from_micros(1_500)).await;
    scene.poll(&b, holds(2));
    let confirmed = scene.confirmation(2);
    assert_eq!((confirmed.outcome, confirmed.confirmed_after_ms), (Outcome::Confirmed, Some(Millis(3_000))));
    assert!(scene.lacking(2).is_empty());

    // Who joins later does not make the span longer.
    advance(Duration::from_secs(1)).await;
    let c = id("c", 1);
    scene.poll(&c, Heard::default());
    assert_eq!(scene.confirmation(2).outcome, Outcome::Pending);
    scene.poll(&c, holds(2));
    assert_eq!(scene.confirmation(2), Confirmation { members: scene.confirmation(2).members, ..confirmed });
}

/// Confirmed: a newer version than the one asked for will do, an older one, a future one or one of another log will not.
#[tokio::test(start_paused = true)]
async fn only_this_log_counts() {
    let scene = Scene::new();
    scene.append(5).await;
    scene.append(7).await;
    let held = |epoch, version| Heard {
        held: Some(SnapshotVersion { epoch: Epoch(UnixMillis(epoch)), version }),
        refused: None,
    };
    let cases = [
        (held(1_000, 7), Outcome::Confirmed),
        (held(1_000, 6), Outcome::Confirmed),
        (held(1_000, 5), Outcome::Confirmed),
        (held(1_000, 4), Outcome::Pending),
        (held(1_000, 8), Outcome::Pending),
        (held(2_000, 5), Outcome::Pending),
        (held(0, 5), Outcome::Pending),
        (Heard::default(), Outcome::Pending),
    ];
    for (heard, outcome) in cases {
        scene.poll(&id("a", 1), heard.clone());
        assert_eq!(scene.confirmation(5).outcome, outcome, "{heard:?}");
    }
}

/// Members: two processes of one node id are two members.
#[tokio::test(start_paused = true)]
async fn processes_of_one_node_are_told_apart() {
    let scene = Scene::new();
    scene.poll(&id("edge", 1), holds(1));
    scene.poll(&id("edge", 2), Heard::default());
    let wanted = [
        ("edge/0000000000000001".to_owned(), Progress::Acknowledged),
        ("edge/0000000000000002".to_owned(), Progress::Lagging),
    ];
    assert_eq!(scene.progress(1), wanted);
}

/// Confirmed: who is silent and who lags is told apart by the append.
#[tokio::test(start_paused = true)]
async fn silent_is_not_heard_since_the_append() {
    let scene = Scene::new();
    let (a, b) = (id("a", 1), id("b", 1));
    scene.poll(&a, holds(1));
    scene.poll(&b, holds(1));
    advance(Duration::from_secs(1)).await;
    scene.append(2).await;
    assert!(scene.progress(2).iter().all(|(_, progress)| *progress == Progress::Silent));
    advance(Duration::from_secs(1)).await;
    scene.poll(&b, holds(1));
    assert_eq!(scene.progress(2), [(a.to_string(), Progress::Silent), (b.to_string(), Progress::Lagging)]);
}

/// Confirmed: a member that lapses during the wait stays named, and is never counted as confirmed; weight goes on
/// without it.
#[tokio::test(start_paused = true)]
async fn lapsed_members_stay_named() {
    let scene = Scene::new();
    let (a, b) = (id("a", 1), id("b", 1));
    scene.poll(&a, holds(1));
    scene.append(2).await;
    advance(TTL - Duration::from_secs(1)).await;
    scene.poll(&b, holds(2));
    advance(Duration::from_secs(1)).await;
    scene.members.expire();
    assert_eq!(scene.members.of(&chat()).len(), 1);
    assert_eq!(scene.confirmation(2).outcome, Outcome::Pending);
    assert_eq!(scene.progress(2), [(a.to_string(), Progress::Silent), (b.to_string(), Progress::Acknowledged)]);
    assert!(scene.lacking(2).is_empty());

    // It was no member when the next version was appended.
    scene.append(3).await;
    scene.poll(&b, holds(3));
    assert_eq!(scene.confirmation(3).outcome, Outcome::Confirmed);

    // A restart does not make it confirmed either.
    let scene = scene.restart(3, clock::now());
    let appended = Appended::new(2, clock::now(), None);
    assert_eq!(scene.members.confirmation(&chat(), &appended).outcome, Outcome::Pending);

    // The name ends with a word of the operator, and in the end by itself.
    assert_eq!(scene.members.forget(&chat(), &a.to_string()), Forgotten::Gone);
    assert_eq!(scene.members.confirmation(&chat(), &appended).outcome, Outcome::Confirmed);
    assert_eq!(scene.members.forget(&chat(), &a.to_string()), Forgotten::Unknown);
}

/// A member that lapsed with all it was asked for is gone, and one that comes back is a member as before.
#[tokio::test(start_paused = true)]
async fn lapse_and_return() {
    let scene = Scene::new();
    let (current, lacking) = (id("a", 1), id("b", 1));
    scene.poll(&lacking, holds(1));
    scene.append(2).await;
    scene.poll(&current, holds(2));
    advance(TTL).await;
    let next = scene.members.expire();
    assert_eq!(scene.progress(2), [(lacking.to_string(), Progress::Silent)]);
    assert!(next > Instant::now());
    scene.poll(&lacking, holds(2));
    assert_eq!(scene.confirmation(2).outcome, Outcome::Confirmed);
    assert_eq!(scene.members.of(&chat()).len(), 1);

    // One that does not come back is named for an hour.
    scene.append(3).await;
    advance(TTL).await;
    scene.members.expire();
    assert_eq!(scene.confirmation(3).outcome, Outcome::Pending);
    advance(Duration::from_secs(3600)).await;
    scene.members.expire();
    assert_eq!(scene.confirmation(3).outcome, Outcome::NoMembers);
    assert!(scene.ephemera.scan("member/").is_empty());
}

/// Confirmed: forgetting the last laggard confirms what the others have obeyed, with the time that they took.
#[tokio::test(start_paused = true)]
async fn forgetting_the_last_laggard_confirms() {
    let scene = Scene::new();
    let (a, b) = (id("a", 1), id("b", 1));
    scene.poll(&a, holds(1));
    let end = scene.poll(&b, holds(1));
    scene.append(2).await;
    advance(Duration::from_millis(4)).await;
    scene.poll(&a, holds(2));
    advance(Duration::from_secs(9)).await;
    let mut changed = scene.members.watch(&chat());
    assert_eq!(scene.members.forget(&chat(), &b.to_string()), Forgotten::Gone);
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    assert_eq!(scene.confirmation(2).confirmed_after_ms, Some(Millis(4_000)));
    assert!(end.await.is_err(), "the poll of a forgotten member goes on");
}

/// Confirmed: a refusal is named with what the proxy said, tidied, until the member takes something newer.
#[tokio::test(start_paused = true)]
async fn refusals_are_named() {
    let scene = Scene::new();
    let a = id("a", 1);
    scene.poll(&a, holds(1));
    scene.append(2).await;
    let version = SnapshotVersion { epoch: EPOCH, version: 2 };
    assert_eq!(scene.members.sends(&chat(), &a, version, "n1"), Sending::Booked);
    let refuse = |nonce: &str| Heard {
        refused: Some((nonce.to_owned(), format!("slots[0]:\r\n bad\u{1b}[31m {}", "x".repeat(4_000)))),
        ..holds(1)
    };

    // A refusal of what was never sent is nothing but a poll.
    scene.poll(&a, refuse("other"));
    assert_eq!(scene.progress(2), [(a.to_string(), Progress::Lagging)]);

    scene.poll(&a, refuse("n1"));
    let Some((_, Progress::Refused { error, .. })) = scene.progress(2).pop() else { panic!("not refused") };
    assert!(error.starts_with("slots[0]:   bad [31m xxx"), "{error}");
    assert!(error.len() <= 512 && !error.contains(char::is_control));
    assert_eq!(scene.members.sends(&chat(), &a, version, "n2"), Sending::Withheld);

    // A new leader of the process has no nonce, and is not sent it either.
    scene.poll(&a, holds(1));
    assert_eq!(scene.members.sends(&chat(), &a, version, "n3"), Sending::Withheld);

    // A restarted sidecar still names the refusal, and tries once more.
    let scene = scene.restart(2, clock::now());
    assert!(matches!(scene.progress(2).as_slice(), [(_, Progress::Refused { .. })]));
    scene.poll(&a, holds(1));
    assert_eq!(scene.members.sends(&chat(), &a, version, "n4"), Sending::Booked);
    scene.poll(&a, refuse("n4"));

    scene.append(3).await;
    scene.poll(&a, holds(3));
    assert_eq!(scene.confirmation(3).outcome, Outcome::Confirmed);
    assert_eq!(scene.members.of(&chat())[0].refused, None);
}

/// Members: a restarted sidecar knows its members and what they hold, and gives each a whole ttl to come back.
#[tokio::test(start_paused = true)]
async fn members_survive_a_restart() {
    let scene = Scene::new();
    let (a, b) = (id("a", 1), id("b/with/slashes", 1));
    scene.poll(&a, holds(1));
    scene.poll(&b, Heard::default());
    advance(TTL - Duration::from_secs(1)).await;
    let began = scene.began;
    let scene = scene.restart(1, began);
    advance(TTL - Duration::from_secs(1)).await;
    scene.members.expire();
    assert_eq!(scene.progress(1), [(a.to_string(), Progress::Acknowledged), (b.to_string(), Progress::Lagging)]);
    scene.append(2).await;
    assert!(scene.progress(2).iter().all(|(_, progress)| *progress == Progress::Silent));
    scene.poll(&b, holds(2));
    advance(Duration::from_secs(1)).await;
    scene.members.expire();
    assert_eq!(scene.progress(2), [(a.to_string(), Progress::Silent), (b.to_string(), Progress::Acknowledged)]);
    assert_eq!(scene.members.of(&chat()).len(), 1);
}

/// A proxy that leaks polls keeps a few: the oldest ends, the newest stays.
#[tokio::test(start_paused = true)]
async fn polls_of_one_member_are_few() {
    let scene = Scene::new();
    let a = id("a", 1);
    let mut polls: Vec<_> = (0..5).map(|_| scene.poll(&a, holds(1))).collect();
    let newest = polls.split_off(1);
    assert!(polls.remove(0).await.is_err());
    assert!(newest.into_iter().all(|mut poll| poll.try_recv() == Err(oneshot::error::TryRecvError::Empty)));
}

/// A client that makes names up cannot fill the memory.
#[tokio::test(start_paused = true)]
async fn members_are_bounded() {
    let scene = Scene::new();
    for process in 0..10_000 {
        scene.poll(&id("a", process), holds(1));
    }
    assert!(scene.members.heard(&chat(), &id("b", 1), proven(holds(1))).is_err());
    assert!(scene.members.heard(&chat(), &id("a", 1), proven(holds(1))).is_ok());

    // Who has lapsed and is only named makes room, the oldest first.
    scene.append(2).await;
    advance(TTL).await;
    scene.poll(&id("a", 1), holds(2));
    scene.members.expire();
    assert_eq!((scene.members.of(&chat()).len(), scene.confirmation(2).members.len()), (1, 10_000));
    scene.poll(&id("b", 1), holds(2));
    assert_eq!((scene.members.of(&chat()).len(), scene.confirmation(2).members.len()), (2, 10_000));
    assert_eq!(scene.ephemera.scan("member/").len(), 10_000);
}

/// That members are turned away is told once, and again only after there was room.
#[test]
fn a_full_roll_is_news_once() {
    let (now, later) = (Instant::now(), Instant::now() + TTL);
    let mut roll = Roll::new(EPOCH);
    roll.hear(&id("a", 1), proven(holds(0)), clock::now(), now, later);
    assert_eq!(roll.make_room(1), Room::None { news: true });
    assert_eq!(roll.make_room(1), Room::None { news: false });
    assert_eq!(roll.make_room(2), Room::Free);
    assert_eq!(roll.make_room(1), Room::None { news: true });
}

/// Who a proxy is keeps to its rule, and the error names the field.
#[test]
fn identities_are_checked() {
    let read = |id: &str, process: &str| {
        let metadata = NodeMetadata { process_id: process.to_owned() };
        MemberId::of(&Node { id: id.to_owned(), metadata }).map_err(|error| error.field)
    };
    assert_eq!(
        read("router~127.0.0.1~gw.istio-system", "0123456789abcdef").unwrap().node(),
        "router~127.0.0.1~gw.istio-system"
    );
    assert!(read(&"x".repeat(256), "0123456789abcdef").is_ok());
    for bad in ["", &"x".repeat(257), "a\nb", "ü"] {
        assert_eq!(read(bad, "0123456789abcdef"), Err("node.id".to_owned()));
    }
    for bad in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "0123456789abcdeg"] {
        assert_eq!(read("a", bad), Err("node.metadata.process_id".to_owned()));
    }
}

/// Who has shown its ticket is heard with it alone, while it lives and for an hour after it lapsed; then, or once the
/// operator has forgotten it, or where the tickets are of another key, the name is anybody's again.
#[tokio::test(start_paused = true)]
async fn names_are_kept_for_their_owners() {
    let scene = Scene::new();
    let (a, b) = (id("a", 1), id("b", 1));
    let turned_away = |id: &MemberId, key| scene.members.heard(&chat(), id, unproven(key)).is_err();
    assert!(!turned_away(&a, ""), "it has shown none yet");
    scene.poll(&a, holds(1));
    scene.poll(&b, holds(1));
    assert!(turned_away(&a, "") && !turned_away(&a, "another key"));
    assert_eq!(scene.members.forget(&chat(), &a.to_string()), Forgotten::Gone);
    assert!(!turned_away(&a, ""));

    advance(TTL).await;
    scene.members.expire();
    assert!(scene.members.of(&chat()).is_empty());
    assert!(turned_away(&b, ""), "it may just be stopped");
    assert!(scene.members.of(&chat()).is_empty());
    scene.poll(&b, holds(1));
    assert_eq!(scene.members.of(&chat()).len(), 1);
    advance(TTL).await;
    scene.members.expire();
    advance(Duration::from_secs(3600)).await;
    scene.members.expire();
    assert!(!turned_away(&b, ""));
}
