//! Real clients from their own packages, each through two Envoys in turn: whatever an SDK can send back, and be it an id
//! that the agent made, its conversations stay on the bundle that they began on.
//!
//! Agents keep conversations in their process, so that one which hops is refused there or forgotten. Nothing in agents or
//! clients is made for colorfast.

use anyhow::{Context, Result, ensure};
use integration::sdk::{Server, Talk};
use integration::{Balancer, Mesh, Sdk, scenario};
use serde_json::{Value, json};

/// Turns between an event and the next.
const TURNS: u32 = 6;

/// Clients of one SDK, and the agent that they talk to.
struct Clients {
    list: &'static str,
    agent: &'static str,
    client: &'static str,
    /// Where the agent is, below the balancer's address.
    path: &'static str,
    settings: Value,
    /// Ways to talk: a name for each, and its options.
    ways: &'static [(&'static str, &'static [&'static str])],
    /// What the client is told of a conversation that the agent does not know.
    loss: Loss,
}

#[derive(Clone, Copy)]
enum Loss {
    /// It is refused, in these words among others.
    Refused(&'static str),
    /// It begins anew, without a word.
    Forgotten,
}

/// The parts that a story is about.
struct Stage {
    sdk: Sdk,
    mesh: Mesh,
    balancer: Balancer,
    agents: [Server; 2],
}

impl Clients {
    async fn stage(&self) -> Result<Stage> {
        let sdk = Sdk::of(self.list)?;
        let balancer = Balancer::start().await?;
        // An agent of A2A tells clients where they reach it.
        let url = self.url(&balancer);
        let options: &[&str] = if self.agent == "a2a_agent.py" { &[&url] } else { &[] };
        let agents = [sdk.serve(self.agent, "b-1", options).await?, sdk.serve(self.agent, "g-1", options).await?];
        let mesh = Mesh::with(self.settings.clone(), &[("blue", "b-1"), ("green", "g-1")]).await?;
        Ok(Stage { sdk, mesh, balancer, agents })
    }

    fn url(&self, balancer: &Balancer) -> String {
        format!("http://{}{}", balancer.address(), self.path)
    }

    /// A conversation for each way to talk, all of which begin now on the same bundle.
    async fn begin(&self, stage: &Stage, when: &str, bundle: &str) -> Result<Vec<(String, Talk)>> {
        let url = self.url(&stage.balancer);
        let mut talks = Vec::new();
        for (way, options) in self.ways {
            let name = format!("{when} {way}");
            talks.push((name.clone(), stage.sdk.talk(self.client, &name, &url, options)?));
        }
        for (name, talk) in &mut talks {
            let turn = talk.turn(TURNS / 2).await.with_context(|| name.clone())?;
            ensure!(turn.bundle == bundle && turn.kept, "{name} began elsewhere: {turn:?}");
        }
        Ok(talks)
    }

    /// Kept: conversations that began at one Envoy go on at another, in turn at both, through a switch and another one
    /// back; those of a bundle that is given up are lost, and no others.
    async fn are_kept(self) -> Result<()> {
        let stage = self.stage().await?;
        let Stage { mesh, balancer, .. } = &stage;
        let mut envoys = Vec::new();
        for node in ["edge-1", "edge-2"] {
            let [blue, green] = &stage.agents;
            let config = mesh.config(node)?.agent("blue", blue.address).agent("green", green.address);
            envoys.push(mesh.join(config).await?);
        }
        let [one, other] = [envoys[0].address(), envoys[1].address()];

        balancer.spread(&[one]);
        let mut early = self.begin(&stage, "early", "b-1").await?;
        mesh.does("switch green").await?;
        balancer.spread(&[other, one]);
        go_on(&mut early).await?;
        let mut late = self.begin(&stage, "late", "g-1").await?;
        mesh.does("switch blue").await?;
        go_on(&mut early).await?;
        go_on(&mut late).await?;

        let (way, options) = self.ways[0];
        let newcomer = stage.sdk.talk(self.client, "new", &self.url(balancer), &[options, &["--turns", "3"]].concat());
        let newcomer = newcomer?.turn(3).await.context("a newcomer")?;
        ensure!(newcomer.bundle == "b-1" && newcomer.kept, "{way}: {newcomer:?}");

        let mut rows = Vec::new();
        for (name, talk) in early.iter().chain(&late) {
            let turns = talk.turns()?;
            let hops = turns.windows(2).filter(|pair| pair[0].bundle != pair[1].bundle).count();
            let lost = turns.iter().filter(|turn| !turn.kept).count();
            rows.push((name.clone(), turns.len(), hops, lost));
        }
        println!("{:<24} {:>6} {:>5} {:>5}", "conversation", "turns", "hops", "lost");
        for (name, turns, hops, lost) in &rows {
            println!("{name:<24} {turns:>6} {hops:>5} {lost:>5}");
        }
        ensure!(rows.iter().all(|(_, _, hops, lost)| *hops == 0 && *lost == 0), "conversations were not kept");

        mesh.does("migrate green").await?;
        for (name, talk) in &mut late {
            self.loss.befalls(talk).await.with_context(|| name.clone())?;
        }
        go_on(&mut early).await?;
        let passed = balancer.passed();
        ensure!(passed.iter().all(|passed| *passed > u64::from(TURNS)), "requests went to {passed:?}");
        for envoy in &envoys {
            envoy.expect_no_crash().await?;
        }
        Ok(())
    }
}

impl Loss {
    async fn befalls(self, talk: &mut Talk) -> Result<()> {
        match self {
            Self::Refused(words) => {
                let broken = talk.broken().await?;
                ensure!(broken.broken.contains(words), "{broken:?}");
            }
            Self::Forgotten => {
                let turn = talk.forgotten().await?;
                ensure!(turn.bundle == "b-1", "{turn:?}");
            }
        }
        Ok(())
    }
}

/// Waits for more turns of every conversation.
async fn go_on(talks: &mut [(String, Talk)]) -> Result<()> {
    for (name, talk) in talks {
        let turn = talk.go_on(TURNS).await.with_context(|| name.clone())?;
        ensure!(turn.kept, "{name} was forgotten: {turn:?}");
    }
    Ok(())
}

/// Neither cookie nor header: what a client echoes by itself must do.
fn no_carrier() -> Value {
    json!({"cookie": "never", "header": "never"})
}

/// Envelope: a client of the MCP SDK 1 that keeps no cookie is held by the session id that it must send back, which carries
/// the pin, at a proxy that has never heard of it, and without the fleet's memory. The agent sees its own id alone.
#[test]
fn mcp_1_is_kept_by_its_session_id_alone() {
    let clients = Clients {
        list: "requirements.txt",
        agent: "mcp_agent.py",
        client: "mcp_client.py",
        path: "/mcp",
        settings: json!({
            "session_sources": [{"header": "mcp-session-id"}], "pin": no_carrier(), "memory": {"ask_wait_ms": 0},
        }),
        ways: &[("by envelope", &["--forget-cookies"])],
        loss: Loss::Refused("Session terminated"),
    };
    scenario(async move {
        let stage = clients.stage().await?;
        let [blue, green] = &stage.agents;
        let config = stage.mesh.config("edge")?.agent("blue", blue.address).agent("green", green.address);
        let envoy = stage.mesh.join(config).await?;
        stage.balancer.spread(&[envoy.address()]);
        let (_, mut talk) = clients.begin(&stage, "shown", "b-1").await?.remove(0);
        let turn = talk.go_on(1).await?;
        let held = turn.held.clone().context("the client holds an id")?;
        ensure!(held != turn.session && turn.session.len() == 32, "the agent saw the envelope: {turn:?}");
        drop((talk, envoy, stage));
        clients.are_kept().await
    });
}

/// A client of the MCP SDK 2 speaks a protocol without sessions by default: it is held by the cookie that its HTTP library
/// keeps.
#[test]
fn mcp_2_is_kept_by_its_cookie() {
    let clients = Clients {
        list: "clients.txt",
        agent: "stateless_agent.py",
        client: "stateless_client.py",
        path: "/mcp",
        settings: json!({"session_sources": [], "pin": {"header": "never"}}),
        ways: &[("by cookie", &[])],
        loss: Loss::Refused("unknown conversation"),
    };
    scenario(clients.are_kept());
}

/// Learning: a client of the OpenAI SDK names the last answer in each request; the agent made that id, in an answer or in
/// the first event of a stream, and the proxy that is asked next has never seen it.
#[test]
fn openai_is_kept_by_the_id_of_the_last_answer() {
    let clients = Clients {
        list: "clients.txt",
        agent: "openai_agent.py",
        client: "openai_client.py",
        path: "/v1",
        settings: json!({
            "session_sources": [{"body": "/previous_response_id"}],
            "learn_from": [{"body": "/id"}, {"event": "/response/id"}],
            "pin": no_carrier(), "memory": {"ask_wait_ms": 1_000},
        }),
        ways: &[("whole", &["--pause", "0.2"]), ("streamed", &["--pause", "0.2", "--stream"])],
        loss: Loss::Refused("previous_response_not_found"),
    };
    scenario(clients.are_kept());
}

/// Learning: a client of the A2A SDK repeats the `contextId` that the agent made in its first answer, in either protocol,
/// as part of a task, of a message or of a stream.
#[test]
fn a2a_is_kept_by_its_context_id() {
    let clients = Clients {
        list: "clients.txt",
        agent: "a2a_agent.py",
        client: "a2a_client.py",
        path: "/",
        settings: json!({
            "session_sources": [{"body": "/params/message/contextId"}],
            "learn_from": [
                {"body": "/result/task/contextId"}, {"body": "/result/message/contextId"}, {"body": "/result/contextId"},
                {"event": "/result/task/contextId"}, {"event": "/result/contextId"},
            ],
            "pin": no_carrier(), "memory": {"ask_wait_ms": 1_000},
        }),
        ways: &[
            ("in tasks", &["--pause", "0.2"]),
            ("in a stream", &["--pause", "0.2", "--stream"]),
            ("in messages", &["--pause", "0.2", "--messages"]),
            ("of 0.3 in tasks", &["--pause", "0.2", "--protocol", "0.3"]),
            ("of 0.3 in a stream", &["--pause", "0.2", "--protocol", "0.3", "--stream"]),
        ],
        loss: Loss::Forgotten,
    };
    scenario(clients.are_kept());
}
