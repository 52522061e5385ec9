//! Sessions that echo nothing, where proxies start and die, where the sidecar does, and where verbs come among the first
//! requests of sessions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::http::{Line, Protocol};
use integration::mesh::{Done, SLOTS, ask, ask_once, fresh};
use integration::numbers::from_environment;
use integration::relay::Trouble;
use integration::volley::{Fired, Volley};
use integration::{Envoy, Mesh, Relay, Waits, names, scenario, wait, waits};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// So long that a busy machine does not decide what a test is about.
const LONG_MS: u32 = 5_000;
/// Restarts of a proxy under load, unless `COLORFAST_RESTARTS` says otherwise.
const RESTARTS: usize = 4;
/// Sessions that come back to it at once.
const RETURNING: usize = 400;
/// Those of them that are there before it takes connections.
const IMPATIENT: usize = 100;
/// Sessions that come from a dead proxy to its neighbour, unless `COLORFAST_FLOOD` says otherwise.
const FLOOD: usize = 400;
/// How many of them come each millisecond.
const A_MILLISECOND: usize = 40;
/// What sessions may need to be where they belong again.
const AGREED_WITHIN: Duration = Duration::from_secs(2);
/// How long after the beginning of so many sessions the sidecar is killed, in turn.
const KILLED_AFTER_MS: [u64; 4] = [0, 60, 130, 200];
const BEGUN_BEFORE_A_KILL: usize = 60;
/// Verbs among which sessions begin, unless `COLORFAST_VERBS` says otherwise.
const VERBS: usize = 20;

async fn two_proxies(mesh: &Mesh) -> Result<[Envoy; 2]> {
    let envoys = [mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?];
    mesh.until_current(2).await?;
    Ok(envoys)
}

fn ids(what: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{what}-{number}")).collect()
}

/// How many are not on `slot`.
fn elsewhere(slots: &[String], slot: &str) -> usize {
    slots.iter().filter(|found| *found != slot).count()
}

/// Kept: a proxy that is killed and started again under load asks the fleet from the first request on that it takes: no
/// session hops, though nobody but the fleet knows where it belongs.
#[test]
fn a_restarted_proxy_keeps_its_sessions() {
    scenario(async {
        let restarts = from_environment("COLORFAST_RESTARTS", RESTARTS)?;
        let mesh = Mesh::with(json!({"memory": waits::of_ms(LONG_MS)}), &SLOTS).await?;
        let [mut envoy, other] = two_proxies(&mesh).await?;
        let sessions = ids("returning", RETURNING);
        let begun = Volley::aimed_at(envoy.address(), &sessions).await?.fire(Duration::ZERO).await?;
        ensure!(elsewhere(&begun.slots, "blue") == 0, "blue alone takes sessions");
        mesh.does("switch green").await?;
        let (mut moved, mut hit, mut causes) = (0, 0, Vec::new());
        for _ in 0..restarts {
            envoy.kill();
            let returning = return_to(envoy.address(), &sessions);
            let (started, hops) = tokio::join!(envoy.restart(), returning);
            started?;
            let hops = hops?;
            moved += hops;
            hit += usize::from(hops > 0);
            causes.push(Waits::of([&envoy]).await?);
            envoy.expect_no_crash().await?;
        }
        let in_vain: Vec<_> = causes.iter().map(|waits| &waits.causes).collect();
        println!(
            "{moved} of {} returning sessions moved, in {hit} of {restarts} restarts; asked in vain: {in_vain:?}",
            restarts * RETURNING
        );
        ensure!(moved == 0, "{moved} sessions moved");
        other.expect_no_crash().await
    });
}

/// Each session asks once over a connection of its own: some over the very first that the proxy takes, the others one each
/// millisecond from then on. Answers how many were not on blue.
async fn return_to(proxy: SocketAddr, sessions: &[String]) -> Result<usize> {
    let first_taken = Arc::new(watch::Sender::new(None::<Instant>));
    let mut clients = JoinSet::new();
    for (nth, session) in sessions.iter().cloned().enumerate() {
        let first_taken = Arc::clone(&first_taken);
        clients.spawn(async move {
            if let Some(nth) = nth.checked_sub(IMPATIENT) {
                let taken = first_taken.subscribe().wait_for(Option::is_some).await?.unwrap_or_else(Instant::now);
                tokio::time::sleep_until((taken + Duration::from_millis(nth as u64)).into()).await;
            }
            let mut line = Line::new(proxy, Protocol::Http1);
            while line.connect().await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            first_taken.send_if_modified(|first| first.is_none() && first.replace(Instant::now()).is_none());
            let answer = line.send(&fresh(&session)).await?;
            ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
            Ok(usize::from(answer.header(names::SERVED_BY).as_deref() != Some("blue")))
        });
    }
    let mut moved = 0;
    while let Some(one) = clients.join_next().await {
        moved += one??;
    }
    Ok(moved)
}

/// Kept: all clients of a dead proxy come to its neighbour at once. With a sidecar that answers in time none is placed anew;
/// with the default waits it is stated how many are, each counted, and 2 s later all are where they belong, for good.
#[test]
fn a_neighbour_keeps_the_sessions_of_a_dead_proxy() {
    scenario(async {
        let sessions = ids("flood", from_environment("COLORFAST_FLOOD", FLOOD)?);
        let mut broken = Vec::new();
        for (what, memory) in [("waits of 5 s", waits::of_ms(LONG_MS)), ("the default waits", json!({}))] {
            let mesh = Mesh::with(json!({"memory": memory}), &SLOTS).await?;
            let [mut dies, neighbour] = two_proxies(&mesh).await?;
            let begun = Volley::aimed_at(dies.address(), &sessions).await?.fire(Duration::ZERO).await?;
            ensure!(elsewhere(&begun.slots, "blue") == 0, "blue alone takes sessions");
            mesh.does("switch green").await?;
            dies.kill();
            let over = Duration::from_millis((sessions.len() / A_MILLISECOND) as u64);
            let come = Volley::aimed_at(neighbour.address(), &sessions).await?.fire(over).await?;
            let waits = Waits::of([&neighbour]).await?;
            let moved = elsewhere(&come.slots, "blue");
            tokio::time::sleep(Duration::from_secs(1)).await;
            let later = again(&neighbour, &sessions).await?;
            let settled = wait::until_ok("all to be where they belong", AGREED_WITHIN, || async {
                let now = again(&neighbour, &sessions).await?;
                let wrong = elsewhere(&now.slots, "blue");
                ensure!(wrong == 0, "{wrong} are not");
                Ok(())
            });
            let settled = settled.await;
            let back: Vec<_> = later.slots.iter().zip(&come.slots).map(|(later, first)| (first, later)).collect();
            let twice = back.iter().filter(|(first, later)| *first == "blue" && *later != "blue").count();
            println!(
                "{} sessions of a dead proxy, sent within {:?} and answered within {:?}, with {what}: {moved} placed anew, {} \
                 waits in vain {:?}; a second later {} are wrong, {twice} of them for the first time",
                sessions.len(),
                come.sent_within,
                come.answered_within,
                waits.in_vain,
                waits.causes,
                elsewhere(&later.slots, "blue"),
            );
            ensure!(moved as u64 <= waits.in_vain, "{moved} moved, of {waits:?}");
            if memory != json!({}) && moved > 0 {
                broken.push(format!("{moved} were placed anew, though all waited for the fleet"));
            }
            if twice > 0 {
                broken.push(format!("with {what} {twice} moved that had stayed"));
            }
            broken.extend(settled.err().map(|error| format!("with {what}: {error:#}")));
            neighbour.expect_no_crash().await?;
        }
        ensure!(broken.is_empty(), "{}", broken.join("; "));
        Ok(())
    });
}

async fn again(envoy: &Envoy, sessions: &[String]) -> Result<Fired> {
    // In the time that a proxy has for as many without anybody waiting.
    let over = Duration::from_millis((sessions.len() / A_MILLISECOND * 10) as u64);
    Volley::aimed_at(envoy.address(), sessions).await?.fire(over).await
}

/// Kept: told means kept. Sessions that began right before the sidecar was killed are known to the fleet, which nobody but
/// their proxy can have told again, when the next switch is confirmed.
#[test]
fn a_killed_sidecar_forgets_no_session() {
    scenario(async {
        let (mut anew, mut all) = (0, 0);
        for after_ms in KILLED_AFTER_MS {
            let mut mesh = Mesh::with(json!({"memory": waits::of_ms(LONG_MS)}), &SLOTS).await?;
            let [first, second] = two_proxies(&mesh).await?;
            // First blue alone holds sessions and nobody asks; then both do.
            for (live, next) in [("blue", "green"), ("green", "blue")] {
                let sessions = ids(&format!("young-on-{live}"), BEGUN_BEFORE_A_KILL);
                let begun = Volley::aimed_at(first.address(), &sessions).await?.fire(Duration::ZERO).await?;
                ensure!(elsewhere(&begun.slots, live) == 0, "{live} alone takes sessions");
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                mesh.sidecar.kill();
                mesh.sidecar.restart().await?;
                mesh.until_current(2).await?;
                let switched = mesh.does(&format!("switch {next}")).await?;
                let come = Volley::aimed_at(second.address(), &sessions).await?.fire(Duration::ZERO).await?;
                let moved = elsewhere(&come.slots, live);
                println!(
                    "the sidecar was killed {after_ms} ms after {} sessions began on {live}: {moved} were placed anew at the \
                     other proxy after the switch to {next}, which was ready in {:?}",
                    sessions.len(),
                    switched.prepared_after,
                );
                anew += moved;
                all += sessions.len();
            }
            first.expect_no_crash().await?;
            second.expect_no_crash().await?;
        }
        ensure!(anew == 0, "{anew} of {all} sessions were placed anew");
        Ok(())
    });
}

/// Confirmed: sessions whose first request asks the fleet while a switch is carried out do not begin on the slot that it
/// drains, when the answer comes after the confirmation: what was proposed under an older snapshot is decided anew.
#[test]
fn what_was_proposed_before_a_switch_is_decided_by_it() {
    scenario(async {
        let mesh = Mesh::with(json!({"memory": waits::of_ms(LONG_MS)}), &SLOTS).await?;
        let relay = Relay::start(mesh.sidecar.discovery()).await?;
        let mut envoys = Vec::new();
        for node in ["edge-1", "edge-2"] {
            envoys.push(mesh.join(mesh.config(node)?.sidecar(relay.address())).await?);
        }
        mesh.until_current(2).await?;
        ask_once(&envoys[0], &fresh("the first of blue")).await?;
        mesh.does("switch green").await?;
        ask_once(&envoys[0], &fresh("the first of green")).await?;

        relay.trouble(names::SESSIONS_PATH, Trouble::Held);
        let mut clients = JoinSet::new();
        for (nth, session) in ids("on-its-way", 20).into_iter().enumerate() {
            let proxy = envoys[nth % 2].address();
            clients.spawn(async move {
                let mut line = Line::new(proxy, Protocol::Http1);
                anyhow::Ok((session.clone(), nth, ask(&mut line, &fresh(&session)).await?.0.slot))
            });
        }
        for envoy in &envoys {
            envoy.until_active(10).await?;
        }
        wait::until("questions to be held back", wait::LIMIT, || relay.troubled() > 0).await?;
        mesh.does("switch blue").await?;
        relay.mend();
        let (mut late, mut moved) = (0, 0);
        while let Some(answered) = clients.join_next().await {
            let (session, nth, slot) = answered??;
            late += usize::from(slot != "blue");
            let (reply, _) = ask_once(&envoys[(nth + 1) % 2], &fresh(&session)).await?;
            moved += usize::from(reply.slot != slot);
        }
        println!(
            "of 20 sessions that asked before a switch and heard after it {late} began on the drained slot, {moved} moved"
        );
        ensure!(late == 0 && moved == 0, "{late} began on the drained slot, {moved} moved");
        Ok(())
    });
}

/// A session that began among verbs: where, when its first request was sent, and when it was answered.
struct Beginning {
    id: String,
    slot: String,
    decision: String,
    sent: Instant,
    answered: Instant,
}

/// Confirmed: while a slot is switched to and back, no session whose first request was sent after a confirmation begins on
/// the slot that it drained, nor one that had asked the fleet before it. How late those come that were on their way is stated.
#[test]
fn no_session_begins_on_a_drained_slot() {
    scenario(async {
        let verbs = from_environment("COLORFAST_VERBS", VERBS)?;
        let mesh = Mesh::start().await?;
        let envoys = two_proxies(&mesh).await?;
        let (stop, stopped) = watch::channel(false);
        let mut clients = JoinSet::new();
        for client in 0..4 {
            let (proxy, stopped) = (envoys[client % 2].address(), stopped.clone());
            clients.spawn(begin_until(stopped, proxy, client));
        }
        let mut switches: Vec<(&str, Done)> = Vec::new();
        for verb in 0..verbs {
            let slot = if verb % 2 == 0 { "green" } else { "blue" };
            switches.push((slot, mesh.does(&format!("switch {slot}")).await?));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stop.send_replace(true);
        let mut begun = Vec::new();
        while let Some(some) = clients.join_next().await {
            begun.extend(some??);
        }
        let arrivals = ["blue", "green"].map(|slot| mesh.agent(slot).latest()).into_iter().flatten();
        let arrivals: std::collections::BTreeMap<_, _> =
            arrivals.filter_map(|seen| Some((seen.header(names::SESSION)?, seen.at))).collect();
        let (mut after, mut late) = (0, Vec::new());
        for session in &begun {
            let arrived = *arrivals.get(&session.id).context("the agent has seen it")?;
            // Those between a confirmation and the next verb: one slot alone may take them.
            let confirmed = switches.iter().rposition(|(_, done)| done.told <= arrived);
            let Some(nth) = confirmed else { continue };
            let next = switches.get(nth + 1).is_some_and(|(_, next)| next.asked <= session.answered);
            let (live, done) = &switches[nth];
            if next || session.slot == *live {
                after += usize::from(!next);
                continue;
            }
            ensure!(session.sent < done.told, "sent after the confirmation, {} began on {}", session.id, session.slot);
            late.push((arrived - done.told, session.decision.as_str()));
        }
        late.sort_unstable();
        let asked = Waits::of(&envoys).await?;
        println!(
            "{} sessions began among {verbs} switches, {after} of them after a confirmation and before the next verb; on the \
             drained slot {} arrived late: {late:?}; {asked:?}",
            begun.len(),
            late.len(),
        );
        ensure!(after > 0, "no session began after a confirmation");
        let kept: Vec<_> = late.iter().filter(|(_, decision)| *decision == "memory").collect();
        ensure!(kept.is_empty(), "their proposals stood, though a newer snapshot was confirmed: {kept:?}");
        Ok(())
    });
}

/// Begins one session after another.
async fn begin_until(stopped: watch::Receiver<bool>, proxy: SocketAddr, client: usize) -> Result<Vec<Beginning>> {
    let (mut line, mut begun) = (Line::new(proxy, Protocol::Http1), Vec::new());
    while !*stopped.borrow() {
        let id = format!("beginning-{client}-{}", begun.len());
        let sent = Instant::now();
        let (reply, _) = ask(&mut line, &fresh(&id)).await?;
        let (slot, decision) = (reply.slot, reply.decision);
        begun.push(Beginning { id, slot, decision, sent, answered: Instant::now() });
    }
    Ok(begun)
}
