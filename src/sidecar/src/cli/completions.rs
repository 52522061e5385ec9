//! `colorfast completions`: scripts by which shells complete command lines.

use clap::ValueEnum;
use clap_complete::generate;

use crate::cli::error::{Exit, Failure};
use crate::cli::help;
use crate::cli::output::Output;

/// A shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    // Their names say what they are.
    Bash,
    Zsh,
    Fish,
}

/// Prints the script of a shell.
///
/// # Errors
/// Where standard output cannot be written.
pub fn run(shell: Shell, output: &Output) -> Result<Exit, Failure> {
    output.text(&script(shell)?)?;
    Ok(Exit::Done)
}

fn script(shell: Shell) -> Result<String, Failure> {
    let mut command = help::plain();
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    generate(shell, &mut command, name, &mut script);
    String::from_utf8(script).map_err(|error| Failure::outage(format!("the script is no text: {error}")))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// Every command and its own options can be completed.
    #[test]
    fn scripts_know_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell).unwrap();
            for word in ["rollback", "keep-pins", "verify-log", "restore", "data-dir", "completions"] {
                assert!(script.contains(word), "{shell:?} lacks {word}");
            }
        }
    }

    /// The scripts are read by their shells, of those that are here: bash at least.
    #[test]
    fn scripts_parse() {
        for (shell, program) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            let started = Command::new(program).arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
            let Ok(mut reader) = started else {
                assert_ne!(shell, Shell::Bash, "there is no bash");
                continue;
            };
            reader.stdin.take().unwrap().write_all(script(shell).unwrap().as_bytes()).unwrap();
            let ended = reader.wait_with_output().unwrap();
            assert!(ended.status.success(), "{program}: {}", String::from_utf8_lossy(&ended.stderr));
        }
    }
}
