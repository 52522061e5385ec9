//! Ids that agents make, over several proxies and switches: how soon the fleet knows them.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::http::{Call, Line, Protocol};
use integration::mesh::{Done, SLOTS, ask, fresh};
use integration::numbers::{chance, from_environment};
use integration::{Envoy, Mesh, names, scenario};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Conversations, unless `COLORFAST_SESSIONS` says otherwise.
const CONVERSATIONS: usize = 3_000;
/// Clients that are handed a cookie.
const COOKIES: usize = 100;
/// Clients that talk at once; most of the time they wait.
const CLIENTS: usize = 48;
/// How long clients wait before they come back, in turn.
const PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_secs(1),
];
/// From then on the fleet knows an id, where nothing else keeps the machine from it.
const KNOWN_AFTER: Duration = Duration::from_millis(100);
/// From then on it must, unless `COLORFAST_KNOWN_AFTER_MS` says otherwise: other tests may run.
const MUST_BE_KNOWN_AFTER_MS: u64 = 900;

/// A conversation of two turns, the second at another proxy by chance, under the id that the first answer handed out.
#[derive(Clone, Copy, Debug)]
struct Conversation {
    /// When its id had come.
    handed: Instant,
    /// When it came back.
    back: Instant,
    hopped: bool,
}

impl Conversation {
    fn came_after(&self, pause: Duration) -> bool {
        self.back - self.handed >= pause
    }

    /// Whether a switch was asked for and confirmed between its two turns.
    fn spans(&self, switches: &[Done]) -> bool {
        switches.iter().any(|switch| self.handed < switch.asked && switch.told < self.back)
    }
}

/// Kept: an id that the agent hands out in the body of an answer is known to the whole fleet 100 ms later, while one switch
/// follows another. Of the clients that are faster than that, and come to another proxy, it is stated how many moved.
#[test]
fn ids_from_bodies_are_known_to_the_fleet() {
    scenario(async {
        let conversations = from_environment("COLORFAST_SESSIONS", CONVERSATIONS)?;
        // A second: how long a question takes on a busy machine is not what is looked at.
        let settings = json!({"learn_from": [{"body": "/opened"}], "memory": {"ask_wait_ms": 1_000}});
        let mesh = Mesh::with(settings, &SLOTS).await?;
        let mut envoys = Vec::new();
        for node in ["edge-1", "edge-2", "edge-3"] {
            envoys.push(mesh.envoy(node).await?);
        }
        mesh.until_current(3).await?;
        let talking = tokio::spawn(talk(envoys.iter().map(Envoy::address).collect(), conversations));
        let mut switches = Vec::new();
        while !talking.is_finished() {
            let slot = if switches.len() % 2 == 0 { "green" } else { "blue" };
            switches.push(mesh.does(&format!("switch {slot}")).await?);
        }
        let talked = talking.await??;

        let (late, soon): (Vec<_>, Vec<_>) = talked.iter().partition(|talk| talk.came_after(KNOWN_AFTER));
        let hops = |of: &[&Conversation]| of.iter().filter(|talk| talk.hopped).count();
        let spanning = talked.iter().filter(|talk| talk.spans(&switches)).count();
        println!(
            "{} ids from bodies over 3 proxies and {} switches, {spanning} of them with a whole switch before the next \
             request; that came 100 ms after the id or later: {} of {} hopped; sooner: {} of {}",
            talked.len(),
            switches.len(),
            hops(&late),
            late.len(),
            hops(&soon),
            soon.len(),
        );
        ensure!(spanning > 0 && !soon.is_empty(), "no switch fell between the turns of a conversation");
        let known_after = Duration::from_millis(from_environment("COLORFAST_KNOWN_AFTER_MS", MUST_BE_KNOWN_AFTER_MS)?);
        let moved = late.iter().filter(|talk| talk.hopped && talk.came_after(known_after)).count();
        ensure!(moved == 0, "{moved} moved though they came {known_after:?} after their ids, or later");
        for envoy in &envoys {
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}

/// Kept: the third answer sets a cookie of the agent's own, and all that is sent back from then on is that cookie. Whether the
/// session was begun before by a pin or by nothing, it stays with the slot that set it, its next request at once and at the
/// other proxy, through ramp and switch.
#[test]
fn a_cookie_of_the_agents_own_is_known_to_the_fleet() {
    scenario(async {
        let settings = json!({
            "session_sources": [{"cookie": "JSESSIONID"}],
            "learn_from": [{"cookie": "JSESSIONID"}],
            "memory": {"ask_wait_ms": 1_000, "tell_wait_ms": 1_000},
        });
        let mesh = Mesh::with(settings, &SLOTS).await?;
        let envoys = [mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?];
        mesh.until_current(2).await?;
        mesh.does("ramp green 50%").await?;
        let mut lines: Vec<_> = envoys.iter().map(|envoy| Line::new(envoy.address(), Protocol::Http1)).collect();
        let mut signed_in = Vec::new();
        for number in 0..COOKIES {
            let (mut pin, mut served) = (None, None);
            for turn in 1..=3 {
                let path = if turn == 3 { format!("/sign-in?name=j-{number}") } else { "/other".to_owned() };
                let call = Call::get(&path);
                let call = match &pin {
                    Some(pin) => call.header(names::PIN, pin),
                    None => call,
                };
                let at = (number + turn) % lines.len();
                let answer = lines.get_mut(at).context("a proxy")?.send(&call).await?;
                ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
                // Half of the clients keep what they are handed.
                if number % 2 == 0 {
                    let slot = answer.header(names::SERVED_BY);
                    ensure!(turn == 1 || served == slot, "j-{number} hopped before it had a cookie");
                    pin = answer.header(names::PIN).or(pin);
                }
                served = answer.header(names::SERVED_BY);
            }
            let slot = served.context("nobody says who has served it")?;
            returns(&mut lines, number, 4, &slot).await?;
            signed_in.push(slot);
        }
        ensure!(SLOTS.iter().all(|(slot, _)| signed_in.iter().any(|served| served == slot)), "{signed_in:?}");
        for (verb, turn) in [("switch green", 5), ("switch blue", 6)] {
            mesh.does(verb).await?;
            for (number, slot) in signed_in.iter().enumerate() {
                returns(&mut lines, number, turn, slot).await?;
            }
        }
        for envoy in &envoys {
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}

/// Comes back with the cookie alone, at the other proxy than in the turn before.
async fn returns(lines: &mut [Line], number: usize, turn: usize, slot: &str) -> Result<()> {
    let at = (number + turn) % lines.len();
    let call = Call::get("/other").header("cookie", format!("JSESSIONID=j-{number}"));
    let answer = lines.get_mut(at).context("a proxy")?.send(&call).await?;
    let served = answer.header(names::SERVED_BY);
    ensure!(served.as_deref() == Some(slot), "j-{number} of {slot} went to {served:?} in turn {turn}");
    Ok(())
}

/// Holds so many conversations, each over two proxies by chance.
async fn talk(proxies: Arc<[SocketAddr]>, conversations: usize) -> Result<Vec<Conversation>> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(talk_as(client, Arc::clone(&proxies), 0..conversations));
    }
    let mut all = Vec::new();
    while let Some(some) = clients.join_next().await {
        all.extend(some??);
    }
    Ok(all)
}

async fn talk_as(client: usize, proxies: Arc<[SocketAddr]>, all: Range<usize>) -> Result<Vec<Conversation>> {
    let mut lines: Vec<_> = proxies.iter().map(|proxy| Line::new(*proxy, Protocol::Http1)).collect();
    let proxies = lines.len();
    let mut talked = Vec::new();
    for number in all.skip(client).step_by(CLIENTS) {
        let proxy = |nth| chance(number, nth) % proxies;
        let opening = Call::get(&format!("/open?name=conversation-{number}"));
        let answer = lines.get_mut(proxy(1)).context("a proxy")?.send(&opening).await?;
        let handed = Instant::now();
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        let body: Value = answer.json()?;
        let id = body["opened"].as_str().context("no id in the body")?;
        let slot = answer.header(names::SERVED_BY).context("nobody says who has served it")?;
        let pause = PAUSES.get(chance(number, 3) % PAUSES.len()).copied().unwrap_or_default();
        tokio::time::sleep_until((handed + pause).into()).await;
        let back = Instant::now();
        let (reply, _) = ask(lines.get_mut(proxy(2)).context("a proxy")?, &fresh(id)).await?;
        talked.push(Conversation { handed, back, hopped: reply.slot != slot });
    }
    Ok(talked)
}
