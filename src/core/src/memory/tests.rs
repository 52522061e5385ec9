use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const AGES: fn() -> PinSettings =
    || PinSettings { max_age_seconds: 1_000, idle_timeout_seconds: 100, ..PinSettings::default() };

fn remembered(assignment: u64, began: u64, seen: u64) -> Remembered {
    let (began, seen) = (UnixSeconds(began), UnixSeconds(seen));
    let (certainty, visits) = (Certainty::Guess, Visits::First);
    Remembered { assignment: AssignmentId(assignment), sid: Sid(assignment ^ 7), began, seen, certainty, visits }
}

/// One thing that is done to a bucket.
#[derive(Debug, Clone)]
enum Act {
    Put { id: u64, assignment: u64, began: u64, visits: Visits },
    Forget { id: u64 },
    Wait { seconds: u64 },
}

/// Numbers as a log gives them.
fn assignments() -> impl Strategy<Value = u64> {
    0..1u64 << 56
}

fn visits() -> impl Strategy<Value = Visits> {
    prop_oneof![Just(Visits::First), Just(Visits::Returned)]
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    // More ids than a bucket has room for, so that it is full most of the time.
    let id = 0..24u64;
    let act = prop_oneof![
        6 => (id.clone(), assignments(), 0..1_200u64, visits())
            .prop_map(|(id, assignment, began, visits)| Act::Put { id, assignment, began, visits }),
        1 => id.prop_map(|id| Act::Forget { id }),
        2 => (0..60u64).prop_map(|seconds| Act::Wait { seconds }),
    ];
    proptest::collection::vec(act, 0..200)
}

proptest! {
    /// Kept: a bucket remembers what a map would, and forgets only what it must: never anything while there is room, then
    /// what has ended, then what never came back, then any; of several what was seen longest ago; and it says so.
    #[test]
    fn a_bucket_is_a_bounded_map(acts in acts()) {
        let (mut bucket, mut model) = (Bucket::default(), BTreeMap::new());
        let mut now = UnixSeconds(10_000);
        for act in acts {
            match act {
                Act::Put { id, assignment, began, visits } => {
                    let what = Remembered { visits, ..remembered(assignment, now.0 - began, now.0) };
                    let full = model.len() == Bucket::WAYS && !model.contains_key(&id);
                    let room = bucket.put(Sid(id), &what, &AGES(), now);
                    if full {
                        let gone: Vec<_> = model.keys().copied().filter(|id| bucket.get(Sid(*id)).is_none()).collect();
                        prop_assert_eq!(gone.len(), 1);
                        let gone: Remembered = model.remove(&gone[0]).unwrap();
                        let over = gone.is_over(&AGES(), now);
                        prop_assert_eq!(room == Room::Found, over);
                        if !over {
                            let worth = |session: &Remembered| (session.visits, session.seen);
                            prop_assert!(model.values().all(|kept| !kept.is_over(&AGES(), now) && worth(kept) >= worth(&gone)));
                        }
                    } else {
                        prop_assert_eq!(room, Room::Found);
                    }
                    model.insert(id, what);
                }
                Act::Forget { id } => prop_assert_eq!(bucket.forget(Sid(id)), model.remove(&id).is_some()),
                Act::Wait { seconds } => now = now.plus(seconds),
            }
            prop_assert_eq!(&bucket, &Bucket::read(bucket.bytes().to_vec()));
            prop_assert!(bucket.bytes().len() <= Bucket::WAYS * RECORD);
            for id in 0..24 {
                prop_assert_eq!(bucket.get(Sid(id)), model.get(&id).copied());
            }
        }
    }

    /// A record reads back as it was written.
    #[test]
    fn records_read_back(id: u64, assignment in assignments(), began: u32, seen: u32, fact: bool, visits in visits()) {
        let certainty = if fact { Certainty::Fact } else { Certainty::Guess };
        let what = Remembered { certainty, visits, ..remembered(assignment, began.into(), seen.into()) };
        prop_assert_eq!(read(&record(Sid(id), &what)), (Sid(id), what));
    }

    /// Total: whatever stands in shared data, it is a bucket of whole records.
    #[test]
    fn noise_is_a_bucket(noise in proptest::collection::vec(any::<u8>(), 0..1_000), id: u64) {
        let mut bucket = Bucket::read(noise);
        prop_assert_eq!(bucket.bytes().len() % RECORD, 0);
        let what = remembered(5, 9_990, 9_995);
        bucket.put(Sid(id), &what, &AGES(), UnixSeconds(10_000));
        prop_assert_eq!(bucket.get(Sid(id)), Some(what));
    }
}

/// Kept: sessions that came back outlive any number of those that never did, however long ago they were seen.
#[test]
fn what_came_back_outlives_what_did_not() {
    let now = UnixSeconds(10_000);
    let mut bucket = Bucket::default();
    for id in 0..8 {
        let back = Remembered { visits: Visits::Returned, ..remembered(id, 9_950, 9_950) };
        bucket.put(Sid(id), &back, &AGES(), now);
    }
    for id in 8..6_008 {
        bucket.put(Sid(id), &remembered(id, 9_999, 9_999), &AGES(), now);
    }
    assert_eq!((0..8).filter(|id| bucket.get(Sid(*id)).is_some()).count(), 8);
}

/// Kept: what two proxies know of one session agrees, however certain each is of it and whenever it saw it.
#[test]
fn what_agrees_is_of_one_session() {
    let known = remembered(7, 10, 20);
    let (certainty, visits) = (Certainty::Fact, Visits::Returned);
    assert!(known.agrees_with(&Remembered { seen: UnixSeconds(30), certainty, visits, ..known }));
    for other in [
        Remembered { assignment: AssignmentId(8), ..known },
        Remembered { sid: Sid(1), ..known },
        Remembered { began: UnixSeconds(11), ..known },
    ] {
        assert!(!known.agrees_with(&other), "{other:?}");
    }
}

/// Kept: as many sessions as the table has room for are remembered nearly all: a bucket overflows for few of them.
#[test]
fn a_full_table_has_room() {
    let buckets = Buckets::for_sessions(131_072);
    let mut sizes = vec![0; buckets.count() as usize];
    for n in 0..131_072u64 {
        sizes[buckets.of(Sid(crate::rendezvous::mix(n))) as usize] += 1;
    }
    let beyond: usize = sizes.iter().map(|size: &usize| size.saturating_sub(Bucket::WAYS)).sum();
    println!("{beyond} of 131,072 sessions find a full bucket");
    assert!(beyond < 131_072 / 1_000, "{beyond}");
}

/// The number of buckets is a power of two, whatever the room; an id belongs to one of them.
#[test]
fn buckets_are_a_power_of_two() {
    for (sessions, count) in [(0, 1), (1, 1), (8, 1), (9, 2), (131_072, 16_384), (u32::MAX, 1 << 20)] {
        let buckets = Buckets::for_sessions(sessions);
        assert_eq!(buckets.count(), count, "{sessions}");
        assert!(buckets.of(Sid(u64::MAX)) < count);
    }
}
