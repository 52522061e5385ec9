//! Keys of run tokens come and go for all services at once, and no run loses its bundle for it.

use std::collections::BTreeMap;

use super::*;
use crate::keys::Ring;
use crate::settings::KeyRotationSeconds;

const DAY: u32 = 24 * 3600;
const MILLIS_OF_A_DAY: u64 = 24 * 3600 * 1000;

fn code() -> ServiceName {
    "code".parse().unwrap()
}

/// Settings by which tokens hold for so long, and keys sign for so long.
fn settings(max_age: u32, period: u32) -> ServiceSettings {
    let mut settings = ServiceSettings { slots: ["blue", "green", "red"].map(slot).to_vec(), ..Default::default() };
    settings.pin.max_age_seconds = max_age;
    settings.pin.key_rotation_seconds = KeyRotationSeconds(period);
    settings
}

impl Story {
    /// The services `chat` and `code`, the first with the usual beginning. Keys rotate by command alone.
    fn two_services() -> Self {
        let mut story = Self::two_bundles();
        story.gives(&service(), &Verb::Apply { settings: Box::new(settings(7 * DAY, 0).into()) });
        story.gives(&code(), &Verb::Apply { settings: Box::new(settings(DAY, 0).into()) });
        story
    }

    fn gives(&mut self, service: &ServiceName, verb: &Verb) {
        let at = Circumstances { now: self.now, acknowledgements: &(), serving: &(), holding: &() };
        if let Some(event) = self.state.check(service, verb, &at).unwrap() {
            self.append(Some(service.clone()), event);
        }
    }

    /// An act on the keys of run tokens, where the members of all services have acknowledged all.
    fn asks(&mut self, verb: &ApplicationVerb) -> Result<(), Refusal> {
        if let Some(event) = self.state.check_application(verb, self.now, &())? {
            self.append(None, event);
        }
        Ok(())
    }

    /// Gives itself what is due, where they have acknowledged `have`, and says what it was.
    fn turns_runs(&mut self, everyone: &dyn Acknowledgements) -> Option<&'static str> {
        let verb = self.state.application.due(self.state.run_terms(), self.now, everyone)?;
        let event =
            self.state.check_application(&verb, self.now, everyone).unwrap().expect("what is due changes something");
        self.append(None, event);
        Some(verb.name())
    }

    fn settles_runs(&mut self) -> Vec<&'static str> {
        std::iter::from_fn(|| self.turns_runs(&())).collect()
    }

    /// The ring in the snapshot of each service, which is the same in all.
    fn run_ring(&self) -> (u16, Vec<u16>) {
        let rings: Vec<_> =
            self.state.services.keys().map(|name| self.state.snapshot(name).unwrap().run_ring.unwrap()).collect();
        assert!(rings.windows(2).all(|pair| pair[0] == pair[1]), "{rings:?}");
        (rings[0].signing.0, rings[0].verifying.iter().map(|key| key.0).collect())
    }

    fn versions(&self) -> Vec<u64> {
        self.state.services.values().map(|service| service.version).collect()
    }
}

fn retire(key: u16, reason: Option<&str>) -> ApplicationVerb {
    ApplicationVerb::RetireKey { key: KeyId(key), force: reason.map(|reason| Force { reason: reason.to_owned() }) }
}

/// Kept: a log that says nothing of them has one key of run tokens, which signs since the genesis. Each step gives every
/// service a version, waits for the members of all, and a former key goes once the oldest run of any service is over age.
#[test]
fn a_rotation_is_of_every_service() {
    let mut story = Story::two_services();
    assert_eq!(story.run_ring(), (1, vec![1]));
    assert_eq!(story.state.application.runs.keys[&KeyId(1)].since, UnixMillis(GENESIS));
    story.asks(&ApplicationVerb::RotateKeys).unwrap();
    let added = story.state.head;
    assert_eq!((story.run_ring(), story.versions()), ((1, vec![1, 2]), vec![added, added]));
    assert_eq!(story.turns_runs(&Have(added - 1)), None, "a member of some service cannot verify it yet");
    assert_eq!(story.asks(&ApplicationVerb::RotateKeys).unwrap_err().code(), "rotation-under-way");
    assert_eq!(story.turns_runs(&Have(added)), Some("turn_keys"));
    let signs = story.state.head;
    assert_eq!((story.run_ring(), story.versions()), ((2, vec![1, 2]), vec![signs, signs]));
    story.now = story.now.plus_millis(20 * MILLIS_OF_A_DAY);
    assert_eq!(story.turns_runs(&Have(signs - 1)), None, "a member may sign with it still, however long that takes");
    assert_eq!(story.turns_runs(&Have(signs)), Some("turn_keys"));

    let until = story.now.plus_millis(7 * MILLIS_OF_A_DAY + 60_000);
    assert_eq!(story.state.application.runs.retires(KeyId(1), story.state.run_terms()), Some(until));
    story.now = UnixMillis(until.0 - 1);
    assert_eq!(story.settles_runs(), Vec::<&str>::new(), "runs hold for a day in code, but for a week in chat");
    story.now = until;
    assert_eq!(story.settles_runs(), ["turn_keys"]);
    assert_eq!((story.run_ring(), story.state.application.version), ((2, vec![2]), story.state.head));

    // A service that comes later has the ring as it is.
    story.gives(&"late".parse().unwrap(), &Verb::Apply { settings: Box::default() });
    assert_eq!(story.run_ring(), (2, vec![2]));
}

/// The most impatient service has the say when keys rotate, and those that rotate none by themselves have none.
#[test]
fn the_schedule_is_the_shortest_of_all() {
    for (chat, other, wanted) in [(0, 0, None), (0, 9, Some(9)), (30, 0, Some(30)), (30, 9, Some(9)), (9, 30, Some(9))]
    {
        let mut story = Story::two_services();
        story.gives(&service(), &Verb::Apply { settings: Box::new(settings(DAY, chat * DAY).into()) });
        story.gives(&code(), &Verb::Apply { settings: Box::new(settings(DAY, other * DAY).into()) });
        let Some(days) = wanted else {
            story.now = story.now.plus_millis(300 * MILLIS_OF_A_DAY);
            assert_eq!(story.settles_runs(), Vec::<&str>::new());
            continue;
        };
        story.now = UnixMillis(GENESIS + days * MILLIS_OF_A_DAY - 1);
        assert_eq!(story.settles_runs(), Vec::<&str>::new(), "{chat} {other}");
        story.now = UnixMillis(GENESIS + days * MILLIS_OF_A_DAY);
        assert_eq!(story.settles_runs(), ["rotate_keys", "turn_keys", "turn_keys"], "{chat} {other}");
        story.now = story.now.plus_millis(days * MILLIS_OF_A_DAY);
        assert_eq!(story.settles_runs(), ["turn_keys", "rotate_keys", "turn_keys", "turn_keys"]);
        assert_eq!(story.run_ring(), (3, vec![2, 3]));
    }
    let mut nobody = Story { log: Vec::new(), state: State::default(), now: UnixMillis(GENESIS), pace: 0 };
    nobody.append(None, Event::Genesis { epoch: Epoch(nobody.now), restored: None });
    nobody.now = nobody.now.plus_millis(300 * MILLIS_OF_A_DAY);
    assert_eq!(nobody.settles_runs(), Vec::<&str>::new(), "nobody has said how long keys sign");
}

/// A key that leaked goes at once with a word of force, which is kept; refusals name the command that is meant.
#[test]
fn run_keys_are_retired_by_hand() {
    let mut story = Story::two_services();
    let refusal = story.asks(&retire(1, Some("leaked"))).unwrap_err();
    assert_eq!(refusal.to_string(), "key 1 signs: `colorfast keys rotate --runs` lets another one sign first");
    assert_eq!(story.asks(&retire(7, None)).unwrap_err().to_string(), "there is no key 7, only 1");
    story.asks(&ApplicationVerb::RotateKeys).unwrap();
    assert_eq!(story.settles_runs(), ["turn_keys", "turn_keys"]);
    assert_eq!(story.asks(&retire(1, None)).unwrap_err().code(), "key-in-use");
    assert_eq!(story.asks(&retire(1, Some(" "))).unwrap_err().code(), "invalid-field");
    let pins = story.chat().ring.clone();
    story.asks(&retire(1, Some("leaked"))).unwrap();
    assert_eq!((story.run_ring(), &story.chat().ring), ((2, vec![2]), &pins), "keys of pins are others");
    let last = serde_json::to_value(story.log.last().unwrap()).unwrap();
    let wanted =
        serde_json::json!({"type": "run_key_moved", "key": 1, "step": "retired", "force": {"reason": "leaked"}});
    assert_eq!((last.get("service"), &last["event"]), (None, &wanted));

    for _ in 2..17 {
        story.asks(&ApplicationVerb::RotateKeys).unwrap();
        story.settles_runs();
    }
    let full = story.asks(&ApplicationVerb::RotateKeys).unwrap_err();
    assert!(full.to_string().ends_with("or `colorfast keys retire KEY --runs`"), "{full}");
}

/// An operator has seen all that there is to see of a service, and a preparation is not lost, whatever becomes of keys
/// that are of all services.
#[test]
fn no_act_is_held_up_by_a_key_of_runs() {
    let mut story = Story::two_services();
    let seen = story.chat().version;
    story.append(Some(service()), Event::Prepared { slot: slot("green") });
    let prepared = story.chat().prepared();
    assert!(prepared.is_some());
    story.asks(&ApplicationVerb::RotateKeys).unwrap();
    assert_eq!((story.chat().acted, story.chat().prepared()), (seen, prepared));
    assert_eq!(story.state.snapshot(&service()).unwrap().flush, prepared.map(|asking| asking.flush));
    story.does(switch("green"));
    assert_eq!((story.chat().acted, story.chat().prepared()), (story.state.head, None));
}

/// A restored log goes on with the keys of its copy.
#[test]
fn a_restored_log_keeps_its_run_keys() {
    let mut story = Story::two_services();
    story.asks(&ApplicationVerb::RotateKeys).unwrap();
    assert_eq!(story.turns_runs(&()), Some("turn_keys"));
    let ring = story.state.application.runs.clone();
    let event = story.state.restore(story.now, story.now, None);
    story.append(None, event);
    assert_eq!((&story.state.application.runs, story.state.application.version), (&ring, story.state.head));
    assert_eq!(story.turns_runs(&Have(story.state.head)), Some("turn_keys"));
}

/// What happens to a fleet of two proxies, one for each service.
#[derive(Debug, Clone)]
enum Happening {
    /// An operator acts on a service.
    Act(ServiceName, Verb),
    /// An operator acts on the keys of run tokens, or the sidecar does what is due.
    Keys(Option<ApplicationVerb>),
    /// The proxy of a service takes the newest snapshot.
    Obeys(ServiceName),
    /// Time passes.
    Hours(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let service = || prop_oneof![Just(service()), Just(code())];
    let retire = (1..9u16).prop_map(|key| retire(key, None));
    prop_oneof![
        2 => (service(), any_verb()).prop_map(|(service, verb)| Happening::Act(service, verb)),
        3 => Just(Happening::Keys(Some(ApplicationVerb::RotateKeys))),
        1 => retire.prop_map(|verb| Happening::Keys(Some(verb))),
        8 => Just(Happening::Keys(None)),
        8 => service().prop_map(Happening::Obeys),
        2 => (1..240u64).prop_map(Happening::Hours),
    ]
}

/// The proxy of each service: the version that it decides by, and the ring in it.
#[derive(Debug)]
struct Fleet(BTreeMap<ServiceName, (u64, Ring)>);

impl Acknowledgements for Fleet {
    fn lacking(&self, version: u64) -> Vec<String> {
        self.0.iter().filter(|(_, (held, _))| *held < version).map(|(name, _)| name.to_string()).collect()
    }
}

impl Fleet {
    fn obeys(&mut self, story: &Story, service: &ServiceName) {
        let snapshot = story.state.snapshot(service).unwrap();
        self.0.insert(service.clone(), (snapshot.version, snapshot.run_ring.unwrap()));
    }
}

proptest! {
    /// Kept: after any history, with proxies that obey as late as they like: what either proxy signs now, and whatever
    /// was signed by either for as long as the most patient service honours it, the other verifies.
    #[test]
    fn what_one_proxy_signs_the_other_verifies(history in proptest::collection::vec(happening(), 1..80)) {
        let mut story = Story::two_services();
        let mut fleet = Fleet(BTreeMap::new());
        fleet.obeys(&story, &service());
        fleet.obeys(&story, &code());
        // When each key signed last.
        let mut signed: BTreeMap<KeyId, UnixMillis> = BTreeMap::new();
        for happening in history {
            match happening {
                Happening::Act(service, verb) => {
                    let at = Circumstances { now: story.now, acknowledgements: &(), serving: &(), holding: &() };
                    if let Ok(Some(event)) = story.state.check(&service, &verb, &at) {
                        story.append(Some(service), event);
                    }
                }
                Happening::Keys(Some(verb)) => drop(story.asks(&verb)),
                Happening::Keys(None) => drop(story.turns_runs(&fleet)),
                Happening::Obeys(service) => fleet.obeys(&story, &service),
                Happening::Hours(hours) => story.now = story.now.plus_millis(hours * 3_600_000),
            }
            signed.extend(fleet.0.values().map(|(_, ring)| (ring.signing, story.now)));
            let holds = |at: &UnixMillis| story.now.since(*at) < 7 * MILLIS_OF_A_DAY;
            for (key, _) in signed.iter().filter(|(_, at)| holds(at)) {
                for (name, (version, ring)) in &fleet.0 {
                    prop_assert!(ring.verifying.contains(key), "{} at {} lacks {}", name, version, key);
                }
            }
        }
        let mut again = State::default();
        story.log.iter().for_each(|entry| again.apply(entry).unwrap());
        prop_assert_eq!(again, story.state);
    }
}
