//! The command line: reads it, does it, and ends with the exit code that says how it went.

mod args;
mod catalogue;
mod client;
mod confirm;
mod error;
mod events;
mod files;
mod help;
mod locate;
mod output;
mod status;
mod verbs;
mod watch;
mod words;

use std::process::ExitCode;

use colorfast_core::ids::ServiceName;
use colorfast_core::release::{Force, Pins, Verb};

use crate::server;
use args::{Arguments, BundleCommand, Command, Globals, MemberCommand, ServiceCommand};
use client::Client;
use error::{Exit, Failure};
use locate::Environment;
use output::{Format, Output};
use verbs::{Manner, Patience};

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
        command => operate(command, globals, environment, output),
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
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::outage(format!("cannot start: {error}")))?;
    let served = runtime.block_on(server::run(options));
    served.map(|()| Exit::Done).map_err(|error| Failure::outage(format!("{error:#}")))
}

/// Everything that an operator does goes through the control API.
fn operate(command: Command, globals: Globals, environment: Environment, output: Output) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::outage(format!("cannot start: {error}")))?;
    let client = Client::new(locate::sidecar(&globals, &environment)?)?;
    let operator = Operator { client, output, named: named(&globals, &environment)?, globals };
    runtime.block_on(operator.dispatch(command))
}

/// The service that the operator names.
fn named(globals: &Globals, environment: &Environment) -> Result<Option<ServiceName>, Failure> {
    match (&globals.service, &environment.service) {
        (Some(service), _) => Ok(Some(service.clone())),
        (None, Some(text)) => {
            let service = text.parse().map_err(|error| Failure::usage(format!("COLORFAST_SERVICE: {error}")));
            service.map(Some)
        }
        (None, None) => Ok(None),
    }
}

/// One command in the making.
struct Operator {
    client: Client,
    output: Output,
    named: Option<ServiceName>,
    globals: Globals,
}

impl Operator {
    async fn dispatch(self, command: Command) -> Result<Exit, Failure> {
        let Self { client, output, named, .. } = &self;
        match command {
            // Taken care of before; a sidecar is no operator.
            Command::Serve(_) => Ok(Exit::Usage),
            Command::Status => status::run(client, output, named.as_ref()).await,
            Command::Watch => watch::run(client, output, named.as_ref()).await,
            Command::Events(args) => events::run(client, output, named.as_ref(), &args).await,
            Command::VerifyLog => events::verify(client, output).await,
            Command::Service(ServiceCommand::Show) => {
                catalogue::service_show(client, output, &self.service().await?).await
            }
            Command::Service(ServiceCommand::Apply { file }) => self.apply(&file).await,
            Command::Bundle(BundleCommand::List) => catalogue::bundle_list(client, output, &self.service().await?).await,
            Command::Bundle(BundleCommand::Show { id }) => {
                catalogue::bundle_show(client, output, &self.service().await?, &id).await
            }
            Command::Bundle(BundleCommand::Add { file, id }) => self.add_bundle(&file, id).await,
            Command::Member(MemberCommand::Forget { member }) => self.forget(&member).await,
            Command::Stage { slot, bundle } => self.verb(Verb::Stage { slot, bundle }).await,
            Command::Ramp { slot, weight } => self.verb(Verb::Ramp { slot, weight }).await,
            Command::Abort { slot, break_pins } => {
                let pins = if break_pins { Pins::Break } else { Pins::Keep };
                self.verb(Verb::Abort { slot, pins }).await
            }
            Command::Switch { slot } => self.verb(Verb::Switch { slot }).await,
            Command::Rollback { keep_pins, to } => {
                let pins = if keep_pins { Pins::Keep } else { Pins::Break };
                self.verb(Verb::Rollback { to, pins }).await
            }
            Command::Migrate { slot } => self.verb(Verb::Migrate { slot }).await,
            Command::Recycle { slot, force: _, reason } => {
                let force = reason.map(|reason| Force { reason });
                self.verb(Verb::Recycle { slot, force }).await
            }
        }
    }

    async fn verb(&self, verb: Verb) -> Result<Exit, Failure> {
        self.verb_on(&self.service().await?, verb).await
    }

    async fn verb_on(&self, service: &ServiceName, verb: Verb) -> Result<Exit, Failure> {
        let patience = if self.globals.no_wait { Patience::Return } else { Patience::Wait(self.globals.timeout) };
        let manner = Manner { patience, expected_version: self.globals.expect_version };
        verbs::run(&self.client, &self.output, service, verb, manner).await
    }
}
