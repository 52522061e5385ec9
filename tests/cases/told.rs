//! Whoever has a request holds its slot: whatever the traffic, the sidecar hears of each session late enough to count it for
//! the whole idle timeout after its last request.

use std::collections::BTreeMap;

use colorfast_core::ids::Sid;
use colorfast_core::keys::SidHasher;
use colorfast_core::settings::CookieCarrier;
use colorfast_core::sketch::Sketch;
use colorfast_core::snapshot::Snapshot;

use crate::proxy::{Proxy, Worker};
use crate::releases::{blue_live, keys, signer};
use crate::request::Request;
use crate::rng::Rng;
use crate::sidecar;

const SEEDS: u64 = 6;
const STEPS: usize = 150;
const SESSIONS: u64 = 12;
const IDLE_SECONDS: u32 = 100;
/// A worker tells within this time, however many of its reports get lost here.
const TELLS_WITHIN_MS: u64 = 60_000;
/// How long nobody comes at the end.
const QUIET_STEPS: usize = 20;
/// A session that goes on is told of again in this time; an account counts it for the idle timeout and this more.
const AGAIN_MS: u64 = IDLE_SECONDS as u64 * 1_000 / 4;

fn short(mut snapshot: Snapshot) -> Snapshot {
    snapshot.settings.pin.idle_timeout_seconds = IDLE_SECONDS;
    snapshot.settings.pin.cookie = CookieCarrier::Always;
    snapshot
}

/// What the sidecar was told, and when.
#[derive(Default)]
struct Heard {
    records: Vec<(u64, Sid)>,
    marks: Vec<(u64, Sketch)>,
}

impl Heard {
    /// Hears the reports that are out; now and then one is lost, and comes again.
    fn hear(&mut self, rng: &mut Rng, worker: &Worker, now: u64) {
        for report in sidecar::reports(worker) {
            if rng.next().is_multiple_of(5) {
                report.answer(503, "");
                continue;
            }
            for learnt in &report.says.sessions {
                let told = learnt.records.sessions().unwrap();
                self.records.extend(told.into_iter().map(|(_, session)| (now, session.sid)));
            }
            for slot in &report.says.slots {
                let marks = [&slot.held, &slot.issued].map(|marks| Sketch::of_text(marks).unwrap());
                self.marks.extend(marks.into_iter().filter(|marks| !marks.is_empty()).map(|marks| (now, marks)));
            }
            let acknowledged = report.says.sequence;
            report.answer(200, format!(r#"{{"acknowledged":{acknowledged}}}"#));
        }
    }

    /// Whether the sidecar heard of a session in this time.
    fn of(&self, sid: Sid, within: std::ops::RangeInclusive<u64>) -> bool {
        let holds = |marks: &Sketch| {
            let mut with = marks.clone();
            with.note(sid);
            with == *marks
        };
        self.records.iter().any(|(at, told)| *told == sid && within.contains(at))
            || self.marks.iter().any(|(at, marks)| within.contains(at) && holds(marks))
    }
}

/// Accounted: over two proxies of two workers each, with sessions that name themselves, echo a pin or a cookie, or none of it,
/// pauses of any length, and reports that get lost.
#[test]
fn whoever_has_a_request_is_told_of() {
    for seed in 0..SEEDS {
        let mut rng = Rng::seeded(seed);
        let proxies = [Proxy::chat(), Proxy::chat()];
        let workers: [[Worker; 2]; 2] = proxies.each_ref().map(Proxy::workers);
        for [leader, _] in &workers {
            leader.tick();
            leader.hear(&short(blue_live(5)));
        }
        let (mut heard, mut pins, mut came) = (Heard::default(), BTreeMap::new(), Vec::new());
        let hasher = SidHasher::new(&keys(&[1]).sid);
        for step in 0..STEPS + QUIET_STEPS {
            let pause = if step < STEPS { rng.next() % 6_000 } else { 3_000 };
            for (proxy, workers) in proxies.iter().zip(&workers) {
                proxy.run(pause, workers);
            }
            let now = proxies[0].process.now().as_millis() as u64;
            workers.iter().flatten().for_each(|worker| heard.hear(&mut rng, worker, now));
            if step >= STEPS {
                continue;
            }
            let number = rng.next() % SESSIONS;
            let worker = &workers[(rng.next() % 2) as usize][(rng.next() % 2) as usize];
            let id = format!("session-{number}");
            let pin = pins.get(&number).filter(|_| !number.is_multiple_of(3)).cloned();
            let request = match number % 3 {
                0 => Request::new().session(&id),
                1 => pin.iter().fold(Request::new().session(&id), |request, pin: &Vec<u8>| request.pin(pin)),
                _ => pin.iter().fold(Request::new(), |request, pin| request.pin(pin)),
            };
            let sent = worker.send(request);
            assert_eq!(sent.slot().as_deref(), Some("blue"));
            let answer = sent.answered(&[]);
            if let Some(pin) = answer.get("x-agent-pin") {
                pins.insert(number, pin.to_vec());
            }
            let sid = match number % 3 {
                2 => signer("chat").read(&pins[&number]).unwrap().0.sid,
                _ => hasher.sid(id.as_bytes()),
            };
            came.push((now, sid));
            sent.stream.finish().unwrap();
        }
        for (at, sid) in came {
            let told = heard.of(sid, at.saturating_sub(AGAIN_MS)..=at + TELLS_WITHIN_MS);
            assert!(told, "seed {seed}: nobody was told of the session of a request at {at}");
        }
    }
}
