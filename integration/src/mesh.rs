//! A release on loopback, for tests that read like stories: a sidecar, an agent for every slot, and the operator.
//!
//! It begins as most stories do: the service `chat` is applied, blue is live with `b-1`, green is staged with `g-1`,
//! and no proxy is there yet. Proxies are started by [`Mesh::envoy`] and belong to the test.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::agent::{Agent, Reply};
use crate::command::Outcome;
use crate::envoy::{Envoy, EnvoyConfig};
use crate::http::{Answer, Call, Line, Protocol};
use crate::names;
use crate::sidecar::Sidecar;
use crate::wait;

/// The service that a mesh begins with.
pub const CHAT: &str = "chat";
/// Its slots, and the bundle in each.
pub const SLOTS: [(&str, &str); 2] = [("blue", "b-1"), ("green", "g-1")];

/// A sidecar, and an agent for every slot of its services.
#[derive(Debug)]
pub struct Mesh {
    /// The sidecar.
    pub sidecar: Sidecar,
    agents: BTreeMap<(String, String), Agent>,
}

/// A verb that every member has confirmed.
#[derive(Clone, Debug)]
pub struct Done {
    /// When the operator asked for it.
    pub asked: Instant,
    /// When the operator was told that every member has obeyed.
    pub told: Instant,
    /// From the append to the last acknowledgement, as the sidecar says.
    pub confirmed_after: Duration,
    /// How long proxies took to get ready before it; nothing where there was nothing to get ready for.
    pub prepared_after: Duration,
    /// The version that it made.
    pub version: u64,
}

impl Mesh {
    /// Blue with `b-1` live, green with `g-1` staged; pins travel by header and by cookie.
    ///
    /// # Errors
    /// Where a part does not start or a verb is refused.
    pub async fn start() -> Result<Self> {
        Self::with(json!({}), &SLOTS).await
    }

    /// [`Mesh::start`] with settings and slots of the test's choice, as in [`Mesh::add_service`].
    ///
    /// # Errors
    /// As [`Mesh::start`].
    pub async fn with(settings: Value, slots: &[(&str, &str)]) -> Result<Self> {
        Self::over(Sidecar::start().await?, settings, slots).await
    }

    /// [`Mesh::with`] a sidecar of the test's choice.
    ///
    /// # Errors
    /// As [`Mesh::start`].
    pub async fn over(sidecar: Sidecar, settings: Value, slots: &[(&str, &str)]) -> Result<Self> {
        let mut mesh = Self { sidecar, agents: BTreeMap::new() };
        mesh.add_service(CHAT, settings, slots).await?;
        Ok(mesh)
    }

    /// Adds a service: an agent for every slot, the first slot live, the second staged, any other idle. Settings that
    /// name no carrier get both; those that name no slots get the ones given here.
    ///
    /// # Errors
    /// Where an agent does not start or a verb is refused.
    pub async fn add_service(&mut self, service: &str, settings: Value, slots: &[(&str, &str)]) -> Result<()> {
        let mut document = json!({"service": service, "pin": {"cookie": "always"}});
        document["slots"] = slots.iter().map(|(slot, _)| *slot).collect();
        let (Some(all), Value::Object(given)) = (document.as_object_mut(), settings) else {
            bail!("settings are an object");
        };
        all.extend(given);
        self.apply(&document).await?.ok()?;
        for (slot, bundle) in slots {
            self.add_bundle(service, bundle).await?;
            self.agents.insert((service.to_owned(), (*slot).to_owned()), Agent::start(bundle).await?);
        }
        for (nth, (slot, bundle)) in slots.iter().take(2).enumerate() {
            self.cli(&format!("stage {slot} {bundle} --service {service}")).await?.ok()?;
            if nth == 0 {
                self.cli(&format!("switch {slot} --service {service}")).await?.ok()?;
            }
        }
        Ok(())
    }

    /// Applies a service file.
    ///
    /// # Errors
    /// Where the command cannot be run.
    pub async fn apply(&self, document: &Value) -> Result<Outcome> {
        let file = self.file("service.json", &document.to_string())?;
        self.sidecar.cli(["service", "apply", &file]).await
    }

    /// Adds a bundle, all parts of which are of the version that its id says.
    ///
    /// # Errors
    /// Where it is refused.
    pub async fn add_bundle(&self, service: &str, id: &str) -> Result<()> {
        let file = self.file("bundle.json", &json!({"id": id, "code": id, "prompts": id, "model": id}).to_string())?;
        self.sidecar.cli(["bundle", "add", &file, "--service", service]).await?.ok()?;
        Ok(())
    }

    /// Writes a file that a command takes, and answers its path.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.sidecar.data_dir().join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        path.into_os_string().into_string().ok().context("the path of a temporary folder is no text")
    }

    /// The agent of a slot of `chat`.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn agent(&self, slot: &str) -> &Agent {
        self.agent_of(CHAT, slot)
    }

    /// The agent of a slot of any service.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn agent_of(&self, service: &str, slot: &str) -> &Agent {
        &self.agents[&(service.to_owned(), slot.to_owned())]
    }

    /// Ends the agent of a slot of `chat`: from now on nobody listens there.
    pub fn stop_agent(&mut self, slot: &str) {
        self.agents.remove(&(CHAT.to_owned(), slot.to_owned()));
    }

    /// The configuration of a proxy of this mesh: two workers, the service `chat`, its agents and the sidecar.
    ///
    /// # Errors
    /// Where the shipped file or the token cannot be read.
    pub fn config(&self, node: &str) -> Result<EnvoyConfig> {
        let mut config = EnvoyConfig::shipped()?.node_id(node).sidecar(self.sidecar.discovery());
        for ((service, slot), agent) in &self.agents {
            if service == CHAT {
                config = config.agent(slot, agent.address());
            }
        }
        Ok(config.env("COLORFAST_TOKEN", &self.sidecar.discovery_token()?))
    }

    /// Starts a proxy, and waits until it decides by the newest snapshot.
    ///
    /// # Errors
    /// Where it does not start or does not get the snapshot.
    pub async fn envoy(&self, node: &str) -> Result<Envoy> {
        self.join(self.config(node)?).await
    }

    /// [`Mesh::envoy`] with a configuration of the test's choice.
    ///
    /// # Errors
    /// As [`Mesh::envoy`].
    pub async fn join(&self, config: EnvoyConfig) -> Result<Envoy> {
        let before = self.members().await?.len();
        let envoy = Envoy::start(config).await?;
        self.until_current(before + 1).await?;
        Ok(envoy)
    }

    /// Runs a command, its words parted by spaces, on `chat` unless it names another service, or is on all (`--runs`).
    ///
    /// # Errors
    /// Where it cannot be run; a command that fails is an answer.
    pub async fn cli(&self, line: &str) -> Result<Outcome> {
        let mut words: Vec<&str> = line.split(' ').collect();
        if !words.contains(&"--service") && !words.contains(&"--runs") {
            words.extend(["--service", CHAT]);
        }
        self.sidecar.cli(words).await
    }

    /// [`Mesh::cli`] as a person runs it, without `--json`.
    ///
    /// # Errors
    /// Where it cannot be run; a command that fails is an answer.
    pub async fn text(&self, line: &str) -> Result<Outcome> {
        self.sidecar.cli_text(line.split(' ').chain(["--service", CHAT])).await
    }

    /// Carries out a verb that every member must confirm, one at least.
    ///
    /// # Errors
    /// Where it is refused or not confirmed.
    pub async fn does(&self, line: &str) -> Result<Done> {
        let asked = Instant::now();
        let answer = self.cli(line).await?.ok()?;
        let told = Instant::now();
        let outcome = &answer["outcome"];
        let after = answer["confirmation"]["confirmed_after_ms"].as_f64();
        let (Some(after), Some(version), "confirmed") =
            (after, answer["version"].as_u64(), outcome.as_str().unwrap_or_default())
        else {
            bail!("`{line}` was not confirmed: {answer:#}");
        };
        let before = &answer["preparation"];
        let prepared = before["took_ms"].as_f64().unwrap_or_default();
        let span = |millis: f64| Duration::from_secs_f64(millis / 1000.0);
        Ok(Done { asked, told, confirmed_after: span(after), prepared_after: span(prepared), version })
    }

    /// What `colorfast status` says of `chat`.
    ///
    /// # Errors
    /// Where it fails.
    pub async fn status(&self) -> Result<Value> {
        let mut services = self.cli("status").await?.ok()?;
        services.get_mut(0).map(Value::take).context("status shows no service")
    }

    /// The members of `chat`.
    ///
    /// # Errors
    /// Where the status cannot be had.
    pub async fn members(&self) -> Result<Vec<Member>> {
        let status = self.status().await?;
        let members = status["members"].as_array().context("status without members")?;
        members.iter().map(|member| Ok(serde_json::from_value(member.clone())?)).collect()
    }

    /// Waits until there are exactly so many members, all deciding by the newest snapshot.
    ///
    /// # Errors
    /// Where that does not come in time.
    pub async fn until_current(&self, members: usize) -> Result<Vec<Member>> {
        wait::until_ok(&format!("{members} members that are current"), wait::LIMIT, || async {
            let found = self.members().await?;
            ensure!(found.len() == members && found.iter().all(|member| member.current), "{found:?}");
            Ok(found)
        })
        .await
    }
}

/// A member, as `colorfast status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Member {
    /// `<node id>/<process id>`
    pub member: String,
    /// Envoy's node id.
    pub node: String,
    /// What tells processes of one node id apart.
    pub process: String,
    /// Whether it decides by the newest snapshot.
    pub current: bool,
    /// The snapshot that it refused, while it has taken no newer one.
    pub refused: Option<Refused>,
}

/// A snapshot that a member refused.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Refused {
    /// Its version.
    pub version: u64,
    /// The field and the rule.
    pub error: String,
}

/// A request that carries nothing but a session id.
#[must_use]
pub fn fresh(session: &str) -> Call {
    Call::get("/who").header(names::SESSION, session)
}

/// Sends a call that an agent must answer, and says which one did and what came with it.
///
/// # Errors
/// Where no agent answers.
pub async fn ask(line: &mut Line, call: &Call) -> Result<(Reply, Answer)> {
    let answer = line.send(call).await?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
    Ok((answer.json()?, answer))
}

/// [`ask`] over a connection of its own.
///
/// # Errors
/// As [`ask`].
pub async fn ask_once(envoy: &Envoy, call: &Call) -> Result<(Reply, Answer)> {
    ask(&mut Line::new(envoy.address(), Protocol::Http1), call).await
}

/// Longest that a snapshot which is pushed may take to be obeyed.
const OBEYED_LIMIT: Duration = Duration::from_secs(60);

/// How long after `since` the first new session of each proxy went to `bundle`; from then on none may go elsewhere.
///
/// # Errors
/// Where one does, or that does not come.
pub async fn obeyed(envoys: &[Envoy], bundle: &str, since: Instant) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    for envoy in envoys {
        let mut line = Line::new(envoy.address(), Protocol::Http1);
        let mut number = 0;
        loop {
            let (reply, _) = ask(&mut line, &fresh(&format!("obeyed-{bundle}-{number}-{since:?}"))).await?;
            if reply.bundle == bundle {
                break;
            }
            ensure!(since.elapsed() < OBEYED_LIMIT, "new sessions go to {} for {OBEYED_LIMIT:?}", reply.bundle);
            number += 1;
        }
        took.push(since.elapsed());
        for after in 0..20 {
            let (reply, _) = ask(&mut line, &fresh(&format!("after-{bundle}-{after}-{since:?}"))).await?;
            ensure!(reply.bundle == bundle, "a new session went to {} after {bundle} was obeyed", reply.bundle);
        }
    }
    Ok(took)
}
