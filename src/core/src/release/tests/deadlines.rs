//! Slots drain no longer than they may.

use super::*;
use crate::settings::DrainDeadlineSeconds;

fn deadline(name: &str, within_seconds: Option<u32>) -> Verb {
    Verb::SetDeadline { slot: slot(name), within_seconds }
}

impl Story {
    /// The verb that is due by itself.
    fn is_due(&self) -> Option<Verb> {
        let holding = &Holds(Held { sessions: 1, ..Held::default() });
        self.chat().due(&Circumstances { now: self.now, acknowledgements: &(), serving: &(), holding })
    }
}

/// Each slot that begins to drain has the deadline of the settings of that moment, counted for itself; when it is over its
/// sessions leave, and no others.
#[test]
fn every_slot_has_its_own_deadline() {
    let mut story = Story::two_bundles();
    story.chat_mut().settings.drain_deadline_seconds = DrainDeadlineSeconds(3_600);
    story.does(switch("green"));
    let blue = story.now.plus_millis(3_600_000);
    assert_eq!(story.slot("blue").drain_until, Some(blue));
    story.now = story.now.plus_millis(600_000);
    story.does(stage("red", "v3"));
    story.does(switch("red"));
    assert_eq!(story.slot("green").drain_until, Some(story.now.plus_millis(3_600_000)));

    story.now = UnixMillis(blue.0 - 1);
    assert_eq!(story.is_due(), None);
    story.now = blue;
    let due = story.is_due();
    assert_eq!(due, Some(Verb::Migrate { slot: slot("blue") }));
    story.does(due.unwrap());
    assert_eq!(story.phases(), [Phase::Condemned, Phase::Draining, Phase::Live]);
    assert_eq!((story.slot("blue").drain_until, story.is_due()), (None, None));
}

/// A deadline is moved and taken away by command; a slot that is live again has none.
#[test]
fn deadlines_are_moved() {
    let mut story = Story::two_bundles();
    story.does(switch("green"));
    assert_eq!(story.slot("blue").drain_until, None, "none unless set");
    story.does(deadline("blue", Some(60)));
    assert_eq!(story.slot("blue").drain_until, Some(story.now.plus_millis(60_000)));
    let version = story.chat().version;
    story.does(deadline("blue", None));
    story.does(deadline("blue", None));
    assert_eq!((story.slot("blue").drain_until, story.chat().version), (None, version + 1));
    story.does(deadline("blue", Some(60)));
    story.does(switch("blue"));
    story.now = story.now.plus_millis(3_600_000);
    assert_eq!((story.slot("blue").drain_until, story.is_due()), (None, None));
    assert_eq!(story.tries(deadline("blue", Some(60))).unwrap_err().code(), "wrong-phase");
    for wrong in [0, u32::MAX] {
        assert_eq!(story.tries(deadline("green", Some(wrong))).unwrap_err().code(), "invalid-field");
    }
}
