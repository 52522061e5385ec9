//! The command line: reads it, does it, and ends with the exit code that says how it went.

mod args;
mod catalogue;
mod client;
mod confirm;
mod error;
mod events;
#[cfg(test)]
mod fake;
mod files;
mod help;
mod locate;
mod operator;
mod output;
mod status;
mod verbs;
mod watch;
mod words;

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
        Err(error) => error.exit(),
    };
    let environment = Environment::read();
    let format = if globals.json { Format::Json } else { Format::Text };
    let output = Output::new(format, globals.color, environment.no_color);
    let exit = match command {
        Command::Serve(serve) => run_sidecar(serve, &globals, &environment),
        Command::Operator(command) => operate(command, globals, &environment, output),
    };
    exit.unwrap_or_else(|failure| {
        output.failure(&failure);
        failure.exit()
    })
    .into()
}

fn run_sidecar(serve: args::Serve, globals: &Globals, environment: &Environment) -> Result<Exit, Failure> {
    let control = serve.control.parse().map_err(|error| Failure::usage(format!("--control: {error}")))?;
    let options = server::Options {
        data_dir: locate::data_dir(globals, environment)?.path,
        discovery: serve.discovery,
        control,
        member_ttl: serve.member_ttl,
        log_format: match serve.log_format {
            args::LogFormat::Text => server::LogFormat::Text,
            args::LogFormat::Json => server::LogFormat::Json,
        },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::cannot_serve(format!("cannot start: {error}")))?;
    let served = runtime.block_on(server::run(options));
    served.map(|()| Exit::Done).map_err(|error| Failure::cannot_serve(format!("{error:#}")))
}

/// Everything that an operator does goes through the control API.
fn operate(
    command: OperatorCommand,
    globals: Globals,
    environment: &Environment,
    output: Output,
) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::outage(format!("cannot start: {error}")))?;
    runtime.block_on(Operator::new(globals, environment, output)?.obey(command))
}
