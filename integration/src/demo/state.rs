//! The other demo: agents that keep nothing in their process. Two bundles share one file, the layout of which changes
//! while both serve: `docs/examples/state`, as it stands there.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;

use super::operator::Colorfast;
use super::options::Options;
use super::screen::{Screen, Stream};
use super::world::{BLUE, GREEN, SIDES, Side};
use crate::http::{Call, Line, Protocol};
use crate::ports::Port;
use crate::process::Process;
use crate::{Envoy, names, paths, wait};

/// Turns of every conversation between two steps.
const TURNS: usize = 2;

/// What became of the conversations.
#[derive(Debug, Default, Serialize)]
pub struct Verdict {
    conversations: usize,
    turns: usize,
    /// Turns whose agent did not remember all that was said before.
    forgotten: usize,
    /// Turns that another bundle served than the one where the conversation belonged.
    strayed: usize,
}

/// An answer of an agent.
#[derive(Deserialize)]
struct Reply {
    bundle: String,
    said: Vec<String>,
}

/// A conversation, as its client knows it. It echoes nothing but its own id.
struct Talk {
    name: String,
    said: Vec<String>,
}

/// All that runs, and who talks.
struct Stage {
    screen: Screen,
    line: Line,
    /// Those that began on blue, and those that began on green.
    early: Vec<Talk>,
    late: Vec<Talk>,
    verdict: Verdict,
    _envoy: Envoy,
    agents: [Option<Process>; 2],
    ports: [Port; 2],
    colorfast: Colorfast,
    desk: TempDir,
}

/// Who talks.
#[derive(Clone, Copy)]
enum Who {
    Early,
    Late,
    All,
}

impl Verdict {
    /// Whether nothing that was said got lost, and nobody was anywhere else than wanted.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.forgotten == 0 && self.strayed == 0 && self.turns > 0
    }

    fn text(&self) -> String {
        let Self { conversations, turns, forgotten, strayed } = self;
        let end = if self.holds() { "Nothing that was said was forgotten." } else { "Not kept." };
        format!("\n{conversations} conversations, {turns} turns: {forgotten} forgotten, {strayed} strayed. {end}")
    }
}

/// Plays it from its start to its verdict.
///
/// # Errors
/// Where anything does not start, a step is refused, or one that must be refused is not.
pub async fn play(options: &Options) -> Result<Verdict> {
    let screen = Screen::new(if options.json { Stream::Err } else { Stream::Out });
    screen.tell("Blue's agent keeps its conversations in a file, each row under the id of its bundle.");
    let mut stage = Stage::start(screen, options.clients() / 4).await?;
    stage.talk(Who::Early, &BLUE).await?;

    stage
        .screen
        .tell("The next bundle lays its state out otherwise. First the file gets the new column beside the old one.");
    stage.change("expand", &[]).await?;
    stage.talk(Who::Early, &BLUE).await?;

    stage
        .screen
        .tell("The new bundle goes live on green. It fills both columns; blue leaves alone what it does not know.");
    stage.serve(&GREEN).await?;
    stage.commands(&["stage green chat-2.4", "switch green"]).await?;
    stage.talk(Who::Late, &GREEN).await?;
    stage.talk(Who::Early, &BLUE).await?;

    stage.screen.tell("The old column cannot go yet: blue reads it still, and would be where a rollback leads to.");
    stage.must_not_contract().await?;

    stage.screen.tell("Blue's agent dies and is started again. Its conversations are not in it.");
    stage.serve(&BLUE).await?;
    stage.talk(Who::Early, &BLUE).await?;

    stage.screen.tell("Green disappoints: its conversations go on at blue, which reads what green wrote.");
    stage.commands(&["rollback"]).await?;
    stage.talk(Who::All, &BLUE).await?;

    stage.screen.tell("Green again, for good: blue is left, and green reads what blue wrote meanwhile.");
    stage.recycle(&GREEN).await?;
    stage.commands(&["stage green chat-2.4", "switch green"]).await?;
    stage.talk(Who::All, &BLUE).await?;
    stage.commands(&["migrate blue"]).await?;
    stage.talk(Who::All, &GREEN).await?;

    stage.screen.tell("Blue is recycled. Nobody reads the old column any more: it goes, while green serves.");
    stage.recycle(&BLUE).await?;
    stage.change("contract", &["chat", BLUE.bundle]).await?;
    stage.talk(Who::All, &GREEN).await?;

    stage.screen.print(&stage.verdict.text());
    if options.json {
        println!("{}", serde_json::to_string_pretty(&stage.verdict)?);
    }
    Ok(stage.verdict)
}

impl Stage {
    async fn start(screen: Screen, each: usize) -> Result<Self> {
        let desk = tempfile::Builder::new().prefix("colorfast-state-").tempdir()?;
        let ports = [Port::reserve()?, Port::reserve()?];
        let colorfast = Colorfast::start(&screen).await?;
        let envoy = colorfast.start_envoy([ports[0].addr(), ports[1].addr()]).await?;
        let line = Line::new(envoy.address(), Protocol::Http1);
        let talks =
            |when: &str| (1..=each).map(|nth| Talk { name: format!("{when}-{nth}"), said: Vec::new() }).collect();
        let (early, late) = (talks("early"), talks("late"));
        let verdict = Verdict { conversations: 2 * each, ..Verdict::default() };
        let agents = [None, None];
        let mut stage = Self { screen, line, early, late, verdict, _envoy: envoy, agents, ports, colorfast, desk };
        stage.serve(&BLUE).await?;
        Ok(stage)
    }

    /// Starts the agent of a side, after killing the one that runs, and waits until it answers.
    async fn serve(&mut self, side: &'static Side) -> Result<()> {
        let at = usize::from(*side == *SIDES[1]);
        let layout = if *side == BLUE { "first" } else { "second" };
        self.agents[at] = None;
        let port = self.ports[at].addr();
        let arguments = format!(
            "agent.py --bundle {} --layout {layout} --state conversations.db --port {}",
            side.bundle,
            port.port()
        );
        self.screen.command(&format!("python3 {arguments}"));
        let mut command = self.python(&arguments);
        let log = self.desk.path().join(format!("{}.log", side.slot));
        let mut agent = Process::spawn(&format!("the agent of {}", side.slot), &mut command, &log)?;
        wait::until_ok("the agent to answer", wait::LIMIT, || {
            let running = agent.must_run();
            async move {
                running?;
                Call::get("/").send(port).await?;
                Ok(())
            }
        })
        .await?;
        self.agents[at] = Some(agent);
        Ok(())
    }

    /// Gives verbs to colorfast.
    async fn commands(&self, lines: &[&str]) -> Result<()> {
        for line in lines {
            self.screen.command(&format!("colorfast {line}"));
            self.screen.answer(&self.colorfast.run(line).await?);
        }
        Ok(())
    }

    /// Recycles a slot, as soon as it is accounted empty.
    async fn recycle(&self, side: &Side) -> Result<()> {
        let line = format!("recycle {}", side.slot);
        self.screen.command(&format!("colorfast {line}"));
        let told = wait::until_ok("the slot to be empty", wait::LIMIT, || self.colorfast.run(&line)).await?;
        self.screen.answer(&told);
        Ok(())
    }

    /// Changes the layout of the file, while nobody is asked to wait.
    async fn change(&mut self, verb: &str, more: &[&str]) -> Result<()> {
        let told = self.layout(verb, more).await?.map_err(|told| anyhow::anyhow!("{told}"))?;
        self.screen.answer(&told);
        Ok(())
    }

    async fn must_not_contract(&mut self) -> Result<()> {
        match self.layout("contract", &["chat", BLUE.bundle]).await? {
            Ok(told) => bail!("the old column is gone, though it is read: {told}"),
            Err(told) => {
                ensure!(told.contains("blue is draining"), "refused for another reason: {told}");
                self.screen.answer(&told);
                Ok(())
            }
        }
    }

    /// What `schema.py` said, as an error where it refused.
    async fn layout(&self, verb: &str, more: &[&str]) -> Result<Result<String, String>> {
        let arguments = [&["schema.py", verb, "conversations.db"], more].concat().join(" ");
        self.screen.command(&format!("python3 {arguments}"));
        let (control, token) = self.colorfast.control()?;
        let mut command = tokio::process::Command::from(self.python(&arguments));
        command.env("CONTROL", control).env("TOKEN", token).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.context("cannot run python3")?;
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).trim().to_owned());
        Ok(if output.status.success() { Ok(out) } else { Err(err) })
    }

    fn python(&self, arguments: &str) -> Command {
        let examples: PathBuf = paths::workspace().join("docs/examples/state");
        let (script, rest) = arguments.split_once(' ').unwrap_or((arguments, ""));
        let mut command = Command::new("python3");
        command.arg("-B").arg(examples.join(script)).args(rest.split(' ')).current_dir(self.desk.path());
        command
    }

    /// Some turns of conversations that all belong to one side.
    async fn talk(&mut self, who: Who, wanted: &Side) -> Result<()> {
        let Self { line, early, late, verdict, .. } = self;
        let (early, late): (&mut [Talk], &mut [Talk]) = match who {
            Who::Early => (early, &mut []),
            Who::Late => (&mut [], late),
            Who::All => (early, late),
        };
        let mut served = [0; 2];
        for _ in 0..TURNS {
            for talk in early.iter_mut().chain(late.iter_mut()) {
                talk.said.push(format!("turn {}", talk.said.len() + 1));
                let body = json!({"text": talk.said.last()}).to_string();
                let answer = line.send(&Call::post("/", body).header(names::SESSION, &talk.name)).await?;
                ensure!(answer.status == 200, "{} was answered {}: {}", talk.name, answer.status, answer.text());
                let reply: Reply = answer.json()?;
                verdict.turns += 1;
                verdict.forgotten += usize::from(reply.said != talk.said);
                verdict.strayed += usize::from(reply.bundle != wanted.bundle);
                let side = SIDES.iter().position(|side| side.bundle == reply.bundle).context("an agent of the demo")?;
                served[side] += 1;
            }
        }
        self.screen.answer(&format!("{} turns on blue, {} on green", served[0], served[1]));
        Ok(())
    }
}
