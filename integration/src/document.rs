//! Documents whose commands are run as they stand.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::paths;

/// The fenced blocks of a language, in order.
#[must_use]
pub fn blocks(document: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let parts = document.split(&fence).skip(1);
    parts.filter_map(|part| part.split_once("\n```")).map(|(block, _)| block.to_owned()).collect()
}

/// What stands under a heading of the second level.
///
/// # Errors
/// Where there is no such heading.
pub fn section<'d>(document: &'d str, heading: &str) -> Result<&'d str> {
    let (_, rest) =
        document.split_once(&format!("\n## {heading}\n")).with_context(|| format!("no heading {heading}"))?;
    Ok(rest.split("\n## ").next().unwrap_or_default())
}

/// The lines of its shell blocks, in order.
#[must_use]
pub fn commands(document: &str) -> Vec<String> {
    blocks(document, "sh").iter().flat_map(|block| block.lines()).map(str::to_owned).collect()
}

/// A person's home and working folder, with `colorfast` on the path.
#[derive(Debug)]
pub struct Desk {
    folder: tempfile::TempDir,
    environment: Vec<(String, OsString)>,
}

impl Desk {
    /// An empty home.
    ///
    /// # Errors
    /// Where `colorfast` is not built.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("colorfast-desk-").tempdir()?;
        fs::create_dir(folder.path().join("bin"))?;
        let desk = Self { folder, environment: Vec::new() };
        desk.tool("colorfast", &paths::colorfast()?)?;
        Ok(desk)
    }

    /// Puts a program on the path.
    ///
    /// # Errors
    /// Where there is one of that name.
    pub fn tool(&self, name: &str, program: &Path) -> Result<()> {
        Ok(std::os::unix::fs::symlink(program, self.path("bin").join(name))?)
    }

    /// Sets a variable for every command from now on.
    pub fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// The working folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of a file in the working folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A line as a command that has not been started.
    ///
    /// # Errors
    /// Where the path is no text.
    pub fn shell(&self, line: &str) -> Result<Command> {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", line]).current_dir(self.folder.path());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("COLORFAST_")) {
            command.env_remove(name);
        }
        let path = std::env::var("PATH")?;
        let bin = self.path("bin");
        command.env("PATH", format!("{}:{path}", bin.display()));
        command.env("HOME", self.folder.path()).env_remove("XDG_DATA_HOME");
        command.envs(self.environment.iter().cloned());
        Ok(command)
    }

    /// Runs a line as it stands, and answers what it printed.
    ///
    /// # Errors
    /// Where it fails; what it printed is in the message.
    pub fn run(&self, line: &str) -> Result<String> {
        let output = self.shell(line)?.output()?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "`{line}` ended with {}:\n{out}{err}", output.status);
        println!("$ {line}\n{out}");
        Ok(out.into_owned())
    }
}

/// Copies a folder of texts, each edited.
///
/// # Errors
/// Where a file cannot be read or written.
pub fn copy(from: &Path, to: &Path, edit: &dyn Fn(&str) -> String) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (from, to) = (entry?.path(), to.to_owned());
        let to = to.join(from.file_name().context("an entry has a name")?);
        if from.is_dir() {
            copy(&from, &to, edit)?;
        } else {
            fs::write(to, edit(&fs::read_to_string(&from)?))?;
        }
    }
    Ok(())
}
