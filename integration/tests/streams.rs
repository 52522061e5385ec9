//! Bodies pass through byte for byte, whatever is read in them on the way: requests that may name their session in the body,
//! answers in which the agent may hand out an id. Checksums are taken on both sides of the Envoy.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Bytes;
use integration::http::{Call, Line, Protocol};
use integration::mirror::{CAME, WHY, checksum};
use integration::numbers::from_environment;
use integration::{Envoy, Mesh, Mirror, scenario, wait};
use serde_json::json;

/// Streams that are open at once, unless `COLORFAST_STREAMS` says otherwise.
const STREAMS: usize = 100;
/// Streams over one connection.
const A_LINE: usize = 50;
/// Pieces of every stream.
const ROUNDS: usize = 24;
/// The pause between two pieces of a request that trickles.
const PACE: Duration = Duration::from_millis(1);

/// One mirror as the agent of both slots, behind an Envoy that reads bodies both ways.
async fn stage() -> Result<(Mesh, Mirror, Envoy)> {
    let settings = json!({
        "session_sources": [{"body": "/conversation"}],
        "learn_from": [{"body": "/id"}, {"event": "/response/id"}],
    });
    let mesh = Mesh::with(settings, &[("blue", "b-1"), ("green", "g-1")]).await?;
    let mirror = Mirror::start().await?;
    let config = mesh.config("edge-1")?.agent("blue", mirror.address()).agent("green", mirror.address());
    let envoy = mesh.join(config).await?;
    Ok((mesh, mirror, envoy))
}

/// A body, and how it is sent.
struct Case {
    name: &'static str,
    body: Vec<u8>,
    encoding: Option<&'static str>,
}

fn cases() -> Result<Vec<Case>> {
    let turn = |id: &str, padding: usize| {
        let padding = "x".repeat(padding);
        format!(r#"{{"text":"{padding}","nested":{{"id":"no"}},"conversation":"{id}","id":"{id}"}}"#).into_bytes()
    };
    let plain = |name, body: Vec<u8>| Case { name, body, encoding: None };
    let mut zipped = GzEncoder::new(Vec::new(), Compression::default());
    zipped.write_all(&turn("zipped", 5_000))?;
    let mut cut = turn("cut", 900);
    cut.truncate(700);
    let mut garbage = turn("garbage", 10);
    garbage.extend(b"\0 and } more \xff\xfe");
    let mut torn = br#"{"text":"torn \ud800 \u12"#.to_vec();
    torn.extend([0xf0, 0x9f, 0x92]);
    Ok(vec![
        plain("empty", Vec::new()),
        plain("one byte", b"{".to_vec()),
        plain("small", turn("small", 10)),
        plain("just below the bound", turn("below", 1_048_000)),
        plain("over the bound", turn("over", 1_050_000)),
        plain("far over the bound", turn("far over", 3_000_000)),
        plain("cut off", cut),
        plain("garbage behind it", garbage),
        plain("torn characters", torn),
        plain("no JSON at all", (0..=255).cycle().take(40_000).collect()),
        plain("deeply nested", "[".repeat(50_000).into_bytes()),
        Case { name: "gzip", body: zipped.finish()?, encoding: Some("gzip") },
        Case { name: "gzip that is none", body: turn("liar", 100), encoding: Some("gzip") },
    ])
}

/// Last good: bodies over the bound, malformed, compressed, at once or in a trickle, arrive as they were sent, and answers
/// likewise, over either protocol.
#[test]
fn bodies_pass_byte_for_byte() {
    scenario(async {
        let (_mesh, _mirror, envoy) = stage().await?;
        println!("{:<22} {:>9} {:>6}", "body", "bytes", "sent");
        for case in cases()? {
            let mut sent = 0;
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let mut line = Line::new(envoy.address(), protocol);
                // About sixty pieces, the odd size of which leaves no character whole for long.
                let piece = (case.body.len() / 61).max(1);
                for (trickles, path) in [(false, "/".to_owned()), (true, format!("/?piece={piece}"))] {
                    let mut call = Call::post(&path, case.body.clone()).header("content-type", "application/json");
                    if let Some(encoding) = case.encoding {
                        call = call.header("content-encoding", encoding);
                    }
                    let call = if trickles { call.trickle(piece, PACE) } else { call };
                    let answer = line.send(&call).await.with_context(|| format!("{}, {protocol:?}", case.name))?;
                    let told = (case.name, protocol, trickles, answer.status);
                    ensure!(answer.status == 200, "{told:?}: {}", answer.text());
                    ensure!(answer.header(CAME) == Some(checksum(&case.body)), "{told:?}: the agent got another body");
                    ensure!(answer.body == case.body, "{told:?}: the client got {} bytes", answer.body.len());
                    sent += 1;
                }
            }
            println!("{:<22} {:>9} {sent:>6}", case.name, case.body.len());
        }
        envoy.expect_no_crash().await
    });
}

/// Last good: where connections may buffer 32 KiB alone, as Envoy recommends for the edge, bodies larger than that are passed
/// on, too, whether their id comes late or never.
#[test]
fn a_small_buffer_limit_refuses_no_body() {
    scenario(async {
        let (mesh, mirror, envoy) = stage().await?;
        drop(envoy);
        let config = mesh.config("edge-2")?.agent("blue", mirror.address()).agent("green", mirror.address());
        let config = config.edit(|document| {
            let listener = document.pointer_mut("/static_resources/listeners/0").context("a listener")?;
            listener["per_connection_buffer_limit_bytes"] = json!(32_768);
            Ok(())
        });
        let envoy = mesh.join(config).await?;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut line = Line::new(envoy.address(), protocol);
            for size in [20_000, 60_000, 100_000, 1_000_000, 1_048_576, 1_100_000, 3_000_000] {
                let body = format!(r#"{{"text":"{}","conversation":"late"}}"#, "x".repeat(size));
                for call in [Call::post("/", body.clone()), Call::post("/", body.clone()).trickle(4_000, PACE)] {
                    let answer = line.send(&call.header("content-type", "application/json")).await?;
                    ensure!(answer.status == 200, "{protocol:?}, {size} bytes: {} {}", answer.status, answer.text());
                    ensure!(answer.header(CAME) == Some(checksum(body.as_bytes())) && answer.body == body);
                }
            }
        }
        envoy.expect_no_crash().await
    });
}

/// What one stream says: events of all kinds, the first of which hands out an id, cut where it happens to be.
fn pieces(stream: usize) -> Vec<Bytes> {
    let mut text = String::new();
    let mut event = |name: &str, data: &str, end: &str| {
        let ends = ["\n", "\r\n"];
        let line = ends[stream % 2];
        text.push_str(&format!("event: {name}{line}data: {data}{line}{end}{line}"));
    };
    let filler = "ö💡\\\"{}[]:,".repeat(stream % 40);
    event("response.created", &json!({"filler": filler, "response": {"id": id(stream)}}).to_string(), "");
    for number in 0..ROUNDS {
        let delta = format!("{stream}/{number} {}", "…".repeat((stream * 7 + number * 131) % 900));
        let comment = if number % 5 == 0 { ": still here" } else { "" };
        event("response.output_text.delta", &json!({"delta": delta, "response": {"id": 7}}).to_string(), comment);
    }
    event("response.completed", "{\"response\":{\"id\":\"torn", "");
    let bytes = Bytes::from(text);
    let (first, rest) = (40 + stream % 100, bytes.len());
    // The first pieces are small, so that the id is cut in most streams; the others share what is left.
    let mut cuts: Vec<usize> = (1..=ROUNDS / 2).map(|nth| (first * nth).min(rest)).collect();
    let (from, left) = (first * (ROUNDS / 2), ROUNDS - ROUNDS / 2);
    cuts.extend((1..=left).map(|nth| (from + rest.saturating_sub(from) * nth / left).min(rest)));
    let mut at = 0;
    let cut = cuts.into_iter().map(|to| bytes.slice(std::mem::replace(&mut at, to)..to));
    cut.filter(|piece| !piece.is_empty()).collect()
}

fn id(stream: usize) -> String {
    format!("resp_{stream:06}")
}

/// Never in the middle of a stream: many streams of events, all open at once, to each of which a piece is sent in turn,
/// are passed on as they come, whole and unmixed. The ids that they hand out are known from then on.
#[test]
fn interleaved_streams_pass_byte_for_byte() {
    scenario(async {
        let streams = from_environment("COLORFAST_STREAMS", STREAMS)?;
        let (mesh, mirror, envoy) = stage().await?;
        let come = Arc::new(AtomicUsize::new(0));
        let mut lines: Vec<Line> =
            (0..streams.div_ceil(A_LINE)).map(|_| Line::new(envoy.address(), Protocol::Http2)).collect();
        let mut readers = Vec::new();
        for number in 0..streams {
            let mut stream = lines[number / A_LINE].stream(&Call::get(&format!("/streams/{number}"))).await?;
            ensure!(stream.status == 200, "stream {number} was answered {}", stream.status);
            let come = Arc::clone(&come);
            readers.push(tokio::spawn(async move {
                let mut got = Vec::new();
                while let Some(piece) = stream.next().await? {
                    come.fetch_add(piece.len(), Ordering::SeqCst);
                    got.extend(piece);
                }
                anyhow::Ok(got)
            }));
        }
        ensure!(mirror.open() == streams, "{} streams are open", mirror.open());

        let said: Vec<Vec<Bytes>> = (0..streams).map(pieces).collect();
        let mut sent = 0;
        let mut rounds = 0;
        while let Some(most) = said.iter().map(Vec::len).max().filter(|most| rounds < *most) {
            for (number, pieces) in said.iter().enumerate() {
                if let Some(piece) = pieces.get(rounds) {
                    sent += piece.len();
                    mirror.send(number, piece.clone()).await?;
                }
            }
            rounds += 1;
            // Nothing is held back for what comes later.
            wait::until_ok(&format!("round {rounds} of {most} to have come"), wait::LIMIT, || {
                let come = come.load(Ordering::SeqCst);
                async move {
                    ensure!(come == sent, "{come} of {sent} bytes have");
                    Ok(())
                }
            })
            .await?;
        }
        mirror.end();
        for (number, reader) in readers.into_iter().enumerate() {
            let (got, wanted) = (reader.await??, said[number].concat());
            ensure!(checksum(&got) == checksum(&wanted), "stream {number} came as {} bytes", got.len());
        }

        mesh.does("switch green").await?;
        let mut line = Line::new(envoy.address(), Protocol::Http1);
        for number in 0..streams {
            let body = json!({"conversation": id(number)}).to_string();
            let call = Call::post("/", body).header("content-type", "application/json");
            let why = line.send(&call).await?.header(WHY);
            ensure!(why.as_deref() == Some("memory"), "the id of stream {number} was not learnt: {why:?}");
        }
        println!("{streams} streams, {rounds} rounds, {sent} bytes, as they were sent; each id learnt");
        envoy.expect_no_crash().await
    });
}
