//! Sessions that echo nothing, over several proxies: the fleet keeps them.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::bench::look_ups;
use integration::http::{Call, Line, Protocol};
use integration::mesh::{Done, SLOTS, ask, fresh};
use integration::numbers::{chance, from_environment};
use integration::{Envoy, Mesh, Waits, scenario, wait};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Sessions, unless `COLORFAST_SESSIONS` says otherwise.
const SESSIONS: usize = 3_000;
/// Rounds of parallel first requests, unless `COLORFAST_ROUNDS` says otherwise.
const ROUNDS: usize = 50;
/// First requests of one session at once.
const AT_ONCE: usize = 8;
/// Clients that talk at once, each as fast as it is answered: as many as leave a machine of two cores some air.
const CLIENTS: usize = 4;
/// Sessions whose look-ups are timed.
const TIMED: usize = 500;
/// What counts as just before the switch.
const JUST: Duration = Duration::from_secs(1);
/// How long many sessions may take on a busy machine.
const MANY: Duration = Duration::from_secs(600);
/// Of so many sessions one is older than that.
const OLDER_EACH: usize = 3;

/// A session: when it had its first answer, and from which bundle, at which proxy.
#[derive(Clone, Debug)]
struct Begun {
    id: String,
    number: usize,
    at: Instant,
    bundle: String,
}

/// Sessions by their age at a switch.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ages {
    older: usize,
    just_before: usize,
    after: usize,
}

impl Ages {
    fn of<'a>(sessions: impl IntoIterator<Item = &'a Begun>, switched: &Done) -> Self {
        let mut ages = Self::default();
        for session in sessions {
            *match session.at {
                at if at > switched.told => &mut ages.after,
                at if at + JUST >= switched.asked => &mut ages.just_before,
                _ => &mut ages.older,
            } += 1;
        }
        ages
    }
}

/// Three proxies, the sessions that have begun at them, and the switch in the middle of it.
struct Scene {
    mesh: Mesh,
    envoys: Vec<Envoy>,
    addresses: Arc<[SocketAddr]>,
    begun: Vec<Begun>,
    switched: Done,
}

/// How long requests wait for the fleet's word.
#[derive(Clone, Copy, Debug)]
enum Wait {
    /// As long as by default.
    Default,
    /// A second: how long a question takes on a busy machine is not what is looked at.
    Long,
}

impl Wait {
    fn settings(self) -> Value {
        match self {
            Self::Default => json!({}),
            Self::Long => json!({"memory": {"ask_wait_ms": 1000}}),
        }
    }
}

impl Scene {
    /// Each session begins at a proxy by chance: some a second before the switch and longer, the others around it.
    async fn play(wait: Wait) -> Result<Self> {
        let sessions = from_environment("COLORFAST_SESSIONS", SESSIONS)?;
        let mesh = Mesh::with(wait.settings(), &SLOTS).await?;
        let mut envoys = Vec::new();
        for node in ["edge-1", "edge-2", "edge-3"] {
            envoys.push(mesh.envoy(node).await?);
        }
        mesh.until_current(3).await?;
        let addresses: Arc<[SocketAddr]> = envoys.iter().map(Envoy::address).collect();
        let older = sessions / OLDER_EACH;
        let mut begun = begin(Arc::clone(&addresses), 0..older, "quiet").await?;
        let youngest = begun.iter().map(|session| session.at).max().context("an older session")?;
        tokio::time::sleep_until((youngest + JUST).into()).await;
        let beginning = tokio::spawn(begin(Arc::clone(&addresses), older..sessions, "quiet"));
        let middle = older + (sessions - older) / 2;
        let half = wait::until_ok("half of the other sessions", MANY, || async {
            let seen = mesh.agent("blue").requests();
            ensure!(seen >= middle as u64, "{seen} requests so far");
            Ok(seen)
        });
        half.await?;
        let switched = mesh.does("switch green").await?;
        begun.extend(beginning.await??);
        let ages = Ages::of(&begun, &switched);
        let all = ages.older >= older && ages.just_before > 0 && ages.after > 0;
        ensure!(all, "the switch was not in the middle: {ages:?}");
        Ok(Self { mesh, envoys, addresses, begun, switched })
    }

    /// Every session comes again, at a proxy by chance; says how many hopped.
    async fn come_again(&self, what: &str) -> Result<Vec<Begun>> {
        let hops = again(&self.addresses, &self.begun, |number| chance(number, 2)).await?;
        let Waits { met, in_vain, again, .. } = Waits::of(&self.envoys).await?;
        let (sessions, hopped) = (Ages::of(&self.begun, &self.switched), Ages::of(&hops, &self.switched));
        println!(
            "{what}: {} sessions over {} proxies; hops of sessions older than 1 s at the switch: {} of {}, begun in the last \
             second before it or in it: {} of {}, begun after it: {} of {}; ready after {:?}, then switched in {:?}; the \
             fleet was asked after {} sessions, {again} of them twice, {in_vain} in vain",
            self.begun.len(),
            self.addresses.len(),
            hopped.older,
            sessions.older,
            hopped.just_before,
            sessions.just_before,
            hopped.after,
            sessions.after,
            self.switched.prepared_after,
            self.switched.confirmed_after,
            met + in_vain,
        );
        Ok(hops)
    }
}

/// Kept: sessions that name themselves and echo nothing, each request at a proxy by chance, stay where they began through a
/// switch in the middle and a rollback that breaks nothing of theirs; also at a proxy that has seen none of them.
#[test]
fn sessions_are_kept_by_the_fleet() {
    scenario(async {
        let scene = Scene::play(Wait::Long).await?;
        let hops = scene.come_again("with the sidecar").await?;
        let (all, hopped) = (Ages::of(&scene.begun, &scene.switched), Ages::of(&hops, &scene.switched));
        ensure!(hopped.older == 0, "older sessions moved: {hops:?}");
        ensure!(hopped.just_before * 200 <= all.just_before, "{hops:?}");
        ensure!(hopped.after * 200 <= all.after, "{hops:?}");

        scene.mesh.does("rollback --keep-pins").await?;
        let fourth = scene.mesh.envoy("edge-4").await?;
        scene.mesh.until_current(4).await?;
        let moved: Vec<_> = hops.iter().map(|hop| &hop.id).collect();
        let steady: Vec<_> = scene.begun.iter().filter(|session| !moved.contains(&&session.id)).cloned().collect();
        let timed = steady.iter().take(TIMED).map(|session| (session.id.as_str(), session.bundle.as_str()));
        println!("{}", look_ups::of(fourth.address(), timed).await?);
        let hops = again(&[fourth.address()], &steady, |_| 0).await?;
        ensure!(hops.is_empty(), "{} of {} moved at a proxy that had seen none: {hops:?}", hops.len(), steady.len());
        let asked = fourth.stats("waits.need.fleet").await?;
        println!("a fourth proxy: {} sessions, no hop; {asked:?}", steady.len());
        for envoy in scene.envoys.iter().chain([&fourth]) {
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}

/// Kept, with the wait that is set by default: a session moves only where its proxy did without the fleet's word, and that is
/// counted. How many do is stated.
#[test]
fn what_moves_by_default_is_counted() {
    scenario(async {
        let scene = Scene::play(Wait::Default).await?;
        let hops = scene.come_again("with the default wait").await?;
        let asked = Waits::of(&scene.envoys).await?;
        ensure!(asked.met > 0, "nobody has asked the fleet");
        let moved = hops.len();
        ensure!(moved as u64 <= asked.in_vain, "{moved} sessions moved, of {asked:?}: {hops:?}");
        for envoy in &scene.envoys {
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}

/// Last good: with the sidecar gone right after the switch, a session stays at the proxy that has seen it; how many move at
/// others is stated. Those that are new are placed within the limit.
#[test]
fn sessions_go_on_without_the_sidecar() {
    scenario(async {
        let mut scene = Scene::play(Wait::Long).await?;
        scene.mesh.sidecar.kill();
        let hops = again(&scene.addresses, &scene.begun, |number| chance(number, 1)).await?;
        ensure!(hops.is_empty(), "{} moved at the proxies where they began: {hops:?}", hops.len());
        scene.come_again("with the sidecar stopped").await?;
        let unknown = begin(Arc::clone(&scene.addresses), 0..50, "unknown").await?;
        ensure!(unknown.iter().all(|session| session.bundle == "g-1"), "{unknown:?}");
        for envoy in &scene.envoys {
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}

/// Kept: eight first requests of one session, at once, over two proxies of two workers each, land on one slot, though a
/// switch falls among them.
#[test]
fn parallel_first_requests_land_on_one_slot() {
    scenario(async {
        let rounds = from_environment("COLORFAST_ROUNDS", ROUNDS)?;
        let mesh = Mesh::with(Wait::Long.settings(), &SLOTS).await?;
        let envoys = [mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?];
        mesh.until_current(2).await?;
        let desk = Desk { address: mesh.sidecar.control(), token: mesh.sidecar.control_token()? };
        // When the switch comes is learnt from round to round, by which slot sessions got that began in it.
        let (mut pause, mut among) = (Duration::from_millis(20), 0);
        for round in 0..rounds {
            let slot = if round % 2 == 0 { "green" } else { "blue" };
            let switching = tokio::spawn(desk.clone().switch(slot));
            tokio::time::sleep(pause).await;
            let mut sent = JoinSet::new();
            for number in 0..AT_ONCE {
                let address = envoys.get(number % 2).context("a proxy")?.address();
                // Beside each request of the session another begins one of its own: where these part, the switch came.
                for (kind, id) in [(0, format!("shared-{round}")), (1, format!("own-{round}-{number}"))] {
                    sent.spawn(async move {
                        let mut line = Line::new(address, Protocol::Http1);
                        anyhow::Ok((kind, ask(&mut line, &fresh(&id)).await?.0.bundle))
                    });
                }
            }
            let mut bundles = [Vec::new(), Vec::new()];
            while let Some(answer) = sent.join_next().await {
                let (kind, bundle) = answer??;
                bundles.get_mut(kind).context("a kind")?.push(bundle);
            }
            switching.await??;
            let [shared, own] = bundles;
            ensure!(shared.iter().all(|bundle| Some(bundle) == shared.first()), "round {round}: {shared:?}");
            let new = own.iter().filter(|bundle| bundle.starts_with(slot.get(..1).unwrap_or_default())).count();
            match new {
                0 => pause += Duration::from_millis(1),
                AT_ONCE => pause = pause.saturating_sub(Duration::from_millis(1)),
                _ => among += 1,
            }
        }
        println!(
            "{rounds} rounds of {AT_ONCE} first requests at once, each on one slot; in {among} the switch fell among them"
        );
        for envoy in &envoys {
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}

/// An operator who gives verbs without a process of the command line.
#[derive(Clone)]
struct Desk {
    address: SocketAddr,
    token: String,
}

impl Desk {
    /// Switches, and waits until every member has obeyed.
    async fn switch(self, slot: &'static str) -> Result<()> {
        let mut line = Line::new(self.address, Protocol::Http1);
        let bearer = format!("Bearer {}", self.token);
        let verb = json!({"verb": "switch", "slot": slot});
        let call = Call::post("/v1/services/chat/verbs", verb.to_string()).header("authorization", &bearer);
        let answer = line.send(&call).await?;
        ensure!(answer.status == 200, "{verb}: {}", answer.text());
        let answer: Value = answer.json()?;
        ensure!(answer["preparation"].get("laggards").is_none(), "{answer}");
        let version = &answer["version"];
        let path = format!("/v1/services/chat/confirmations/{version}?wait_ms=5000");
        wait::until_ok("the switch is confirmed", wait::LIMIT, || async {
            let answer = Call::get(&path).header("authorization", &bearer).send(self.address).await?;
            let confirmation: Value = answer.json()?;
            ensure!(confirmation["outcome"] == "confirmed", "{confirmation}");
            Ok(())
        })
        .await
    }
}

/// Begins sessions, each at one of the proxies by chance.
async fn begin(proxies: Arc<[SocketAddr]>, sessions: Range<usize>, prefix: &'static str) -> Result<Vec<Begun>> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut lines: Vec<_> = proxies.iter().map(|proxy| Line::new(*proxy, Protocol::Http1)).collect();
        let sessions = sessions.clone();
        clients.spawn(async move {
            let mut begun = Vec::new();
            for number in sessions.skip(client).step_by(CLIENTS) {
                let id = format!("{prefix}-{number}");
                let at = chance(number, 1) % lines.len();
                let (reply, _) = ask(lines.get_mut(at).context("a proxy")?, &fresh(&id)).await?;
                begun.push(Begun { id, number, at: Instant::now(), bundle: reply.bundle });
            }
            anyhow::Ok(begun)
        });
    }
    collect(clients).await
}

/// Asks once more for each session, at the proxy that `which` draws. Answers those that another bundle served.
async fn again(proxies: &[SocketAddr], begun: &[Begun], which: fn(usize) -> usize) -> Result<Vec<Begun>> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut lines: Vec<_> = proxies.iter().map(|proxy| Line::new(*proxy, Protocol::Http1)).collect();
        let mine: Vec<_> = begun.iter().skip(client).step_by(CLIENTS).cloned().collect();
        clients.spawn(async move {
            let mut hops = Vec::new();
            for session in mine {
                let at = which(session.number) % lines.len();
                let (reply, _) = ask(lines.get_mut(at).context("a proxy")?, &fresh(&session.id)).await?;
                if reply.bundle != session.bundle {
                    hops.push(session);
                }
            }
            anyhow::Ok(hops)
        });
    }
    collect(clients).await
}

async fn collect(mut clients: JoinSet<Result<Vec<Begun>>>) -> Result<Vec<Begun>> {
    let mut all = Vec::new();
    while let Some(some) = clients.join_next().await {
        all.extend(some??);
    }
    Ok(all)
}
