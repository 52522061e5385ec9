//! Real clients from their own packages, each through two Envoys in turn: whatever an SDK can send back, and be it an id
//! that the agent made, its conversations stay on the bundle that they began on.
//!
//! Each agent keeps its conversations in its memory, so that one which hops is refused there or forgotten. Nothing in agents
//! or clients is made for colorfast.

use anyhow::{Context, Result, bail, ensure};
use integration::numbers::from_environment;
use integration::sdk::{Agents, Client, Line, NODE, Turn};
use integration::{Balancer, Envoy, Mesh, Sdk, scenario};
use serde_json::{Value, json};

/// Turns of every conversation while a verb is carried out, and as many after it.
const TURNS: u32 = 4;
/// Conversations of each way to talk that begin at a time, unless `COLORFAST_CONVERSATIONS` says otherwise.
const CONVERSATIONS: usize = 1;

/// Clients of one SDK, and the agent that they talk to.
struct Clients {
    /// Where the packages of the agent and of the client are listed, and what each runs.
    agent: (&'static str, &'static str),
    client: (&'static str, &'static str),
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
    /// It is answered by the other bundle, to which the client sends all that was said.
    Moved,
    /// One of these, or it begins anew without a word.
    Any,
}

/// The parts that a story is about.
struct Stage {
    client: Client,
    mesh: Mesh,
    balancer: Balancer,
    envoys: [Envoy; 2],
    _agents: Agents,
    _sdks: [Sdk; 2],
}

impl Clients {
    async fn stage(&self) -> Result<Stage> {
        let sdks = [Sdk::of(self.agent.0)?, Sdk::of(self.client.0)?];
        let client = sdks[1].client(self.client.1)?;
        let balancer = Balancer::start().await?;
        // An agent of A2A tells clients where they reach it.
        let url = self.url(&balancer);
        let options: &[&str] = if self.agent.1 == "a2a_agent.py" { &["--url", &url] } else { &[] };
        let agents = sdks[0].serve(self.agent.1, &["b-1", "g-1"], options);
        let mesh = Mesh::with(self.settings.clone(), &[("blue", "b-1"), ("green", "g-1")]);
        let (agents, mesh) = tokio::try_join!(agents, mesh)?;
        let start = async |node: &str| {
            let config = mesh.config(node)?.agent("blue", agents.addresses[0]).agent("green", agents.addresses[1]);
            Envoy::start(config).await
        };
        let envoys: [Envoy; 2] = tokio::try_join!(start("edge-1"), start("edge-2"))?.into();
        mesh.until_current(2).await?;
        balancer.spread(&envoys.each_ref().map(Envoy::address));
        Ok(Stage { client, mesh, balancer, envoys, _agents: agents, _sdks: sdks })
    }

    fn url(&self, balancer: &Balancer) -> String {
        format!("http://{}{}", balancer.address(), self.path)
    }

    /// Conversations of each way to talk that begin now, at the proxies in turn.
    async fn begin(&self, stage: &mut Stage, when: &str) -> Result<Vec<String>> {
        let url = self.url(&stage.balancer);
        let mut talks = Vec::new();
        for (way, options) in self.ways {
            for number in 0..from_environment("COLORFAST_CONVERSATIONS", CONVERSATIONS)? {
                let name = format!("{when} {way} {number}");
                stage.client.begin(&name, &url, options)?;
                talks.push(name);
            }
        }
        stage.go_on(&talks).await?;
        Ok(talks)
    }

    /// Kept: conversations whose requests go to two Envoys in turn, each at once after the answer before, stay where they
    /// began, through a ramp to one half and a switch; those of a bundle that is given up are lost, and no others.
    async fn are_kept(self) -> Result<()> {
        self.turns_kept().await.map(drop)
    }

    /// The same; answers all turns that were answered.
    async fn turns_kept(self) -> Result<Vec<Turn>> {
        let mut stage = self.stage().await?;
        let mut talks = self.begin(&mut stage, "before").await?;
        stage.go_on_while(&talks, "ramp green 50%").await?;
        talks.extend(self.begin(&mut stage, "in the ramp").await?);
        stage.go_on(&talks).await?;
        stage.go_on_while(&talks, "switch green").await?;
        talks.extend(self.begin(&mut stage, "after").await?);
        stage.go_on(&talks).await?;
        stage.no_hops(&talks)?;

        let (mut kept, mut lost): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
        for name in &talks {
            let turns = stage.client.turns(name)?;
            let first = &*turns.first().context("a conversation without a turn")?.bundle;
            ensure!(!name.starts_with("before") || first == "b-1", "{name} began on {first}");
            ensure!(!name.starts_with("after") || first == "g-1", "{name} began on {first}");
            if first == "b-1" { kept.push(name.clone()) } else { lost.push(name.clone()) }
        }
        stage.mesh.does("rollback").await?;
        stage.client.order(&lost, 1)?;
        for name in &lost {
            let left = stage.client.left(name, "g-1").await?;
            self.loss.is(&left).with_context(|| name.clone())?;
        }
        stage.go_on(&kept).await?;
        stage.no_hops(&kept)?;
        let passed = stage.balancer.passed();
        ensure!(passed.iter().all(|passed| *passed > u64::from(TURNS)), "requests went to {passed:?}");
        for envoy in &stage.envoys {
            envoy.expect_no_crash().await?;
        }
        talks.iter().map(|name| stage.client.turns(name)).collect::<Result<Vec<_>>>().map(|turns| turns.concat())
    }
}

impl Stage {
    /// Waits for more turns of every conversation.
    async fn go_on(&mut self, talks: &[String]) -> Result<()> {
        still_kept(&self.client.go_on(talks, TURNS).await?)
    }

    /// The same, while the operator does something.
    async fn go_on_while(&mut self, talks: &[String], verb: &str) -> Result<()> {
        let (_, turns) = tokio::try_join!(self.mesh.does(verb), self.client.go_on(talks, TURNS))?;
        still_kept(&turns)?;
        self.go_on(talks).await
    }

    /// Tells how the conversations went, and fails where one of them was answered by two bundles or forgotten.
    fn no_hops(&self, talks: &[String]) -> Result<()> {
        let mut moved = Vec::new();
        let (mut all, mut hops, mut lost) = (0, 0, 0);
        for name in talks {
            let turns = self.client.turns(name)?;
            let hopped = turns.windows(2).filter(|pair| pair[0].bundle != pair[1].bundle).count();
            let forgotten = turns.iter().filter(|turn| !turn.kept).count();
            (all, hops, lost) = (all + turns.len(), hops + hopped, lost + forgotten);
            if hopped + forgotten > 0 {
                moved.push(format!("{name}: {hopped} of {}, {forgotten} forgotten", turns.len()));
            }
        }
        println!("{} conversations, {all} turns, {hops} hops, {lost} forgotten", talks.len());
        ensure!(moved.is_empty(), "conversations were not kept: {moved:#?}");
        Ok(())
    }
}

fn still_kept(turns: &[Turn]) -> Result<()> {
    let forgotten = turns.iter().find(|turn| !turn.kept);
    ensure!(forgotten.is_none(), "a conversation was forgotten: {forgotten:?}");
    Ok(())
}

impl Loss {
    /// Whether that is how conversations leave a bundle which is given up.
    fn is(self, left: &Line) -> Result<()> {
        match (self, left) {
            (Self::Refused(words), Line::End(broken)) => ensure!(broken.broken.contains(words), "{broken:?}"),
            (Self::Moved, Line::Answer(turn)) => ensure!(turn.kept, "{turn:?}"),
            (Self::Any, _) => {}
            _ => bail!("it was lost in another way: {left:?}"),
        }
        Ok(())
    }
}

/// Where the SDKs of MCP 1 are listed.
const MCP_1: &str = "requirements.txt";
/// Where all other SDKs for Python are.
const PYTHON: &str = "clients.txt";

/// Settings for agents of one API.
fn settings_for(api: &str) -> Value {
    let memory = json!({"ask_wait_ms": 1_000});
    match api {
        "mcp" => {
            json!({"session_sources": [{"header": "mcp-session-id"}], "pin": {"header": "never", "cookie": "always"}})
        }
        "openai-responses" => json!({
            "session_sources": [
                {"body": "/previous_response_id"}, {"body": "/conversation"}, {"body": "/conversation/id"},
                {"path": "/v1/responses/{session}"}, {"path": "/v1/conversations/{session}"},
            ],
            "learn_from": [{"body": "/id"}, {"event": "/response/id"}],
            "pin": no_carrier(), "memory": memory,
        }),
        "a2a" => json!({
            "session_sources": [
                {"body": "/params/message/contextId"}, {"body": "/message/contextId"}, {"body": "/request/context_id"},
                {"body": "/params/id"}, {"path": "/tasks/{session}"}, {"path": "/v1/tasks/{session}"},
            ],
            "learn_from": [
                {"body": "/result/task/contextId"}, {"body": "/result/task/id"}, {"body": "/result/message/contextId"},
                {"body": "/result/contextId"}, {"body": "/result/id"},
                {"event": "/result/task/contextId"}, {"event": "/result/task/id"}, {"event": "/result/contextId"},
            ],
            "pin": no_carrier(), "memory": memory,
        }),
        "langgraph" => json!({
            "session_sources": [{"path": "/threads/{session!search!count}"}],
            "learn_from": [{"body": "/thread_id"}],
            "pin": no_carrier(), "memory": memory,
        }),
        "anthropic" => json!({
            "session_sources": [{"body": "/container"}, {"body": "/metadata/user_id"}],
            "learn_from": [{"body": "/container/id"}, {"event": "/delta/container/id"}],
            "pin": {"header": "never", "cookie": "always"}, "memory": memory,
        }),
        _ => json!({"session_sources": [], "pin": {"header": "never", "cookie": "always"}}),
    }
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
        agent: (MCP_1, "mcp_agent.py"),
        client: (MCP_1, "mcp_client.py"),
        path: "/mcp",
        settings: json!({
            "session_sources": [{"header": "mcp-session-id"}], "pin": no_carrier(), "memory": {"ask_wait_ms": 0},
        }),
        ways: &[("by envelope", &["--forget-cookies"])],
        loss: Loss::Refused("Session terminated"),
    };
    scenario(async move {
        for turn in clients.turns_kept().await? {
            let held = turn.held.as_ref().context("the client holds an id")?;
            ensure!(*held != turn.session && turn.session.len() == 32, "the agent saw the envelope: {turn:?}");
        }
        Ok(())
    });
}

/// A client of the MCP SDK 2 speaks a protocol without sessions by default: it is held by the cookie that its HTTP library
/// keeps.
#[test]
fn mcp_2_is_kept_by_its_cookie() {
    let clients = Clients {
        agent: (PYTHON, "stateless_agent.py"),
        client: (PYTHON, "stateless_client.py"),
        path: "/mcp",
        settings: settings_for("mcp"),
        ways: &[("by cookie", &[])],
        loss: Loss::Refused("unknown conversation"),
    };
    scenario(clients.are_kept());
}

/// A client of the MCP SDK 2 that is asked for the protocol before has a session again.
#[test]
fn mcp_2_is_kept_by_its_session_where_it_has_one() {
    let clients = Clients {
        agent: (MCP_1, "mcp_agent.py"),
        client: (PYTHON, "stateless_client.py"),
        path: "/mcp",
        settings: settings_for("mcp"),
        ways: &[("legacy", &["--mode", "legacy"])],
        loss: Loss::Refused(""),
    };
    scenario(clients.are_kept());
}

/// The SDKs for JavaScript keep no cookies: their sessions are held by the id alone, as are those of mcp-remote, which
/// opens another one before, to see what it talks to.
#[test]
fn mcp_in_javascript_is_kept_by_its_session() {
    let clients = Clients {
        agent: (MCP_1, "mcp_agent.py"),
        client: (NODE, "mcp_client.mjs"),
        path: "/mcp",
        settings: settings_for("mcp"),
        ways: &[("sdk 1", &["--sdk", "1"]), ("sdk 2", &["--sdk", "2"]), ("remote", &["--sdk", "remote"])],
        loss: Loss::Any,
    };
    scenario(clients.are_kept());
}

/// Learning: a client of the OpenAI SDK names the last answer or the conversation, and asks for either by its path; the
/// agent made these ids, in an answer or in the first event of a stream, and the proxy that is asked next has never seen
/// them.
#[test]
fn openai_responses_are_kept_by_any_of_their_ids() {
    let clients = Clients {
        agent: (PYTHON, "openai_agent.py"),
        client: (PYTHON, "openai_client.py"),
        path: "/v1",
        settings: settings_for("openai-responses"),
        ways: &[
            ("whole", &[]),
            ("streamed", &["--stream"]),
            ("in a conversation", &["--by", "conversation"]),
            ("in a conversation, streamed", &["--by", "conversation", "--stream"]),
        ],
        loss: Loss::Refused("not"),
    };
    scenario(clients.are_kept());
}

/// Chat completions carry no id: the SDK for Python keeps the cookie.
#[test]
fn openai_chat_is_kept_by_its_cookie() {
    let clients = Clients {
        agent: (PYTHON, "openai_agent.py"),
        client: (PYTHON, "openai_client.py"),
        path: "/v1",
        settings: settings_for("openai-chat"),
        ways: &[("whole", &["--by", "chat"]), ("streamed", &["--by", "chat", "--stream"])],
        loss: Loss::Moved,
    };
    scenario(clients.are_kept());
}

/// Messages carry no id unless the client sets one, or tools run in a container: the cookie, the metadata, the container.
#[test]
fn anthropic_is_kept_by_cookie_metadata_and_container() {
    let clients = Clients {
        agent: (PYTHON, "messages_agent.py"),
        client: (PYTHON, "messages_client.py"),
        path: "",
        settings: settings_for("anthropic"),
        ways: &[
            ("by cookie", &[]),
            ("by metadata", &["--by", "metadata", "--stream"]),
            ("in a container", &["--by", "container"]),
            ("in a container, streamed", &["--by", "container", "--stream"]),
        ],
        loss: Loss::Any,
    };
    scenario(clients.are_kept());
}

/// A thread is named in the path of all that is asked of it.
#[test]
fn langgraph_is_kept_by_its_thread() {
    let clients = Clients {
        agent: (PYTHON, "langgraph_agent.py"),
        client: (PYTHON, "langgraph_client.py"),
        path: "",
        settings: settings_for("langgraph"),
        ways: &[("waits", &[]), ("streams", &["--by", "stream"]), ("joins", &["--by", "background"])],
        loss: Loss::Refused("not found"),
    };
    scenario(clients.are_kept());
}

/// Learning: a client of the A2A SDK repeats the `contextId` that the agent made in its first answer, in either protocol, by
/// JSON-RPC, as part of a task, of a message or of a stream, and asks for its tasks by their own ids.
#[test]
fn a2a_is_kept_by_its_context_id() {
    let clients = Clients {
        agent: (PYTHON, "a2a_agent.py"),
        client: (PYTHON, "a2a_client.py"),
        path: "/",
        settings: settings_for("a2a"),
        ways: &[
            ("in tasks", &["--ask"]),
            ("in a stream", &["--stream", "--ask"]),
            ("in messages", &["--messages"]),
            ("of 0.3 in tasks", &["--protocol", "0.3"]),
            ("of 0.3 in a stream", &["--protocol", "0.3", "--stream"]),
        ],
        loss: Loss::Any,
    };
    scenario(clients.are_kept());
}
