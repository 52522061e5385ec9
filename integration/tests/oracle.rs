//! The flip test with sessions that echo nothing, at three proxies: those are killed among the verbs, and so is the sidecar.
//! An oracle that knows nothing of the product says which sessions hopped, and what they had been through.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::http::{Line, Protocol};
use integration::mesh::{SLOTS, ask, fresh};
use integration::numbers::{chance, from_environment};
use integration::{Envoy, Mesh, Waits, names, scenario, wait, waits};
use serde_json::json;
use tokio::sync::RwLock;
use tokio::task::JoinSet;

/// How long verbs and faults go on, unless `COLORFAST_ORACLE_SECONDS` says otherwise.
const SECONDS: u64 = 15;
const CLIENTS: usize = 6;
/// Sessions that a client has at once, and how many requests come between two that begin.
const AT_ONCE: usize = 12;
const BEGINS_EACH: usize = 6;
/// How long a client pauses between two requests.
const PAUSE: Duration = Duration::from_millis(5);
/// Up to this age a session may be known to its proxy alone.
const YOUNG: Duration = Duration::from_secs(1);
/// How long proxies go without the sidecar, and what sessions may need to be where they belong again.
const AWAY: Duration = Duration::from_millis(300);
const AGREED_WITHIN: Duration = Duration::from_secs(2);

/// What happened, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    ProxyDied,
    SidecarDied,
    SidecarBack,
}

/// What clients know of the world.
struct World {
    proxies: Vec<SocketAddr>,
    /// How often each proxy has been started.
    lives: Vec<AtomicU64>,
    /// Each request holds a share: the sidecar dies under no question.
    sidecar: RwLock<()>,
    is_up: AtomicBool,
    stop: AtomicBool,
    faults: Mutex<Vec<(Instant, Fault)>>,
}

impl World {
    fn note(&self, fault: Fault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), fault));
    }

    fn life(&self, proxy: usize) -> u64 {
        self.lives[proxy].load(Ordering::SeqCst)
    }
}

/// A session, as its client knows it.
#[derive(Clone)]
struct Session {
    id: String,
    slot: String,
    began: Instant,
    /// The proxies that have served it, and in which of their lives.
    known_to: BTreeMap<usize, u64>,
    /// When it was first served by another slot.
    hopped: Option<Instant>,
    requests: usize,
    wrong: usize,
}

impl Session {
    /// What excuses its hop: it was younger than a second when something died, or when it hopped. A session that began while
    /// the sidecar was away is as old as the time since that came back.
    fn excuse(&self, at: Instant, faults: &[(Instant, Fault)]) -> Option<&'static str> {
        let away = faults.iter().rev().find(|(when, fault)| *when <= self.began && *fault != Fault::ProxyDied);
        let began_away = away.is_some_and(|(_, fault)| *fault == Fault::SidecarDied);
        let back = faults.iter().find(|(when, fault)| *when > self.began && *fault == Fault::SidecarBack);
        let told = match (began_away, back) {
            (true, Some((back, _))) => *back,
            _ => self.began,
        };
        let within = |fault: Fault| {
            faults.iter().any(|(when, which)| *which == fault && (self.began..told + YOUNG).contains(when))
        };
        if within(Fault::ProxyDied) {
            Some("a proxy died within a second of its beginning")
        } else if within(Fault::SidecarDied) {
            Some("the sidecar died within a second of its beginning")
        } else if began_away && at < told + YOUNG {
            Some("it began while the sidecar was away")
        } else if at < told + YOUNG {
            Some("it came again within a second")
        } else {
            None
        }
    }
}

/// Begins sessions and comes back with them, at proxies by chance, until the world stops. While the sidecar is away a session
/// asks proxies alone that know it: no other could.
async fn talk(world: Arc<World>, client: usize) -> Result<(Vec<Session>, usize)> {
    let mut lines: Vec<_> = world.proxies.iter().map(|proxy| Line::new(*proxy, Protocol::Http1)).collect();
    let (mut sessions, mut unanswered): (Vec<Session>, usize) = (Vec::new(), 0);
    for step in 0.. {
        if world.stop.load(Ordering::SeqCst) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        let drawn = |nth| chance(step * CLIENTS + client, nth);
        let _share = world.sidecar.read().await;
        let any = drawn(1) % lines.len();
        let old = (step % BEGINS_EACH != 0).then(|| drawn(2) % AT_ONCE.min(sessions.len().max(1)));
        let place = old.and_then(|nth| sessions.len().checked_sub(nth + 1));
        let (id, proxy) = match place.and_then(|place| sessions.get(place)) {
            None => (format!("quiet-{client}-{step}"), any),
            Some(session) if world.is_up.load(Ordering::SeqCst) => (session.id.clone(), any),
            Some(session) => {
                let knows = |(proxy, life): &(&usize, &u64)| world.life(**proxy) == **life;
                match session.known_to.iter().find(knows) {
                    Some((proxy, _)) => (session.id.clone(), *proxy),
                    None => continue,
                }
            }
        };
        let (life, sent) = (world.life(proxy), Instant::now());
        let Ok(answer) = lines[proxy].send(&fresh(&id)).await else {
            unanswered += 1;
            continue;
        };
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        let slot = answer.header(names::SERVED_BY).context("the agent says who it is")?;
        let place = place.unwrap_or_else(|| {
            let (began, known_to) = (Instant::now(), BTreeMap::new());
            sessions.push(Session { id, slot: slot.clone(), began, known_to, hopped: None, requests: 0, wrong: 0 });
            sessions.len() - 1
        });
        let session = sessions.get_mut(place).context("a session")?;
        session.requests += 1;
        if slot != session.slot {
            session.wrong += 1;
            session.hopped.get_or_insert(sent);
        }
        session.known_to.insert(proxy, life);
    }
    Ok((sessions, unanswered))
}

/// Gives verbs, and kills what serves among them, until the time is over. Answers how many there were of each.
async fn rule(mesh: &mut Mesh, envoys: &mut [Envoy], world: &World, until: Instant) -> Result<[usize; 3]> {
    let [mut verbs, mut proxies, mut sidecars] = [0; 3];
    while Instant::now() < until {
        let verb = if verbs % 2 == 0 { "switch green" } else { "rollback --keep-pins" };
        if verbs % 5 == 3 {
            // The dead have no voice: the verb is confirmed by the others.
            let victim = proxies % envoys.len();
            let node = format!("edge-{}", victim + 1);
            let dead = mesh.members().await?.into_iter().find(|member| member.node == node).context("a member")?;
            world.note(Fault::ProxyDied);
            world.lives[victim].fetch_add(1, Ordering::SeqCst);
            envoys[victim].kill();
            mesh.cli(&format!("member forget {}", dead.member)).await?.ok()?;
            mesh.does(verb).await?;
            envoys[victim].restart().await?;
            mesh.until_current(envoys.len()).await?;
            proxies += 1;
        } else {
            mesh.does(verb).await?;
        }
        verbs += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
        if verbs % 5 == 2 {
            let nobody_asks = world.sidecar.write().await;
            world.is_up.store(false, Ordering::SeqCst);
            world.note(Fault::SidecarDied);
            mesh.sidecar.kill();
            drop(nobody_asks);
            tokio::time::sleep(AWAY).await;
            mesh.sidecar.restart().await?;
            mesh.until_current(envoys.len()).await?;
            world.note(Fault::SidecarBack);
            world.is_up.store(true, Ordering::SeqCst);
            sidecars += 1;
        }
    }
    Ok([verbs, proxies, sidecars])
}

/// Kept: through switches and rollbacks that keep pins, with proxies and the sidecar killed among them, no session that was
/// a second old hops, though it echoes nothing and comes to any of three proxies. Of the younger ones each that hops is
/// counted, and explained by what died under it. In the end all proxies serve each session by one slot.
#[test]
fn no_session_hops_through_verbs_and_kills() {
    scenario(async {
        let seconds = from_environment("COLORFAST_ORACLE_SECONDS", SECONDS)?;
        let mut mesh = Mesh::with(json!({"memory": waits::of_ms(2_000)}), &SLOTS).await?;
        let mut envoys = Vec::new();
        for node in ["edge-1", "edge-2", "edge-3"] {
            envoys.push(mesh.envoy(node).await?);
        }
        mesh.until_current(3).await?;
        let world = Arc::new(World {
            proxies: envoys.iter().map(Envoy::address).collect(),
            lives: envoys.iter().map(|_| AtomicU64::new(0)).collect(),
            sidecar: RwLock::new(()),
            is_up: AtomicBool::new(true),
            stop: AtomicBool::new(false),
            faults: Mutex::default(),
        });
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            clients.spawn(talk(Arc::clone(&world), client));
        }
        let until = Instant::now() + Duration::from_secs(seconds);
        let [verbs, proxies, sidecars] = rule(&mut mesh, &mut envoys, &world, until).await?;
        world.stop.store(true, Ordering::SeqCst);
        let (mut sessions, mut unanswered) = (Vec::new(), 0);
        while let Some(some) = clients.join_next().await {
            let (some, without) = some??;
            sessions.extend(some);
            unanswered += without;
        }

        let faults = world.faults.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut young, mut older) = (BTreeMap::<_, usize>::new(), Vec::new());
        for session in &sessions {
            let Some(at) = session.hopped else { continue };
            match session.excuse(at, &faults) {
                Some(excuse) => *young.entry(excuse).or_default() += 1,
                None => older.push(format!("{} at the age of {:?}", session.id, at - session.began)),
            }
        }
        let requests: usize = sessions.iter().map(|session| session.requests).sum();
        let wrong: usize = sessions.iter().map(|session| session.wrong).sum();
        println!(
            "{requests} requests of {} sessions over 3 proxies, {verbs} verbs, {proxies} proxies and {sidecars} sidecars killed, \
             {unanswered} requests unanswered: {} sessions older than a second hopped, {} younger ones: {young:?}; {wrong} \
             requests were served elsewhere than their sessions began; {:?}",
            sessions.len(),
            older.len(),
            young.values().sum::<usize>(),
            Waits::of(&envoys).await?,
        );
        ensure!(proxies > 0 && sidecars > 0, "nothing died");
        ensure!(older.is_empty(), "{} sessions older than a second hopped: {older:?}", older.len());
        agree(&world, &sessions).await?;
        for envoy in &envoys {
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}

/// All proxies serve the latest sessions by one slot each: where they began, unless they hopped.
async fn agree(world: &World, sessions: &[Session]) -> Result<()> {
    let mut lines: Vec<_> = world.proxies.iter().map(|proxy| Line::new(*proxy, Protocol::Http1)).collect();
    let mut asked: Vec<_> = sessions.iter().collect();
    asked.sort_by_key(|session| std::cmp::Reverse(session.began));
    asked.truncate(200);
    let mut apart = Vec::new();
    let until = Instant::now() + AGREED_WITHIN;
    for session in asked {
        let lines = tokio::sync::Mutex::new(&mut lines);
        let left = until.saturating_duration_since(Instant::now());
        let agreed = wait::until_ok(&session.id, left, || async {
            let mut slots = Vec::new();
            for line in lines.lock().await.iter_mut() {
                slots.push(ask(line, &fresh(&session.id)).await?.0.slot);
            }
            let belongs = if session.hopped.is_some() { &slots[0] } else { &session.slot };
            ensure!(slots.iter().all(|slot| slot == belongs), "{slots:?} instead of {belongs}");
            Ok(())
        });
        apart.extend(agreed.await.err().map(|error| format!("{error:#}")));
    }
    ensure!(apart.is_empty(), "{} sessions are apart: {apart:?}", apart.len());
    Ok(())
}
