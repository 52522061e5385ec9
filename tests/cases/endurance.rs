//! A long time of strangers.

use colorfast_core::names::{
    HEADER_BUNDLE, HEADER_CLIENT_SENT, HEADER_DECISION, HEADER_PIN, HEADER_PREVIEW, HEADER_SESSION, HEADER_SLOT,
};
use colorfast_core::settings::{CookieCarrier, Sessionless};
use colorfast_core::snapshot::Snapshot;
use wasm_host::{HeaderPause, Process};

use crate::proxy::{Proxy, Worker};
use crate::releases::{blue_live, green_live, none_live, rolled_back, split};
use crate::request::{Request, Sent};
use crate::rng::Rng;

/// Requests of a seed: those of a run that failed come again.
const SEED: u64 = 0x5eed;
const REQUESTS: usize = 20_000;

/// Unforgeable: no request ends a worker, whatever is in it and whatever snapshot it meets; every one that a service
/// has goes on once, with stamps that a snapshot knows, and without a token.
#[test]
fn no_request_ends_a_worker() {
    let proxy = Proxy::chat().header_pause(HeaderPause::Headers).on(Process::seeded(SEED));
    let workers: [Worker; 2] = proxy.workers();
    let mut rng = Rng::seeded(SEED);
    let mut strangers = Strangers::default();
    let mut version = 0;
    for number in 0..REQUESTS {
        if number % 250 == 0 {
            version += 1;
            proxy.run(40, &workers);
            let leader = workers.iter().find(|worker| worker.polls()).expect("one polls");
            leader.newest_poll().bring(&snapshot(&mut rng, version));
            proxy.wait(rng.next() % 100_000_000);
        }
        let worker = rng.pick(&workers);
        let request = strangers.request(&mut rng);
        let said = format!("request {number} of seed {SEED:#x}: {:?}", request.headers());
        let sent = strangers.sent(&mut rng, worker, request);
        if sent.waits() {
            proxy.run(520, &workers);
        }
        assert_eq!(worker.died_of(), None, "{said}");
        assert!(!sent.waits(), "{said}");
        check(&sent, &said);
        strangers.answered(&mut rng, &sent);
        sent.stream.finish().unwrap();
    }
    // The strangers were as strange as they were meant to be.
    for counted in [
        "forged_headers",
        "pins_issued",
        "requests.slot.blue.decision.pin",
        "requests.slot.green.decision.pin",
        "requests.slot.green.decision.hash",
        "requests.slot.green.decision.random",
        "requests_unrouted",
        "tokens_refused.kind.pin.cause.malformed",
        "tokens_refused.kind.pin.cause.bad_mac",
        "tokens_refused.kind.pin.cause.unknown_key",
        "tokens_refused.kind.pin.cause.broken",
        "tokens_refused.kind.pin.cause.other_session",
        "tokens_refused.kind.pin.cause.idle",
    ] {
        assert!(proxy.count(counted) > 0, "no request counted as {counted}: {:?}", proxy.counted());
    }
}

fn check(sent: &Sent, said: &str) {
    let slot = sent.slot();
    assert!(matches!(slot.as_deref(), None | Some("blue" | "green")), "{said}: {slot:?}");
    assert_eq!(slot.is_some(), sent.bundle().is_some() && sent.decision().is_some(), "{said}");
    let forwarded = sent.forwarded();
    for name in [HEADER_PIN, HEADER_PREVIEW, HEADER_CLIENT_SENT] {
        assert!(!forwarded.has(name), "{said}: {name} reached the agent");
    }
}

fn snapshot(rng: &mut Rng, version: u64) -> Snapshot {
    let mut snapshot = match rng.below(6) {
        0 => blue_live(version),
        1 => green_live(version),
        2 => rolled_back(version),
        3 => none_live(version),
        _ => split(version, 1 + rng.below(9_999) as u32),
    };
    let settings = &mut snapshot.settings;
    settings.pin.cookie = *rng.pick(&[CookieCarrier::Sessionless, CookieCarrier::Always, CookieCarrier::Never]);
    settings.sessionless = *rng.pick(&[Sessionless::Random, Sessionless::Client]);
    if rng.one_in(4) {
        settings.session_sources.clear();
    }
    snapshot
}

/// Clients that remember what they were told, and make of it what they like.
#[derive(Default)]
struct Strangers {
    pins: Vec<Vec<u8>>,
}

impl Strangers {
    fn request(&self, rng: &mut Rng) -> Request {
        const NAMES: [&str; 11] = [
            HEADER_SLOT,
            HEADER_BUNDLE,
            HEADER_DECISION,
            HEADER_CLIENT_SENT,
            HEADER_PREVIEW,
            HEADER_PIN,
            HEADER_SESSION,
            "cookie",
            "user-agent",
            "baggage",
            "x-other",
        ];
        let mut request = Request::new();
        if rng.one_in(20) {
            request = request.instead(":authority", &String::from_utf8_lossy(&rng.value(30)));
        }
        if rng.one_in(20) {
            request = request.instead(":path", &String::from_utf8_lossy(&rng.value(300)));
        }
        for _ in 0..rng.below(6) {
            let name = *rng.pick(&NAMES);
            request = request.with(name, self.value(rng));
        }
        if rng.one_in(3) {
            request = request.with("cookie", [b"a=b; agent-pin-chat=", self.value(rng).as_slice(), b";c"].concat());
        }
        request
    }

    fn value(&self, rng: &mut Rng) -> Vec<u8> {
        match rng.below(6) {
            0 => rng.value(100),
            1 => rng.value(8_000),
            2 => rng.pick(&["green", "blue", "b-1", "hash", "pin", "greeng-1pin", ""]).as_bytes().to_vec(),
            3 => format!("session-{}", rng.below(500)).into_bytes(),
            _ if self.pins.is_empty() => Vec::new(),
            4 => rng.pick(&self.pins).clone(),
            _ => {
                let mut pin = rng.pick(&self.pins).clone();
                let at = rng.below(pin.len());
                pin[at] = *rng.pick(b"AQgw019-_=\xff");
                pin
            }
        }
    }

    fn sent(&self, rng: &mut Rng, worker: &Worker, request: Request) -> Sent {
        let stream = worker.stream();
        if rng.one_in(2) {
            let address = rng.pick(&["192.0.2.7:4711", "[2001:db8::7]:4711", "/run/socket", ""]);
            stream.offer(&["source", "address"], address);
        }
        if rng.one_in(3) {
            let sent = Sent::headers_before_body(stream, request);
            sent.stream.request_body("some").unwrap();
            sent.stream.request_body_last("body").unwrap();
            return sent;
        }
        Sent::headers(stream, request)
    }

    /// The agent answers, or Envoy does, or nobody; what pin there is is remembered.
    fn answered(&mut self, rng: &mut Rng, sent: &Sent) {
        if rng.one_in(10) {
            return;
        }
        if rng.one_in(10) {
            sent.stream.proxy_reply("no_healthy_upstream", [(":status", "503")]).unwrap();
            return;
        }
        let control = *rng.pick(&["public", "private", "no-store", "max-age=1, public", ""]);
        let answer = sent.answered(&[("cache-control", control)]);
        if let Some(pin) = answer.get(HEADER_PIN) {
            if self.pins.len() == 200 {
                self.pins.swap_remove(rng.below(200));
            }
            self.pins.push(pin.to_vec());
        }
    }
}
