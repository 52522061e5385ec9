//! Proxies whose clocks differ: what that does to the life of a pin. The first one signs, the other one judges; the ages
//! here are true ones.

use std::time::Duration;

use colorfast_core::ids::KeyId;
use colorfast_core::keys::Ring;
use colorfast_core::names;
use colorfast_core::snapshot::Snapshot;
use colorfast_core::time::UnixSeconds;
use colorfast_core::token::pin::{Claims, Signer};
use wasm_host::Process;

use crate::proxy::{Proxy, Worker};
use crate::releases::{Forger, blue_live, green_live, keys, ring_key, service};
use crate::request::Request;
use crate::sidecar;

/// By how many seconds clocks differ.
const SKEW: i64 = 30;
/// The oldest that a pin grows here.
const MAX_AGE: i64 = 1_000;
/// How many seconds pass between two requests of a session that is in use.
const BETWEEN: i64 = 10;

/// One proxy, the clock of which is wrong.
struct Edge {
    proxy: Proxy,
    worker: Worker,
}

/// What became of a request that carried a pin.
struct Told {
    honoured: bool,
    pin: Option<String>,
}

impl Edge {
    fn start(seed: u64, ahead: i64, snapshot: &Snapshot) -> Self {
        let process = Process::seeded(seed);
        process.set_env(names::ENV_TOKEN, "secret");
        process.offer(&["xds", "node", "id"], format!("edge-{seed}"));
        let now = process.now().as_secs().checked_add_signed(ahead).unwrap();
        process.set_now(Duration::from_secs(now));
        let proxy = Proxy::chat().on(process);
        let worker = proxy.worker();
        worker.tick();
        let edge = Self { proxy, worker };
        edge.hear(snapshot);
        edge
    }

    fn hear(&self, snapshot: &Snapshot) {
        let mut response = sidecar::ticketed(snapshot, sidecar::TICKET);
        response.resources[0].keys = Some(keys(&[1, 2, 3]));
        self.worker.newest_poll().answer(200, sidecar::bytes(&response));
    }

    fn wait(&self, seconds: i64) {
        self.proxy.wait(seconds.cast_unsigned() * 1_000);
    }

    /// A request of a session that has no id: its pin is all that tells where it belongs.
    fn ask(&self, pin: Option<&str>) -> Told {
        let request = pin.into_iter().fold(Request::new(), Request::pin);
        let sent = self.worker.send(request);
        let honoured = sent.decision().as_deref() == Some("pin");
        let slot = sent.slot();
        if pin.is_some() {
            let wanted = if honoured { "blue" } else { "green" };
            assert_eq!(slot.as_deref(), Some(wanted), "a pin that is not honoured decides nothing");
        }
        let pin = sent.answered(&[]).text(names::HEADER_PIN).map(str::to_owned);
        sent.stream.finish().unwrap();
        Told { honoured, pin }
    }

    fn refused(&self, cause: &str) -> u64 {
        self.proxy.count(&format!("tokens_refused.kind.pin.cause.{cause}"))
    }
}

/// A snapshot with these ages, and this key signing of three.
fn with(mut snapshot: Snapshot, idle: i64, signing: u16) -> Snapshot {
    snapshot.settings.pin.max_age_seconds = MAX_AGE as u32;
    snapshot.settings.pin.idle_timeout_seconds = idle as u32;
    snapshot.ring = Some(Ring { signing: KeyId(signing), verifying: [1, 2, 3].map(KeyId).into() });
    snapshot
}

fn read(pin: &str) -> (Claims, KeyId) {
    let ring = [1, 2, 3].map(|id| (KeyId(id), ring_key(KeyId(id), Forger::Nobody)));
    let ring = ring.iter().map(|(id, key)| (*id, key));
    Signer::new(&service("chat"), KeyId(1), ring).unwrap().read(pin.as_bytes()).unwrap()
}

/// Kept, and accounted: a pin of a proxy whose clock is wrong by half a minute is honoured from its first second on, ends
/// for every proxy when max-age has passed by its own clock, and so never later than max-age and half a minute.
#[test]
fn a_pin_ends_when_it_must_whatever_the_clocks_say() {
    println!("{:>8} {:>9} | honoured at the age of", "signed", "judged");
    for [signer, judge] in [[0, 0], [0, SKEW], [0, -SKEW], [SKEW, 0], [-SKEW, 0]] {
        let (one, other) = {
            let snapshot = with(blue_live(1), MAX_AGE, 1);
            (Edge::start(1, signer, &snapshot), Edge::start(2, judge, &snapshot))
        };
        let pin = one.ask(None).pin.unwrap();
        for edge in [&one, &other] {
            edge.hear(&with(green_live(2), MAX_AGE, 1));
        }
        let (mut age, mut row, mut expired) = (0, String::new(), 0);
        for at in [0, 1, 29, 30, 31, 250, 500, 969, 970, 971, 999, 1_000, 1_029, 1_030, 1_031, 2_000] {
            for edge in [&one, &other] {
                edge.wait(at - age);
            }
            age = at;
            let by_signer = one.ask(Some(&pin)).honoured;
            let by_judge = other.ask(Some(&pin)).honoured;
            assert_eq!(by_signer, age < MAX_AGE, "{signer} {judge}: by its own clock at {age}");
            assert_eq!(by_judge, age + judge - signer < MAX_AGE, "{signer} {judge}: by the other's clock at {age}");
            assert!(by_judge || age >= MAX_AGE - SKEW, "{signer} {judge}: a valid pin was refused at {age}");
            assert!(!by_judge || age < MAX_AGE + SKEW, "{signer} {judge}: honoured at {age}");
            row += &format!(" {age}:{}", if by_judge { "yes" } else { "no" });
            expired += u64::from(!by_judge);
        }
        assert_eq!((other.refused("expired"), other.refused("future"), other.refused("idle")), (expired, 0, 0));
        println!("{signer:>+7}s {judge:>+8}s |{row}");
    }
}

/// Accounted: neither a refresh at a proxy whose clock is ahead nor a key that signs anew makes a session younger: however
/// often its pin was issued, it began when it began, and ends with max-age, half a minute about it at most. Until then no
/// request of it is refused, though each goes to the other proxy, and these sign by different keys for a while.
#[test]
fn refresh_and_rotation_never_extend_max_age() {
    // A quarter of it is less than the clocks differ by.
    let idle = 100;
    println!("{:>8} {:>8} {:>7} {:>6} {:>9} {:>12}", "first", "second", "issued", "keys", "last kept", "first refused");
    for [first, second] in [[0, 0], [0, SKEW], [0, -SKEW], [SKEW, 0], [-SKEW, 0]] {
        let snapshot = with(blue_live(1), idle, 1);
        let edges = [Edge::start(1, first, &snapshot), Edge::start(2, second, &snapshot)];
        let mut pin = edges[0].ask(None).pin.unwrap();
        let (began, _) = read(&pin);
        let (mut age, mut issued, mut signed_by, mut last, mut refusal) = (0, 0, vec![KeyId(1)], 0, None);
        edges.iter().for_each(|edge| edge.hear(&with(green_live(2), idle, 1)));
        while age < MAX_AGE + 2 * SKEW {
            edges.iter().for_each(|edge| edge.wait(BETWEEN));
            age += BETWEEN;
            // The second proxy hears of each key a while after the first one.
            match age {
                300 => edges[0].hear(&with(green_live(3), idle, 2)),
                400 => edges[1].hear(&with(green_live(3), idle, 2)),
                600 => edges[1].hear(&with(green_live(4), idle, 3)),
                700 => edges[0].hear(&with(green_live(4), idle, 3)),
                _ => {}
            }
            let edge = &edges[usize::from((age / BETWEEN) % 2 == 1)];
            let told = edge.ask(Some(&pin));
            match (told.honoured, told.pin) {
                (true, renewed) => {
                    last = age;
                    if let Some(renewed) = renewed {
                        let (claims, key) = read(&renewed);
                        let now = UnixSeconds(edge.worker.now().as_secs());
                        assert_eq!((claims.began, claims.sid), (began.began, began.sid), "another session at {age}");
                        assert_eq!(claims.refreshed, now, "{first} {second}: refreshed at {age}");
                        issued += 1;
                        signed_by.push(key);
                        pin = renewed;
                    }
                }
                // This client keeps its old pin, so that the proxy whose clock is behind is asked again, too.
                (false, _) => refusal = refusal.or(Some(age)),
            }
        }
        signed_by.sort_unstable();
        signed_by.dedup();
        let refusal = refusal.expect("it ends");
        println!("{first:>+7}s {second:>+7}s {issued:>7} {:>6} {last:>8}s {refusal:>12}s", signed_by.len());
        assert!(last < MAX_AGE + SKEW, "{first} {second}: honoured at {last}");
        assert!(refusal >= MAX_AGE - SKEW, "{first} {second}: a valid pin was refused at {refusal}");
        assert!(issued > 10, "{first} {second}: {issued} pins were issued");
        assert_eq!(signed_by, [1, 2, 3].map(KeyId), "{first} {second}: it was signed by each key");
        for edge in &edges {
            assert_eq!((edge.refused("future"), edge.refused("idle")), (0, 0), "{first} {second}");
        }
    }
}
