//! Held by its own pin, not by somebody else's memory: session ids that are not unique, ids that look like envelopes, two
//! gateways in a row, and cookies of every form.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use integration::http::{Call, Line, Protocol};
use integration::mesh::{SLOTS, ask, ask_once};
use integration::{Mesh, names, scenario};
use serde_json::json;

const SESSION_ID: &str = "mcp-session-id";
/// MCP sessions on each slot, and the calls of each.
const SESSIONS: usize = 10;
const CALLS: usize = 4;
/// Letters of a pin.
const PIN: usize = 58;
/// The longest envelope.
const LONGEST: usize = 4_096;

/// A session of an MCP server that issues the id `<name>-issued`, and what its client echoes.
async fn initialize(line: &mut Line, name: &str) -> Result<(String, String)> {
    let answer = line.send(&Call::get(&format!("/open?name={name}"))).await?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
    let slot = answer.header(names::SERVED_BY).context("the agent says who it is")?;
    Ok((slot, answer.header(SESSION_ID).context("the id is issued")?))
}

/// The id that the agent of a slot has got with its latest request.
fn got(mesh: &Mesh, slot: &str) -> Result<String> {
    let seen = mesh.agent(slot).latest().pop().context("a request")?;
    seen.header(SESSION_ID).context("no session id reached the agent")
}

/// Kept: MCP servers that number their sessions give the same ids on blue and, after a switch, on green. Each of them is
/// served by the slot whose pin its envelope holds, at either proxy, and its agent gets the id that it had issued.
#[test]
fn sessions_of_the_same_id_stay_where_their_envelopes_say() {
    scenario(async {
        for sources in [json!([{"header": SESSION_ID}]), json!([])] {
            let mesh = Mesh::with(json!({"session_sources": sources}), &SLOTS).await?;
            let envoys = [mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?];
            let mut lines = envoys.each_ref().map(|envoy| Line::new(envoy.address(), Protocol::Http1));
            let mut sessions = Vec::new();
            for slot in ["blue", "green"] {
                if slot == "green" {
                    mesh.does("switch green").await?;
                }
                for number in 0..SESSIONS {
                    let name = if number == 0 { "default".to_owned() } else { number.to_string() };
                    let (began_on, envelope) = initialize(&mut lines[number % 2], &name).await?;
                    ensure!(began_on == slot, "{name} began on {began_on}");
                    sessions.push((slot, name, envelope));
                }
            }
            let mut elsewhere = BTreeMap::<_, usize>::new();
            for nth in 0..CALLS {
                for (number, (slot, name, envelope)) in sessions.iter().enumerate() {
                    let call = Call::get("/who").header(SESSION_ID, envelope);
                    let (reply, _) = ask(&mut lines[(number + nth) % 2], &call).await?;
                    if reply.slot != *slot {
                        *elsewhere.entry((*slot, reply.slot.clone(), reply.decision.clone())).or_default() += 1;
                    }
                    let id = got(&mesh, &reply.slot)?;
                    ensure!(id == format!("{name}-issued"), "the agent got {id}");
                }
            }
            let calls = 2 * SESSIONS * CALLS;
            println!("sources {sources}: of {calls} calls went elsewhere than their envelopes say: {elsewhere:?}");
            ensure!(elsewhere.is_empty(), "calls went elsewhere: {elsewhere:?}");
        }
        Ok(())
    });
}

/// Unforgeable: an id that merely looks like an envelope is an id: it reaches the agent untouched, and names its session as
/// a whole.
#[test]
fn an_id_that_looks_like_an_envelope_reaches_the_agent_untouched() {
    scenario(async {
        let mesh = Mesh::with(json!({"session_sources": [{"header": SESSION_ID}]}), &SLOTS).await?;
        let envoy = mesh.envoy("edge-1").await?;
        let lookalikes = [
            format!("x~{}", "A".repeat(PIN)),
            format!("x~{}", "-_z9".repeat(PIN).get(..PIN).unwrap_or_default()),
            format!("x~y~{}", "q".repeat(PIN)),
        ];
        let mut wrong = Vec::new();
        for id in &lookalikes {
            let (reply, _) = ask_once(&envoy, &Call::get("/who").header(SESSION_ID, id)).await?;
            let came = got(&mesh, &reply.slot)?;
            if came != *id {
                wrong.push(format!("{id} came as {came}"));
            }
        }
        println!("{} of {} ids that look like envelopes were changed: {wrong:?}", wrong.len(), lookalikes.len());
        ensure!(wrong.is_empty(), "{wrong:?}");
        Ok(())
    });
}

/// Kept: behind two gateways in a row, both with the filter, of one sidecar or of two, an MCP session stays on its slot
/// through a switch, and the agent gets the id that it had issued, however long that is.
#[test]
fn two_gateways_in_a_row_work() {
    scenario(async {
        let settings = json!({"session_sources": [{"header": SESSION_ID}]});
        let mut wrong = Vec::new();
        for sidecars in [1, 2] {
            let mesh = Mesh::with(settings.clone(), &SLOTS).await?;
            let inner = mesh.envoy("inner").await?;
            let own = if sidecars == 2 { Some(Mesh::with(settings.clone(), &SLOTS).await?) } else { None };
            let outside = own.as_ref().unwrap_or(&mesh);
            let config = outside.config("outer")?.agent("blue", inner.address()).agent("green", inner.address());
            let outer = outside.join(config).await?;
            // Room for two pins, for one, for none, and a short one.
            let lengths = [10, LONGEST - 2 * (PIN + 1), LONGEST - PIN - 1, LONGEST - PIN, LONGEST];
            let mut line = Line::new(outer.address(), Protocol::Http1);
            let mut sessions = Vec::new();
            for (nth, length) in lengths.into_iter().enumerate() {
                let name = format!("{nth}{}", "n".repeat(length - "-issued".len() - 1));
                let (slot, echoed) = initialize(&mut line, &name).await?;
                ensure!(slot == "blue", "it began on {slot}");
                sessions.push((length, format!("{name}-issued"), echoed));
            }
            mesh.does("switch green").await?;
            if let Some(own) = &own {
                own.does("switch green").await?;
            }
            for nth in 0..CALLS {
                for (length, issued, echoed) in &sessions {
                    let answer = line.send(&Call::get("/who").header(SESSION_ID, echoed)).await?;
                    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
                    let slot = answer.header(names::SERVED_BY).unwrap_or_default();
                    let came = got(&mesh, &slot)?;
                    let how = format!("{sidecars} sidecars, an id of {length} letters, call {nth}");
                    if slot != "blue" {
                        wrong.push(format!("{how}: served by {slot}"));
                    }
                    if came != *issued {
                        wrong.push(format!("{how}: the agent got {} letters of {}", came.len(), issued.len()));
                    }
                }
            }
        }
        println!("behind two gateways: {} faults {wrong:#?}", wrong.len());
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    });
}

/// A cookie line as a client sends it, and what the agent must get of it.
struct Jar {
    what: &'static str,
    line: String,
    left: Option<&'static str>,
}

/// Kept: among cookies of any form that a client may send the pin that is honoured decides, ours never reach the agent, and
/// all others do, byte for byte.
#[test]
fn the_honoured_pin_decides_and_other_cookies_pass_byte_for_byte() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let envoy = mesh.envoy("edge-1").await?;
        let cookie = ask_once(&envoy, &Call::get("/who")).await?.1.header("set-cookie").context("a pin in a cookie")?;
        let (name, pin) = cookie.split(';').next().and_then(|pair| pair.split_once('=')).context("a cookie")?;
        mesh.does("switch green").await?;
        let dead = |nth: usize| format!("{name}={}{}", "AB".repeat(PIN / 2 - 1), ["CC", "DD", "EE", "FF"][nth]);
        let jars = [
            Jar { what: "one among others", line: format!("a=1;{name}={pin};b=2"), left: Some("a=1;b=2") },
            Jar {
                what: "four dead before it",
                line: format!("a=1;{};{};{};{};{name}={pin};b=2", dead(0), dead(1), dead(2), dead(3)),
                left: Some("a=1;b=2"),
            },
            Jar {
                what: "four dead, with blanks",
                line: format!("{}; {}; {}; {}; {name}={pin}", dead(0), dead(1), dead(2), dead(3)),
                left: None,
            },
            Jar { what: "quoted", line: format!("a=1;{name}=\"{pin}\";b=2"), left: Some("a=1;b=2") },
            Jar { what: "a blank before the =", line: format!("a=1;{name} ={pin};b=2"), left: Some("a=1;b=2") },
            Jar { what: "blanks around the =", line: format!("a=1; {name} = {pin}; b=2"), left: Some("a=1; b=2") },
            Jar { what: "last", line: format!("a=1;b=2;{name}={pin}"), left: Some("a=1;b=2") },
            Jar { what: "odd others", line: format!("a=\"1;  b = 2;;c;{name}={pin}"), left: Some("a=\"1;  b = 2;;c") },
        ];
        let mut wrong = Vec::new();
        for Jar { what, line, left } in &jars {
            let (reply, _) = ask_once(&envoy, &Call::get("/who").header("cookie", line)).await?;
            let came = mesh.agent(&reply.slot).latest().pop().context("a request")?.header("cookie");
            if (&*reply.slot, &*reply.decision) != ("blue", "pin") {
                wrong.push(format!("{what}: decided as {} by {}", reply.slot, reply.decision));
            }
            if came.as_deref() != *left {
                wrong.push(format!("{what}: the agent got {came:?} instead of {left:?}"));
            }
        }
        println!("{} faults with {} cookie lines: {wrong:#?}", wrong.len(), jars.len());
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        envoy.expect_no_crash().await
    });
}
