//! Every way in which a client may hold its session, behind gateways in turn: each turn comes at another proxy than the one
//! before, as soon as its client can, through every event of a release.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration::http::{Line, Protocol};
use integration::mesh::SLOTS;
use integration::numbers::from_environment;
use integration::relay::Trouble;
use integration::{Envoy, Kind, Mesh, Relay, Talk, Waits, Way, names, scenario, wait, waits};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// How long after it was handed what it needs a client sends its next turn.
const DELAYS_MS: [u64; 4] = [0, 2, 5, 20];
/// Turns of a conversation after an event.
const TURNS: usize = 3;
/// Conversations of each way, kind of answer and delay that begin before an event, unless `COLORFAST_TALKS` says otherwise.
const TALKS: usize = 1;
/// Clients that talk at once; most of the time they wait.
const CLIENTS: usize = 4;
/// How many proxies take turns.
const PROXIES: [usize; 2] = [2, 3];
/// So long that a busy machine does not decide what this is about.
const LONG_MS: u32 = 2_000;
/// What sessions may need to be where they belong again.
const AGREED_WITHIN: Duration = Duration::from_secs(2);

/// The events, in turn, and the slot whose sessions must leave it at their next turn.
const EVENTS: [(&str, &str, Option<&str>); 4] = [
    ("ramp green 50%", "ramp 50 %", None),
    ("switch green", "switch", None),
    ("rollback --keep-pins", "rollback, kept", None),
    ("rollback", "rollback, broken", Some("green")),
];

/// A conversation of the matrix: after which delay it goes on, and which proxy it asked last.
struct Player {
    talk: Talk,
    delay_ms: u64,
    at: usize,
}

/// One column of the table, within the row of a way after an event.
type Column = (usize, Kind, u64);

/// How many turns there were in each cell, and how many were served by another slot than they belonged to.
#[derive(Default)]
struct Table(BTreeMap<(usize, Way), BTreeMap<Column, (usize, usize)>>);

impl Table {
    fn note(&mut self, event: usize, proxies: usize, player: &Player, wrong: usize) {
        let row = self.0.entry((event, player.talk.way)).or_default();
        let cell = row.entry((proxies, player.talk.kind, player.delay_ms)).or_default();
        cell.0 += TURNS;
        cell.1 += wrong;
    }

    /// All turns, and those that hopped.
    fn sum(&self) -> (usize, usize) {
        self.0.values().flat_map(BTreeMap::values).fold((0, 0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1))
    }

    fn print(&self, what: &str) {
        println!("hops {what}, by the delay of the next turn in ms; - where there is no such answer");
        let mut head = format!("{:<13} {:<17}", "", "");
        let mut delays = format!("{:<13} {:<17}", "source", "event");
        for proxies in PROXIES {
            for kind in ["plain", "events"] {
                let _ = write!(head, " |{:<20}", format!(" {proxies} proxies, {kind}"));
                let _ = write!(delays, " |{}", DELAYS_MS.map(|delay| format!("{delay:>5}")).concat());
            }
        }
        println!("{head}\n{delays}");
        for ((event, way), row) in &self.0 {
            let mut line = format!("{:<13} {:<17}", format!("{way:?}"), EVENTS[*event].1);
            for proxies in PROXIES {
                for kind in [Kind::Plain, Kind::Events] {
                    line.push_str(" |");
                    for delay in DELAYS_MS {
                        let cell = row.get(&(proxies, kind, delay));
                        let _ = write!(line, "{:>5}", cell.map_or("-".to_owned(), |(_, hops)| hops.to_string()));
                    }
                }
            }
            println!("{line}");
        }
        let (turns, hops) = self.sum();
        println!("{hops} of {turns} turns hopped");
    }
}

/// The proxies that take turns, and the conversations that have begun.
struct Stage<'m> {
    mesh: &'m Mesh,
    proxies: Arc<[SocketAddr]>,
    players: Vec<Player>,
}

impl<'m> Stage<'m> {
    fn new(mesh: &'m Mesh, envoys: &[Envoy]) -> Self {
        Self { mesh, proxies: envoys.iter().map(Envoy::address).collect(), players: Vec::new() }
    }

    /// Conversations of all ways begin, at the proxies in turn.
    async fn begin(&mut self, when: &str, delays: &[u64]) -> Result<()> {
        let talks = from_environment("COLORFAST_TALKS", TALKS)?;
        let mut line_up = Vec::new();
        for way in Way::ALL {
            for kind in way.kinds() {
                for delay_ms in delays {
                    line_up.extend((0..talks).map(|talk| (way, *kind, *delay_ms, talk)));
                }
            }
        }
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let proxies = Arc::clone(&self.proxies);
            let mine: Vec<_> = line_up.iter().copied().enumerate().skip(client).step_by(CLIENTS).collect();
            let when = format!("{when} {}", proxies.len());
            clients.spawn(async move {
                let mut lines = lines(&proxies);
                let mut players = Vec::new();
                for (number, (way, kind, delay_ms, talk)) in mine {
                    let at = number % lines.len();
                    let id = format!("{way:?} {kind:?} {delay_ms} {talk} {when}");
                    players.push(Player { talk: Talk::open(&mut lines[at], way, kind, id).await?, delay_ms, at });
                }
                anyhow::Ok(players)
            });
        }
        while let Some(players) = clients.join_next().await {
            self.players.extend(players??);
        }
        Ok(())
    }

    /// Each conversation goes on, each turn at the next proxy. Answers how many turns of each hopped: of those that are on
    /// `broken` the first must go to blue.
    async fn turns(&mut self, broken: Option<&'static str>) -> Result<Vec<(Player, usize)>> {
        let mut clients = JoinSet::new();
        let mut shares: Vec<Vec<Player>> = (0..CLIENTS).map(|_| Vec::new()).collect();
        for (number, player) in self.players.drain(..).enumerate() {
            shares[number % CLIENTS].push(player);
        }
        for share in shares {
            let proxies = Arc::clone(&self.proxies);
            clients.spawn(async move {
                let mut lines = lines(&proxies);
                let mut gone_on = Vec::new();
                for mut player in share {
                    let mut wrong = 0;
                    for _ in 0..TURNS {
                        player.at = (player.at + 1) % lines.len();
                        let due = player.talk.handed + Duration::from_millis(player.delay_ms);
                        tokio::time::sleep_until(due.into()).await;
                        let before = player.talk.slot.clone();
                        let belongs = if broken == Some(&before) { "blue" } else { &before };
                        player.talk.turn(&mut lines[player.at]).await?;
                        wrong += usize::from(player.talk.slot != belongs);
                    }
                    gone_on.push((player, wrong));
                }
                anyhow::Ok(gone_on)
            });
        }
        let mut all = Vec::new();
        while let Some(some) = clients.join_next().await {
            all.extend(some??);
        }
        Ok(all)
    }

    /// Through all events, from blue alone to blue alone.
    async fn play(&mut self, table: &mut Table) -> Result<()> {
        self.begin("before", &DELAYS_MS).await?;
        ensure!(self.players.iter().all(|player| player.talk.slot == "blue"), "blue alone takes sessions");
        for (event, (verb, _, broken)) in EVENTS.into_iter().enumerate() {
            if broken.is_some() {
                self.mesh.does("switch green").await?;
            }
            self.mesh.does(verb).await?;
            for (player, wrong) in self.turns(broken).await? {
                table.note(event, self.proxies.len(), &player, wrong);
                self.players.push(player);
            }
            if event < 2 {
                self.begin(verb, &DELAYS_MS).await?;
                for (player, wrong) in self.turns(None).await? {
                    table.note(event, self.proxies.len(), &player, wrong);
                    self.players.push(player);
                }
            }
        }
        Ok(())
    }

    /// Every session is at the same slot wherever it asks; under an id of an answer, which any turn may go back to, at the
    /// slot that the answer came from.
    async fn all_agree(&self) -> Result<()> {
        let mut lines = lines(&self.proxies);
        let (mut asked, mut apart) = (0, Vec::new());
        for Player { talk, .. } in &self.players {
            let mut slots = Vec::new();
            for line in &mut lines {
                slots.push(talk.probe(line).await?);
            }
            let belongs = slots[0].clone();
            let mut found = vec![(belongs, slots)];
            for (name, belongs) in talk.handed_out() {
                let mut slots = Vec::new();
                for line in &mut lines {
                    slots.push(talk.probe_as(name, line).await?);
                }
                found.push((belongs.clone(), slots));
            }
            asked += found.len();
            let wrong = found.into_iter().filter(|(belongs, slots)| slots.iter().any(|slot| slot != belongs));
            apart.extend(wrong.map(|(belongs, slots)| format!("{:?}: {slots:?} instead of {belongs}", talk.way)));
        }
        ensure!(apart.is_empty(), "{} of {asked} names are apart: {apart:?}", apart.len());
        Ok(())
    }
}

fn lines(proxies: &[SocketAddr]) -> Vec<Line> {
    proxies.iter().map(|proxy| Line::new(*proxy, Protocol::Http2)).collect()
}

/// Plays all events with two proxies and then with three.
async fn matrix(memory: Value) -> Result<(Table, Waits)> {
    let mesh = Mesh::with(Way::settings(json!({"memory": memory, "quarantine_seconds": 0})), &SLOTS).await?;
    let mut table = Table::default();
    let mut envoys: Vec<Envoy> = Vec::new();
    for proxies in PROXIES {
        while envoys.len() < proxies {
            envoys.push(mesh.envoy(&format!("edge-{}", envoys.len() + 1)).await?);
        }
        if proxies > PROXIES[0] {
            wait::until_ok("the broken slot to be recycled", wait::LIMIT, || async {
                mesh.cli("recycle green").await?.ok().map(drop)
            })
            .await?;
            mesh.cli("stage green g-1").await?.ok()?;
        }
        mesh.until_current(proxies).await?;
        Stage::new(&mesh, &envoys).play(&mut table).await?;
    }
    let waits = Waits::of(&envoys).await?;
    for envoy in &envoys {
        envoy.expect_no_crash().await?;
    }
    Ok((table, waits))
}

/// Kept: whatever names a session or is carried along, and however the agent answers, each next turn at another proxy is
/// served by the same bundle, at once after the answer or 20 ms later, through a ramp, a switch, and a rollback that keeps
/// pins; of a broken slot all leave at their next turn. Ids that answers hand out are new at every turn.
#[test]
fn no_turn_at_another_proxy_hops() {
    scenario(async {
        let (table, waits) = matrix(waits::of_ms(LONG_MS)).await?;
        table.print("where requests and answers wait as long as they must");
        println!("{waits:?}");
        ensure!(table.sum().1 == 0, "turns hopped, see the table");
        Ok(())
    });
}

/// Kept, with the waits that are set by default: a turn hops only where a proxy did without the fleet, and that is counted.
#[test]
fn what_hops_by_default_is_counted() {
    scenario(async {
        let (table, waits) = matrix(json!({})).await?;
        table.print("with the default waits");
        println!("{waits:?}");
        let hops = table.sum().1 as u64;
        // One wait in vain can spoil no more than what is left of one conversation after one event.
        ensure!(hops <= waits.in_vain * TURNS as u64, "{hops} turns hopped, of {waits:?}");
        Ok(())
    });
}

/// Kept: where the sidecar's answers come late or never, turns at another proxy may hop, which is counted and stated, but no
/// proxy goes on to disagree with another: when answers come again, all serve each session by one slot within 2 s.
#[test]
fn no_hop_is_permanent() {
    scenario(async {
        let mesh = Mesh::with(Way::settings(json!({})), &SLOTS).await?;
        let relay = Relay::start(mesh.sidecar.discovery()).await?;
        let mut envoys = Vec::new();
        for node in ["edge-1", "edge-2"] {
            envoys.push(mesh.join(mesh.config(node)?.sidecar(relay.address())).await?);
        }
        mesh.until_current(2).await?;
        let late = |millis| Trouble::Late(Duration::from_millis(millis));
        let troubles = [
            ("asks 10 ms late", vec![(names::SESSIONS_PATH, late(10))]),
            ("asks 50 ms late", vec![(names::SESSIONS_PATH, late(50))]),
            ("reports 300 ms late", vec![(names::REPORTS_PATH, late(300))]),
            ("both 100 ms late", vec![(names::SESSIONS_PATH, late(100)), (names::REPORTS_PATH, late(100))]),
            ("answers to asks lost", vec![(names::SESSIONS_PATH, Trouble::Lost)]),
            ("answers to reports lost", vec![(names::REPORTS_PATH, Trouble::Lost)]),
            ("both lost", vec![(names::SESSIONS_PATH, Trouble::Lost), (names::REPORTS_PATH, Trouble::Lost)]),
        ];
        let mut permanent = Vec::new();
        for (round, (name, troubled)) in troubles.into_iter().enumerate() {
            let before = Waits::of(&envoys).await?;
            let mut stage = Stage::new(&mesh, &envoys);
            stage.begin(&format!("trouble {round}"), &[0, 5]).await?;
            mesh.does(if round % 2 == 0 { "switch green" } else { "switch blue" }).await?;
            for (path, trouble) in troubled {
                relay.trouble(path, trouble);
            }
            let turned = stage.turns(None).await?;
            let (turns, hops) = (turned.len() * TURNS, turned.iter().map(|(_, wrong)| wrong).sum::<usize>());
            stage.players = turned.into_iter().map(|(player, _)| player).collect();
            relay.mend();
            let mended = Instant::now();
            let what = format!("all proxies to agree after {name}");
            let agreed = wait::until_ok(&what, AGREED_WITHIN, || stage.all_agree()).await;
            let after = Waits::of(&envoys).await?;
            let vain = after.in_vain - before.in_vain;
            let told = match &agreed {
                Ok(()) => format!("all agreed after {:?}", mended.elapsed()),
                Err(_) => "NOT all agreed".to_owned(),
            };
            println!("{name:<24}: {hops:>3} of {turns} turns hopped, {vain:>3} waits in vain, {told}");
            permanent.extend(agreed.err().map(|error| format!("{error:#}")));
        }
        ensure!(permanent.is_empty(), "{}", permanent.join("\n"));
        for envoy in &envoys {
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}
