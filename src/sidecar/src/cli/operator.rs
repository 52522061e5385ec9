//! What an operator asks for, and which service it is asked of.

use colorfast_core::ids::{BundleId, IdempotencyKey, ServiceName};
use colorfast_core::release::{Force, Pins, Verb};

use crate::cli::args::{BundleCommand, Globals, MemberCommand, OperatorCommand, ServiceCommand};
use crate::cli::catalogue::Shown;
use crate::cli::client::Client;
use crate::cli::error::{Exit, Failure};
use crate::cli::files::{self, Source};
use crate::cli::keys::Asked;
use crate::cli::locate::{self, Environment};
use crate::cli::output::{Format, Output};
use crate::cli::verbs::{self, Manner, Patience};
use crate::cli::{backup, catalogue, events, keys, preview, runs, status, tokens, watch, why, words};

/// One command of an operator in the making.
pub struct Operator {
    client: Client,
    output: Output,
    globals: Globals,
    /// The service that a flag or a variable names.
    named: Option<ServiceName>,
}

impl Operator {
    /// Finds the sidecar, and the service that is named.
    ///
    /// # Errors
    /// Where either cannot be.
    pub fn new(globals: Globals, environment: &Environment, output: Output) -> Result<Self, Failure> {
        let named = named(&globals, environment)?;
        let client = Client::new(locate::sidecar(&globals, environment)?)?;
        Ok(Self::with(client, output, globals, named))
    }

    /// Of a client that is there.
    pub fn with(client: Client, output: Output, globals: Globals, named: Option<ServiceName>) -> Self {
        Self { client, output, globals, named }
    }

    /// Does what is asked.
    ///
    /// # Errors
    /// Says why it was not done.
    pub async fn obey(&self, command: OperatorCommand) -> Result<Exit, Failure> {
        let Self { client, output, named, .. } = self;
        match command {
            OperatorCommand::Status { watch: false } => status::run(client, output, named.as_ref()).await,
            OperatorCommand::Status { watch: true } => watch::run(client, output, named.as_ref()).await,
            OperatorCommand::Watch => watch::run(client, output, named.as_ref()).await,
            OperatorCommand::Events(args) => events::run(client, output, named.as_ref(), &args).await,
            OperatorCommand::VerifyLog => events::verify(client, output).await,
            OperatorCommand::Backup { file } => backup::run(client, output, &file).await,
            OperatorCommand::Service(ServiceCommand::Apply { file }) => self.apply(&file).await,
            OperatorCommand::Service(ServiceCommand::Show { expanded }) => {
                let shown = if expanded { Shown::Expanded } else { Shown::OverPreset };
                catalogue::service_show(client, output, &self.service().await?, shown).await
            }
            OperatorCommand::Bundle(BundleCommand::Add { file, id }) => self.add_bundle(&file, id).await,
            OperatorCommand::Bundle(BundleCommand::Show { id }) => {
                catalogue::bundle_show(client, output, &self.service().await?, &id).await
            }
            OperatorCommand::Bundle(BundleCommand::List) => {
                catalogue::bundle_list(client, output, &self.service().await?).await
            }
            OperatorCommand::Member(MemberCommand::Forget { member }) => self.forget(&member).await,
            OperatorCommand::Run(command) => runs::run(client, output, &self.service().await?, command).await,
            OperatorCommand::Snapshot(_) => Err(of_store()),
            OperatorCommand::Keys(command) => self.keys(command.asked()).await,
            OperatorCommand::Token(command) => tokens::run(client, output, command).await,
            OperatorCommand::Why(args) => {
                let asked = why::Asked::read(*args)?;
                let service = match asked.service().filter(|_| named.is_none()) {
                    Some(logged) => logged.clone(),
                    None => self.service().await?,
                };
                why::run(client, output, &service, asked).await
            }
            OperatorCommand::PreviewToken { slot, ttl } => {
                preview::run(client, output, &self.service().await?, slot, ttl).await
            }
            OperatorCommand::Stage { slot, bundle } => self.verb(Verb::Stage { slot, bundle }).await,
            OperatorCommand::Ramp { slot, weight, forcing } => {
                self.verb(Verb::Ramp { slot, weight, force: forcing.given() }).await
            }
            OperatorCommand::Abort { slot, break_pins } => {
                let pins = if break_pins { Pins::Break } else { Pins::Keep };
                self.verb(Verb::Abort { slot, pins }).await
            }
            OperatorCommand::Switch { slot, forcing } => self.verb(Verb::Switch { slot, force: forcing.given() }).await,
            OperatorCommand::Rollback { keep_pins, to, forcing } => {
                let pins = if keep_pins { Pins::Keep } else { Pins::Break };
                self.verb(Verb::Rollback { to, pins, force: forcing.given() }).await
            }
            OperatorCommand::Migrate { slot } => self.verb(Verb::Migrate { slot }).await,
            OperatorCommand::Deadline { slot, within } => {
                self.verb(Verb::SetDeadline { slot, within_seconds: within.seconds() }).await
            }
            OperatorCommand::Recycle { slot, force, reason } => {
                let force = reason.filter(|_| force).map(|reason| Force { reason });
                self.verb(Verb::Recycle { slot, force }).await
            }
        }
    }

    async fn keys(&self, asked: Asked) -> Result<Exit, Failure> {
        let Self { client, output, globals, .. } = self;
        if let (Asked::OfRuns(_) | Asked::ListOfRuns, Some(service)) = (&asked, &globals.service) {
            return Err(Failure::usage(format!("the keys of run tokens are of all services, not of {service} alone"))
                .next("the same command without --service"));
        }
        match asked {
            Asked::OfService(verb) => self.verb(verb).await,
            Asked::OfRuns(verb) => keys::run(client, output, verb, self.manner()?).await,
            Asked::List => keys::list(client, output, &self.service().await?).await,
            Asked::ListOfRuns => keys::list_of_runs(client, output).await,
            Asked::Export => Err(of_store()),
        }
    }

    /// The service to act on: the one that is named, else the only one.
    async fn service(&self) -> Result<ServiceName, Failure> {
        if let Some(named) = &self.named {
            return Ok(named.clone());
        }
        let services = self.client.services().await?;
        match services.as_slice() {
            [only] => Ok(only.service.clone()),
            [] => Err(Failure::not_found("there is no service yet").next("colorfast service apply FILE")),
            several => {
                let names: Vec<_> = several.iter().map(|status| status.service.as_str()).collect();
                Err(Failure::usage(format!("which service? There are {}", names.join(", ")))
                    .next("colorfast … --service NAME, or COLORFAST_SERVICE"))
            }
        }
    }

    async fn verb(&self, verb: Verb) -> Result<Exit, Failure> {
        self.verb_on(&self.service().await?, verb).await
    }

    async fn verb_on(&self, service: &ServiceName, verb: Verb) -> Result<Exit, Failure> {
        verbs::run(&self.client, &self.output, service, verb, self.manner()?).await
    }

    /// How verbs are carried out.
    fn manner(&self) -> Result<Manner, Failure> {
        let patience = if self.globals.no_wait { Patience::Return } else { Patience::Wait(self.globals.timeout) };
        let key = self.globals.idempotency_key.clone().map_or_else(draw_key, Ok)?;
        let (expected_version, lost_limit) = (self.globals.expect_version, self.globals.timeout);
        Ok(Manner { patience, expected_version, key, lost_limit })
    }

    /// The file says which service it is of; a flag may where it does not, but neither overrules the other.
    async fn apply(&self, file: &Source) -> Result<Exit, Failure> {
        let (in_file, applied) = files::service(file, self.named.as_ref())?;
        let service = match (in_file, &self.globals.service) {
            (Some(in_file), Some(flag)) if in_file != *flag => {
                return Err(Failure::usage(format!("{file} is of the service {in_file}, but --service says {flag}")));
            }
            (Some(in_file), _) => in_file,
            (None, _) => self.named.clone().ok_or_else(|| {
                Failure::usage(format!("{file} does not say which service it is of"))
                    .next("`service: NAME` in the file, or --service NAME")
            })?,
        };
        self.verb_on(&service, Verb::Apply { settings: Box::new(applied) }).await
    }

    async fn add_bundle(&self, file: &Source, flag: Option<BundleId>) -> Result<Exit, Failure> {
        let (in_file, manifest) = files::bundle(file)?;
        let id = match (in_file, flag) {
            (Some(in_file), Some(flag)) if in_file != flag => {
                return Err(Failure::usage(format!("{file} is of the bundle {in_file}, but --id says {flag}")));
            }
            (in_file, flag) => flag.or(in_file).ok_or_else(|| {
                Failure::usage(format!("{file} does not say which bundle it is"))
                    .next("`id: TAG` in the file, or --id TAG")
            })?,
        };
        self.verb(Verb::AddBundle { id, manifest }).await
    }

    async fn forget(&self, member: &str) -> Result<Exit, Failure> {
        let service = self.service().await?;
        self.client.forget(&service, member).await?;
        let written = match self.output.format {
            Format::Json => self.output.document(&serde_json::json!({"service": service, "forgotten": member})),
            Format::Text => {
                let member = words::tame(member);
                self.output.line(&format!("forgot {member}: should it come back, it is a member again"))
            }
        };
        Ok(self.output.end(Exit::Done, written))
    }
}

fn of_store() -> Failure {
    Failure::usage("this is read from an offline store").next("colorfast --store DIR …, or COLORFAST_STORE")
}

/// The service that a flag or a variable names.
///
/// # Errors
/// Where the variable holds no name.
pub fn named(globals: &Globals, environment: &Environment) -> Result<Option<ServiceName>, Failure> {
    let variable = environment.service.as_deref().filter(|_| globals.service.is_none());
    let variable = variable.map(str::parse).transpose();
    let variable = variable.map_err(|error| Failure::usage(format!("COLORFAST_SERVICE: {error}")))?;
    Ok(globals.service.clone().or(variable))
}

/// A key that no other command has.
fn draw_key() -> Result<IdempotencyKey, Failure> {
    let number = || getrandom::u64().map_err(|error| Failure::outage(format!("cannot draw a number: {error}")));
    let text = format!("{:016x}{:016x}", number()?, number()?);
    text.parse().map_err(|error| Failure::outage(format!("cannot make a key: {error}")))
}
