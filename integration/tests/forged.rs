//! Unforgeable: what a client makes up decides no route, reaches no agent, crashes no VM, and is counted by cause.

#[path = "../../tests/forgery/mod.rs"]
mod forgery;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use colorfast_core::time::UnixSeconds;
use forgery::{Meets, SESSION};
use integration::http::{Call, Line, Protocol};
use integration::lone::{self, GREEN, Lone};
use integration::mesh::{SLOTS, ask, ask_once, fresh};
use integration::{Agent, Envoy, EnvoyConfig, Mesh, names, scenario, wait};
use serde_json::json;

/// The rules by which a request without a true token goes: the first of its session, and those after it.
const PLACED: [&str; 2] = ["hash", "memory"];

/// Whatever a client makes up, over either protocol, decides no route, reaches no agent, and raises its one counter and
/// no other; the same tokens, well made, decide. See the table.
#[test]
fn forgery_whole() {
    scenario(async {
        let lone = Lone::deciding_by(&forgery::snapshot(), &forgery::keys()).await?;
        let now = UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
        let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut line = Line::new(lone.envoy.address(), protocol);
            for row in forgery::rows(now) {
                let what = format!("{} ({protocol:?})", row.what);
                if !row.trailers.is_empty() && protocol == Protocol::Http1 {
                    continue;
                }
                let plain = if row.trailers.is_empty() {
                    fresh(SESSION)
                } else {
                    Call::post("/who", "x").header(names::SESSION, SESSION)
                };
                let call = row.headers.iter().fold(plain, |call, (name, value)| call.header(name, value));
                let call = row.trailers.iter().fold(call, |call, name| call.trailer(name, "green"));
                if row.meets == Meets::EnvoyRefuses {
                    // Refused before any filter, over HTTP/2 by a reset; the line is not to be used again.
                    let answer = Line::new(lone.envoy.address(), protocol).send(&call).await;
                    ensure!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 431), "{what}");
                    continue;
                }
                lone.blue.forget_requests();
                let (reply, _) = ask(&mut line, &call).await.with_context(|| what.clone())?;
                ensure!(reply.bundle == "b-1" && PLACED.contains(&&*reply.decision), "{what}: {reply:?}");
                nothing_leaked(&lone.blue).with_context(|| what.clone())?;
                if let Some((counter, times)) = row.counter {
                    *wanted.entry(counter).or_default() += times;
                }
                let counted = raised(&lone.envoy).await?;
                ensure!(counted == wanted, "{what}: counted {counted:?}, wanted {wanted:?}");
            }
            ensure!(lone.green.requests() == 0, "a forgery reached green");
        }
        ensure!(lone.blue.trailers().is_empty(), "{:?}", lone.blue.trailers());
        for (rule, header, token) in forgery::true_tokens(now) {
            let (reply, _) = ask_once(&lone.envoy, &fresh(SESSION).header(header, token)).await?;
            ensure!((&*reply.bundle, &*reply.decision) == ("g-1", rule), "{reply:?}");
        }
        ensure!(raised(&lone.envoy).await? == wanted, "true tokens raise none");
        lone.envoy.expect_no_crash().await
    });
}

/// Run tokens end at an egress listener: our member is taken out of the baggage, and nothing else is touched or decided.
#[test]
fn run_tokens_end_at_an_egress() {
    scenario(async {
        let out = Agent::start("b-1").await?;
        let config = EnvoyConfig::shipped()?.agent("blue", out.address()).plugin(&json!({"direction": "egress"}));
        let envoy = Envoy::start(config).await?;
        let call = fresh(SESSION).header("baggage", "a=1 ;p, agent.run=T,b=2").header("baggage", "agent.run=U");
        ask_once(&envoy, &call).await?;
        ask_once(&envoy, &fresh(SESSION).header("baggage", "c=3 ,d=4")).await?;
        let lines = |seen: &[(String, Vec<u8>)]| -> Vec<String> {
            let lines = seen.iter().filter(|(name, _)| name == "baggage");
            lines.map(|(_, line)| String::from_utf8_lossy(line).into_owned()).collect()
        };
        let seen: Vec<_> = out.latest().iter().map(|seen| lines(&seen.headers)).collect();
        ensure!(seen == [["a=1 ;p,b=2"], ["c=3 ,d=4"]], "{seen:?}");
        ensure!(envoy.stats("wasmcustom.colorfast").await?.is_empty(), "something was decided");
        envoy.expect_no_crash().await
    });
}

/// Trailers come behind everything that strips headers: what stands there under our names reaches no agent, and
/// what is the client's own does.
#[test]
fn trailers_carry_none_of_our_names() {
    scenario(async {
        let (blue, green) = (Agent::start("b-1").await?, Agent::start("g-1").await?);
        // Only HTTP/2 all the way carries trailers without being told to.
        let config = lone::config(&blue, &green)?.cluster_http2("agent_blue");
        let envoy = Envoy::start(config).await?;
        let call = Call::post("/who", "x").header(names::SESSION, SESSION).trailer("x-checksum", "7");
        let ours = [names::SLOT, names::BUNDLE, names::DECISION, names::PIN, names::CLIENT_SENT];
        let call = ours.into_iter().fold(call, |call, name| call.trailer(name, "green"));
        ask(&mut Line::new(envoy.address(), Protocol::Http2), &call).await?;
        ensure!(blue.trailers() == ["x-checksum"], "{:?}", blue.trailers());
        envoy.expect_no_crash().await
    });
}

/// The pins above are refused for what is wrong with them: the same, well made, decide.
#[test]
fn a_true_pin_decides() {
    scenario(async {
        let lone = Lone::start().await?;
        for claims in [lone::bound(SESSION, GREEN), lone::free(GREEN)] {
            let pin = lone::sign(&claims)?;
            let cookie = format!("theme=dark; agent-pin-chat={pin}");
            for call in [fresh(SESSION).header(names::PIN, &pin), fresh(SESSION).header("cookie", cookie)] {
                let (reply, _) = ask_once(&lone.envoy, &call).await?;
                ensure!((&*reply.bundle, &*reply.decision) == ("g-1", "pin"), "{reply:?}");
            }
            // Of several pins the first that holds decides, and forged ones before it are counted.
            let call = fresh(SESSION).header(names::PIN, "forged").header(names::PIN, &pin);
            ensure!(ask_once(&lone.envoy, &call).await?.0.bundle == "g-1");
        }
        nothing_leaked(&lone.green)?;
        ensure!(refusals(&lone.envoy).await? == BTreeMap::from([("malformed".to_owned(), 2)]));
        lone.envoy.expect_no_crash().await
    });
}

/// Client-sent stamps and copies, doubled and no UTF-8, decide no route and reach no agent; each such request is
/// counted.
#[test]
fn no_client_sent_stamp_decides_a_route() {
    scenario(async {
        let lone = Lone::start().await?;
        let mut forged = 0;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut line = Line::new(lone.envoy.address(), protocol);
            let stamps = [names::SLOT, names::BUNDLE, names::DECISION];
            let values: [&[u8]; 5] = [b"green", b"g-1", b"pin", b"\xff\xfegreen", b"agent_green"];
            let mut calls: Vec<Call> = Vec::new();
            for name in stamps {
                calls.extend(values.map(|value| fresh(SESSION).header(name, value)));
                calls.push(fresh(SESSION).header(name, "green").header(name, b"\xc3\x28"));
            }
            calls.push(stamps.iter().fold(fresh(SESSION), |call, name| call.header(name, "green")));
            forged += calls.len() as u64;
            // The copy and the preview are taken off as well; neither is one of the stamps.
            calls.push(fresh(SESSION).header(names::CLIENT_SENT, "greeng-1pin").header(names::CLIENT_SENT, b"\xff"));
            calls.push(fresh(SESSION).header(names::PREVIEW, "green").header(names::PREVIEW, b"\xff"));
            for call in &calls {
                lone.blue.forget_requests();
                let (reply, _) = ask(&mut line, call).await?;
                ensure!(reply.bundle == "b-1" && PLACED.contains(&&*reply.decision), "{call:?}: {reply:?}");
                let seen = lone.blue.latest().pop().context("the request came")?.headers;
                let mut seen: Vec<(&str, &[u8])> = seen.iter().map(|(name, value)| (&**name, &**value)).collect();
                seen.sort_unstable();
                let ours: [(&str, &[u8]); 4] = [
                    (names::BUNDLE, b"b-1"),
                    (names::DECISION, reply.decision.as_bytes()),
                    (names::SESSION, SESSION.as_bytes()),
                    (names::SLOT, b"blue"),
                ];
                ensure!(seen == ours, "{protocol:?} {call:?} arrived with {seen:?}");
            }
        }
        ensure!(lone.green.requests() == 0, "a client's header decided a route");
        let counted = lone.envoy.admin()?.stat("wasmcustom.colorfast.service.chat.forged_headers").await?;
        ensure!(counted == Some(forged), "{forged} were sent, {counted:?} counted");
        lone.envoy.expect_no_crash().await
    });
}

/// Pins of the sidecar's own keys are as unforgeable, and end when their age says so.
#[test]
fn a_real_pin_is_refused_once_altered_and_once_too_old() {
    scenario(async {
        let ages = json!({"max_age_seconds": 3, "idle_timeout_seconds": 3});
        let mesh = Mesh::with(json!({ "pin": ages }), &SLOTS).await?;
        let envoy = mesh.envoy("edge-1").await?;
        let (_, answer) = ask_once(&envoy, &fresh(SESSION)).await?;
        let pin = answer.header(names::PIN).context("a new session gets its pin")?;
        mesh.does("switch green").await?;

        let with = |pin: &str| fresh(SESSION).header(names::PIN, pin);
        ensure!(ask_once(&envoy, &with(&pin)).await?.0.decision == "pin");
        let flipped: String = pin.chars().rev().collect();
        let (reply, _) = ask_once(&envoy, &fresh("another").header(names::PIN, &flipped)).await?;
        ensure!(reply.bundle == "g-1", "{reply:?}");
        wait::until_ok("the pin to be too old", wait::LIMIT, || async {
            let (reply, _) = ask_once(&envoy, &with(&pin)).await?;
            ensure!((&*reply.bundle, &*reply.decision) == ("g-1", "hash"), "{reply:?}");
            Ok(())
        })
        .await?;
        let counted = refusals(&envoy).await?;
        ensure!(counted.get("expired") == Some(&1), "{counted:?}");
        nothing_leaked(mesh.agent("blue"))?;
        nothing_leaked(mesh.agent("green"))?;
        envoy.expect_no_crash().await
    });
}

/// What refused and forged things have been counted so far, by what follows the service's name.
async fn raised(envoy: &Envoy) -> Result<BTreeMap<String, u64>> {
    let prefix = "wasmcustom.colorfast.service.chat.";
    let stats = envoy.stats("tokens_refused|forged_headers").await?;
    let raised = stats.into_iter().filter(|(_, count)| *count > 0);
    Ok(raised.map(|(name, count)| (name.replace(prefix, ""), count)).collect())
}

/// Pins refused so far, by cause.
async fn refusals(envoy: &Envoy) -> Result<BTreeMap<String, u64>> {
    let prefix = "wasmcustom.colorfast.service.chat.tokens_refused.kind.pin.cause.";
    let stats = envoy.admin()?.stats(&format!("^{prefix}")).await?;
    Ok(stats.into_iter().map(|(name, count)| (name.replace(prefix, ""), count)).collect())
}

/// No pin and no cookie of ours ever reaches an agent; other cookies do.
fn nothing_leaked(agent: &Agent) -> Result<()> {
    for seen in agent.latest() {
        for (name, value) in &seen.headers {
            let known = [names::SLOT, names::BUNDLE, names::DECISION, names::SESSION].contains(&&**name);
            ensure!(known || (name == "cookie" && value == b"theme=dark"), "{name}: {value:?} reached an agent");
        }
    }
    Ok(())
}
