//! Child processes that never outlive the test.
//!
//! Each child leads a process group of its own, so that a signal reaches what it started, too (func-e starts
//! Envoy). A watchdog shell holds the other end of a pipe: when the test process ends without cleaning up
//! (Ctrl-C, a crash, SIGKILL), the pipe closes and the watchdog kills the group.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::wait::{self, Never};

/// How many of the last lines of a log are shown when something failed.
const TAIL_LINES: usize = 60;

thread_local! {
    /// Tails of the logs of processes that this thread has dropped, kept for the scenario that may fail yet.
    static TAILS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Takes the tails of the logs of all processes that this thread has dropped so far.
pub(crate) fn take_tails() -> Vec<String> {
    TAILS.take()
}

/// A running child process with its log.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    watchdog: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a command; what it prints is appended to `log`.
    ///
    /// # Errors
    /// Where the log cannot be opened or the command cannot be started.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        Self::spawn_apart(name, command, log, log)
    }

    /// [`Process::spawn`] of a command that reads its standard input, with the end at which it is told things.
    ///
    /// # Errors
    /// As [`Process::spawn`].
    pub fn spawn_told(name: &str, command: &mut Command, log: &Path) -> Result<(Self, ChildStdin)> {
        let mut process = Self::spawn_reading(name, command, Stdio::piped(), (log, log))?;
        let told = process.child.stdin.take().context("a child without the pipe that was asked for")?;
        Ok((process, told))
    }

    /// [`Process::spawn`] of a command whose standard output is not for its log.
    ///
    /// # Errors
    /// As [`Process::spawn`].
    pub fn spawn_apart(name: &str, command: &mut Command, output: &Path, log: &Path) -> Result<Self> {
        Self::spawn_reading(name, command, Stdio::null(), (output, log))
    }

    fn spawn_reading(name: &str, command: &mut Command, input: Stdio, (output, log): (&Path, &Path)) -> Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.with_context(|| format!("cannot open {} for what {name} says", path.display()))
        };
        let mut child = command
            .stdin(input)
            .stdout(open(output)?)
            .stderr(open(log)?)
            .process_group(0)
            .spawn()
            // Its program alone: the environment may hold a token.
            .with_context(|| format!("cannot start {name}: {}", command.get_program().to_string_lossy()))?;
        let watchdog = watch(child.id()).inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        Ok(Self { name: name.to_owned(), child, watchdog, log: log.to_owned(), ended: None })
    }

    /// The child's process id, which is its group's id, too.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the child ended, or `None` while it runs.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().with_context(|| format!("cannot look after {}", self.name))?;
        }
        Ok(self.ended)
    }

    /// Fails, with the tail of the log, where the child has ended: for waits, which it ends at once.
    ///
    /// # Errors
    /// A [`Never`] where the child has ended.
    pub fn must_run(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => {
                Err(Never(format!("{} has ended by itself ({status}); its log ends:\n{}", self.name, self.tail()))
                    .into())
            }
        }
    }

    /// Stops the child's clock (SIGSTOP): it keeps its connections and answers nothing.
    ///
    /// # Errors
    /// Where the child has ended.
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a paused child go on (SIGCONT).
    ///
    /// # Errors
    /// Where the child has ended.
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Asks the child to end (SIGTERM), and kills it where it has not done so within `grace`.
    ///
    /// # Errors
    /// Where the system does not say how it ended.
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        if self.ended()?.is_none() {
            self.signal(Signal::SIGTERM)?;
            self.resume()?;
            let name = self.name.clone();
            let gone = wait::until(&format!("{name} to end"), grace, || !matches!(self.ended(), Ok(None))).await;
            if gone.is_err() {
                self.kill();
            }
        }
        self.ended()?.ok_or_else(|| anyhow!("{} was killed and is still there", self.name))
    }

    /// Kills the child and all that it started (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        if matches!(self.ended(), Ok(None)) {
            // The group can be gone already between the look and the signal; then there is nothing to kill.
            let _ = self.signal(Signal::SIGKILL);
            self.ended = self.child.wait().ok();
        }
    }

    /// The last lines of the child's log.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Where the child's output goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        // A child that was waited for has given its id back: never signal that.
        if let Some(status) = self.ended()? {
            return Err(anyhow!("{} has ended ({status}), so it gets no {signal}", self.name));
        }
        let group = Pid::from_raw(i32::try_from(self.child.id())?);
        killpg(group, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // First the watchdog, so that it cannot act on an id that has been given back.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        self.kill();
        let how = self.ended.map_or_else(String::new, |status| match status.signal() {
            Some(9) => " (killed)".to_owned(),
            _ => format!(" ({status})"),
        });
        let tail = format!("--- the end of the log of {}{how} ---\n{}", self.name, self.tail());
        if std::thread::panicking() {
            eprintln!("{tail}");
        } else {
            TAILS.with_borrow_mut(|tails| tails.push(tail));
        }
    }
}

/// Starts the shell that kills a process group as soon as this process is gone.
fn watch(group: u32) -> Result<Child> {
    Command::new("sh")
        .args(["-c", r#"read -r _; kill -s KILL -- "-$1""#, "watchdog", &group.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("cannot start sh as a watchdog")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, folder: &Path) -> Process {
        Process::spawn("a shell", Command::new("sh").args(["-c", script]), &folder.join("log")).unwrap()
    }

    /// A child is gone after the test, even one that ignores SIGTERM.
    #[tokio::test]
    async fn a_deaf_child_is_killed_after_the_grace() {
        let folder = tempfile::tempdir().unwrap();
        let mut deaf = shell("trap '' TERM; echo deaf; while :; do sleep 1; done", folder.path());
        wait::until("the trap to be set", wait::LIMIT, || deaf.tail().contains("deaf")).await.unwrap();
        let status = deaf.stop(Duration::from_millis(50)).await.unwrap();
        assert_eq!(status.signal(), Some(9));
    }

    /// A child that ends by itself is noticed at once, with what it said.
    #[tokio::test]
    async fn an_early_end_is_told_with_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = shell("echo out of luck; exit 3", folder.path());
        let waited = wait::until_ok("a shell that stays", wait::LIMIT, || {
            let seen = child.must_run().and_then(|()| Err::<(), _>(anyhow!("it still runs")));
            async move { seen }
        });
        let told = format!("{:#}", waited.await.unwrap_err());
        assert!(told.contains("out of luck") && told.contains("exit status: 3"), "{told}");
    }

    /// When the test process vanishes, what it started does, too: grandchildren included.
    #[tokio::test]
    async fn the_watchdog_kills_the_group_when_the_pipe_closes() {
        let folder = tempfile::tempdir().unwrap();
        let mut parent = shell("sleep 600 & echo $!; wait", folder.path());
        wait::until("the grandchild's id", wait::LIMIT, || parent.tail().parse::<i32>().is_ok()).await.unwrap();
        let grandchild = Pid::from_raw(parent.tail().parse().unwrap());
        drop(parent.watchdog.stdin.take());
        wait::until("the child to be killed", wait::LIMIT, || matches!(parent.ended(), Ok(Some(_)))).await.unwrap();
        let gone = || nix::sys::signal::kill(grandchild, None).is_err() || zombie(grandchild);
        wait::until("the grandchild to be killed", wait::LIMIT, gone).await.unwrap();
    }

    /// Whether a process is dead and only not yet collected (there may be no init here that collects it).
    fn zombie(pid: Pid) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    }
}
