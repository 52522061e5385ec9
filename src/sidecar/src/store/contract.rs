//! What every store promises. Each implementation runs all of it, from the tests beside it.

use std::time::Duration;

use colorfast_core::time::UnixMillis;

use super::{AppendError, Head, LeaseError, PutError, Record, Stores};

/// Where a store keeps its data: it can be opened, dropped and opened again.
pub trait Place {
    /// An empty place.
    fn new() -> Self;
    /// The store there.
    fn open(&self) -> Stores;
}

/// The tests of what every place of stores promises; what only one of them does is tested beside them.
macro_rules! holds_in {
    ($place:ty) => {
        /// One line of history, kept over a restart.
        #[tokio::test]
        async fn log_keeps_its_order() {
            contract::log_keeps_its_order::<$place>().await;
        }

        /// Compare-and-swap: nobody appends after what he has not seen.
        #[tokio::test]
        async fn log_refuses_a_stale_head() {
            contract::log_refuses_a_stale_head::<$place>().await;
        }

        /// Nothing is half-applied.
        #[tokio::test]
        async fn log_appends_all_or_nothing() {
            contract::log_appends_all_or_nothing::<$place>().await;
        }

        /// One line of history, however many write.
        #[tokio::test(flavor = "multi_thread")]
        async fn log_is_one_line_for_many_writers() {
            contract::log_is_one_line_for_many_writers::<$place>().await;
        }

        /// One writer at a time.
        #[tokio::test]
        async fn lease_has_one_holder() {
            contract::lease_has_one_holder::<$place>().await;
        }

        /// Keys are never overwritten unseen.
        #[tokio::test]
        async fn secrets_are_put_by_version() {
            contract::secrets_are_put_by_version::<$place>().await;
        }

        /// What may be lost is answered from memory.
        #[tokio::test]
        async fn ephemera_answer_at_once() {
            contract::ephemera_answer_at_once::<$place>().await;
        }
    };
}
pub(super) use holds_in;

fn record(seq: u64) -> Record {
    Record { seq, text: format!("text {seq}"), hash: format!("hash {seq}") }
}

/// What is appended is read back in order, by whoever opens the store later too, and the watch tells of it.
pub async fn log_keeps_its_order<P: Place>() {
    let place = P::new();
    let stores = place.open();
    let watch = stores.log.watch();
    assert_eq!(*watch.borrow(), Head::empty());
    let head = stores.log.append(Head::empty(), vec![record(1), record(2)]).await.unwrap();
    let head = stores.log.append(head, vec![record(3)]).await.unwrap();
    assert_eq!(*watch.borrow(), head);
    drop((watch, stores));

    let stores = place.open();
    assert_eq!(*stores.log.watch().borrow(), record(3).head());
    assert_eq!(stores.log.read(0, 10).await.unwrap(), [record(1), record(2), record(3)]);
    assert_eq!(stores.log.read(1, 1).await.unwrap(), [record(2)]);
    assert_eq!(stores.log.read(3, 10).await.unwrap(), []);
    assert_eq!(stores.log.read(u64::MAX, 10).await.unwrap(), []);
    stores.log.checkpoint().await.unwrap();
    assert_eq!(stores.log.read(2, 10).await.unwrap(), [record(3)]);
}

/// Who appends after something that is not the head is told the head, and nothing is written.
pub async fn log_refuses_a_stale_head<P: Place>() {
    let place = P::new();
    let stores = place.open();
    let head = stores.log.append(Head::empty(), vec![record(1)]).await.unwrap();
    let other_hash = Head { hash: "hash 0".to_owned(), ..head.clone() };
    for stale in [Head::empty(), other_hash] {
        let refused = stores.log.append(stale, vec![record(2)]).await;
        assert_eq!(refused, Err(AppendError::Moved(head.clone())));
    }
    assert_eq!(stores.log.read(0, 10).await.unwrap(), [record(1)]);
}

/// Of several records all are written, or none.
pub async fn log_appends_all_or_nothing<P: Place>() {
    let place = P::new();
    let stores = place.open();
    let refused = stores.log.append(Head::empty(), vec![record(1), record(3)]).await;
    assert!(matches!(refused, Err(AppendError::Outage(_))), "{refused:?}");
    assert_eq!(stores.log.read(0, 10).await.unwrap(), []);
    assert_eq!(*stores.log.watch().borrow(), Head::empty());
}

/// Of many who append at once, each finds its place, and nobody overwrites another.
pub async fn log_is_one_line_for_many_writers<P: Place>() {
    let place = P::new();
    let stores = place.open();
    let writers = (0..20).map(|_| {
        let log = stores.log.clone();
        tokio::spawn(async move {
            let mut head = Head::empty();
            loop {
                match log.append(head.clone(), vec![record(head.seq + 1)]).await {
                    Ok(_) => return,
                    Err(AppendError::Moved(moved)) => head = moved,
                    Err(AppendError::Outage(outage)) => panic!("{outage}"),
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let records: Vec<_> = (1..=20).map(record).collect();
    assert_eq!(stores.log.read(0, 100).await.unwrap(), records);
}

/// A lease has one holder, who can renew it; it passes on when he does not. Runs on a paused clock.
pub async fn lease_has_one_holder<P: Place>() {
    let place = P::new();
    let stores = place.open();
    tokio::time::pause();
    let ttl = Duration::from_secs(10);
    stores.log.lease("a", "first", ttl).await.unwrap();
    stores.log.lease("b", "second", ttl).await.unwrap();
    tokio::time::advance(ttl - Duration::from_millis(1)).await;
    let held = Err(LeaseError::Held("first".to_owned()));
    assert_eq!(stores.log.lease("a", "second", ttl).await, held);
    stores.log.lease("a", "first", ttl).await.unwrap();
    tokio::time::advance(ttl - Duration::from_millis(1)).await;
    assert_eq!(stores.log.lease("a", "second", ttl).await, held);
    tokio::time::advance(Duration::from_millis(1)).await;
    stores.log.lease("a", "second", ttl).await.unwrap();
}

/// A secret is written over the version that its writer has seen only, and survives a restart.
pub async fn secrets_are_put_by_version<P: Place>() {
    let place = P::new();
    let stores = place.open();
    assert_eq!(stores.secrets.get("k").await.unwrap(), None);
    assert_eq!(stores.secrets.put_if_version("k", 1, b"x".to_vec()).await, Err(PutError::Moved(0)));
    assert_eq!(stores.secrets.put_if_version("k", 0, b"one".to_vec()).await, Ok(1));
    assert_eq!(stores.secrets.put_if_version("k", 0, b"x".to_vec()).await, Err(PutError::Moved(1)));
    assert_eq!(stores.secrets.put_if_version("k", 1, b"two".to_vec()).await, Ok(2));
    drop(stores);
    let found = place.open().secrets.get("k").await.unwrap().unwrap();
    assert_eq!((found.version, found.value.as_slice()), (2, b"two".as_slice()));
    assert!(!format!("{found:?}").contains("116"), "a secret shows itself: {found:?}");
}

/// Ephemera answer from memory: the first put wins where it must, merges are one step, scans keep to their prefix.
pub async fn ephemera_answer_at_once<P: Place>() {
    let place = P::new();
    let store = place.open().ephemera;
    assert_eq!(store.get("a/1"), None);
    assert_eq!(store.put_if_absent("a/1", b"first".to_vec(), None), None);
    assert_eq!(store.put_if_absent("a/1", b"second".to_vec(), None), Some(b"first".to_vec()));
    store.put("a/2", b"two".to_vec(), None);
    store.put("a", b"shorter".to_vec(), None);
    store.put("b/1", b"other".to_vec(), None);
    store.merge("a/2", None, &mut |there| Some([there.unwrap(), b"+"].concat()));
    store.merge("a/1", None, &mut |_| None);
    let overtaken = |there: Option<&[u8]>| {
        if there == Some(b"two+") {
            store.put("a/2", b"three".to_vec(), None);
        }
        Some([there.unwrap(), b"!"].concat())
    };
    store.merge_aside("a/2", None, overtaken);
    store.merge("a/3", None, &mut |there| there.is_none().then(|| b"new".to_vec()));
    let found = |prefix| store.scan(prefix).into_iter().map(|(k, v)| (k, String::from_utf8(v).unwrap()));
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect::<Vec<_>>();
    assert_eq!(found("a/").collect::<Vec<_>>(), pairs(&[("a/1", "first"), ("a/2", "three!"), ("a/3", "new")]));
    store.remove("a/2");
    store.remove("a/2");
    assert_eq!(found("a/").count(), 2);
    assert_eq!(found("").count(), 4);
    assert_eq!((store.count("a/"), store.count(""), store.count("c")), (2, 4, 0));
    let sample = |prefix, from, most| {
        let keys = store.sample(prefix, from, most).into_iter().map(|(key, _)| key);
        keys.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(sample("a/", "a/2", 9), "a/3 a/1");
    assert_eq!(
        (sample("a/", "", 1), sample("a/", "b", 1), sample("c/", "c/9", 1)),
        ("a/1".into(), "a/1".into(), String::new())
    );
    assert_eq!(sample("", "a/3", 3), "a/3 b/1 a");
}

/// What was flushed is there after a restart, removals too; what was not may be lost, and never comes back half.
pub async fn ephemera_survive_by_flush<P: Place>() {
    let place = P::new();
    let store = place.open().ephemera;
    store.put("kept", b"1".to_vec(), Some(UnixMillis(u64::MAX >> 1)));
    store.put("removed", b"1".to_vec(), None);
    let many = || (0_u8..100).map(|number| (format!("many/{number:02}"), vec![number]));
    many().for_each(|(key, value)| store.put(&key, value, None));
    store.flush().await.unwrap();
    store.remove("removed");
    store.put("kept", b"2".to_vec(), None);
    store.flush().await.unwrap();
    store.flush().await.unwrap();
    store.put("late", b"1".to_vec(), None);
    drop(store);
    let store = place.open().ephemera;
    assert_eq!(store.get("kept"), Some(b"2".to_vec()));
    assert_eq!(store.get("removed"), None);
    assert_eq!(store.get("late"), None);
    assert_eq!(store.scan("many/"), many().collect::<Vec<_>>());
}

/// What has expired is dropped when it is asked for, and stays dropped; what has no end stays.
pub async fn ephemera_expire<P: Place>() {
    let place = P::new();
    let store = place.open().ephemera;
    store.put("soon", b"1".to_vec(), Some(UnixMillis(10)));
    store.put("later", b"1".to_vec(), Some(UnixMillis(20)));
    store.put("never", b"1".to_vec(), None);
    store.flush().await.unwrap();
    store.expire(UnixMillis(9));
    assert_eq!(store.scan("").len(), 3);
    store.expire(UnixMillis(10));
    store.flush().await.unwrap();
    drop(store);
    let store = place.open().ephemera;
    assert_eq!(store.scan("").into_iter().map(|(key, _)| key).collect::<Vec<_>>(), ["later", "never"]);
    store.expire(UnixMillis(20));
    assert_eq!(store.scan("").len(), 1);
}

/// Many are counted and dropped as few are, whatever stands between and around them.
pub async fn many_ephemera<P: Place>() {
    let store = P::new().open().ephemera;
    for number in 0..3_000 {
        let expires = Some(UnixMillis(10 + number % 3));
        for prefix in ["a/", "b/", "c/"] {
            store.put(&format!("{prefix}{number:04}"), Vec::new(), expires);
        }
    }
    let counts = || ["a/", "b/", "c/", "b/00", "d/", ""].map(|prefix| store.count(prefix));
    assert_eq!(counts(), [3_000, 3_000, 3_000, 100, 0, 9_000]);
    store.expire(UnixMillis(11));
    assert_eq!(counts(), [1_000, 1_000, 1_000, 33, 0, 3_000]);
    store.expire(UnixMillis(12));
    assert_eq!(counts(), [0; 6]);
}
