//! A real client: the official MCP Python SDK, server and streamable-HTTP client, through the real Envoy.
//!
//! Nothing in either is made for colorfast: the client keeps cookies because its HTTP library does.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail, ensure};
use integration::process::Process;
use integration::{Envoy, Mesh, python, scenario, wait};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tempfile::TempDir;

/// One conversation is held through a switch by the server that began it, by its pin or, of a client that forgets its
/// cookies, by the memory of the proxy; who comes later lands on the new one. Only where pins are broken is the thread
/// lost.
#[test]
fn an_mcp_conversation_is_kept_through_a_switch() {
    scenario(async {
        let python = Python::with_the_sdk()?;
        let (blue, green) = (python.agent("b-1").await?, python.agent("g-1").await?);
        let settings = json!({"session_sources": [{"header": "mcp-session-id"}], "pin": {"cookie": "always"}});
        let mesh = Mesh::with(settings, &[("blue", "b-1"), ("green", "g-1")]).await?;
        let config = mesh.config("envoy-1")?.agent("blue", blue.address).agent("green", green.address);
        let envoy = mesh.join(config).await?;

        let mut keeping = python.client("keeping", &envoy, &[])?;
        let mut forgetting = python.client("forgetting", &envoy, &["--forget-cookies"])?;
        let first = keeping.turn(10).await?;
        ensure!(first.bundle == "b-1" && forgetting.turn(10).await?.bundle == "b-1");
        mesh.does("switch green").await?;

        let later = keeping.turn(keeping.last()? + 20).await?;
        ensure!((&later.bundle, &later.session) == (&first.bundle, &first.session), "{first:?} went on as {later:?}");
        ensure!(keeping.lines::<Line>()?.into_iter().all(|line| matches!(line, Line::Answer(turn) if turn.kept)));

        let newcomer = python.client("new", &envoy, &["--turns", "3"])?.turn(3).await?;
        ensure!(newcomer.bundle == "g-1" && newcomer.kept, "{newcomer:?}");

        let remembered = forgetting.turn(forgetting.last()? + 20).await?;
        ensure!(remembered.bundle == "b-1" && remembered.kept, "{remembered:?}");

        mesh.does("migrate blue").await?;
        let lost = forgetting.broken().await?;
        ensure!(lost.broken == "Session terminated" && lost.turn > 10, "{lost:?}");
        Ok(())
    });
}

/// A Python that finds the SDK.
struct Python {
    packages: PathBuf,
    logs: TempDir,
}

impl Python {
    /// Installs the SDK, pinned with all that it needs, into `build/python`: once for each list of versions.
    fn with_the_sdk() -> Result<Self> {
        let logs = tempfile::Builder::new().prefix("colorfast-mcp-").tempdir()?;
        Ok(Self { packages: python::packages("requirements.txt")?, logs })
    }

    /// Starts an agent of a bundle, and waits until it listens.
    async fn agent(&self, bundle: &str) -> Result<Agent> {
        #[derive(Deserialize)]
        struct Listening {
            port: u16,
        }
        let mut child = self.run(bundle, "mcp_agent.py", &[bundle])?;
        let listening: Listening = child.until("a port", |line| Ok(Some(line))).await?;
        Ok(Agent { address: (Ipv4Addr::LOCALHOST, listening.port).into(), _child: child })
    }

    /// Starts a client that talks through an Envoy.
    fn client(&self, name: &str, envoy: &Envoy, options: &[&str]) -> Result<Child> {
        let url = format!("http://{}/mcp", envoy.address());
        self.run(name, "mcp_client.py", &[&[url.as_str()], options].concat())
    }

    fn run(&self, name: &str, script: &str, arguments: &[&str]) -> Result<Child> {
        let mut command = python::python(&self.packages);
        command.arg(python::scripts().join(script)).args(arguments);
        let log = self.logs.path().join(format!("{name}.log"));
        let process = Process::spawn(&format!("{script} ({name})"), &mut command, &log)?;
        Ok(Child { process })
    }
}

/// An agent that runs.
struct Agent {
    address: SocketAddr,
    _child: Child,
}

/// A script that runs, and tells what happens in lines of JSON.
struct Child {
    process: Process,
}

/// An answer that a client got.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    turn: u32,
    /// The bundle of the agent that answered.
    bundle: String,
    /// The session, as that agent calls it.
    session: String,
    /// The agent remembers all that was said.
    kept: bool,
}

/// The end of a conversation that broke.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Broken {
    broken: String,
    turn: u32,
}

/// A line of a client.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Answer(Turn),
    End(Broken),
}

impl Child {
    /// Waits for a turn of a conversation that must not break before.
    async fn turn(&mut self, number: u32) -> Result<Turn> {
        self.until(&format!("turn {number}"), |line: Line| match line {
            Line::Answer(turn) if turn.turn == number => Ok(Some(turn)),
            Line::Answer(_) => Ok(None),
            Line::End(broken) => bail!("{broken:?}"),
        })
        .await
    }

    /// Waits until the conversation breaks.
    async fn broken(&mut self) -> Result<Broken> {
        self.until("the conversation to break", |line: Line| match line {
            Line::Answer(_) => Ok(None),
            Line::End(broken) => Ok(Some(broken)),
        })
        .await
    }

    /// The latest turn that was answered.
    fn last(&self) -> Result<u32> {
        let turns = self.lines()?.into_iter().filter_map(|line| match line {
            Line::Answer(turn) => Some(turn.turn),
            Line::End(_) => None,
        });
        turns.max().context("no turn was answered")
    }

    /// Waits for the first line that is `wanted`; where that is an error, waiting longer cannot help.
    async fn until<L: DeserializeOwned, T>(
        &mut self,
        what: &str,
        wanted: impl Fn(L) -> Result<Option<T>>,
    ) -> Result<T> {
        wait::until_ok(what, wait::LIMIT, || {
            let found = self.find(&wanted);
            async move { found?.map_err(|error| wait::Never(format!("{error:#}")).into()) }
        })
        .await
    }

    /// The first line that is `wanted`, or why there will be none; an error where there is none yet.
    fn find<L: DeserializeOwned, T>(&mut self, wanted: impl Fn(L) -> Result<Option<T>>) -> Result<Result<T>> {
        // Its end is looked at first: what it said last was said before that.
        let running = self.process.must_run();
        for line in self.lines()? {
            if let Some(found) = wanted(line).transpose() {
                return Ok(found);
            }
        }
        running?;
        Err(anyhow!("it has not said so"))
    }

    /// Every whole line of JSON so far; the log holds the words of the SDK, too.
    fn lines<L: DeserializeOwned>(&self) -> Result<Vec<L>> {
        let text = fs::read_to_string(self.process.log())?;
        let whole = text.split_inclusive('\n').filter(|line| line.starts_with('{') && line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).with_context(|| format!("{line:?} is no line of ours"))).collect()
    }
}
