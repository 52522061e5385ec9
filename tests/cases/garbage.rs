//! Answers that are no snapshots.

use colorfast_core::ids::Epoch;
use colorfast_core::snapshot::Snapshot;
use colorfast_core::time::UnixMillis;

use crate::proxy::{Proxy, Worker};
use crate::releases::{blue_live, green_live};
use crate::rng::Rng;
use crate::sidecar::{bytes, response};

/// Answers of a seed: those of a run that failed come again.
const SEED: u64 = 0x0bad_c0de;
const ANSWERS: usize = 1_500;

/// Above every version that a flipped bit can make of one.
const BEYOND: Epoch = Epoch(UnixMillis(u64::MAX));

/// Last good: a sidecar that talks garbage, of whatever kind, ends no worker and takes no request; what is sound after
/// it is taken.
#[test]
fn garbage_ends_no_worker() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    let mut rng = Rng::seeded(SEED);
    for number in 0..ANSWERS {
        let body = body(&mut rng);
        let status = *rng.pick(&[200, 200, 200, 200, 0, 204, 304, 500, 65_535]);
        answer(&worker, status, &body);
        assert_eq!(worker.died_of(), None, "answer {number}: {status} {:?}", String::from_utf8_lossy(&body));
        while !worker.polls() {
            proxy.run(200, [&worker]);
        }
        if number % 50 == 0 {
            assert!(worker.serves().is_some(), "answer {number}");
        }
    }
    worker.hear(&Snapshot { epoch: BEYOND, ..green_live(1) });
    assert_eq!(worker.serves().as_deref(), Some("g-1"));
}

fn answer(worker: &Worker, status: u16, body: &[u8]) {
    worker.poll().answer(status, body);
}

/// Known shapes of garbage, and a sound answer with something done to it.
fn body(rng: &mut Rng) -> Vec<u8> {
    const SHAPES: [&str; 14] = [
        "",
        "null",
        "{}",
        "[]",
        "\u{feff}{}",
        "{\"resources\":{}}",
        "{\"resources\":[null]}",
        "{\"resources\":[{\"state\":[]}]}",
        "<!doctype html><title>502</title>",
        "{\"version_info\":1e999}",
        "{\"version_info\":\"\\ud800\"}",
        "18446744073709551616",
        "{\"nonce\":\"",
        "\"nonce\":\"\"nonce\":\"",
    ];
    let sound = bytes(&response(&green_live(6)));
    match rng.below(9) {
        0 => rng.bytes(2_000),
        1 => rng.pick(&SHAPES).as_bytes().to_vec(),
        2 => sound[..rng.below(sound.len())].to_vec(),
        3 => rng.pick(&["[", "{\"a\":", "[{\"a\":"]).repeat(rng.below(50_000)).into_bytes(),
        4 => [sound.as_slice(), &rng.bytes(20)].concat(),
        5 => {
            let (from, length) = (rng.below(sound.len()), rng.below(40));
            let to = sound.len().min(from + length);
            [&sound[..from], &rng.bytes(40), &sound[to..]].concat()
        }
        6 => swap_values(rng),
        _ => {
            let mut body = sound;
            for _ in 0..=rng.below(4) {
                let at = rng.below(body.len());
                body[at] ^= 1 << rng.below(8);
            }
            body
        }
    }
}

/// A sound answer in which one value, anywhere, is another.
fn swap_values(rng: &mut Rng) -> Vec<u8> {
    let mut answer = serde_json::to_value(response(&green_live(6))).unwrap();
    let mut pointers = Vec::new();
    collect(&answer, String::new(), &mut pointers);
    let strange = [
        serde_json::json!(null),
        serde_json::json!(-1),
        serde_json::json!(u64::MAX),
        serde_json::json!(1.5),
        serde_json::json!(""),
        serde_json::json!("x".repeat(70_000)),
        serde_json::json!([]),
        serde_json::json!({}),
        serde_json::json!(vec![serde_json::json!({}); 1_000]),
    ];
    let pointer = rng.pick(&pointers);
    *answer.pointer_mut(pointer).unwrap() = rng.pick(&strange).clone();
    answer.to_string().into_bytes()
}

fn collect(value: &serde_json::Value, at: String, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            let name = name.replace('~', "~0").replace('/', "~1");
            collect(value, format!("{at}/{name}"), into);
        }),
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| collect(value, format!("{at}/{index}"), into));
        }
        _ => {}
    }
    into.push(at);
}
