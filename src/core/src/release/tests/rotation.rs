//! Keys come and go, and no pin breaks for it.

use super::*;
use crate::settings::KeyRotationSeconds;

impl Story {
    /// Gives itself what is due, at `now` and with members that have acknowledged `have`, and says what it was.
    fn turns(&mut self, have: u64) -> Option<&'static str> {
        let at = Circumstances { now: self.now, acknowledgements: &Have(have), serving: &(), holding: &() };
        let verb = self.chat().due(&at)?;
        let event = self.state.check(&service(), &verb, &at).unwrap().expect("what is due changes something");
        self.append(Some(service()), event);
        Some(verb.name())
    }

    /// Gives itself all that is due, with members that obey at once.
    fn settles(&mut self) -> Vec<&'static str> {
        std::iter::from_fn(|| self.turns(u64::MAX)).collect()
    }

    fn ring(&self) -> (u16, Vec<u16>) {
        let ring = self.chat().ring.shown().unwrap();
        (ring.signing.0, ring.verifying.iter().map(|key| key.0).collect())
    }
}

fn retire(key: u16, reason: Option<&str>) -> Verb {
    Verb::RetireKey { key: KeyId(key), force: reason.map(|reason| Force { reason: reason.to_owned() }) }
}

/// Kept: a key signs only once every member can verify it, and goes only once all that it signed is over age, counted
/// from when the last member has ceased to sign with it.
#[test]
fn rotation_breaks_no_pin() {
    let mut story = Story::two_bundles();
    story.does(Verb::RotateKeys);
    let added = story.chat().version;
    assert_eq!(story.ring(), (1, vec![1, 2]));
    assert_eq!(story.turns(added - 1), None, "a member cannot verify it yet");
    assert_eq!(story.tries(Verb::RotateKeys).unwrap_err().code(), "rotation-under-way");
    assert_eq!(story.turns(added), Some("turn_keys"));
    assert_eq!(story.ring(), (2, vec![1, 2]));
    let signs = story.chat().version;

    let max_age = u64::from(story.chat().settings.pin.max_age_seconds) * 1000;
    story.now = story.now.plus_millis(2 * max_age);
    assert_eq!(story.turns(signs - 1), None, "a member may sign with it still, however long that takes");
    assert_eq!(story.tries(Verb::RotateKeys).unwrap_err().code(), "rotation-under-way");
    assert_eq!(story.turns(signs), Some("turn_keys"));
    let unused = story.now;
    assert_eq!(story.ring(), (2, vec![1, 2]), "its pins hold on");

    let until = story.chat().ring.retires(KeyId(1), Terms::of_pins(&story.chat().settings)).unwrap();
    assert_eq!(until, unused.plus_millis(max_age + 60_000));
    story.chat_mut().settings.pin.key_rotation_seconds = KeyRotationSeconds(0);
    story.now = UnixMillis(until.0 - 1);
    assert_eq!(story.settles(), Vec::<&str>::new());
    story.now = until;
    assert_eq!(story.settles(), ["turn_keys"]);
    assert_eq!(story.ring(), (2, vec![2]));
}

/// The schedule rotates by itself, one key after another, and not at all where it is 0.
#[test]
fn keys_rotate_on_a_schedule() {
    let mut story = Story::two_bundles();
    let day = 24 * 3600 * 1000;
    story.now = story.now.plus_millis(30 * day - 3_600_000);
    assert_eq!(story.settles(), Vec::<&str>::new());
    story.now = story.now.plus_millis(3_600_000);
    assert_eq!(story.settles(), ["rotate_keys", "turn_keys", "turn_keys"]);
    assert_eq!(story.ring(), (2, vec![1, 2]));
    story.now = story.now.plus_millis(30 * day);
    assert_eq!(story.settles(), ["turn_keys", "rotate_keys", "turn_keys", "turn_keys"]);
    assert_eq!(story.ring(), (3, vec![2, 3]), "the first is over age, and its number never comes back");
    story.chat_mut().settings.pin.key_rotation_seconds = KeyRotationSeconds(0);
    story.now = story.now.plus_millis(300 * day);
    assert_eq!(story.settles(), ["turn_keys"]);
    assert_eq!(story.ring(), (3, vec![3]));
}

/// A key that leaked goes at once with a word of force, which is kept; the one that signs never does, nor one in use
/// without it.
#[test]
fn keys_are_retired_by_hand() {
    let mut story = Story::two_bundles();
    assert_eq!(story.tries(retire(1, Some("leaked"))).unwrap_err().code(), "key-signs");
    assert_eq!(story.tries(retire(7, None)).unwrap_err().to_string(), "there is no key 7, only 1");
    story.does(Verb::RotateKeys);
    assert_eq!(story.settles(), ["turn_keys", "turn_keys"]);
    let refusal = story.tries(retire(1, None)).unwrap_err();
    assert_eq!(refusal.code(), "key-in-use");
    assert!(refusal.to_string().starts_with("key 1 is former, and what it signed may still hold until 1"), "{refusal}");
    assert_eq!(story.tries(retire(1, Some(" "))).unwrap_err().code(), "invalid-field");
    story.does(retire(1, Some("leaked")));
    assert_eq!(story.ring(), (2, vec![2]));
    let last = serde_json::to_value(&story.log.last().unwrap().event).unwrap();
    assert_eq!(
        last,
        serde_json::json!({"type": "key_moved", "key": 1, "step": "retired", "force": {"reason": "leaked"}})
    );
    // A rotation that shall not be: the key that came goes again, and its number is spent.
    story.does(Verb::RotateKeys);
    story.does(retire(3, Some("a mistake")));
    story.does(Verb::RotateKeys);
    assert_eq!(story.ring(), (2, vec![2, 4]));
}

/// A ring is bounded: the next key waits until the oldest goes.
#[test]
fn rings_have_an_end() {
    let mut story = Story::two_bundles();
    for _ in 1..16 {
        story.does(Verb::RotateKeys);
        assert_eq!(story.settles(), ["turn_keys", "turn_keys"]);
    }
    assert_eq!(story.tries(Verb::RotateKeys).unwrap_err().code(), "ring-full");
    story.now = story.now.plus_millis(40 * 24 * 3600 * 1000);
    assert_eq!(story.settles().iter().filter(|verb| **verb == "turn_keys").count(), 15 + 2);
    assert_eq!(story.ring(), (17, vec![16, 17]));
}
