//! Commands that tests run to their end, and what they said.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::Command;

/// A command that has not ended by then hangs. Longer than any timeout that a command has by itself.
const LIMIT: Duration = Duration::from_secs(120);

/// How a command ended, and what it said.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The command line.
    pub said: String,
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// The answer as JSON: of standard output, or of standard error where the command failed and said it there.
    pub json: Option<Value>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Runs a command to its end; `name` is what it is called in messages. It is killed where the future is dropped.
    ///
    /// # Errors
    /// Where it cannot be run or does not end; a command that ends with a failure is an answer, not an error.
    pub async fn of(name: &str, command: &mut Command) -> Result<Self> {
        let said: Vec<_> = command.as_std().get_args().map(|argument| argument.to_string_lossy()).collect();
        let said = format!("{name} {}", said.join(" "));
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(LIMIT, command.output()).await;
        let output = output.with_context(|| format!("{said} has not ended within {LIMIT:?}"))?;
        let output = output.with_context(|| format!("cannot run {said}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Self {
            said,
            code: output.status.code(),
            json: [&output.stdout, &output.stderr].into_iter().find_map(|text| serde_json::from_slice(text).ok()),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }

    /// The JSON answer of a command that must have succeeded.
    ///
    /// # Errors
    /// Where it failed or answered no JSON; the whole exchange is in the message.
    pub fn ok(self) -> Result<Value> {
        let told = self.told();
        self.ended_with(0)?.json.with_context(|| format!("an answer that is no JSON: {told}"))
    }

    /// The same outcome, of a command that must have ended with a code. Those of `colorfast`: 2 usage, 1 refusal, 3
    /// outage, 4 applied but unconfirmed.
    ///
    /// # Errors
    /// Where it ended otherwise; the whole exchange is in the message.
    pub fn ended_with(self, code: i32) -> Result<Self> {
        if self.code != Some(code) {
            bail!("exit {code} was expected: {}", self.told());
        }
        Ok(self)
    }

    fn told(&self) -> String {
        let Self { said, code, stdout, stderr, .. } = self;
        let code = code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        format!("{said}\nended with {code}\nstdout: {stdout}\nstderr: {stderr}")
    }
}
