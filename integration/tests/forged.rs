//! Unforgeable: what a client makes up decides no route, reaches no agent, crashes no VM, and is counted by cause.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use colorfast_core::pin::Claims;
use integration::http::{Call, Line, Protocol};
use integration::lone::{self, BROKEN, GREEN, Lone, UNHEARD};
use integration::mesh::{SLOTS, ask, ask_once, fresh};
use integration::{Agent, Envoy, Mesh, names, scenario, wait};
use serde_json::json;

const SESSION: &str = "s-1";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A forged, altered, truncated, foreign, expired or broken pin is no pin, by header as by cookie, over either
/// protocol; each is counted by its cause and none reaches an agent.
#[test]
fn no_forged_pin_decides_a_route() {
    scenario(async {
        let lone = Lone::start().await?;
        let mut sent: BTreeMap<String, u64> = BTreeMap::new();
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut line = Line::new(lone.envoy.address(), protocol);
            for (what, pin, cause) in forgeries()? {
                for by_cookie in [false, true] {
                    let call = if by_cookie {
                        fresh(SESSION).header("cookie", [b"theme=dark; agent-pin-chat=", &pin[..]].concat())
                    } else {
                        fresh(SESSION).header(names::PIN, &pin)
                    };
                    let (reply, _) = ask(&mut line, &call).await?;
                    let placed = (&*reply.bundle, &*reply.slot, &*reply.decision);
                    ensure!(placed == ("b-1", "blue", "hash"), "{what} ({protocol:?}, {by_cookie}): {reply:?}");
                    *sent.entry(cause.to_owned()).or_default() += 1;
                }
            }
        }
        ensure!(lone.green.requests() == 0, "a forged pin reached green");
        nothing_leaked(&lone.blue)?;
        ensure!(refusals(&lone.envoy).await? == sent, "counted {:?}, sent {sent:?}", refusals(&lone.envoy).await?);
        lone.envoy.expect_no_crash().await
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

/// Every way to get a pin wrong, and the cause under which it is counted.
fn forgeries() -> Result<Vec<(String, Vec<u8>, &'static str)>> {
    let claims = lone::bound(SESSION, GREEN);
    let good = lone::sign(&claims)?;
    let mut all: Vec<(String, Vec<u8>, &'static str)> = Vec::new();
    let mut add = |what: &str, pin: &[u8], cause| all.push((what.to_owned(), pin.to_vec(), cause));
    for at in [0, 20, 30, 40, 56] {
        // Within the first character lies the kind; another kind is no pin at all.
        let cause = if at == 0 { "malformed" } else { "bad_mac" };
        let mut altered = good.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        add(&format!("altered at {at}"), &altered, cause);
    }
    for length in [1, 8, 36, 57] {
        add(&format!("cut to {length}"), &good.as_bytes()[..length], "malformed");
    }
    add("longer", &[good.as_bytes(), b"A"].concat(), "malformed");
    add("long", &[b'A'; 5_000], "malformed");
    add("not UTF-8", b"\xff\xfe\xfd", "malformed");
    add("padded", format!("{good}==").as_bytes(), "malformed");
    add("foreign key", lone::sign_as(&claims, "chat", 1, [2; 32])?.as_bytes(), "bad_mac");
    add("unknown key", lone::sign_as(&claims, "chat", 9, [1; 32])?.as_bytes(), "unknown_key");
    add("another service's", lone::sign_as(&claims, "code", 1, [1; 32])?.as_bytes(), "bad_mac");
    let mut add = |what: &str, claims: Claims, cause| -> Result<()> {
        all.push((what.to_owned(), lone::sign(&claims)?.into_bytes(), cause));
        Ok(())
    };
    add("past max-age", Claims { began: lone::ago(claims, 8 * DAY).began, ..claims }, "expired")?;
    add("idle", lone::ago(claims, 2 * DAY), "idle")?;
    add("of tomorrow", Claims { began: claims.began.plus(600), ..claims }, "future")?;
    add("broken", lone::bound(SESSION, BROKEN), "broken")?;
    add("another session's", lone::bound("s-2", GREEN), "other_session")?;
    add("of an assignment that nobody gave", lone::bound(SESSION, UNHEARD), "newer")?;
    Ok(all)
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
                ensure!((&*reply.bundle, &*reply.decision) == ("b-1", "hash"), "{call:?}: {reply:?}");
                let seen = lone.blue.latest().pop().context("the request came")?.headers;
                let mut seen: Vec<(&str, &[u8])> = seen.iter().map(|(name, value)| (&**name, &**value)).collect();
                seen.sort_unstable();
                let ours: [(&str, &[u8]); 4] = [
                    (names::BUNDLE, b"b-1"),
                    (names::DECISION, b"hash"),
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
        ensure!(ask_once(&envoy, &with(&flipped)).await?.0.bundle == "g-1");
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

/// Tokens refused so far, by cause.
async fn refusals(envoy: &Envoy) -> Result<BTreeMap<String, u64>> {
    let prefix = "wasmcustom.colorfast.service.chat.tokens_refused.cause.";
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
