//! Agents and clients of SDKs that exist in Python or JavaScript only: scripts of `integration/python` and
//! `integration/node`, which tell what happens in lines of JSON.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::process::Process;
use crate::{node, python, wait};

/// The list of the SDKs for JavaScript.
pub const NODE: &str = "package-lock.json";

/// SDKs that are installed together, pinned with all that they need.
#[derive(Debug)]
pub struct Sdk {
    language: Language,
    packages: PathBuf,
    logs: TempDir,
}

#[derive(Clone, Copy, Debug)]
enum Language {
    Python,
    JavaScript,
}

/// A script that serves as an agent.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    _script: Script,
}

/// A script that holds a conversation.
#[derive(Debug)]
pub struct Talk {
    script: Script,
}

/// An answer that a client got.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Its number, from 1.
    pub turn: u32,
    /// The bundle of the agent that answered.
    pub bundle: String,
    /// The conversation, as that agent calls it.
    pub session: String,
    /// The conversation, as the client calls it, where that may be another name.
    pub held: Option<String>,
    /// The agent remembers all that was said.
    pub kept: bool,
}

/// The end of a conversation that broke.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broken {
    /// Why.
    pub broken: String,
    /// In which turn.
    pub turn: u32,
}

/// A line of a client.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Answer(Turn),
    End(Broken),
}

impl Sdk {
    /// Installs what a list of versions names, once: see [`python::packages`] and, for a lock file of npm,
    /// [`node::packages`].
    ///
    /// # Errors
    /// Where it cannot be.
    pub fn of(list: &str) -> Result<Self> {
        let logs = tempfile::Builder::new().prefix("colorfast-sdk-").tempdir()?;
        let (language, packages) = if list == NODE {
            (Language::JavaScript, node::packages()?)
        } else {
            (Language::Python, python::packages(list)?)
        };
        Ok(Self { language, packages, logs })
    }

    /// Starts an agent of a bundle, and waits until it listens.
    ///
    /// # Errors
    /// Where it does not.
    pub async fn serve(&self, script: &str, bundle: &str, options: &[&str]) -> Result<Server> {
        #[derive(Deserialize)]
        struct Listening {
            port: u16,
        }
        let mut script = self.run(bundle, script, &[&[bundle], options].concat())?;
        let listening: Listening = script.until("a port", |line| Ok(Some(line))).await?;
        Ok(Server { address: (Ipv4Addr::LOCALHOST, listening.port).into(), _script: script })
    }

    /// Starts a client under a name of its own, which talks without end unless its options say otherwise.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn talk(&self, script: &str, name: &str, url: &str, options: &[&str]) -> Result<Talk> {
        Ok(Talk { script: self.run(name, script, &[&[url], options].concat())? })
    }

    fn run(&self, name: &str, script: &str, arguments: &[&str]) -> Result<Script> {
        let mut command = self.command(script);
        command.args(arguments);
        let log = self.logs.path().join(format!("{name}.log"));
        let process = Process::spawn(&format!("{script} ({name})"), &mut command, &log)?;
        Ok(Script { process })
    }

    fn command(&self, script: &str) -> Command {
        let (mut command, scripts) = match self.language {
            Language::Python => (python::python(&self.packages), python::scripts()),
            Language::JavaScript => (node::node(&self.packages), node::scripts()),
        };
        command.arg(scripts.join(script));
        command
    }
}

impl Talk {
    /// Waits for a turn of a conversation that must not break before.
    ///
    /// # Errors
    /// Where it breaks, or the turn does not come.
    pub async fn turn(&mut self, number: u32) -> Result<Turn> {
        let what = format!("turn {number}");
        let wanted = |line: Line| match line {
            Line::Answer(turn) if turn.turn == number => Ok(Some(turn)),
            Line::Answer(_) => Ok(None),
            Line::End(broken) => bail!("{broken:?}"),
        };
        self.script.until(&what, wanted).await
    }

    /// Waits for so many turns more.
    ///
    /// # Errors
    /// As [`Talk::turn`].
    pub async fn go_on(&mut self, turns: u32) -> Result<Turn> {
        let last = self.turns()?.last().map_or(0, |turn| turn.turn);
        self.turn(last + turns).await
    }

    /// Waits until the agent refuses to go on.
    ///
    /// # Errors
    /// Where it does not.
    pub async fn broken(&mut self) -> Result<Broken> {
        let wanted = |line: Line| match line {
            Line::Answer(_) => Ok(None),
            Line::End(broken) => Ok(Some(broken)),
        };
        self.script.until("the conversation to break", wanted).await
    }

    /// Waits for a turn that is `wanted`.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Turn) -> bool) -> Result<Turn> {
        let found = |line: Line| match line {
            Line::Answer(turn) => Ok(wanted(&turn).then_some(turn)),
            Line::End(broken) => bail!("{broken:?}"),
        };
        self.script.until(what, found).await
    }

    /// Waits until the conversation breaks, or another bundle than this answers.
    ///
    /// # Errors
    /// Where neither happens.
    pub async fn left(&mut self, bundle: &str) -> Result<()> {
        let found = |line: Line| match line {
            Line::Answer(turn) => Ok((turn.bundle != bundle).then_some(())),
            Line::End(_) => Ok(Some(())),
        };
        self.script.until("the conversation to leave its bundle", found).await
    }

    /// All turns that were answered.
    ///
    /// # Errors
    /// Where the client said something else than lines of JSON.
    pub fn turns(&self) -> Result<Vec<Turn>> {
        let turns = self.script.lines()?.into_iter().filter_map(|line| match line {
            Line::Answer(turn) => Some(turn),
            Line::End(_) => None,
        });
        Ok(turns.collect())
    }
}

/// A script that runs.
#[derive(Debug)]
struct Script {
    process: Process,
}

impl Script {
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
