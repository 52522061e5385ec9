//! Proxies ask the fleet before weight moves, and until one slot alone holds sessions.

use super::*;

impl Story {
    fn at<'a>(&self, holding: &'a dyn Holding) -> Circumstances<'a> {
        Circumstances { now: self.now, acknowledgements: &(), serving: &(), holding }
    }

    /// What comes before a verb.
    fn before(&self, verb: &Verb) -> Result<Option<Event>, Refusal> {
        self.state.prepare(&service(), verb, &self.at(&()))
    }

    fn flush(&self) -> Option<u64> {
        self.state.snapshot(&service()).unwrap().flush
    }
}

/// Kept: a verb that moves weight is prepared by an entry of its own, which moves none, asks for a flush and hides nothing
/// from an operator who had seen the version before it; one that is refused, or gives no slot a share, is not prepared.
#[test]
fn weight_moves_after_a_preparation() {
    let mut first = Story::begin();
    first.does(stage("blue", "v1"));
    assert_eq!(first.before(&switch("blue")), Ok(None), "nobody holds sessions yet");

    for verb in [switch("green"), ramp("green", 100)] {
        let mut story = Story::two_bundles();
        let (seen, weight) = (story.chat().version, story.slot("blue").weight);
        let event = story.before(&verb).unwrap().unwrap();
        assert_eq!(event, Event::Prepared { slot: slot("green") });
        story.append(Some(service()), event);
        let flush = story.chat().version;
        assert_eq!((story.flush(), story.chat().acted, flush), (Some(flush), seen, seen + 1));
        assert_eq!((story.slot("blue").weight, story.slot("green").phase), (weight, Phase::Staged));
        assert_eq!((story.before(&verb), story.chat().prepared().map(|asking| asking.flush)), (Ok(None), Some(flush)));
        story.does(verb);
        assert_eq!((story.flush(), story.chat().acted), (Some(flush), flush + 1));
        assert_eq!(story.chat().prepared(), None);
    }

    let mut story = Story::two_bundles();
    assert_eq!(story.before(&switch("blue")).unwrap_err().code(), "already-live");
    for verb in [stage("red", "v3"), Verb::RotateKeys] {
        assert_eq!(story.before(&verb), Ok(None), "{verb:?}");
    }
    story.does(ramp("green", 100));
    assert_eq!(story.before(&ramp("green", 0)), Ok(None));
    assert_eq!(story.before(&rollback(None, Pins::Break)), Ok(None));
    story.chat_mut().settings.memory.ask_wait_ms = crate::settings::AskWaitMs(0);
    assert_eq!(story.before(&switch("green")), Ok(None), "nobody is ever asked");
}

/// Kept: whatever was not prepared has proxies ask as soon as two slots hold sessions; they end where one alone honours
/// any, and each preparation has them flush anew.
#[test]
fn proxies_ask_while_two_slots_hold_sessions() {
    let mut story = Story::two_bundles();
    assert_eq!(story.flush(), None);
    story.does(switch("green"));
    let first = story.flush();
    assert_eq!(first, Some(story.chat().version));
    let event = story.before(&switch("blue")).unwrap().unwrap();
    story.append(Some(service()), event);
    assert!(story.flush() > first);
    story.does(switch("blue"));
    story.does(Verb::Migrate { slot: slot("green") });
    assert_eq!(story.flush(), None);
}

/// Cheap: where accounting knows one slot alone to hold sessions, or a preparation was never followed, the sidecar ends the
/// asking by itself, but not so soon that a report may be missing.
#[test]
fn asking_ends_by_itself() {
    let mut story = Story::two_bundles();
    let event = story.before(&switch("green")).unwrap().unwrap();
    story.append(Some(service()), event);
    let due = |story: &Story, holding: &dyn Holding| story.chat().due(&story.at(holding));
    let left = story.clone();
    story.does(switch("green"));
    for mut story in [left, story.clone()] {
        story.now = story.now.plus_millis(58_000);
        assert_eq!(due(&story, &()), None, "too soon");
        story.now = story.now.plus_millis(3_000);
        assert_eq!(due(&story, &()), Some(Verb::Settle));
        story.does(Verb::Settle);
        assert_eq!((story.flush(), due(&story, &())), (None, None));
    }
    story.now = story.now.plus_millis(61_000);
    let unheard = Held { unheard: vec!["edge/1".to_owned()], ..Held::default() };
    for held in [Held { sessions: 1, ..Held::default() }, Held { issued: 1, ..Held::default() }, unheard] {
        assert_eq!(due(&story, &Holds(held.clone())), None, "{held:?}");
    }
}

/// Accounted: a slot that drains is freed only once proxies have told whom it holds, each time that it is tried, whether they
/// are ever asked or not, and one that is condemned once they have told what it has under way. A refusal comes first. A word of
/// force, or what was staged alone, waits for nobody.
#[test]
fn a_slot_is_freed_after_a_preparation() {
    let mut story = Story::two_bundles();
    story.does(switch("green"));
    assert_eq!(story.before(&recycle("blue", None)).unwrap_err().code(), "quarantine");
    assert_eq!(story.before(&recycle("blue", Some("a test"))), Ok(None));
    story.now = story.now.plus_millis(3_601_000);
    story.chat_mut().settings.memory.ask_wait_ms = crate::settings::AskWaitMs(0);
    for _ in 0..2 {
        let seen = story.chat().acted;
        let event = story.before(&recycle("blue", None)).unwrap().unwrap();
        assert_eq!(event, Event::Prepared { slot: slot("blue") });
        story.append(Some(service()), event);
        assert_eq!((story.flush(), story.chat().acted), (Some(story.chat().version), seen));
    }
    story.does(Verb::Migrate { slot: slot("blue") });
    assert_eq!(story.before(&recycle("blue", None)), Ok(Some(Event::Prepared { slot: slot("blue") })));
    story.does(recycle("blue", None));
    story.does(Verb::Stage { slot: slot("blue"), bundle: "v1".parse().unwrap() });
    assert_eq!(story.before(&recycle("blue", None)), Ok(None));
}
