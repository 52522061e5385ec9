//! `colorfast keys`: the keys that sign pins, or run tokens, by their numbers.

use std::time::Instant;

use clap::Subcommand;
use colorfast_core::ids::{KeyId, ServiceName};
use colorfast_core::release::{ApplicationVerb, Force, Verb};

use crate::api::{ApplicationStatus, ApplicationVerbResponse, KeyStatus, VerbRequest};
use crate::cli::client::{Client, Subject};
use crate::cli::confirm::{self, Ending};
use crate::cli::error::{Exit, Failure};
use crate::cli::output::{Format, Output, render};
use crate::cli::verbs::{self, Manner, Report};
use crate::cli::words;

/// `colorfast keys …`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a new key: it signs once every proxy has it, and the old one verifies until all that it signed is over age
    Rotate {
        /// The keys that sign run tokens, which are of all services, rather than those that sign pins
        #[arg(long)]
        runs: bool,
    },
    /// Take a key away: what it signed is refused from then on
    Retire {
        /// Its number, as `colorfast keys list` shows it
        #[arg(value_name = "KEY")]
        number: u16,
        /// A key that signs run tokens, which is of all services, rather than one that signs pins
        #[arg(long)]
        runs: bool,
        /// Even while tokens that it signed may hold, which break by it
        #[arg(long, requires = "reason")]
        force: bool,
        /// Why it is forced; kept in the log
        #[arg(long, value_name = "TEXT", requires = "force")]
        reason: Option<String>,
    },
    /// List keys by number, with what each does and until when
    List {
        /// The keys that sign run tokens, which are of all services, rather than those that sign pins
        #[arg(long)]
        runs: bool,
    },
    /// Print the keys of an offline store as COLORFAST_KEYS takes them, for a Secret
    Export,
}

/// What a command on keys comes to.
#[derive(Debug)]
pub enum Asked {
    /// A verb on the keys of a service.
    OfService(Verb),
    /// A verb on the keys of run tokens.
    OfRuns(ApplicationVerb),
    /// The list of a service's keys.
    List,
    /// The list of the keys of run tokens.
    ListOfRuns,
    /// The keys themselves.
    Export,
}

impl KeysCommand {
    /// What it comes to.
    pub fn asked(self) -> Asked {
        match self {
            Self::Rotate { runs: false } => Asked::OfService(Verb::RotateKeys),
            Self::Rotate { runs: true } => Asked::OfRuns(ApplicationVerb::RotateKeys),
            Self::Retire { number, runs, force, reason } => {
                let (key, force) = (KeyId(number), reason.filter(|_| force).map(|reason| Force { reason }));
                match runs {
                    false => Asked::OfService(Verb::RetireKey { key, force }),
                    true => Asked::OfRuns(ApplicationVerb::RetireKey { key, force }),
                }
            }
            Self::List { runs: false } => Asked::List,
            Self::List { runs: true } => Asked::ListOfRuns,
            Self::Export => Asked::Export,
        }
    }
}

/// Lists the keys of a service.
///
/// # Errors
/// As the client's.
pub async fn list(client: &Client, output: &Output, service: &ServiceName) -> Result<Exit, Failure> {
    show(&client.service(service).await?.keys, output)
}

/// Lists the keys of run tokens.
///
/// # Errors
/// As the client's.
pub async fn list_of_runs(client: &Client, output: &Output) -> Result<Exit, Failure> {
    show(&client.application().await?.keys, output)
}

fn show(keys: &[KeyStatus], output: &Output) -> Result<Exit, Failure> {
    if output.format == Format::Json {
        output.document(&keys)?;
        return Ok(Exit::Done);
    }
    let now = words::now();
    let mut table = output.table(&["KEY", "DUTY", "SINCE", "GOES"]);
    for key in keys {
        let goes = key.retires.map(|at| words::left(now, at).unwrap_or_else(|| "now".to_owned()));
        table.add_row([
            key.key.to_string(),
            key.duty.as_str().to_owned(),
            words::ago(now, key.since),
            goes.unwrap_or_else(|| output.paint.dim("-")),
        ]);
    }
    output.text(&render(&table))?;
    Ok(Exit::Done)
}

/// Carries out a verb on the keys of run tokens, and reports how far it came.
///
/// # Errors
/// Where it was refused, or the sidecar is away.
pub async fn run(client: &Client, output: &Output, verb: ApplicationVerb, manner: Manner) -> Result<Exit, Failure> {
    let deadline = Instant::now() + manner.patience.limit();
    let request = VerbRequest { expected_version: manner.expected_version, verb };
    let mut response = manner.ask(|| client.application_verb(&request, &manner.key)).await?;
    let (followed, ending) = manner.follow(client, Subject::Application, response.confirmation, deadline).await;
    response.confirmation = followed.confirmation;
    let written = match output.format {
        Format::Json => {
            // The keys as they are after the waiting, unless somebody has moved them on.
            if let Ok(status) = client.application().await
                && status.version == response.version
            {
                response.status = status;
            }
            output.document(&Report { outcome: ending.as_str(), response: &response })
        }
        Format::Text => output.text(&report(&request.verb, &response, ending, &manner, output)),
    };
    if let Some(lost) = followed.lost {
        output.failure(&lost);
    }
    Ok(output.end(ending.exit(), written))
}

/// What such a verb prints for people.
fn report(
    verb: &ApplicationVerb,
    response: &ApplicationVerbResponse,
    ending: Ending,
    manner: &Manner,
    output: &Output,
) -> String {
    let ApplicationVerbResponse { version, changed, repeated, status, confirmation } = response;
    let begun = verbs::begun(&said(verb, status), &format!("(v{version})"), (*changed, *repeated), output.paint);
    let told = confirm::tell(confirmation, ending, manner.patience.limit(), output.paint);
    let laggards = Some(ending).filter(|ending| *ending == Ending::Unconfirmed);
    let laggards = laggards.map(|_| confirm::laggards(confirmation, output.paint)).unwrap_or_default();
    format!("{begun}: {told}\n{laggards}")
}

fn said(verb: &ApplicationVerb, status: &ApplicationStatus) -> String {
    match verb {
        ApplicationVerb::RotateKeys => {
            let newest = status.keys.last().map_or_else(String::new, |newest| format!(" {}", newest.key));
            format!("added key{newest} of run tokens, it signs once every proxy has it")
        }
        ApplicationVerb::TurnKeys => "turned keys of run tokens".to_owned(),
        ApplicationVerb::RetireKey { key, .. } => format!("retired key {key} of run tokens, what it signed is refused"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::cli::fake::{Fake, confirmation};
    use crate::cli::verbs::Patience;

    /// A verb on keys of runs goes to the application, is sent again under its key, and waits for the proxies of all
    /// services.
    #[tokio::test]
    async fn verbs_on_run_keys_are_followed() {
        let status = json!({"version": 7, "keys": [{"key": 2, "duty": "arriving", "since": 1}]});
        for (state, outcome, exit) in
            [("acknowledged", "confirmed", Exit::Done), ("refused", "pending", Exit::Unconfirmed)]
        {
            let (first, last) =
                (confirmation(7, "pending", &[("a/1", "lagging")]), confirmation(7, outcome, &[("a/1", state)]));
            let status = status.clone();
            let fake = Fake::start(move |asked| {
                let document = match asked.line.split(['?', ' ']).nth(1) {
                    Some("/v1/application/verbs") => {
                        json!({"version": 7, "changed": true, "status": status, "confirmation": first})
                    }
                    Some("/v1/application/confirmations/7") => last.clone(),
                    other => panic!("{other:?}"),
                };
                (200, document)
            })
            .await;
            let manner = Manner {
                patience: Patience::Wait(Duration::from_secs(10)),
                expected_version: Some(6),
                key: "k".parse().unwrap(),
                lost_limit: Duration::from_secs(10),
            };
            let ended = run(&fake.client, &Output::plain(), ApplicationVerb::RotateKeys, manner).await;
            assert_eq!(ended.unwrap(), exit);
            let asked = fake.asked();
            assert_eq!(asked[0].body, json!({"verb": "rotate_keys", "expected_version": 6}));
            assert_eq!((asked[0].key.as_str(), asked.len()), ("\"k\"", 2));
        }
    }

    /// Each verb tells what it did, and of which keys.
    #[test]
    fn verbs_on_run_keys_tell_what_they_did() {
        let status: ApplicationStatus =
            serde_json::from_value(json!({"version": 7, "keys": [{"key": 2, "duty": "arriving", "since": 1}]}))
                .unwrap();
        for (verb, wanted) in [
            (r#"{"verb": "rotate_keys"}"#, "added key 2 of run tokens, it signs once every proxy has it"),
            (r#"{"verb": "retire_key", "key": 1}"#, "retired key 1 of run tokens, what it signed is refused"),
        ] {
            assert_eq!(said(&serde_json::from_str(verb).unwrap(), &status), wanted);
        }
    }
}
