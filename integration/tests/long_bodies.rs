//! Bodies as clients send them: in the order of today's SDKs, of a turn's size up to one with images, over two proxies in
//! turn.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use integration::http::{Answer, Call, Line, Protocol};
use integration::mirror::{CAME, LENGTH, checksum};
use integration::numbers::{chance, from_environment};
use integration::{Envoy, Mesh, Mirror, names, scenario, wait, waits};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// The bound of the search by default.
const BOUND: usize = 1 << 20;
/// How much of a conversation each body holds.
const SIZES: [usize; 6] = [1_000, 60_000, 300_000, 1_000_000, 3_000_000, 10_000_000];
/// Requests at once.
const AT_ONCE: usize = 20;
/// How many of the four ways of sending each body takes, unless `COLORFAST_BODY_WAYS` says otherwise.
const WAYS: usize = 1;

/// What Envoy may keep when all is over: far less than any of the longest bodies.
const KEPT: u64 = 4 << 20;

/// Where the id stands.
#[derive(Clone, Copy, Debug)]
enum Place {
    Front,
    Middle,
    Behind,
}

/// Whose order of keys.
#[derive(Clone, Copy, Debug)]
enum Maker {
    /// `model, input, instructions, previous_response_id`
    OpenAi,
    /// `max_tokens, messages, model, metadata`
    Anthropic,
}

/// One conversation, all turns of which are of one shape.
#[derive(Clone, Debug)]
struct Talk {
    id: String,
    maker: Maker,
    place: Place,
    size: usize,
    protocol: Protocol,
    is_chunked: bool,
}

impl Talk {
    /// All of them, each in so many ways.
    fn all(ways: usize) -> Vec<Self> {
        let mut talks = Vec::new();
        for size in SIZES {
            for place in [Place::Front, Place::Middle, Place::Behind] {
                for maker in [Maker::OpenAi, Maker::Anthropic] {
                    for _ in 0..ways {
                        let number = talks.len();
                        let way = if ways == 1 { number + number / 4 } else { number };
                        let protocol = if way % 2 == 0 { Protocol::Http1 } else { Protocol::Http2 };
                        let id = format!("conversation-{number}");
                        talks.push(Self { id, maker, place, size, protocol, is_chunked: way / 2 % 2 == 0 });
                    }
                }
            }
        }
        talks
    }

    /// Whether the id stands within the bound.
    fn is_within(&self) -> bool {
        let before = match self.place {
            Place::Front => 0,
            Place::Middle => self.size / 2,
            Place::Behind => self.size,
        };
        before < BOUND - 1_000
    }

    /// A turn of about the size.
    fn body(&self, turn: usize) -> String {
        let text = "fn main() {\n    println!(\"[{}]\", \"ä\\u\");\n}\n".repeat(20);
        let message = |number: usize| format!("{},", json!({"role": "user", "content": format!("{number}: {text}")}));
        let length = message(100).len();
        let history = |size: usize| format!("[{}{turn}]", (0..size / length).map(message).collect::<String>());
        let (before, behind) = match self.place {
            Place::Front => (0, self.size),
            Place::Middle => (self.size / 2, self.size / 2),
            Place::Behind => (self.size, 0),
        };
        let (before, behind, id) = (history(before), history(behind), &self.id);
        match self.maker {
            Maker::OpenAi => format!(
                r#"{{"model":"gpt","input":{before},"instructions":"be brief","previous_response_id":"{id}","more":{behind}}}"#
            ),
            Maker::Anthropic => format!(
                r#"{{"max_tokens":1024,"messages":{before},"model":"claude","metadata":{{"user_id":"{id}"}},"more":{behind}}}"#
            ),
        }
    }

    /// Sends a turn, and says which slot served it.
    async fn turn(&self, envoy: std::net::SocketAddr, turn: usize) -> Result<String> {
        let body = self.body(turn);
        let (sum, bytes) = (checksum(body.as_bytes()), body.len());
        let call = Call::post("/?quiet", body).header("content-type", "application/json");
        let call = if self.is_chunked { call.trickle(64 * 1024, Duration::ZERO) } else { call };
        let answer = Line::new(envoy, self.protocol).send(&call).await.with_context(|| format!("{self:?}"))?;
        ensure!(answer.status == 200, "{self:?}: {} {}", answer.status, answer.text());
        let came = answer.header(LENGTH);
        ensure!(answer.header(CAME) == Some(sum), "{self:?}: the agent got {came:?} of {bytes} bytes, or others");
        answer.header(names::SERVED_BY).with_context(|| format!("{self:?} went to no slot"))
    }
}

/// Sends a turn of each, so many at once: the slots, by their ids.
async fn turns(talks: &[Talk], envoy: &Envoy, turn: usize) -> Result<BTreeMap<String, String>> {
    let (mut slots, address) = (BTreeMap::new(), envoy.address());
    for talks in talks.chunks(AT_ONCE) {
        let mut sent = JoinSet::new();
        for talk in talks.iter().cloned() {
            sent.spawn(async move { anyhow::Ok((talk.id.clone(), talk.turn(address, turn).await?)) });
        }
        while let Some(done) = sent.join_next().await {
            let (id, slot) = done??;
            slots.insert(id, slot);
        }
    }
    Ok(slots)
}

/// What came of the bodies at all proxies.
async fn results(envoys: &[Envoy]) -> Result<BTreeMap<String, u64>> {
    let mut all = BTreeMap::new();
    for envoy in envoys {
        for (name, count) in envoy.stats("session_bodies").await? {
            *all.entry(name.rsplit('.').next().unwrap_or_default().to_owned()).or_default() += count;
        }
    }
    Ok(all)
}

/// Two proxies before one mirror, that find sessions in bodies of both makers.
async fn stage() -> Result<(Mesh, Mirror, Vec<Envoy>)> {
    let settings = json!({
        "session_sources": [{"body": "/previous_response_id"}, {"body": "/metadata/user_id"}],
        "pin": {"header": "never", "cookie": "never"},
        "memory": waits::of_ms(2_000),
    });
    let mesh = Mesh::with(settings, &[("blue", "b-1"), ("green", "g-1")]).await?;
    let mirror = Mirror::start().await?;
    let mut envoys = Vec::new();
    for node in ["edge-1", "edge-2"] {
        let config = mesh.config(node)?.agent("blue", mirror.address()).agent("green", mirror.address());
        envoys.push(mesh.join(config).await?);
    }
    Ok((mesh, mirror, envoys))
}

/// Kept: whatever the size and the order, whichever the protocol, a conversation whose id stands within the bound stays on
/// its slot through ramp and switch, its next turn at once and at the other proxy; beyond it that is counted. Every body
/// arrives byte for byte, and none is refused. What was held is let go.
#[test]
fn conversations_of_any_size_are_kept() {
    scenario(async {
        let (mesh, _mirror, envoys) = stage().await?;
        let talks = Talk::all(from_environment("COLORFAST_BODY_WAYS", WAYS)?);
        mesh.does("ramp green 50%").await?;
        let mut before = Vec::new();
        for envoy in &envoys {
            before.push(allocated(envoy).await?);
        }
        let began = turns(&talks, &envoys[0], 1).await?;
        let mut hops = Vec::new();
        let mut turn = 1;
        for verb in [None, Some("switch green")] {
            if let Some(verb) = verb {
                mesh.does(verb).await?;
            }
            for envoy in envoys.iter().rev() {
                turn += 1;
                let now = turns(&talks, envoy, turn).await?;
                let hopped = talks.iter().filter(|talk| talk.is_within() && began.get(&talk.id) != now.get(&talk.id));
                hops.extend(hopped.map(|talk| format!("{talk:?} in turn {turn}")));
            }
        }
        ensure!(hops.is_empty(), "{} hopped: {hops:#?}", hops.len());
        let slots: Vec<_> =
            talks.iter().filter(|talk| talk.is_within()).filter_map(|talk| began.get(&talk.id)).collect();
        ensure!(["blue", "green"].iter().all(|slot| slots.iter().any(|found| found == slot)), "{slots:?}");
        let within = talks.iter().filter(|talk| talk.is_within()).count() * turn;
        let counted = results(&envoys).await?;
        let wanted = [("found", within), ("over", talks.len() * turn - within)];
        let wanted: BTreeMap<_, _> = wanted.into_iter().map(|(name, count)| (name.to_owned(), count as u64)).collect();
        ensure!(counted == wanted, "{counted:?}, not {wanted:?}");
        for (envoy, before) in envoys.iter().zip(before) {
            wait::until_ok("the bodies to be let go", wait::LIMIT, || async {
                let now = allocated(envoy).await?;
                ensure!(now < before + KEPT, "Envoy has {now} bytes, and had {before}");
                Ok(())
            })
            .await?;
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}

/// What an Envoy has allocated, in bytes.
async fn allocated(envoy: &Envoy) -> Result<u64> {
    let gauges = envoy.stats("^server.memory_allocated$").await?;
    gauges.into_values().next().context("Envoy tells of its memory")
}

/// Kept: with Envoy's decompressor before the filter a compressed body names its session as one in the clear does, and none
/// is counted as encoded; the encoding may be said to be none in any way.
#[test]
fn compressed_bodies_are_read_behind_a_decompressor() {
    scenario(async {
        let (mesh, mirror, envoys) = stage().await?;
        let config = mesh.config("edge-3")?.agent("blue", mirror.address()).agent("green", mirror.address());
        let config = config.edit_http(|http| {
            let filters = http["http_filters"].as_array_mut().context("filters")?;
            filters.insert(0, decompressor());
            Ok(())
        });
        let envoy = mesh.join(config).await?;
        mesh.does("ramp green 50%").await?;
        for number in 0..8 {
            let id = format!("zipped-{number}");
            // Envoy refuses what grows more than a hundredfold.
            let text: String = (0..8_000).map(|nth| format!("word {} ", chance(nth, number as u64))).collect();
            let body = format!(r#"{{"input":"{text}","previous_response_id":"{id}"}}"#);
            let mut zipped = GzEncoder::new(Vec::new(), Compression::default());
            zipped.write_all(body.as_bytes())?;
            let call = |body: Vec<u8>, encoding: &str| {
                Call::post("/?quiet", body)
                    .header("content-type", "application/json")
                    .header("content-encoding", encoding)
            };
            let encodings = ["identity", "IDENTITY", ""];
            let plain = call(body.clone().into_bytes(), encodings[number % encodings.len()]);
            let first = plain.send(envoys[0].address()).await?;
            let second = call(zipped.finish()?, "gzip").send(envoy.address()).await?;
            let served = |answer: &Answer| answer.header(names::SERVED_BY);
            ensure!(served(&first).is_some() && served(&first) == served(&second), "{id}: {first:?} {second:?}");
            ensure!(second.header(CAME) == Some(checksum(body.as_bytes())), "{id}: {second:?}");
        }
        let mut all = envoys;
        all.push(envoy);
        let counted = results(&all).await?;
        ensure!(counted == BTreeMap::from([("found".to_owned(), 16)]), "{counted:?}");
        Ok(())
    });
}

/// Envoy's decompressor, for gzip.
fn decompressor() -> Value {
    const TYPES: &str = "type.googleapis.com/envoy.extensions";
    json!({
        "name": "decompressor",
        "typed_config": {
            "@type": format!("{TYPES}.filters.http.decompressor.v3.Decompressor"),
            "decompressor_library": {
                "name": "gzip",
                "typed_config": {"@type": format!("{TYPES}.compression.gzip.decompressor.v3.Gzip")},
            },
        },
    })
}

/// Kept: an answer whose piece waits until the fleet knows the id in it reaches its client whole and in order, however soon
/// the next piece comes.
#[test]
fn answers_that_wait_arrive_in_order() {
    scenario(async {
        let settings = json!({"learn_from": [{"event": "/response/id"}], "memory": waits::of_ms(2_000)});
        let mesh = Mesh::with(settings, &[("blue", "b-1"), ("green", "g-1")]).await?;
        let mirror = Mirror::start().await?;
        let config = mesh.config("edge-1")?.agent("blue", mirror.address()).agent("green", mirror.address());
        let envoy = mesh.join(config).await?;
        mesh.does("ramp green 50%").await?;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut line = Line::new(envoy.address(), protocol);
            for number in 0..20 {
                let id = format!("{protocol:?}-{number}");
                let events: String = (0..3_000).map(|nth| format!("data: {{\"delta\": \"{nth}\"}}\n\n")).collect();
                let body = format!("data: {{\"response\": {{\"id\": \"{id}-a\"}}}}\n\n{events}");
                let path = format!("/?piece={}", 500 + number * 500);
                let call = Call::post(&path, body.clone()).header("content-type", "text/event-stream");
                let answer = line.send(&call.header(names::SESSION, &id)).await?;
                ensure!(answer.status == 200 && answer.body == body, "{id}: {} bytes, or others", answer.body.len());
            }
        }
        let told = envoy.stats(r"waits\.need\.tell").await?;
        ensure!(told.values().sum::<u64>() > 0, "nothing waited: {told:?}");
        Ok(())
    });
}
