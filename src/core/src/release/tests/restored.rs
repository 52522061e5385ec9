//! A log that goes on from a copy, while pins and snapshots of its lost future are still out there.

use super::*;

impl Story {
    /// The assignments of all slots now.
    fn assignments(&self) -> BTreeSet<AssignmentId> {
        self.chat().slots.values().filter_map(|slot| slot.assignment).collect()
    }

    /// Goes on from this copy, whose future is `lost`.
    fn restore(&mut self, lost: &Self, known: Known) {
        let lost_future = LostFuture { epoch: lost.state.epoch, next_assignment: lost.state.next_assignment };
        let copied = self.log.last().unwrap().at;
        self.now = lost.now.plus_millis(1);
        let event = self.state.restore(copied, self.now, (known == Known::ToTheEnd).then_some(lost_future));
        self.append(None, event);
    }

    fn plan(&self) -> Plan {
        Plan::compile(&self.state.snapshot(&service()).unwrap(), None).unwrap()
    }
}

/// What is known of the lost future when the copy is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// The log that is replaced is still there.
    ToTheEnd,
    /// Nothing but the time.
    Nothing,
}

proptest! {
    /// Kept, Unforgeable: after any history, any future that is lost (verbs a millisecond apart), and any future after
    /// the restore: proxies take every snapshot of the restored log for newer than any of the lost one; pins of
    /// assignments that the copy honours are honoured, those of the lost future are broken at once and not waited for
    /// as news; and no number is ever given twice.
    #[test]
    fn a_restored_log_is_newer_and_gives_no_number_twice(
        before in proptest::collection::vec(any_verb(), 0..30),
        lost_verbs in proptest::collection::vec(any_verb(), 0..40),
        after in proptest::collection::vec(any_verb(), 0..30),
        known in prop_oneof![Just(Known::ToTheEnd), Just(Known::Nothing)],
        pace in 1..2_000u64,
    ) {
        let mut copy = Story::begin();
        for verb in before {
            copy.tries(verb).ok();
        }
        let mut lost = Story { pace, ..copy.clone() };
        let mut given = BTreeSet::new();
        for verb in lost_verbs {
            lost.tries(verb).ok();
            given.extend(lost.assignments());
        }
        let lost_version = lost.state.snapshot(&service()).unwrap().version();
        let (honoured, known_to_copy) = (copy.honoured(), copy.assignments());
        let slots = copy.chat().slots.clone();

        copy.restore(&lost, known);
        prop_assert_eq!(&copy.chat().slots, &slots, "a restore moves no slot");
        let plan = copy.plan();
        prop_assert!(copy.state.snapshot(&service()).unwrap().version() > lost_version);
        prop_assert!(copy.state.next_assignment >= copy.state.epoch.0.seconds().0);
        for assignment in honoured {
            prop_assert!(plan.honours(assignment).is_some());
        }
        for assignment in given.difference(&known_to_copy) {
            prop_assert!(plan.honours(*assignment).is_none());
            prop_assert!(!plan.is_newer(*assignment), "{} of the lost future is waited for", assignment);
        }

        for verb in after {
            copy.tries(verb).ok();
            prop_assert!(Plan::compile(&copy.state.snapshot(&service()).unwrap(), None).is_ok());
            let fresh: BTreeSet<_> = copy.assignments().difference(&known_to_copy).copied().collect();
            prop_assert!(fresh.is_disjoint(&given), "a number of the lost future is given again");
        }
        // One log, folded from its first entry on.
        let mut again = State::default();
        copy.log.iter().for_each(|entry| again.apply(entry).unwrap());
        prop_assert_eq!(again, copy.state);
    }
}

/// A copy that is restored twice, in two places or by a clock that went back, makes an epoch above every one that is
/// known.
#[test]
fn epochs_rise_whatever_the_clock_says() {
    let mut story = Story::two_bundles();
    let copied = story.log.last().unwrap().at;
    let epoch = |event: &Event| match event {
        Event::Genesis { epoch, .. } => *epoch,
        other => panic!("{other:?} is no genesis"),
    };
    let ahead = Epoch(UnixMillis(GENESIS + 1_000_000));
    let lost = LostFuture { epoch: ahead, next_assignment: 0 };
    assert_eq!(epoch(&story.state.restore(copied, UnixMillis(5), None)).0, copied);
    assert_eq!(epoch(&story.state.restore(copied, UnixMillis(5), Some(lost))).0, ahead.0.plus_millis(1));
    let again = Story { now: copied, ..story.clone() };
    story.restore(&again, Known::Nothing);
    let first = story.state.epoch;
    story.restore(&again, Known::Nothing);
    assert!(story.state.epoch > first);
    assert_eq!(story.chat().version, story.state.head, "every service changes by a restore");
}

/// A genesis that goes on from another log, or back in time, is refused.
#[test]
fn a_genesis_must_fit_its_copy() {
    let story = Story::two_bundles();
    let fitting = |change: fn(&mut Epoch, &mut Restored)| {
        let event = story.state.restore(story.now, story.now, None);
        let Event::Genesis { mut epoch, restored: Some(mut restored) } = event else { panic!("no restored genesis") };
        change(&mut epoch, &mut restored);
        let event = Event::Genesis { epoch, restored: Some(restored) };
        let seq = story.state.head + 1;
        let entry =
            Entry { seq, schema: SCHEMA, at: story.now, service: None, principal: "operator".into(), key: None, event };
        let mut state = story.state.clone();
        let applied = state.apply(&entry).map_err(|error| error.cause);
        assert!(applied.is_ok() || state == story.state);
        applied
    };
    assert_eq!(fitting(|_, _| {}), Ok(()));
    assert_eq!(fitting(|_, restored| restored.entry -= 1), Err("it goes on from another log"));
    assert_eq!(fitting(|_, restored| restored.from.0.0 += 1), Err("it goes on from another log"));
    assert_eq!(fitting(|epoch, restored| *epoch = restored.from), Err("epochs must rise"));
    assert_eq!(fitting(|_, restored| restored.given.0 = 1), Err("assignments must count up"));
}
