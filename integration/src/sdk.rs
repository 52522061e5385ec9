//! Agents and clients of SDKs that exist in Python or JavaScript only: scripts of `integration/python` and
//! `integration/node`, which tell what happens in lines of JSON.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{ChildStdin, Command};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
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

/// A script that serves as agents, one a bundle, each with a memory of its own.
#[derive(Debug)]
pub struct Agents {
    /// Where they listen, in the order of their bundles.
    pub addresses: Vec<SocketAddr>,
    _script: Script,
}

/// A script that holds conversations, side by side, each with a client of the SDK of its own.
#[derive(Debug)]
pub struct Client {
    script: Script,
    orders: ChildStdin,
    /// How many turns each conversation was told to make in all.
    ordered: BTreeMap<String, u32>,
}

/// An answer that a client got.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// The conversation's name.
    pub talk: String,
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
    /// The conversation's name.
    pub talk: String,
    /// Why.
    pub broken: String,
    /// In which turn.
    pub turn: u32,
}

/// What a client tells of a conversation.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// It was answered.
    Answer(Turn),
    /// It broke.
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

    /// Starts agents of these bundles, and waits until they listen.
    ///
    /// # Errors
    /// Where they do not.
    pub async fn serve(&self, script: &str, bundles: &[&str], options: &[&str]) -> Result<Agents> {
        #[derive(Deserialize)]
        struct Listening {
            ports: Vec<u16>,
        }
        let (mut script, _) = self.run(script, &[bundles, options].concat())?;
        let listening: Listening = script.until("ports", |line| Ok(Some(line))).await?;
        let addresses = listening.ports.into_iter().map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect();
        Ok(Agents { addresses, _script: script })
    }

    /// Starts a client, which holds no conversation yet.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn client(&self, script: &str) -> Result<Client> {
        let (script, orders) = self.run(script, &[])?;
        Ok(Client { script, orders, ordered: BTreeMap::new() })
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Result<(Script, ChildStdin)> {
        let mut command = self.command(script);
        command.args(arguments);
        let log = tempfile::Builder::new().prefix(script).suffix(".log").tempfile_in(&self.logs)?;
        let (process, orders) = Process::spawn_told(script, &mut command, &log.into_temp_path().keep()?)?;
        Ok((Script { process }, orders))
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

impl Client {
    /// Begins a conversation under a name of its own, which says nothing yet.
    ///
    /// # Errors
    /// Where the client has ended.
    pub fn begin(&mut self, name: &str, url: &str, options: &[&str]) -> Result<()> {
        self.ordered.insert(name.to_owned(), 0);
        let options = [&[url], options].concat();
        self.tell(&json!({"begin": name, "options": options}))
    }

    /// Has conversations make so many turns more, each at once after the answer before, and does not wait for them.
    ///
    /// # Errors
    /// Where there is no such conversation, or the client has ended.
    pub fn order(&mut self, names: &[String], turns: u32) -> Result<()> {
        for name in names {
            *self.ordered.get_mut(name).with_context(|| format!("nobody has begun {name}"))? += turns;
        }
        self.tell(&json!({"go_on": names, "turns": turns}))
    }

    /// Waits for all turns that these conversations were told to make; answers the last of each.
    ///
    /// # Errors
    /// Where one of them breaks, or its turns do not come.
    pub async fn answered(&mut self, names: &[String]) -> Result<Vec<Turn>> {
        let mut answered = Vec::new();
        for name in names {
            let last = self.ordered.get(name).copied().unwrap_or_default();
            let wanted = |line: Line| match line {
                Line::Answer(turn) if (&*turn.talk, turn.turn) == (&**name, last) => Ok(Some(turn)),
                Line::End(broken) if broken.talk == *name => bail!("{broken:?}"),
                Line::Answer(_) | Line::End(_) => Ok(None),
            };
            answered.push(self.script.until(&format!("turn {last} of {name}"), wanted).await?);
        }
        Ok(answered)
    }

    /// Has conversations make so many turns more, and waits for them; answers the last of each.
    ///
    /// # Errors
    /// As [`Client::order`] and [`Client::answered`].
    pub async fn go_on(&mut self, names: &[String], turns: u32) -> Result<Vec<Turn>> {
        self.order(names, turns)?;
        self.answered(names).await
    }

    /// Waits until a conversation that was told to go on does so no longer: it breaks, or another bundle than this answers.
    ///
    /// # Errors
    /// Where neither happens.
    pub async fn left(&mut self, name: &str, bundle: &str) -> Result<Line> {
        let found = |line: Line| {
            let left = match &line {
                Line::Answer(turn) => turn.talk == name && turn.bundle != bundle,
                Line::End(broken) => broken.talk == name,
            };
            Ok(left.then_some(line))
        };
        self.script.until(&format!("{name} to leave {bundle}"), found).await
    }

    /// All turns of a conversation that were answered.
    ///
    /// # Errors
    /// Where the client said something else than lines of JSON.
    pub fn turns(&self, name: &str) -> Result<Vec<Turn>> {
        let turns = self.script.lines()?.into_iter().filter_map(|line| match line {
            Line::Answer(turn) => (turn.talk == name).then_some(turn),
            Line::End(_) => None,
        });
        Ok(turns.collect())
    }

    fn tell(&mut self, order: &Value) -> Result<()> {
        let told = writeln!(self.orders, "{order}");
        self.script.process.must_run()?;
        told.context("the client hears nothing")
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
