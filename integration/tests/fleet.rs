//! Sessions that echo nothing, over three proxies: the fleet keeps them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::http::{Line, Protocol};
use integration::mesh::{ask, fresh};
use integration::{Envoy, Mesh, scenario, wait};
use tokio::task::JoinSet;

/// Sessions, unless `COLORFAST_SESSIONS` says otherwise.
const SESSIONS: usize = 6_000;
/// Clients that ask at once.
const CLIENTS: usize = 8;

/// A session: when it had its first answer, and from which bundle.
#[derive(Clone, Debug)]
struct Begun {
    id: String,
    at: Instant,
    bundle: String,
}

/// Kept: sessions that name themselves and echo nothing, each request at a proxy of its own, stay where they began through
/// a switch in the middle and a rollback that breaks nothing of theirs; also where the proxy that had seen them is gone.
#[test]
fn sessions_are_kept_by_the_fleet() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let mut envoys = Vec::new();
        for node in ["edge-1", "edge-2", "edge-3"] {
            envoys.push(mesh.envoy(node).await?);
        }
        mesh.until_current(3).await?;
        let sessions = std::env::var("COLORFAST_SESSIONS").ok().and_then(|all| all.parse().ok()).unwrap_or(SESSIONS);
        let addresses: Arc<[SocketAddr]> = envoys.iter().map(Envoy::address).collect();

        let beginning = tokio::spawn(begin(Arc::clone(&addresses), sessions));
        let half = wait::until_ok("half of the sessions", wait::LIMIT, || async {
            let seen = mesh.agent("blue").requests();
            ensure!(seen >= sessions as u64 / 2, "{seen} requests so far");
            Ok(seen)
        });
        half.await?;
        let switched = mesh.does("switch green").await?;
        let begun = beginning.await??;
        let (before, after): (Vec<_>, Vec<_>) = begun.iter().partition(|session| session.at < switched.asked);
        ensure!(!before.is_empty() && !after.is_empty(), "the switch was in the middle");

        let hops = again(&addresses, &begun, 1).await?;
        let late = before.iter().filter(|session| switched.asked - session.at < Duration::from_secs(1)).count();
        let in_last_second = |hop: &&Begun| hop.at < switched.asked && switched.asked - hop.at < Duration::from_secs(1);
        let of_last_second = hops.iter().filter(in_last_second).count();
        println!(
            "{} sessions, {late} begun in the last second before the switch: {} hops, {of_last_second} of those; switched in {:?}",
            begun.len(),
            hops.len(),
            switched.confirmed_after
        );
        ensure!(
            hops.iter().all(|hop| hop.at > switched.asked - Duration::from_secs(1)),
            "older sessions moved: {hops:?}"
        );
        ensure!(hops.len() * 200 <= late.max(200), "{} hops of {late}: {hops:?}", hops.len());

        // A proxy takes over that has seen nothing.
        mesh.does("rollback --keep-pins").await?;
        let fresh_one = mesh.envoy("edge-4").await?;
        mesh.until_current(4).await?;
        let moved: Vec<_> = hops.iter().map(|hop| &hop.id).collect();
        let steady: Vec<_> = begun.iter().filter(|session| !moved.contains(&&session.id)).cloned().collect();
        let hops = again(&[fresh_one.address()], &steady, 0).await?;
        ensure!(hops.is_empty(), "{} of {} moved at a proxy that had seen none: {hops:?}", hops.len(), steady.len());
        let asked = fresh_one.stats("waits.need.fleet").await?;
        println!("a fourth proxy: {} sessions, no hop; {asked:?}", steady.len());
        for envoy in envoys.iter().chain([&fresh_one]) {
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}

/// Last good: while the sidecar is away, a session that its proxy knows stays, and one that it does not know is placed
/// within the limit.
#[test]
fn sessions_go_on_without_the_sidecar() {
    scenario(async {
        let mut mesh = Mesh::start().await?;
        let envoy = mesh.envoy("edge-1").await?;
        let begun = begin([envoy.address()].into(), 200).await?;
        mesh.does("switch green").await?;
        mesh.sidecar.kill();
        let hops = again(&[envoy.address()], &begun, 0).await?;
        ensure!(hops.is_empty(), "{hops:?}");
        let unknown = begin_as([envoy.address()].into(), 50, "unknown").await?;
        ensure!(unknown.iter().all(|session| session.bundle == "g-1"), "{unknown:?}");
        envoy.expect_no_crash().await
    });
}

/// Begins sessions, each at one of the proxies in turn.
async fn begin(proxies: Arc<[SocketAddr]>, sessions: usize) -> Result<Vec<Begun>> {
    begin_as(proxies, sessions, "quiet").await
}

async fn begin_as(proxies: Arc<[SocketAddr]>, sessions: usize, prefix: &'static str) -> Result<Vec<Begun>> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut lines: Vec<_> = proxies.iter().map(|proxy| Line::new(*proxy, Protocol::Http1)).collect();
        clients.spawn(async move {
            let mut begun = Vec::new();
            for number in (client..sessions).step_by(CLIENTS) {
                let id = format!("{prefix}-{number}");
                let at = number % lines.len();
                let (reply, _) = ask(lines.get_mut(at).context("a proxy")?, &fresh(&id)).await?;
                begun.push(Begun { id, at: Instant::now(), bundle: reply.bundle });
            }
            anyhow::Ok(begun)
        });
    }
    collect(clients).await
}

/// Asks once more for each session, `steps` proxies further on. Answers those that another bundle served.
async fn again(proxies: &[SocketAddr], begun: &[Begun], steps: usize) -> Result<Vec<Begun>> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut lines: Vec<_> = proxies.iter().map(|proxy| Line::new(*proxy, Protocol::Http1)).collect();
        let mine: Vec<_> = begun.iter().skip(client).step_by(CLIENTS).cloned().collect();
        clients.spawn(async move {
            let mut hops = Vec::new();
            for session in mine {
                let number: usize = session.id.rsplit('-').next().context("a number")?.parse()?;
                let at = (number + steps) % lines.len();
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
