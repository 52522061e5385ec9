//! `colorfast keys`: the keys that sign pins, by their numbers.

use clap::Subcommand;
use colorfast_core::ids::{KeyId, ServiceName};
use colorfast_core::release::{Force, Verb};

use crate::cli::client::Client;
use crate::cli::error::{Exit, Failure};
use crate::cli::output::{Format, Output, render};
use crate::cli::words;

/// `colorfast keys …`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a new key: it signs once every proxy has it, and the old one verifies until all that it signed is over age
    Rotate,
    /// Take a key away: what it signed is refused from then on
    Retire {
        /// Its number, as `colorfast keys list` shows it
        #[arg(value_name = "KEY")]
        number: u16,
        /// Even while pins that it signed may hold, which break by it
        #[arg(long, requires = "reason")]
        force: bool,
        /// Why it is forced; kept in the log
        #[arg(long, value_name = "TEXT", requires = "force")]
        reason: Option<String>,
    },
    /// List keys by number, with what each does and until when
    List,
    /// Print the keys of an offline store as COLORFAST_KEYS takes them, for a Secret
    Export,
}

impl KeysCommand {
    /// The verb that it gives; none where it only looks.
    pub fn verb(self) -> Option<Verb> {
        match self {
            Self::Rotate => Some(Verb::RotateKeys),
            Self::Retire { number, force, reason } => {
                let force = reason.filter(|_| force).map(|reason| Force { reason });
                Some(Verb::RetireKey { key: KeyId(number), force })
            }
            Self::List | Self::Export => None,
        }
    }
}

/// Lists the keys of a service.
///
/// # Errors
/// As the client's.
pub async fn list(client: &Client, output: &Output, service: &ServiceName) -> Result<Exit, Failure> {
    let status = client.service(service).await?;
    if output.format == Format::Json {
        output.document(&status.keys)?;
        return Ok(Exit::Done);
    }
    let now = words::now();
    let mut table = output.table(&["KEY", "DUTY", "SINCE", "GOES"]);
    for key in &status.keys {
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
