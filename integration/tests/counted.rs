//! What slots hold, counted over several proxies: a session that comes back at another has come back, and an alias is no
//! second session.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::http::{Call, Line, Protocol};
use integration::mesh::{SLOTS, ask, fresh};
use integration::numbers::{chance, from_environment};
use integration::{Envoy, Kind, Mesh, Talk, Way, names, scenario, wait, waits};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// How soon what slots hold is shown: ids that were guessed are young for 3 s.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
/// Sessions of each kind, unless `COLORFAST_SESSIONS` says otherwise.
const SESSIONS: usize = 50;
/// Requests of each that comes back.
const TURNS: usize = 4;
/// The pause between two of them.
const PAUSE: Duration = Duration::from_millis(10);

async fn proxies(mesh: &Mesh, count: usize) -> Result<Vec<Envoy>> {
    let mut envoys = Vec::new();
    for number in 1..=count {
        envoys.push(mesh.envoy(&format!("edge-{number}")).await?);
    }
    mesh.until_current(count).await?;
    Ok(envoys)
}

fn lines(envoys: &[Envoy]) -> Vec<Line> {
    envoys.iter().map(|envoy| Line::new(envoy.address(), Protocol::Http2)).collect()
}

/// What `colorfast status` shows of a slot: held, issued.
async fn shown(mesh: &Mesh, slot: &str) -> Result<(u64, u64)> {
    let status = mesh.status().await?;
    let slots = status["slots"].as_array().context("slots")?;
    let found = slots.iter().find(|found| found["slot"] == slot).context("the slot")?;
    let number = |name: &str| found["sessions"][name].as_u64().with_context(|| format!("{name} of {found}"));
    Ok((number("held")?, number("issued")?))
}

/// Within 2 %, or two of a few: of so few, two may share a place in a sketch.
fn is_about(found: u64, wanted: u64) -> bool {
    found.abs_diff(wanted) <= (wanted / 50).max(2) && (wanted > 0 || found == 0)
}

/// Waits until the counts of both slots are right. Where that does not come, says what is shown in place of it.
async fn counted(mesh: &Mesh, what: &str, wanted: &BTreeMap<String, (u64, u64)>) -> Result<String> {
    wait::until_ok(what, SHOWN_WITHIN, || async {
        let mut all = Vec::new();
        for (slot, counts) in wanted {
            all.push((slot, shown(mesh, slot).await?, counts));
        }
        let told = all.iter().map(|(slot, (held, issued), (wanted, once))| {
            format!("{slot} holds {held} of {wanted} and has {issued} issued of {once}")
        });
        let told = told.collect::<Vec<_>>().join(", ");
        let right = all.iter().all(|(_, found, wanted)| is_about(found.0, wanted.0) && is_about(found.1, wanted.1));
        ensure!(right, "{told}");
        Ok(told)
    })
    .await
}

/// Accounted: 50 ids whose first turn comes to one proxy and whose second to another are 50 sessions that are held, and none
/// that was handed out and has not come back; so their slot is not recycled.
#[test]
fn a_session_that_comes_back_at_another_proxy_has_come_back() {
    scenario(async {
        let pin = json!({"first_return_seconds": 3});
        let mesh = Mesh::with(json!({"quarantine_seconds": 0, "pin": pin}), &SLOTS).await?;
        let envoys = proxies(&mesh, 2).await?;
        let mut lines = lines(&envoys);
        for line in &mut lines {
            for number in 0..50 {
                ask(line, &fresh(&format!("returns-{number}"))).await?;
            }
        }
        let began = Instant::now();
        let told = counted(&mesh, "50 to be held", &BTreeMap::from([("blue".to_owned(), (50, 0))])).await;
        mesh.does("switch green").await?;
        // Longer than those may hold a slot that never come back.
        wait::until("that time to pass", SHOWN_WITHIN, || began.elapsed() > Duration::from_secs(5)).await?;
        let recycled = mesh.cli("recycle blue").await?;
        let shown = told.as_ref().map_or_else(|error| format!("{error:#}"), String::clone);
        println!("{shown}; recycled 5 s later: {}", recycled.code == Some(0));
        told?;
        ensure!(recycled.stderr.contains("slot-held"), "{recycled:?}");
        Ok(())
    });
}

/// How a session of the count comes and comes back.
#[derive(Debug, Clone, Copy)]
enum Sort {
    /// It names itself in a header.
    Header,
    /// Every answer hands out another id.
    Learnt,
    /// The first answer hands out the id by which all other requests name it, as LangGraph's threads have it.
    Aliased,
    /// It echoes its pin.
    Pinned,
    /// It names itself, and never comes back.
    Once,
}

impl Sort {
    const ALL: [Self; 5] = [Self::Header, Self::Learnt, Self::Aliased, Self::Pinned, Self::Once];
}

/// Accounted: whatever the sessions are known by, and however their requests are spread over one, two or three proxies, each
/// slot holds those that came back, within 2 %, and has those issued that did not; before a ramp and in it.
#[test]
fn held_and_issued_are_right_over_any_number_of_proxies() {
    scenario(async {
        let sessions = from_environment("COLORFAST_SESSIONS", SESSIONS)?;
        let mut wrong = Vec::new();
        for count in 1..=3 {
            let mesh = Mesh::with(Way::settings(json!({"memory": waits::of_ms(2_000)})), &SLOTS).await?;
            let envoys = proxies(&mesh, count).await?;
            let mut wanted = BTreeMap::from(["blue", "green"].map(|slot| (slot.to_owned(), (0, 0))));
            for (when, verb) in [("before a ramp", None), ("in it", Some("ramp green 50%"))] {
                if let Some(verb) = verb {
                    mesh.does(verb).await?;
                }
                for sort in Sort::ALL {
                    let addresses = envoys.iter().map(Envoy::address).collect();
                    let (counts, hopped) = converse(addresses, sort, sessions, when).await?;
                    for (slot, (held, issued)) in counts {
                        let counts = wanted.get_mut(&slot).context("a slot that there is")?;
                        counts.0 += held;
                        counts.1 += issued;
                    }
                    let what = format!("{count} proxies, {when}, {sessions} more of {sort:?}");
                    let hops = if hopped > 0 { format!(", {hopped} TURNS HOPPED") } else { String::new() };
                    match counted(&mesh, &what, &wanted).await {
                        Ok(told) => println!("{what}: {told}{hops}"),
                        Err(error) => {
                            println!("{what}: WRONG: {error:#}{hops}");
                            wrong.push(format!("{what}: {error:#}{hops}"));
                            // So that one sort does not have the next ones look wrong.
                            for (slot, counts) in &mut wanted {
                                *counts = shown(&mesh, slot).await?;
                            }
                        }
                    }
                    ensure!(hopped == 0 || !wrong.is_empty(), "{what}{hops}");
                }
            }
            for envoy in &envoys {
                envoy.expect_no_crash().await?;
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    });
}

/// So many sessions of a sort, each request at a proxy by chance. Answers how many each slot holds, and has issued: by the
/// slot that served the last request of each.
async fn converse(
    proxies: Vec<SocketAddr>,
    sort: Sort,
    sessions: usize,
    when: &'static str,
) -> Result<(BTreeMap<String, (u64, u64)>, usize)> {
    const CLIENTS: usize = 4;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let proxies = proxies.clone();
        clients.spawn(async move {
            let mut lines: Vec<_> = proxies.iter().map(|proxy| Line::new(*proxy, Protocol::Http2)).collect();
            let (mut counts, mut hopped) = (BTreeMap::<String, (u64, u64)>::new(), 0);
            for number in (client..sessions).step_by(CLIENTS) {
                let at = |turn: usize| chance(number * TURNS + turn, sort as u64) % proxies.len();
                let name = format!("{sort:?} {when} {number}");
                let slot = match sort {
                    Sort::Aliased => {
                        let (slot, hops) = thread(&mut lines, at, &name).await?;
                        hopped += hops;
                        slot
                    }
                    Sort::Once => ask(&mut lines[at(0)], &by_header(&name)).await?.0.slot,
                    Sort::Header | Sort::Learnt | Sort::Pinned => {
                        let way = match sort {
                            Sort::Header => Way::Header,
                            Sort::Learnt => Way::LearntBody,
                            _ => Way::Pin,
                        };
                        let mut talk = Talk::open(&mut lines[at(0)], way, Kind::Plain, name).await?;
                        for turn in 1..TURNS {
                            tokio::time::sleep(PAUSE).await;
                            hopped += usize::from(talk.turn(&mut lines[at(turn)]).await?);
                        }
                        talk.slot
                    }
                };
                let count = counts.entry(slot).or_default();
                if matches!(sort, Sort::Once) { count.1 += 1 } else { count.0 += 1 }
            }
            anyhow::Ok((counts, hopped))
        });
    }
    let (mut all, mut all_hopped) = (BTreeMap::<String, (u64, u64)>::new(), 0);
    while let Some(some) = clients.join_next().await {
        let (counts, hopped) = some??;
        all_hopped += hopped;
        for (slot, (held, issued)) in counts {
            let sum = all.entry(slot).or_default();
            *sum = (sum.0 + held, sum.1 + issued);
        }
    }
    Ok((all, all_hopped))
}

fn by_header(name: &str) -> Call {
    Call::get("/who").header("x-thread", name)
}

/// A thread as LangGraph's clients have it: one answer hands out its id, and all requests name it in their paths.
async fn thread(lines: &mut [Line], at: impl Fn(usize) -> usize, name: &str) -> Result<(String, usize)> {
    let open = Call::post(&format!("/open?name={}", name.replace(' ', "-")), "{}");
    let answer = lines[at(0)].send(&open.header("content-type", "application/json")).await?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
    let mut slot = answer.header(names::SERVED_BY).context("the agent says who it is")?;
    let mut hops = 0;
    let opened: Value = answer.json()?;
    let id = opened["opened"].as_str().context("the id of a thread")?;
    for turn in 1..TURNS {
        tokio::time::sleep(PAUSE).await;
        let (reply, _) = ask(&mut lines[at(turn)], &Call::get(&format!("/threads/{id}/runs/wait"))).await?;
        hops += usize::from(reply.slot != slot);
        slot = reply.slot;
    }
    Ok((slot, hops))
}

/// How long sessions are held that do not come back, in the test of the property.
const IDLE: Duration = Duration::from_secs(4);

/// Accounted: whenever a slot is recycled, by an operator who tries and tries, no session that had come back had a request
/// within the idle timeout before; each pauses as long as it likes and comes to any of three proxies. And when nobody comes
/// any more, the slot is empty exactly and goes.
#[test]
fn no_slot_is_recycled_under_a_session() {
    scenario(async {
        let pin = json!({"idle_timeout_seconds": IDLE.as_secs(), "first_return_seconds": 2});
        let settings = json!({"quarantine_seconds": 0, "pin": pin, "memory": waits::of_ms(2_000)});
        let mesh = Mesh::with(settings, &SLOTS).await?;
        let envoys = proxies(&mesh, 3).await?;
        let addresses: Vec<_> = envoys.iter().map(Envoy::address).collect();
        let mut opening = lines(&envoys);
        for number in 0..20 {
            let (reply, _) = ask(&mut opening[number % 3], &fresh(&format!("walker-{number}"))).await?;
            ensure!(reply.slot == "blue", "{reply:?}");
        }
        mesh.does("switch green").await?;
        let mut walkers = JoinSet::new();
        for number in 0..20 {
            walkers.spawn(walk(addresses.clone(), number));
        }
        let (mut tries, began) = (0, Instant::now());
        let recycled = wait::until_ok("the slot to be recycled", Duration::from_secs(60), || {
            tries += 1;
            async {
                let at = Instant::now();
                mesh.cli("recycle blue").await?.ok()?;
                Ok(at)
            }
        })
        .await?;
        let mut last = began;
        let (mut requests, mut hops) = (0, Vec::new());
        while let Some(walked) = walkers.join_next().await {
            for (sent, slot) in walked?? {
                requests += 1;
                match slot.as_str() {
                    "blue" => last = last.max(sent),
                    _ => hops.push(sent.saturating_duration_since(began)),
                }
            }
        }
        let idle = recycled.saturating_duration_since(last);
        println!(
            "{requests} requests of 20 sessions over 3 proxies, {tries} tries to recycle their slot: the last came {idle:?} after \
             the last request; {} hopped: {hops:?}",
            hops.len()
        );
        ensure!(hops.is_empty(), "{} requests came to another slot", hops.len());
        // The times that are told are whole seconds.
        ensure!(idle + Duration::from_secs(1) >= IDLE, "recycled {idle:?} after a request of a session");
        Ok(())
    });
}

/// A session that comes back a few times, each time after a pause by chance that is shorter than the idle timeout, at a proxy
/// by chance.
async fn walk(proxies: Vec<SocketAddr>, number: usize) -> Result<Vec<(Instant, String)>> {
    let mut lines: Vec<_> = proxies.iter().map(|proxy| Line::new(*proxy, Protocol::Http1)).collect();
    let mut walked = Vec::new();
    for turn in 0..3 + number % 3 {
        let drawn = |nth| chance(number * 16 + turn, nth);
        // Times are written down coarsely, after a quarter of the idle timeout.
        let pause = IDLE.mul_f64(0.6 * (drawn(1) % 1_000) as f64 / 1_000.0);
        tokio::time::sleep(pause).await;
        let sent = Instant::now();
        let at = drawn(2) % lines.len();
        let (reply, _) = ask(&mut lines[at], &fresh(&format!("walker-{number}"))).await?;
        walked.push((sent, reply.slot));
    }
    Ok(walked)
}
