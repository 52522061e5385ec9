//! The command line: reads it, does it, and ends with the exit code that says how it went.

mod args;
mod backup;
mod catalogue;
mod client;
mod completions;
mod confirm;
mod doctor;
mod error;
mod events;
#[cfg(test)]
mod fake;
mod files;
mod help;
mod keys;
mod locate;
mod man;
mod offline;
mod operator;
mod output;
mod presets;
mod preview;
mod progress;
mod render;
mod restore;
mod runs;
mod status;
mod tokens;
mod verbs;
mod watch;
mod why;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::server;
use args::{Arguments, Command, Globals, OperatorCommand};
use error::{Exit, Failure};
use locate::Environment;
use operator::Operator;
use output::{Format, Output};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let Arguments { globals, command } = match Arguments::read(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => return wrong_line(&error),
    };
    let environment = Environment::read();
    let format = if globals.json { Format::Json } else { Format::Text };
    let output = Output::new(format, globals.color, environment.no_color);
    if globals.store.is_some() && !matches!(command, Command::Operator(_)) {
        let failure =
            Failure::usage("--store names an offline store, on which verbs and looks work, and this is neither");
        output.failure(&failure);
        return failure.exit().into();
    }
    let exit = match command {
        Command::Serve(serve) => run_sidecar(serve, &globals, &environment),
        Command::Restore(command) => restore::run(&command, &globals, &environment, &output),
        Command::Doctor(command) => doctor::run(&command, &globals, &environment, &output),
        Command::Completions { shell } => completions::run(shell, &output),
        Command::Man { folder } => man::run(&folder, &output),
        Command::Preset(command) => presets::run(&command, &output),
        Command::Operator(command) => operate(command, globals, &environment, output),
    };
    exit.unwrap_or_else(|failure| {
        output.failure(&failure);
        failure.exit()
    })
    .into()
}

/// Ends where the command line is not understood, or asks for help.
fn wrong_line(error: &clap::Error) -> ExitCode {
    match usage_problem(error, std::env::args_os()) {
        Some(failure) => {
            Output::new(Format::Json, args::Color::Never, true).failure(&failure);
            failure.exit().into()
        }
        None => error.exit(),
    }
}

/// A usage error as a problem document, where programs read along: the line asks for JSON, though it cannot be read.
fn usage_problem(error: &clap::Error, line: impl Iterator<Item = OsString>) -> Option<Failure> {
    let asked = line.take_while(|word| word != "--").any(|word| word == "--json");
    if !error.use_stderr() || !asked {
        return None;
    }
    let text = error.render().to_string();
    // What follows is the usage, and where to find help.
    let text = text.split("\n\nUsage:").next().unwrap_or_default();
    let text = text.split("\n\nFor more information").next().unwrap_or_default();
    Some(Failure::usage(text.trim_start_matches("error: ").trim_end()))
}

fn run_sidecar(serve: args::Serve, globals: &Globals, environment: &Environment) -> Result<Exit, Failure> {
    let control = serve.control.parse().map_err(|error| Failure::usage(format!("--control: {error}")))?;
    let tls =
        serve.tls_cert.zip(serve.tls_key).map(|(cert, key)| server::TlsFiles { cert, key, client_ca: serve.client_ca });
    if tls.is_none() {
        let addresses = [("--discovery", serve.discovery), ("--control", control)];
        let refusal = addresses.iter().find_map(|(flag, address)| server::refuse_in_the_clear(flag, *address));
        refusal.map_or(Ok(()), |refusal| Err(Failure::usage(refusal)))?;
    }
    let options = server::Options {
        tls,
        data_dir: locate::data_dir(globals, environment)?.path,
        discovery: serve.discovery,
        control,
        limits: server::Limits { member_ttl: serve.member_ttl, auth_failures: serve.auth_failures },
        pods: serve.pods_namespace.map(|namespace| server::PodScope {
            namespace,
            selector: serve.pods_selector,
            account: serve.pods_account,
        }),
        log_format: match serve.log_format {
            args::LogFormat::Text => server::LogFormat::Text,
            args::LogFormat::Json => server::LogFormat::Json,
        },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::cannot_run(format!("cannot start: {error}")))?;
    let served = runtime.block_on(server::run(options));
    served.map(|()| Exit::Done).map_err(|error| Failure::cannot_run(format!("{error:#}")))
}

/// Everything that an operator does goes through the control API, of a sidecar or of an offline store.
fn operate(
    command: OperatorCommand,
    globals: Globals,
    environment: &Environment,
    output: Output,
) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::outage(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        match locate::store(&globals, environment) {
            Some(folder) => offline::run(command, &folder, globals, environment, output).await,
            None => Operator::new(globals, environment, output)?.obey(command).await,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Option<Box<error::Told>> {
        let line = line.split_whitespace();
        let error = Arguments::read(line.clone()).expect_err("a usage error");
        match usage_problem(&error, line.map(OsString::from))? {
            Failure::Told(told) => Some(told),
            Failure::OutputClosed => None,
        }
    }

    /// A program that asks for JSON gets a problem document also where its command line is wrong.
    #[test]
    fn wrong_lines_are_problem_documents() {
        let cases = [
            ("colorfast flip --json", "unrecognized subcommand 'flip'"),
            ("colorfast --json ramp green 101%", "invalid value '101%' for '<WEIGHT>'"),
            ("colorfast switch --json", "the following required arguments were not provided:\n  <SLOT>"),
            ("colorfast service --json", "'colorfast service' requires a subcommand"),
            ("colorfast --json", "'colorfast' requires a subcommand"),
        ];
        for (line, wanted) in cases {
            let told = told(line).expect(line);
            assert_eq!((told.exit, told.problem.status), (Exit::Usage, 400), "{line}");
            assert!(told.problem.detail.starts_with(wanted), "{line}: {}", told.problem.detail);
            assert!(!told.problem.detail.contains("Usage:") && !told.problem.detail.contains("--help'"), "{line}");
        }
        for line in ["colorfast flip", "colorfast --json --help", "colorfast switch a b -- --json"] {
            assert!(told(line).is_none(), "{line}");
        }
    }
}
