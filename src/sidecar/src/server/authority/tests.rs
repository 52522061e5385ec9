//! The one writer: many orders, a store that fails, a log that somebody else touched.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use colorfast_core::ids::{Epoch, KeyId};
use colorfast_core::keys::ServiceKeys;
use colorfast_core::release::{Entry, Event, KeyStep, SCHEMA};
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::incarnation::Incarnation;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::server::accounts::Accounts;
use crate::server::corrections::Corrections;
use crate::server::directory::Directory;
use crate::server::holdings::Holdings;
use crate::server::leases::Leases;
use crate::server::members::Members;
use crate::server::observations::Observations;
use crate::server::reports::{Reports, Told};
use crate::server::rig::{LIMIT, Rig};
use crate::server::sessions::Sessions;
use crate::server::tickets::Tickets;
use crate::store::sqlite::Sqlite;
use crate::store::{Answer, AppendError, Head, LeaseError, Log, Record, Secrets};

/// A log that fails where a test wants it to.
#[derive(Debug)]
struct Frail {
    log: Arc<Sqlite>,
    fault: AtomicU8,
    /// Nothing can be read.
    blind: AtomicBool,
}

const SOUND: u8 = 0;
/// The next append fails and writes nothing.
const FAILS: u8 = 1;
/// The next append writes, and fails to say so.
const WRITES_AND_FAILS: u8 = 2;
/// The same, and the log is blind from then on.
const WRITES_AND_BLINDS: u8 = 3;

impl Frail {
    fn break_next(&self, fault: u8) {
        self.fault.store(fault, Ordering::SeqCst);
    }
}

impl Log for Frail {
    fn append(&self, expected: Head, records: Vec<Record>) -> Answer<'_, Head, AppendError> {
        Box::pin(async move {
            let outage = Outage { what: "append to the log", cause: "no space".to_owned() };
            match self.fault.swap(SOUND, Ordering::SeqCst) {
                SOUND => self.log.append(expected, records).await,
                FAILS => Err(outage.into()),
                fault => {
                    self.blind.store(fault == WRITES_AND_BLINDS, Ordering::SeqCst);
                    self.log.append(expected, records).await?;
                    Err(outage.into())
                }
            }
        })
    }

    fn read(&self, after: u64, limit: usize) -> Answer<'_, Vec<Record>> {
        if self.blind.load(Ordering::SeqCst) {
            let outage = Outage { what: "read the log", cause: "bad sector".to_owned() };
            return Box::pin(std::future::ready(Err(outage)));
        }
        self.log.read(after, limit)
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.log.watch()
    }

    fn checkpoint(&self) -> Answer<'_, ()> {
        self.log.checkpoint()
    }

    fn lease(&self, name: &'static str, holder: &str, ttl: std::time::Duration) -> Answer<'_, (), LeaseError> {
        self.log.lease(name, holder, ttl)
    }
}

/// An authority on a log of its own.
struct Scene {
    authority: Authority,
    directory: Arc<Directory>,
    log: Arc<Frail>,
    store: Arc<Sqlite>,
    writer: JoinHandle<Result<(), writer::Lost>>,
    _folder: TempDir,
}

/// Where the keys of run tokens are kept.
const RUN_KEYS: &str = "application/run-keys";

fn chat() -> ServiceName {
    "chat".parse().unwrap()
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open(&folder.path().join("store.db")).unwrap());
        let log = Arc::new(Frail { log: store.clone(), fault: AtomicU8::new(SOUND), blind: AtomicBool::new(false) });
        let opened = Opened::open(log.clone()).await.unwrap();
        let members = Arc::new(Members::new(opened.epoch(), std::time::Duration::from_secs(45), store.clone()));
        let directory = Arc::new(Directory::default());
        let observations = Arc::new(Observations::new(directory.clone(), store.clone()));
        let accounts = Arc::new(Accounts::new(directory.clone(), store.clone()));
        let tickets = Arc::new(Tickets::load(store.as_ref()).await.unwrap());
        let incarnation = Incarnation::of(7);
        let sessions = Sessions::new(
            directory.clone(),
            members.clone(),
            tickets.clone(),
            store.clone(),
            accounts.clone(),
            Arc::new(Corrections::new(incarnation.clone())),
        );
        let told =
            Told { observations: observations.clone(), accounts: accounts.clone(), sessions: Arc::new(sessions) };
        let ttl = std::time::Duration::from_secs(90);
        let reports = Arc::new(Reports::new(members.clone(), tickets, store.clone(), told, ttl, incarnation));
        let (leases, reach) = (Leases::new(store.clone()), colorfast_core::release::Reach::Live);
        let holdings = Holdings { leases, accounts, members: members.clone(), reports, reach };
        let known = Known { members, observations, holdings };
        let (authority, orders) = Authority::new();
        let writer = Writer::start(opened, store.clone(), known, directory.clone()).await.unwrap();
        Self { authority, directory, log, writer: tokio::spawn(writer.run(orders)), store, _folder: folder }
    }

    async fn order(&self, verb: serde_json::Value) -> Result<Done, VerbError> {
        order(&self.authority, None, verb).await
    }

    async fn entries(&self) -> Vec<Entry> {
        let records = self.store.read(0, usize::MAX).await.unwrap();
        records.iter().map(|record| serde_json::from_str(&record.text).unwrap()).collect()
    }

    async fn application(
        &self,
        verb: serde_json::Value,
        key: Option<&str>,
    ) -> Result<Done<ApplicationState>, VerbError> {
        let (verb, key) = (serde_json::from_value(verb).unwrap(), key.map(|key| key.parse().unwrap()));
        let principal = "test".to_owned();
        self.authority.order_of_all(ApplicationOrder { principal, expected_version: None, key, verb }).await
    }

    /// Another process appends what `event` says, in good order.
    async fn another_appends(&self, at: UnixMillis, event: Event) -> u64 {
        self.another_appends_to(Some(chat()), at, event).await
    }

    async fn another_appends_to(&self, service: Option<ServiceName>, at: UnixMillis, event: Event) -> u64 {
        let head = self.store.watch().borrow().clone();
        let (seq, principal) = (head.seq + 1, "other".to_owned());
        let entry = Entry { seq, schema: SCHEMA, at, service, principal, key: None, event };
        let (text, hash) = entry.seal(&head.hash).unwrap();
        self.store.append(head, vec![Record { seq, text, hash }]).await.unwrap().seq
    }
}

async fn order(
    authority: &Authority,
    expected_version: Option<u64>,
    verb: serde_json::Value,
) -> Result<Done, VerbError> {
    let verb = serde_json::from_value(verb).unwrap();
    let principal = "test".to_owned();
    authority.order(Order { principal, service: chat(), expected_version, key: None, verb, probed: None }).await
}

async fn keyed(
    scene: &Scene,
    key: &str,
    expected_version: Option<u64>,
    verb: serde_json::Value,
) -> Result<Done, VerbError> {
    let (verb, key) = (serde_json::from_value(verb).unwrap(), Some(key.parse().unwrap()));
    let principal = "test".to_owned();
    scene.authority.order(Order { principal, service: chat(), expected_version, key, verb, probed: None }).await
}

fn apply() -> serde_json::Value {
    json!({"verb": "apply", "settings": {}})
}

fn bundle(id: usize) -> serde_json::Value {
    json!({"verb": "add_bundle", "id": format!("v{id}"), "manifest": {"code": "c", "model": "m", "prompts": "p"}})
}

/// 200 verbs at once become one line of history, each with a version of its own.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_verbs_are_one_history() {
    let scene = Scene::new().await;
    let first = scene.order(apply()).await.unwrap().published.snapshot.version;
    let orders = (0..200).map(|id| {
        let authority = scene.authority.clone();
        tokio::spawn(async move { order(&authority, None, bundle(id)).await.unwrap().published.snapshot.version })
    });
    let mut versions = Vec::new();
    for order in orders.collect::<Vec<_>>() {
        versions.push(order.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (first + 1..=first + 200).collect::<Vec<_>>());
    let verified = verify(scene.log.as_ref()).await.unwrap();
    assert_eq!((verified.entries, verified.error), (first + 200, None));
}

/// Of many operators who have seen the same version one is obeyed; the others are told the version that is now.
#[tokio::test(flavor = "multi_thread")]
async fn expected_versions_let_one_win() {
    let scene = Scene::new().await;
    let seen = scene.order(apply()).await.unwrap().published.snapshot.version;
    let orders = (0..20).map(|id| {
        let authority = scene.authority.clone();
        tokio::spawn(async move { order(&authority, Some(seen), bundle(id)).await })
    });
    let mut won = 0;
    for order in orders.collect::<Vec<_>>() {
        match order.await.unwrap() {
            Ok(done) => won += usize::from(done.effect == Effect::Changed),
            Err(refused) => {
                assert_eq!(refused, VerbError::Stale { what: "service", expected: seen, current: seen + 1 })
            }
        }
    }
    assert_eq!(won, 1);
}

/// A verb that changes nothing appends nothing.
#[tokio::test]
async fn repeated_verbs_append_nothing() {
    let scene = Scene::new().await;
    assert_eq!(scene.order(apply()).await.unwrap().effect, Effect::Changed);
    assert_eq!(scene.order(apply()).await.unwrap().effect, Effect::None);
    scene.order(bundle(1)).await.unwrap();
    assert_eq!(scene.order(bundle(1)).await.unwrap().effect, Effect::None);
    assert_eq!(scene.entries().await.len(), 3);
}

/// Nothing is lost and nothing half-applied: what failed left no trace, and what was written in spite of an error counts.
#[tokio::test]
async fn outages_leave_the_state_of_the_log() {
    let scene = Scene::new().await;
    let version = scene.order(apply()).await.unwrap().published.snapshot.version;
    scene.log.break_next(FAILS);
    let failed = scene.order(bundle(1)).await;
    assert!(matches!(failed, Err(VerbError::Outage(_))), "{failed:?}");
    assert_eq!(scene.directory.watch(&chat()).unwrap().borrow().snapshot.version, version);

    scene.log.break_next(WRITES_AND_FAILS);
    let done = scene.order(bundle(1)).await.unwrap();
    assert_eq!((done.effect, done.published.snapshot.version), (Effect::Changed, version + 1));
    let done = scene.order(bundle(2)).await.unwrap();
    assert_eq!(done.published.snapshot.version, version + 2);
    assert_eq!(verify(scene.log.as_ref()).await.unwrap().error, None);
}

/// An event that was written unseen is not denied, and shown as soon as the log can be read, without another verb.
#[tokio::test]
async fn unseen_events_are_shown_later() {
    let scene = Scene::new().await;
    let version = scene.order(apply()).await.unwrap().published.snapshot.version;
    let mut published = scene.directory.watch(&chat()).unwrap();
    scene.log.break_next(WRITES_AND_BLINDS);
    let unsure = scene.order(bundle(1)).await.unwrap_err().to_string();
    assert!(unsure.contains("no space. It may have been written"), "{unsure}");
    // The word of the append comes while nothing can be read, and does not come again.
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(5)).await;
    tokio::task::yield_now().await;
    assert_eq!(published.borrow_and_update().snapshot.version, version);
    scene.log.blind.store(false, Ordering::SeqCst);
    tokio::time::advance(std::time::Duration::from_secs(5)).await;
    tokio::time::resume();
    let shown = published.wait_for(|published| published.snapshot.version == version + 1);
    tokio::time::timeout(LIMIT, shown).await.unwrap().unwrap();
}

/// A verb that is sent again under its key is answered as the first time, also where the store had failed to say so.
#[tokio::test]
async fn repeated_verbs_are_carried_out_once() {
    let scene = Scene::new().await;
    let first = keyed(&scene, "1", None, apply()).await.unwrap();
    scene.order(bundle(1)).await.unwrap();
    let again = keyed(&scene, "1", None, apply()).await.unwrap();
    assert_eq!((first.occasion, again.occasion), (Occasion::Now, Occasion::Earlier));
    assert_eq!((again.version, again.effect), (first.version, Effect::Changed));
    assert_eq!(again.published.snapshot.version, first.version + 1);

    scene.log.break_next(WRITES_AND_BLINDS);
    keyed(&scene, "2", None, bundle(2)).await.unwrap_err();
    scene.log.blind.store(false, Ordering::SeqCst);
    let told = keyed(&scene, "2", None, bundle(2)).await.unwrap();
    assert_eq!((told.occasion, told.effect, told.version), (Occasion::Earlier, Effect::Changed, first.version + 2));
    assert_eq!(scene.entries().await.len(), 4);
}

/// A key belongs to one request: another verb, or another expectation, is told so and changes nothing. What was
/// refused may be tried again under its key, and what changed nothing goes on having changed nothing.
#[tokio::test]
async fn keys_belong_to_one_request() {
    let scene = Scene::new().await;
    let stage = json!({"verb": "stage", "slot": "blue", "bundle": "v1"});
    keyed(&scene, "1", None, apply()).await.unwrap();
    let idle = keyed(&scene, "2", None, apply()).await.unwrap();
    keyed(&scene, "3", None, stage.clone()).await.unwrap_err();
    keyed(&scene, "4", None, bundle(1)).await.unwrap();
    let staged = keyed(&scene, "3", None, stage).await.unwrap();
    assert_eq!((staged.occasion, staged.effect), (Occasion::Now, Effect::Changed));
    let again = keyed(&scene, "2", None, apply()).await.unwrap();
    assert_eq!((again.occasion, again.effect, again.version), (Occasion::Earlier, Effect::None, idle.version));
    for (expected, verb) in [(None, bundle(2)), (Some(2), apply())] {
        let reused = keyed(&scene, "1", expected, verb).await.unwrap_err();
        assert_eq!(reused, VerbError::KeyReused("1".parse().unwrap()));
    }
    assert_eq!(scene.entries().await.len(), 4);
}

/// What somebody else appends is followed, published, and checked against.
#[tokio::test]
async fn entries_of_others_are_followed() {
    let scene = Scene::new().await;
    let version = scene.order(apply()).await.unwrap().published.snapshot.version;
    let settings = serde_json::from_value(json!({"slots": ["red", "black"]})).unwrap();
    let mut published = scene.directory.watch(&chat()).unwrap();
    let ahead = UnixMillis(u64::MAX >> 12);
    let theirs = scene.another_appends(ahead, Event::SettingsApplied { settings, preset: None }).await;
    published.wait_for(|published| published.snapshot.version == theirs).await.unwrap();
    let stale = order(&scene.authority, Some(version), bundle(1)).await;
    assert_eq!(stale.unwrap_err(), VerbError::Stale { what: "service", expected: version, current: theirs });

    // Times in the log never go back, however far ahead the clock of another was.
    scene.order(bundle(1)).await.unwrap();
    assert_eq!(scene.entries().await.last().unwrap().at, ahead);
}

/// Keys are drawn before the service is: what a crash in between leaves behind is used.
#[tokio::test]
async fn keys_of_an_earlier_attempt_are_used() {
    let scene = Scene::new().await;
    scene.log.break_next(FAILS);
    scene.order(apply()).await.unwrap_err();
    let left_behind = scene.store.get("service/chat/keys").await.unwrap().unwrap();
    let done = scene.order(apply()).await.unwrap();
    let own = ServiceKeys { runs: BTreeMap::new(), ..ServiceKeys::clone(&done.published.keys) };
    assert_eq!(serde_json::to_vec(&own).unwrap(), left_behind.value);
    let text = scene.store.read(0, 10).await.unwrap().into_iter().map(|record| record.text).collect::<String>();
    let keys: serde_json::Value = serde_json::from_slice(&left_behind.value).unwrap();
    for key in [&keys["sid"], &keys["ring"]["1"]] {
        assert!(!text.contains(key.as_str().unwrap()), "a key stands in the log");
    }
}

/// Kept: the keys of runs are drawn once and travel beside every service's own, so that run tokens outlast the sidecar;
/// what an earlier release has kept is read, and what is gone is not drawn anew without a word.
#[tokio::test]
async fn keys_of_runs_are_drawn_once() {
    let scene = Scene::new().await;
    let done = scene.order(apply()).await.unwrap();
    let application = scene.directory.application();
    let again = keys::RunKeys::load_or_draw(&*scene.store, &application).await.unwrap();
    let sent = ServiceKeys::clone(&done.published.keys);
    assert_eq!(again.beside(&application.runs, sent.clone()), sent);
    assert_eq!(sent.runs.len(), 1);
    assert_eq!(done.published.snapshot.run_ring, application.runs.shown());

    let rig = Rig::start().await;
    let earlier = json!({"signing": 1, "keys": {"1": "A".repeat(43)}});
    let folder = rig.end().await;
    let store = Sqlite::open(&folder.path().join("colorfast.db")).unwrap();
    let kept = store.get(RUN_KEYS).await.unwrap().unwrap();
    store.put_if_version(RUN_KEYS, kept.version, earlier.to_string().into_bytes()).await.unwrap();
    drop(store);
    let rig = Rig::start_in(folder).await;
    rig.control(axum::http::Method::POST, "/v1/application/verbs", r#"{"verb":"rotate_keys"}"#).await.json(200);
    let kept: serde_json::Value = serde_json::from_slice(&rig.sidecar.secret(RUN_KEYS).await).unwrap();
    assert_eq!(kept["keys"]["1"], "A".repeat(43));
    let folder = rig.end().await;
    let store = Sqlite::open(&folder.path().join("colorfast.db")).unwrap();
    let kept = store.get(RUN_KEYS).await.unwrap().unwrap();
    store.put_if_version(RUN_KEYS, kept.version, earlier.to_string().into_bytes()).await.unwrap();
    drop(store);
    let started = crate::server::sidecar::Sidecar::start(folder.path(), crate::server::rig::LIMITS, None).await;
    let error = format!("{:#}", started.unwrap_err());
    assert!(error.contains("the keys of runs are gone: restore the data folder"), "{error}");
}

/// Keys of runs are drawn before the log names them, and dropped once it does no more: a crash in between leaves keys that
/// nobody uses, and which the next rotation does.
#[tokio::test]
async fn keys_of_runs_outlive_a_crash() {
    let scene = Scene::new().await;
    scene.order(apply()).await.unwrap();
    let rotate = || scene.application(json!({"verb": "rotate_keys"}), None);
    scene.log.break_next(FAILS);
    rotate().await.unwrap_err();
    let left_behind = scene.store.get(RUN_KEYS).await.unwrap().unwrap().value;
    let shown = scene.directory.watch(&chat()).unwrap().borrow().clone();
    assert_eq!((shown.keys.runs.len(), shown.snapshot.version), (1, 2), "what the log does not name is sent to nobody");

    scene.log.break_next(WRITES_AND_FAILS);
    let done = rotate().await.unwrap();
    assert_eq!((done.effect, done.version, done.published.version), (Effect::Changed, 3, 3));
    assert_eq!(scene.store.get(RUN_KEYS).await.unwrap().unwrap().value, left_behind);
    let shown = scene.directory.watch(&chat()).unwrap().borrow().clone();
    assert_eq!((shown.keys.runs.len(), shown.snapshot.version), (2, 3));
    assert_eq!(shown.snapshot.run_ring, done.published.runs.shown());
    let text = scene.store.read(0, 10).await.unwrap().into_iter().map(|record| record.text).collect::<String>();
    shown
        .keys
        .runs
        .values()
        .for_each(|key| assert!(!text.contains(&String::from(key.clone())), "a key stands in the log"));

    let retire = json!({"verb": "retire_key", "key": 2, "force": {"reason": "a mistake"}});
    scene.application(retire, None).await.unwrap();
    let kept: serde_json::Value =
        serde_json::from_slice(&scene.store.get(RUN_KEYS).await.unwrap().unwrap().value).unwrap();
    assert_eq!(kept["keys"].as_object().unwrap().keys().collect::<Vec<_>>(), ["1"]);
    assert_eq!(verify(scene.log.as_ref()).await.unwrap().error, None);
}

/// A verb on what is of all services has its own version, its own keys of repetition, and is refused to whoever has not
/// seen it as it is.
#[tokio::test]
async fn verbs_on_all_services_are_carried_out_once() {
    let scene = Scene::new().await;
    keyed(&scene, "1", None, apply()).await.unwrap();
    let rotate = || json!({"verb": "rotate_keys"});
    let first = scene.application(rotate(), Some("1")).await.unwrap();
    // Whoever has seen the service before the key moved has seen all of it.
    order(&scene.authority, Some(2), bundle(1)).await.unwrap();
    let again = scene.application(rotate(), Some("1")).await.unwrap();
    assert_eq!((first.occasion, again.occasion), (Occasion::Now, Occasion::Earlier));
    assert_eq!((first.version, again.version), (3, 3));
    let reused = scene.application(json!({"verb": "retire_key", "key": 2}), Some("1")).await.unwrap_err();
    assert_eq!(reused, VerbError::KeyReused("1".parse().unwrap()));
    let verb = serde_json::from_value(json!({"verb": "rotate_keys"})).unwrap();
    let (principal, key) = ("test".to_owned(), None);
    let stale =
        scene.authority.order_of_all(ApplicationOrder { principal, expected_version: Some(1), key, verb }).await;
    assert_eq!(
        stale.unwrap_err().to_string(),
        "the application is at version 3, not at 1: look at it again, then repeat the verb"
    );
    let entries = scene.entries().await;
    let of_all = entries.iter().filter(|entry| entry.service.is_none()).map(|entry| entry.event.name());
    assert_eq!(of_all.collect::<Vec<_>>(), ["genesis", "run_key_moved"]);
}

/// A key of runs that somebody else has moved is read, and shown with every service.
#[tokio::test]
async fn run_keys_of_others_are_followed() {
    let scene = Scene::new().await;
    let version = scene.order(apply()).await.unwrap().version;
    keys::RunKeys::add(&*scene.store, KeyId(2)).await.unwrap();
    let mut published = scene.directory.watch(&chat()).unwrap();
    let event = Event::RunKeyMoved { key: KeyId(2), step: KeyStep::Added, force: None };
    let theirs = scene.another_appends_to(None, UnixMillis(u64::MAX >> 12), event).await;
    let shown = published.wait_for(|published| published.snapshot.version == theirs).await.unwrap().clone();
    assert_eq!((theirs, shown.keys.runs.len()), (version + 1, 2));
    assert_eq!(scene.directory.application().version, theirs);
    order(&scene.authority, Some(version), bundle(1)).await.unwrap();
}

/// A snapshot that a proxy would refuse is refused here, with the field named, and nothing is appended.
#[tokio::test]
async fn snapshots_are_compiled_before_they_are_appended() {
    let scene = Scene::new().await;
    let without_ring = json!({"sid": "A".repeat(22), "ring": {}}).to_string();
    scene.store.put_if_version("service/chat/keys", 0, without_ring.into_bytes()).await.unwrap();
    let refused = scene.order(apply()).await.unwrap_err();
    let VerbError::Refused(Refusal::Field(error)) = refused else { panic!("{refused}") };
    assert_eq!(error.field, "keys.ring");
    assert_eq!(scene.entries().await.len(), 1);
}

/// Another authority on the same log is refused while this one writes, and this one ends when it is superseded.
#[tokio::test]
async fn one_authority_at_a_time() {
    let scene = Scene::new().await;
    tokio::time::pause();
    let ttl = std::time::Duration::from_secs(15);
    let held = scene.log.lease("authority", "other", ttl).await;
    assert!(matches!(held, Err(LeaseError::Held(_))), "{held:?}");
    tokio::time::advance(ttl).await;
    scene.log.lease("authority", "other", ttl * 100).await.unwrap();
    let lost = scene.writer.await.unwrap().unwrap_err();
    assert!(lost.to_string().contains("other holds the lease"), "{lost}");
}

/// A log that was altered is told by verification, and no sidecar starts on it; the entry is named.
#[tokio::test]
async fn altered_logs_are_refused_by_entry() {
    let rig = Rig::with_chat().await;
    assert!(rig.get("/v1/log/verification").await.json(200).get("error").is_none());
    let database = rusqlite::Connection::open(rig.database()).unwrap();
    let alter = "UPDATE log SET text = replace(text, '\"v1\"', '\"v2\"') WHERE seq = 4";
    assert_eq!(database.execute(alter, []).unwrap(), 1);
    let verified = rig.get("/v1/log/verification").await.json(200);
    assert_eq!(verified["entries"], 3);
    assert!(verified["error"].as_str().unwrap().starts_with("entry 4 does not match its hash"), "{verified}");
    let folder = rig.end().await;
    let started = crate::server::sidecar::Sidecar::start(folder.path(), crate::server::rig::LIMITS, None).await;
    let error = format!("{:#}", started.unwrap_err());
    assert!(error.contains("entry 4 does not match its hash"), "{error}");
}

/// Kept: a restarted sidecar serves the same log, the same versions and the same keys.
#[tokio::test]
async fn everything_survives_a_restart() {
    let rig = Rig::with_chat().await;
    let before = rig.get("/v1/services").await.text;
    let rig = rig.restart().await;
    assert_eq!(rig.get("/v1/services").await.text, before);
    let crashed = Rig::start_in(rig.crash().await).await;
    assert_eq!(crashed.get("/v1/services").await.text, before);
    let epoch = Epoch(crashed.status().await.epoch);
    assert_ne!(epoch, Epoch::BOOTSTRAP);
}

/// A preparation is none of the verb's doing: it leaves the key free and hides nothing from who has seen the version before
/// it, so that whoever was parted from the verb by a crash sends the same again, and it is carried out once.
#[tokio::test]
async fn a_verb_is_carried_out_after_its_preparation() {
    let scene = Scene::new().await;
    scene.order(json!({"verb": "apply", "settings": {}})).await.unwrap();
    for (id, slot) in [("v1", "blue"), ("v2", "green")] {
        let manifest = json!({"code": id, "model": "m", "prompts": "p"});
        scene.order(json!({"verb": "add_bundle", "id": id, "manifest": manifest})).await.unwrap();
        scene.order(json!({"verb": "stage", "slot": slot, "bundle": id})).await.unwrap();
    }
    let seen = scene.order(json!({"verb": "switch", "slot": "blue"})).await.unwrap().version;
    let verb = serde_json::from_value(json!({"verb": "switch", "slot": "green"})).unwrap();
    let key = Some("one".parse().unwrap());
    let (principal, service) = ("test".to_owned(), chat());
    let order = Order { principal, service, expected_version: Some(seen), key, verb, probed: None };

    let prepared = scene.authority.prepare(order.clone()).await.unwrap();
    assert_eq!((prepared.version, prepared.effect), (seen + 1, Effect::Changed));
    assert_eq!(prepared.published.state.live().map(|(live, _)| live.as_str()), Some("blue"));
    let again = scene.authority.prepare(order.clone()).await.unwrap();
    assert_eq!((again.version, again.effect, again.occasion), (seen + 1, Effect::None, Occasion::Now));
    let done = scene.authority.order(order.clone()).await.unwrap();
    assert_eq!((done.version, done.effect, done.occasion), (seen + 2, Effect::Changed, Occasion::Now));
    for repeated in [scene.authority.prepare(order.clone()).await, scene.authority.order(order.clone()).await] {
        let repeated = repeated.unwrap();
        assert_eq!((repeated.version, repeated.occasion), (seen + 2, Occasion::Earlier));
    }
    let late = scene.authority.prepare(Order { key: None, ..order }).await;
    assert!(matches!(late, Err(VerbError::Stale { .. })), "{late:?}");
    assert_eq!(scene.entries().await.iter().filter(|entry| entry.key.is_some()).count(), 1);
}
