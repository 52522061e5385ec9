//! Real clients from their own packages, each through two Envoys in turn: whatever an SDK can send back, and be it an id
//! that the agent made, its conversations stay on the bundle that they began on.
//!
//! Agents keep conversations in their process, so that one which hops is refused there or forgotten. Nothing in agents or
//! clients is made for colorfast.

use anyhow::{Context, Result, ensure};
use integration::numbers::from_environment;
use integration::sdk::{NODE, Server, Talk};
use integration::{Balancer, Envoy, Mesh, Sdk, scenario};
use serde_json::{Value, json};

/// Turns between an event and the next.
const TURNS: u32 = 6;
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
    clients: Sdk,
    _agents: Sdk,
    mesh: Mesh,
    balancer: Balancer,
    agents: [Server; 2],
}

impl Clients {
    async fn stage(&self) -> Result<Stage> {
        let (list, script) = self.agent;
        let (sdk, clients) = (Sdk::of(list)?, Sdk::of(self.client.0)?);
        let balancer = Balancer::start().await?;
        // An agent of A2A tells clients where they reach it.
        let url = self.url(&balancer);
        let options: &[&str] = if script == "a2a_agent.py" { &[&url] } else { &[] };
        let agents = [sdk.serve(script, "b-1", options).await?, sdk.serve(script, "g-1", options).await?];
        let mesh = Mesh::with(self.settings.clone(), &[("blue", "b-1"), ("green", "g-1")]).await?;
        Ok(Stage { clients, _agents: sdk, mesh, balancer, agents })
    }

    fn url(&self, balancer: &Balancer) -> String {
        format!("http://{}{}", balancer.address(), self.path)
    }

    /// Conversations of each way to talk that begin now, at the proxies in turn.
    async fn begin(&self, stage: &Stage, when: &str) -> Result<Vec<(String, Talk)>> {
        let url = self.url(&stage.balancer);
        let mut talks = Vec::new();
        for (way, options) in self.ways {
            for number in 0..from_environment("COLORFAST_CONVERSATIONS", CONVERSATIONS)? {
                let name = format!("{when} {way} {number}");
                let options = [*options, &["--burst", "3", "--pause", "1"]].concat();
                talks.push((name.clone(), stage.clients.talk(self.client.1, &name, &url, &options)?));
            }
        }
        for (name, talk) in &mut talks {
            let turn = talk.turn(TURNS / 2).await.with_context(|| name.clone())?;
            ensure!(turn.kept, "{name} did not begin: {turn:?}");
        }
        Ok(talks)
    }

    /// Kept: conversations whose requests go to two Envoys in turn, each at once after the answer before, stay where they
    /// began, through a ramp to one half and a switch; those of a bundle that is given up are lost, and no others.
    async fn are_kept(self) -> Result<()> {
        let stage = self.stage().await?;
        let Stage { mesh, balancer, .. } = &stage;
        let mut envoys = Vec::new();
        for node in ["edge-1", "edge-2"] {
            let [blue, green] = &stage.agents;
            let config = mesh.config(node)?.agent("blue", blue.address).agent("green", green.address);
            envoys.push(mesh.join(config).await?);
        }
        balancer.spread(&envoys.iter().map(Envoy::address).collect::<Vec<_>>());

        let mut talks = self.begin(&stage, "before").await?;
        mesh.does("ramp green 50%").await?;
        talks.extend(self.begin(&stage, "in the ramp").await?);
        go_on(&mut talks).await?;
        mesh.does("switch green").await?;
        talks.extend(self.begin(&stage, "after").await?);
        go_on(&mut talks).await?;
        no_hops(&talks)?;

        let (mut kept, mut lost): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
        for (name, talk) in talks {
            let first =
                talk.turns()?.first().map(|turn| turn.bundle.clone()).context("a conversation without a turn")?;
            ensure!(!name.starts_with("before") || first == "b-1", "{name} began on {first}");
            ensure!(!name.starts_with("after") || first == "g-1", "{name} began on {first}");
            if first == "b-1" { kept.push((name, talk)) } else { lost.push((name, talk)) }
        }
        mesh.does("rollback").await?;
        for (name, talk) in &mut lost {
            self.loss.befalls(talk).await.with_context(|| name.clone())?;
        }
        go_on(&mut kept).await?;
        no_hops(&kept)?;
        let passed = balancer.passed();
        ensure!(passed.iter().all(|passed| *passed > u64::from(TURNS)), "requests went to {passed:?}");
        for envoy in &envoys {
            envoy.expect_no_crash().await?;
        }
        Ok(())
    }
}

/// Tells how the conversations went, and fails where one of them was answered by two bundles or forgotten.
fn no_hops(talks: &[(String, Talk)]) -> Result<()> {
    let mut moved = Vec::new();
    let (mut all, mut hops, mut lost) = (0, 0, 0);
    for (name, talk) in talks {
        let turns = talk.turns()?;
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

impl Loss {
    async fn befalls(self, talk: &mut Talk) -> Result<()> {
        match self {
            Self::Refused(words) => {
                let broken = talk.broken().await?;
                ensure!(broken.broken.contains(words), "{broken:?}");
            }
            Self::Moved => {
                let turn = talk.until("another bundle", |turn| turn.bundle == "b-1").await?;
                ensure!(turn.kept, "{turn:?}");
            }
            Self::Any => talk.left("g-1").await?,
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
        let stage = clients.stage().await?;
        let [blue, green] = &stage.agents;
        let config = stage.mesh.config("edge")?.agent("blue", blue.address).agent("green", green.address);
        let envoy = stage.mesh.join(config).await?;
        stage.balancer.spread(&[envoy.address()]);
        let (_, mut talk) = clients.begin(&stage, "shown").await?.remove(0);
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
