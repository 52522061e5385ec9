//! The release by colorfast: the command line that a person types at, and what the sidecar says of the slots.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use super::{SlotState, Step, Told};
use crate::demo::paint::Paint;
use crate::demo::screen::Screen;
use crate::demo::world::{BLUE, GREEN};
use crate::http::Call;
use crate::{Envoy, EnvoyConfig, Sidecar, paths, wait};

const SERVICE: &str = "chat";

/// The settings of the service. Clients carry the pin by header or by cookie, as each likes.
const SETTINGS: &str = "\
service: chat
session_sources:
  - header: x-agent-session
pin:
  cookie: always
";

/// Two releases of one agent: the code is the same, prompts and model are not.
const BUNDLES: [(&str, &str); 2] = [
    (
        "chat-2.3.yaml",
        "id: chat-2.3\ncode: 8c1f3a7\nprompts: \"2.3\"\nmodel: large-2025-05\ntools: { search: \"1.8\" }\n",
    ),
    (
        "chat-2.4.yaml",
        "id: chat-2.4\ncode: 8c1f3a7\nprompts: \"2.4\"\nmodel: large-2025-09\ntools: { search: \"1.8\" }\n",
    ),
];

/// A sidecar with one service, and the folder where the operator works.
#[derive(Debug)]
pub struct Colorfast {
    sidecar: Sidecar,
    binary: PathBuf,
    paint: Paint,
    desk: TempDir,
}

/// `GET /v1/services/{service}`, as far as it is shown.
#[derive(Deserialize)]
struct Status {
    version: u64,
    slots: Vec<Slot>,
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Slot {
    slot: String,
    phase: String,
    weight: u32,
    bundle: Option<String>,
}

#[derive(Deserialize)]
struct Member {
    current: bool,
}

/// `GET /v1/services/{service}/confirmations/{version}`, as far as it is shown.
#[derive(Deserialize)]
struct Confirmation {
    confirmed_after_ms: Option<f64>,
}

impl Colorfast {
    /// Starts a sidecar and makes blue live, all by the command line.
    ///
    /// # Errors
    /// Where the sidecar does not start, or a command is refused.
    pub async fn start(screen: &Screen) -> Result<Self> {
        let desk = tempfile::Builder::new().prefix("colorfast-demo-").tempdir()?;
        fs::write(desk.path().join("chat.yaml"), SETTINGS)?;
        for (file, manifest) in BUNDLES {
            fs::write(desk.path().join(file), manifest)?;
        }
        let sidecar = Sidecar::start().await?;
        let colorfast = Self { sidecar, binary: paths::colorfast()?, paint: screen.paint(), desk };
        for line in [
            "service apply chat.yaml".to_owned(),
            format!("bundle add {}.yaml", BLUE.bundle),
            format!("bundle add {}.yaml", GREEN.bundle),
            format!("stage {} {}", BLUE.slot, BLUE.bundle),
            format!("switch {}", BLUE.slot),
        ] {
            screen.command(&format!("colorfast {line}"));
            colorfast.run(&line).await?;
        }
        Ok(colorfast)
    }

    /// Starts an Envoy that this sidecar decides for, in front of the agents of blue and green, and waits until it does.
    ///
    /// # Errors
    /// Where Envoy does not start, or the sidecar does not hear of it.
    pub async fn start_envoy(&self, [blue, green]: [SocketAddr; 2]) -> Result<Envoy> {
        let plugin = json!({"services": [{"name": SERVICE}], "sidecar_cluster": "colorfast_sidecar"});
        let config = EnvoyConfig::shipped()?.node_id("envoy-1").plugin(&plugin);
        let config = config.agent(BLUE.slot, blue).agent(GREEN.slot, green);
        let config = config.sidecar(self.sidecar.discovery()).env("COLORFAST_TOKEN", &self.sidecar.discovery_token()?);
        let envoy = Envoy::start(config).await?;
        wait::until_ok("the sidecar to know the proxy", wait::LIMIT, || async {
            let members = self.status().await?.members;
            match members.as_slice() {
                [member] if member.current => Ok(()),
                [_] => bail!("it has an older version"),
                members => bail!("it knows {}", members.len()),
            }
        })
        .await?;
        Ok(envoy)
    }

    /// Carries out a step and asks the sidecar how long it took to confirm.
    ///
    /// # Errors
    /// Where it is refused, or not confirmed.
    pub async fn carry_out(&self, step: Step) -> Result<Told> {
        let line = match step {
            Step::Stage => format!("stage {} {}", GREEN.slot, GREEN.bundle),
            Step::Ramp => format!("ramp {} 10%", GREEN.slot),
            Step::Switch => format!("switch {}", GREEN.slot),
            Step::Rollback => "rollback".to_owned(),
        };
        let began = Instant::now();
        let answer = self.run(&line).await?;
        let ended = Instant::now();
        let version = self.status().await?.version;
        let confirmation: Confirmation = self.get(&format!("/v1/services/{SERVICE}/confirmations/{version}")).await?;
        let confirmed_after = confirmation.confirmed_after_ms.map(|millis| Duration::from_secs_f64(millis / 1000.0));
        Ok(Told { command: Some(format!("colorfast {line}")), answer, began, ended, confirmed_after })
    }

    /// How the slots stand.
    ///
    /// # Errors
    /// Where the sidecar does not answer.
    pub async fn slots(&self) -> Result<Vec<SlotState>> {
        let slots = self.status().await?.slots.into_iter();
        Ok(slots
            .map(|Slot { slot, phase, weight, bundle }| SlotState { slot, phase: Some(phase), weight, bundle })
            .collect())
    }

    /// Where the sidecar keeps its data, and with them how it is reached.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.sidecar.data_dir()
    }

    /// The binary that is the command line.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    async fn status(&self) -> Result<Status> {
        self.get(&format!("/v1/services/{SERVICE}")).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let bearer = format!("Bearer {}", self.sidecar.control_token()?);
        let answer = Call::get(path).header("authorization", bearer).send(self.sidecar.control()).await?;
        if answer.status != 200 {
            bail!("the sidecar answered {} to {path}: {}", answer.status, answer.text());
        }
        answer.json()
    }

    /// Where operators and programs ask the sidecar, and the token that they show.
    ///
    /// # Errors
    /// Where the sidecar has written no token.
    pub fn control(&self) -> Result<(String, String)> {
        Ok((format!("http://{}", self.sidecar.control()), self.sidecar.control_token()?))
    }

    /// Runs a command as a person would, and answers what that person would read.
    ///
    /// # Errors
    /// Where it fails; what it said is in the message.
    pub async fn run(&self, line: &str) -> Result<String> {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("COLORFAST_")) {
            command.env_remove(name);
        }
        command.env("COLORFAST_DATA_DIR", self.sidecar.data_dir()).current_dir(self.desk.path());
        command.args(line.split(' ')).stdin(Stdio::null()).kill_on_drop(true);
        if self.paint == Paint::On {
            command.args(["--color", "always"]);
        }
        let output = command.output().await.with_context(|| format!("cannot run {}", self.binary.display()))?;
        let Output { status, stdout, stderr } = &output;
        let said = [stdout, stderr].map(|text| String::from_utf8_lossy(text).trim_end().to_owned());
        let said = said.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
        if !status.success() {
            bail!("`colorfast {line}` ended with {status}:\n{said}");
        }
        Ok(said)
    }
}
