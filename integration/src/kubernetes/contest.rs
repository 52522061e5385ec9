//! Side by side with Istio's own way: how long from an operator's act until requests obey, and what it breaks.
//!
//! Both ways run through the same gateways, to the same agents, in the same minutes: `chat.example.com` is released by
//! colorfast, `weights.example.com` by the weights of a VirtualService. Rounds of the two take turns.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Installation;
use crate::bench::{Latency, table};
use crate::client::Place;
use crate::envoy::Envoy;
use crate::http::{Call, Line, Protocol};
use crate::load::{Load, Plan};
use crate::mesh::{CHAT, Mesh, ask, fresh};
use crate::wait;

/// Where the plugin configuration stands in the EnvoyFilter `colorfast-code`.
const CONFIGURATION: &str = "/spec/configPatches/0/patch/value/typed_config/config/configuration/value";
/// A round is over when no request has gone to the old slot for so long.
const QUIET: Duration = Duration::from_millis(300);
/// Connections of probes to each gateway, for each way.
const PROBES: usize = 1;
/// How long a probe pauses between two requests: what the times are exact to.
const PAUSE: Duration = Duration::from_millis(4);
/// The VirtualService whose weights are changed.
const WEIGHTS: &str = "/apis/networking.istio.io/v1/namespaces/istio-ingress/virtualservices/weights";

/// How a release is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The verb `switch`, from the request to the sidecar's control API.
    Colorfast,
    /// The weights of a VirtualService, from the request to the Kubernetes API.
    Weights,
}

impl Way {
    const BOTH: [Self; 2] = [Self::Colorfast, Self::Weights];

    fn host(self) -> &'static str {
        match self {
            Self::Colorfast => "chat.example.com",
            Self::Weights => "weights.example.com",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Colorfast => "switch of colorfast",
            Self::Weights => "weights of a VirtualService",
        }
    }

    /// What a request is stamped with that goes to a slot.
    fn stamp(self, slot: &str) -> &str {
        match self {
            Self::Colorfast => slot,
            Self::Weights => "",
        }
    }
}

/// What the rounds of one way came to.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Which way.
    pub way: Way,
    /// From the act to the first request on the new slot, round by round.
    pub first: Vec<Duration>,
    /// From the act to the end of the last request on the old slot; where none came after, as `first`.
    pub last: Vec<Duration>,
    /// Conversations that were held meanwhile.
    pub sessions: usize,
    /// Of these, the ones that lost their agent at least once.
    pub broken: usize,
}

impl Standing {
    /// The times to the first request that obeys, in milliseconds.
    #[must_use]
    pub fn first_ms(&self) -> Latency {
        Latency::of(self.first.iter().map(|time| time.as_secs_f64() * 1_000.0))
    }

    /// The times to the last request that has not obeyed yet, in milliseconds.
    #[must_use]
    pub fn last_ms(&self) -> Latency {
        Latency::of(self.last.iter().map(|time| time.as_secs_f64() * 1_000.0))
    }
}

/// How both ways came out.
#[derive(Clone, Debug)]
pub struct Contest {
    /// In the order of the table.
    pub standings: [Standing; 2],
}

impl fmt::Display for Contest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.standings.iter().map(|standing| {
            let (first, last) = (standing.first_ms(), standing.last_ms());
            let times = [first.p50, first.p99, last.p50, last.p99].map(|ms| format!("{ms:.0}"));
            let counts = [standing.first.len(), standing.sessions, standing.broken].map(|count| count.to_string());
            [standing.way.title().to_owned()].into_iter().chain(times).chain(counts).collect()
        });
        let head =
            ["from the act, ms", "first p50", "p99", "last p50", "p99", "rounds", "conversations", "of them broken"];
        f.write_str(&table(&head, rows))
    }
}

/// Plays rounds of both ways in turn, through gateways that were started after [`install`]. Every switch must be
/// confirmed by each of them.
///
/// # Errors
/// Where a request fails, an act is refused or does not take effect, a switch is not confirmed or breaks a conversation.
pub async fn play(mesh: &Installation, envoys: &[Envoy], rounds: usize) -> Result<Contest> {
    let targets: Vec<SocketAddr> = envoys.iter().map(Envoy::address).collect();
    for way in Way::BOTH {
        until_served(way, &targets).await?;
    }
    let [ours, theirs] = Way::BOTH.map(|way| Load::start(held(way, &targets)));
    let loads = [ours?, theirs?];
    let probes = Way::BOTH.map(|way| Probes::start(way, &targets));
    let mut times: [Vec<(Duration, Duration)>; 2] = Default::default();
    let mut line = mesh.cluster.api().line();
    let mut operator = Operator::of(&mesh.release)?;
    let mut version = 0;
    for round in 0..rounds {
        let slot = ["green", "blue"][round % 2];
        // Neither always goes first.
        for nth in [round % 2, 1 - round % 2] {
            let began = Instant::now();
            match Way::BOTH[nth] {
                Way::Colorfast => version = operator.switch(slot).await?,
                Way::Weights => {
                    mesh.cluster.api().merge(&mut line, WEIGHTS, &weights(slot)).await?;
                }
            }
            let bundle = mesh.release.agent(slot).bundle();
            times[nth].push(probes[nth].obeyed(began, bundle).await?);
            operator.expect_confirmed(version, envoys.len()).await?;
        }
    }
    for probes in probes {
        probes.stop().await?;
    }
    let [ours, theirs] = loads;
    let reports = [ours.stop().await?, theirs.stop().await?];
    let mut standings = Vec::new();
    for ((way, times), report) in Way::BOTH.into_iter().zip(times).zip(reports) {
        report.expect_no_failure()?;
        if way == Way::Colorfast {
            report.expect_true_stamps()?;
            report.expect_kept()?;
        }
        let mut broken: Vec<&str> = report.hops().iter().map(|hop| hop.session.name.as_str()).collect();
        broken.dedup();
        let (first, last) = times.into_iter().unzip();
        standings.push(Standing { way, first, last, sessions: report.by_session().len(), broken: broken.len() });
    }
    let standings = standings.try_into().ok().context("two ways have two standings")?;
    Ok(Contest { standings })
}

/// Who asks the sidecar's control API, over a connection that is kept as the other way's is.
struct Operator {
    line: Line,
    token: String,
}

impl Operator {
    fn of(release: &Mesh) -> Result<Self> {
        let token = format!("Bearer {}", release.sidecar.control_token()?);
        Ok(Self { line: Line::new(release.sidecar.control(), Protocol::Http1), token })
    }

    /// Switches to a slot; answers the version that this made.
    async fn switch(&mut self, slot: &str) -> Result<u64> {
        let verb = json!({"verb": "switch", "slot": slot}).to_string();
        let answer = self.ask(Call::post(&format!("/v1/services/{CHAT}/verbs"), verb)).await?;
        answer["version"].as_u64().with_context(|| format!("no version: {answer}"))
    }

    /// Fails unless so many members, which are all, have confirmed a version.
    async fn expect_confirmed(&mut self, version: u64, members: usize) -> Result<()> {
        if version == 0 {
            return Ok(());
        }
        let answer = self.ask(Call::get(&format!("/v1/services/{CHAT}/confirmations/{version}"))).await?;
        let asked = answer["members"].as_array().map(Vec::len);
        ensure!(answer["outcome"] == "confirmed" && asked == Some(members), "{answer:#}");
        Ok(())
    }

    async fn ask(&mut self, call: Call) -> Result<Value> {
        let answer = self.line.send(&call.header("authorization", &self.token)).await?;
        ensure!((200..300).contains(&answer.status), "{} {}", answer.status, answer.text());
        answer.json()
    }
}

/// Adds the other way to what is installed, before there is a gateway: hosts tell the two apart.
///
/// # Errors
/// Where a manifest is refused.
pub async fn install(mesh: &Installation) -> Result<()> {
    let mut manifests = mesh.gateway().await?;
    let configuration = manifests.at("EnvoyFilter", "colorfast-code", CONFIGURATION)?;
    let mut plugin: Value = serde_json::from_str(configuration.as_str().context("the configuration is a text")?)?;
    plugin["services"][0]["match"] = json!({"hosts": [Way::Colorfast.host()]});
    *configuration = json!(plugin.to_string());
    manifests.apply(&mesh.cluster).await?;
    let other = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "weights", "namespace": "istio-ingress"},
        "spec": {"gateways": ["chat"], "hosts": [Way::Weights.host()], "http": weights("blue")["spec"]["http"]},
    });
    mesh.cluster.apply(&[other]).await
}

/// All weight on one slot.
fn weights(slot: &str) -> Value {
    let route = |name: &str| {
        let weight = if name == slot { 100 } else { 0 };
        json!({"destination": {"host": "chat.agents.svc.cluster.local", "subset": name}, "weight": weight})
    };
    json!({"spec": {"http": [{"route": [route("blue"), route("green")]}]}})
}

/// Waits until every gateway answers for a way, by blue.
async fn until_served(way: Way, targets: &[SocketAddr]) -> Result<()> {
    for target in targets {
        wait::until_ok(&format!("{} to be served", way.host()), wait::LIMIT, || async {
            let call = fresh("first").host(way.host());
            let (reply, _) = ask(&mut Line::new(*target, Protocol::Http1), &call).await?;
            ensure!(reply.slot == way.stamp("blue"), "{reply:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Conversations that are held all the while.
fn held(way: Way, targets: &[SocketAddr]) -> Plan {
    let place = Place { host: Some(way.host().to_owned()), ..Place::default() };
    let think = Duration::from_millis(100);
    Plan { place, clients: 16, endless_each: 1, think, prefix: way.host().to_owned(), ..Plan::new(targets.to_vec()) }
}

/// New sessions of one way, one after the other, at every gateway.
struct Probes {
    seen: Arc<Mutex<Vec<Seen>>>,
    tasks: JoinSet<Result<()>>,
}

/// A new session, and who served it.
struct Seen {
    ended: Instant,
    probe: usize,
    bundle: String,
}

impl Probes {
    fn start(way: Way, targets: &[SocketAddr]) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for probe in 0..targets.len() * PROBES {
            let (seen, mut line) = (Arc::clone(&seen), Line::new(targets[probe % targets.len()], Protocol::Http1));
            tasks.spawn(async move {
                for number in 0_u64.. {
                    let call = fresh(&format!("{}-{probe}-{number}", way.host())).host(way.host());
                    let (reply, _) = ask(&mut line, &call).await?;
                    let one = Seen { ended: Instant::now(), probe, bundle: reply.bundle };
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(())
            });
        }
        Self { seen, tasks }
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until every probe has gone to a bundle alone for a while; answers how long after `act` the first did, and
    /// the last did not yet. What was seen is forgotten then.
    async fn obeyed(&self, act: Instant, bundle: &str) -> Result<(Duration, Duration)> {
        let probes = self.tasks.len();
        let times = wait::until_ok(&format!("requests to go to {bundle} alone"), wait::LIMIT, || async {
            let seen = self.seen();
            let after = || seen.iter().filter(|one| one.ended >= act);
            let first = after().find(|one| one.bundle == bundle).context("none has gone there")?.ended;
            let last = after().filter(|one| one.bundle != bundle).map(|one| one.ended).max().unwrap_or(first);
            let quiet = |probe| after().any(|one| one.probe == probe && one.ended >= last.max(first) + QUIET);
            ensure!((0..probes).all(quiet), "the last that has not was {:?} ago", last.elapsed());
            Ok((first - act, last.max(first) - act))
        })
        .await?;
        self.seen().clear();
        Ok(times)
    }

    /// Ends the probes, none of which may have failed.
    async fn stop(mut self) -> Result<()> {
        while let Some(ended) = self.tasks.try_join_next() {
            ended??;
        }
        self.tasks.abort_all();
        Ok(())
    }
}
