//! Flips under load, back and forth, and one rollback that breaks: the main job, whoever has configured the proxies.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::access_log::Entry;
use crate::envoy::Envoy;
use crate::http::{Call, Line, Protocol};
use crate::load::{Load, Plan};
use crate::mesh::{Done, Mesh, ask, fresh};
use crate::numbers::spread;
use crate::report::Report;
use crate::{names, wait};

/// How often the slots change places.
const FLIPS: usize = 10;
/// Requests between two verbs.
const BETWEEN: u64 = 1_000;
/// Requests that the whole scenario makes at least.
const REQUESTS: u64 = 20_000;
const LIMIT: Duration = Duration::from_secs(60);

/// Paths that the proxies must answer by themselves, after the filter: 404 by a route, 503 where nobody listens.
pub const BY_ENVOY: [(&str, u16); 2] = [("/missing", 404), ("/down", 503)];

/// Plays it, and fails where a promise is not held: through 10 switches and 10 rollbacks that keep pins no request fails
/// and no session changes its bundle; after each confirmation no new session goes to the old slot, and both proxies place
/// unpinned sessions alike. A rollback that breaks pins moves all sessions of that slot at their next request, and no
/// other. Every line of the access log and every request that reached an agent names the bundle that served.
///
/// The proxies must place sessions by themselves: the fleet, once asked, would tell the second what the first has done.
/// `think` is how long each of the 64 clients pauses between two requests: it bounds how soon all is over.
///
/// # Errors
/// Says which promise was not held.
pub async fn play(mesh: &Mesh, envoys: &[Envoy; 2], think: Duration) -> Result<()> {
    let targets = [envoys[0].address(), envoys[1].address()];
    let load = Load::start(Plan { think, ..Plan::new(targets.to_vec()) })?;

    mesh.does("ramp green 30%").await?;
    let split = placed_alike(targets, "ramp", 400).await?;
    ensure!(split.len() == 2, "at 30% all sessions went to {split:?}");
    let probes = Probes::start(targets).await?;

    let mut flips = Vec::new();
    for round in 0..FLIPS {
        for (verb, slot) in [("switch green", "green"), ("rollback --keep-pins", "blue")] {
            let done = mesh.does(verb).await?;
            let placed = placed_alike(targets, &format!("{verb}-{round}"), 20).await?;
            ensure!(placed.keys().eq([slot]), "after {verb}: {placed:?}");
            load.advance(BETWEEN, LIMIT).await?;
            flips.push(Flip { verb, slot, done, end: Instant::now() });
        }
    }
    load.reach(REQUESTS, LIMIT).await?;
    let probed = probes.stop().await?;

    let last = mesh.does("switch green").await?;
    load.advance(BETWEEN, LIMIT).await?;
    flips.push(Flip { verb: "switch green", slot: "green", done: last, end: Instant::now() });
    let broken = mesh.does("rollback").await?;
    load.advance(BETWEEN, LIMIT).await?;
    let report = load.stop().await?;

    report.expect_no_failure()?;
    report.expect_true_stamps()?;
    report.part(|record| record.ended() < broken.asked).expect_kept()?;
    let fresh = flips.iter().map(|flip| flip.expect_obeyed(&report)).sum::<Result<usize>>()?;
    let moved = expect_broken(&report, &broken)?;
    println!("{} requests, {} sessions: none failed, none hopped", report.records().len(), report.sessions().len());
    println!("{fresh} sessions began after a confirmed verb, none of them on the old slot");
    println!("the breaking rollback moved {moved} sessions, and no other");
    for verb in ["switch green", "rollback --keep-pins"] {
        let times = flips.iter().filter(|flip| flip.verb == verb).map(Flip::confirmed_after);
        println!("{verb} was confirmed after {}", spread(times));
    }

    expect_true_log(mesh, envoys, &report, &probed).await?;
    for envoy in envoys {
        envoy.expect_no_crash().await?;
        let refused = envoy.stats("tokens_refused|forged_headers").await?;
        ensure!(refused.keys().all(|name| name.ends_with(".cause.broken")), "{refused:?}");
    }
    Ok(())
}

/// One verb of the test, and the time in which it held.
struct Flip {
    verb: &'static str,
    slot: &'static str,
    done: Done,
    end: Instant,
}

impl Flip {
    fn confirmed_after(&self) -> Duration {
        self.done.confirmed_after
    }

    /// Not one session that began after the confirmation is on another slot. Answers how many began.
    fn expect_obeyed(&self, report: &Report) -> Result<usize> {
        let began = report.began_since(self.done.told);
        let began: Vec<_> = began.into_iter().filter(|record| record.ended() < self.end).collect();
        ensure!(!began.is_empty(), "no session began after {}", self.verb);
        for record in &began {
            let served = record.outcome.as_ref().ok().context("a session begins with an answer")?;
            ensure!(*served.slot == *self.slot, "after {} a session began as {served:?}", self.verb);
        }
        Ok(began.len())
    }
}

/// Sends new sessions that carry nothing but an id to both proxies, to one over HTTP/1.1 and to the other over HTTP/2:
/// both must place each alike, by hash. Answers how many went to which slot.
async fn placed_alike(targets: [SocketAddr; 2], prefix: &str, sessions: usize) -> Result<BTreeMap<String, usize>> {
    let mut places = BTreeMap::new();
    let [one, two] = targets;
    let mut lines = [(one, Protocol::Http1), (two, Protocol::Http2), (two, Protocol::Http1), (one, Protocol::Http2)]
        .map(|(target, protocol)| Line::new(target, protocol));
    for number in 0..sessions {
        lines.rotate_left(2);
        let [first, second, ..] = &mut lines;
        let call = fresh(&format!("{prefix}-{number}"));
        let ((first, _), (second, _)) = tokio::try_join!(ask(first, &call), ask(second, &call))?;
        ensure!(first.decision == "hash" && second.decision == "hash", "{first:?} {second:?}");
        ensure!(first.slot == second.slot, "{prefix}-{number} is on {} here and on {} there", first.slot, second.slot);
        *places.entry(first.slot).or_default() += 1;
    }
    Ok(places)
}

/// Breaking: every session of the slot that was left moves at its next request, and no other session moves. Answers
/// how many moved.
fn expect_broken(report: &Report, broken: &Done) -> Result<usize> {
    let mut moved = 0;
    for (session, records) in report.by_session() {
        let name = &report.sessions()[session].name;
        let (before, after): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record.ended() < broken.asked);
        let Some(held) = before.last().and_then(|record| record.bundle()) else { continue };
        let on_blue: Vec<bool> = after.iter().map(|record| record.bundle() == Some("b-1")).collect();
        if held == "b-1" {
            ensure!(on_blue.iter().all(|on| *on), "{name} was on blue and moved");
            continue;
        }
        // Between the command and its confirmation a request may still be served by the old slot; then none.
        let obeyed = after.iter().zip(&on_blue).filter(|(record, _)| record.started >= broken.told);
        ensure!(obeyed.clone().all(|(_, on)| *on), "{name} was on green and stayed");
        ensure!(on_blue.is_sorted(), "{name} moved back to green");
        moved += usize::from(on_blue.contains(&true));
    }
    ensure!(moved > 0, "no session was on green");
    Ok(moved)
}

/// What the probes expect to find in the access logs: how many lines of which session name which bundle.
type Probed = BTreeMap<String, (String, usize)>;

/// Pinned sessions that ask for what Envoy answers by itself, for as long as they are let.
struct Probes {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<Probed>>,
}

impl Probes {
    /// Begins a session on each slot, while both take new ones, and goes on with it.
    async fn start(targets: [SocketAddr; 2]) -> Result<Self> {
        let mut lines = targets.map(|target| Line::new(target, Protocol::Http1));
        let mut sessions: BTreeMap<String, (String, String)> = BTreeMap::new();
        for number in 0.. {
            let name = format!("probe-{number}");
            let (reply, answer) = ask(&mut lines[0], &fresh(&name)).await?;
            let pin = answer.header(names::PIN).context("a new session gets its pin")?;
            sessions.entry(reply.bundle).or_insert((name, pin));
            if sessions.len() == 2 {
                break;
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut probed = Probed::new();
            while !stopped.load(Ordering::Relaxed) {
                for line in &mut lines {
                    for (bundle, (name, pin)) in &sessions {
                        for (path, status) in BY_ENVOY {
                            let call = Call::get(path);
                            let answer = line.send(&call.header(names::SESSION, name).header(names::PIN, pin)).await?;
                            ensure!(answer.status == status, "{path}: {}", answer.status);
                            ensure!(answer.header(names::PIN).is_none(), "an answer by Envoy itself carries a pin");
                            probed.entry(name.clone()).or_insert((bundle.clone(), 0)).1 += 1;
                        }
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(probed)
        });
        Ok(Self { stop, task })
    }

    async fn stop(self) -> Result<Probed> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

/// Every line of the access logs names the bundle that served: the agent's where one did, the session's where Envoy
/// answered by itself. Every request that an agent got named that agent's bundle and slot.
async fn expect_true_log(mesh: &Mesh, envoys: &[Envoy], report: &Report, probed: &Probed) -> Result<()> {
    let mut by_envoy = BTreeMap::new();
    let agents =
        ["blue", "green"].map(|slot| (mesh.agent(slot).address().to_string(), slot, mesh.agent(slot).bundle()));
    let asked: usize = report.records().len() + probed.values().map(|(_, count)| count).sum::<usize>();
    let entries = wait::until_ok("all lines of the access logs", wait::LIMIT, || async {
        let mut entries: Vec<Entry> = Vec::new();
        for envoy in envoys {
            entries.extend(envoy.access_log().entries()?);
        }
        let counted = entries.iter().filter(|entry| ours(entry)).count();
        ensure!(counted == asked, "{counted} of {asked}");
        Ok(entries)
    })
    .await?;
    for entry in &entries {
        ensure!(entry.decision.is_some(), "no decision: {entry:?}");
        if entry.details.as_deref() == Some("via_upstream") {
            let served = agents.iter().find(|(address, ..)| Some(address) == entry.upstream_host.as_ref());
            let (_, slot, bundle) = served.with_context(|| format!("no agent served {entry:?}"))?;
            ensure!(entry.bundle.as_deref() == Some(*bundle) && entry.slot.as_deref() == Some(*slot), "{entry:?}");
            continue;
        }
        let known = entry.session.as_ref().and_then(|session| probed.get(session));
        let (bundle, _) = known.with_context(|| format!("Envoy answered by itself: {entry:?}"))?;
        ensure!(entry.bundle.as_ref() == Some(bundle) && entry.decision.as_deref() == Some("pin"), "{entry:?}");
        *by_envoy.entry(entry.status).or_insert(0) += 1;
    }
    for (_, slot, bundle) in agents {
        let stamps = mesh.agent(slot).stamps();
        let true_ones = stamps.keys().all(|stamp| stamp.slot == slot && stamp.bundle == bundle);
        ensure!(true_ones, "the agent of {slot} got {stamps:?}");
    }
    let lines = entries.len();
    println!("{lines} lines of access logs name the bundle that served, {by_envoy:?} by Envoy itself among them");
    Ok(())
}

/// Whether a line is of the load or of the probes.
fn ours(entry: &Entry) -> bool {
    matches!(entry.path.as_deref(), Some("/turn" | "/missing" | "/down"))
}
