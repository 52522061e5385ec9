//! `colorfast snapshot render`: what proxies decide by, put into the configuration that pushes it.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use colorfast_core::ids::ServiceName;
use colorfast_core::json;
use colorfast_core::plugin::PluginConfig;
use colorfast_core::snapshot::Snapshot;
use serde_json::{Value, json};

use crate::cli::error::{Exit, Failure};
use crate::cli::files::{self, Source};
use crate::cli::output::Output;
use crate::cli::words;

/// `colorfast snapshot …`
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Put the newest snapshot of an offline store into a configuration, which pushes it
    Render(Render),
}

/// `colorfast snapshot render`
#[derive(Debug, Args)]
pub struct Render {
    /// What takes it: `istio` is an EnvoyFilter for kubectl apply, `envoy` a file that Envoy watches (ECDS)
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "istio")]
    pub format: Shipped,
    /// A file of your own instead, with the filter in it: envoy/pushed/istio.yaml, edited; - reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "format")]
    pub template: Option<Source>,
    /// Where it is written, whole or not at all, instead of standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// A configuration that ships with colorfast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shipped {
    // Their help stands at the option.
    Istio,
    Envoy,
}

impl Shipped {
    fn text(self) -> &'static str {
        match self {
            Self::Istio => include_str!("../../../../envoy/pushed/istio.yaml"),
            Self::Envoy => include_str!("../../../../envoy/pushed/ecds.yaml"),
        }
    }
}

/// The type of the message that the plugin configuration stands in.
const STRING_VALUE: &str = "type.googleapis.com/google.protobuf.StringValue";

/// Renders `snapshots`, or that of the service `named` alone.
///
/// # Errors
/// Where the template has no place for them, or what came of it is no configuration that a filter takes.
pub fn run(
    args: &Render,
    snapshots: Vec<Snapshot>,
    named: Option<&ServiceName>,
    output: &Output,
) -> Result<Exit, Failure> {
    let snapshots: Vec<_> =
        snapshots.into_iter().filter(|snapshot| named.is_none_or(|named| snapshot.service == *named)).collect();
    if let (Some(named), []) = (named, snapshots.as_slice()) {
        return Err(
            Failure::not_found(format!("the store has no service {named}")).next("colorfast --store DIR status")
        );
    }
    let (what, text) = match &args.template {
        Some(source) => (source.to_string(), files::read(source)?),
        None => ("the shipped configuration".to_owned(), shipped(args.format, &snapshots)?),
    };
    let rendered = fill(&what, &text, &snapshots)?;
    match &args.output {
        Some(path) => files::replace(path, &rendered)?,
        None => output.text(&rendered)?,
    }
    Ok(Exit::Done)
}

/// The shipped configuration with the one service that there is.
fn shipped(format: Shipped, snapshots: &[Snapshot]) -> Result<String, Failure> {
    let [only] = snapshots else {
        let names: Vec<_> = snapshots.iter().map(|snapshot| snapshot.service.as_str()).collect();
        return Err(Failure::usage(format!(
            "the shipped configuration has one service, which takes every request, and the store has {}",
            names.join(", ")
        ))
        .next("colorfast snapshot render --template FILE   (a copy of envoy/pushed/istio.yaml with a `match` for each)")
        .next("colorfast snapshot render --service NAME"));
    };
    Ok(format.text().replace("\"chat\"", &format!("\"{}\"", only.service)))
}

/// The documents of `text` with the snapshots in their plugin configurations.
fn fill(what: &str, text: &str, snapshots: &[Snapshot]) -> Result<String, Failure> {
    let wrong = |cause: String| Failure::usage(format!("{what}: {cause}"));
    let documents = serde_saphyr::from_multiple::<Value>(text);
    let mut documents = documents.map_err(|error| wrong(format!("is no YAML: {}", error.without_snippet())))?;
    let mut filling = Filling { snapshots, filled: Vec::new(), others: Vec::new() };
    for document in &mut documents {
        filling.walk(document).map_err(wrong)?;
    }
    if filling.filled.is_empty() {
        let names: Vec<_> = snapshots.iter().map(|snapshot| snapshot.service.as_str()).collect();
        let found = match filling.others.as_slice() {
            [] => "there is no plugin configuration in it (a StringValue with `services`)".to_owned(),
            others => {
                format!("its plugin configuration names {}, and the store has {}", others.join(", "), names.join(", "))
            }
        };
        return Err(wrong(found).next("envoy/pushed/istio.yaml is a file to begin with"));
    }
    let mut rendered = format!(
        "# Rendered by colorfast {}: {}. To go back, roll back and render anew: an older file is refused.\n",
        env!("CARGO_PKG_VERSION"),
        filling.filled.join(", ")
    );
    for (place, document) in documents.iter().enumerate() {
        if place > 0 {
            rendered.push_str("---\n");
        }
        rendered.push_str(&yaml(document)?);
    }
    Ok(rendered)
}

/// A document as YAML, which says the same when it is read again.
fn yaml(document: &Value) -> Result<String, Failure> {
    let text = serde_saphyr::to_string(document).ok();
    let same = text.filter(|text| serde_saphyr::from_str::<Value>(text).is_ok_and(|read| read == *document));
    match same {
        Some(text) => Ok(text),
        // JSON is YAML, too.
        None => serde_json::to_string_pretty(document)
            .map(|text| text + "\n")
            .map_err(|error| Failure::outage(format!("the configuration cannot be written: {error}"))),
    }
}

/// Looks for plugin configurations, and puts snapshots into them.
struct Filling<'a> {
    snapshots: &'a [Snapshot],
    /// The snapshots that found their place, by service and version.
    filled: Vec<String>,
    /// The services that have none.
    others: Vec<String>,
}

impl Filling<'_> {
    fn walk(&mut self, value: &mut Value) -> Result<(), String> {
        match value {
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.walk(item)),
            Value::Object(fields) => {
                let is_text = fields.get("@type").and_then(Value::as_str) == Some(STRING_VALUE);
                if let Some(Value::String(text)) = fields.get_mut("value").filter(|_| is_text) {
                    return self.put(text);
                }
                fields.values_mut().try_for_each(|field| self.walk(field))
            }
            _ => Ok(()),
        }
    }

    /// Puts snapshots into the plugin configuration `text`; whatever else stands in such a message is left alone.
    fn put(&mut self, text: &mut String) -> Result<(), String> {
        let Ok(mut config) = serde_json::from_str::<Value>(text) else { return Ok(()) };
        let Some(services) = config.get_mut("services").and_then(Value::as_array_mut) else { return Ok(()) };
        let mut found = Vec::new();
        for service in services {
            let name = service.get("name").and_then(Value::as_str).unwrap_or_default();
            match self.snapshots.iter().find(|snapshot| snapshot.service.as_str() == name) {
                Some(snapshot) => {
                    found.push(format!("{name} {}", snapshot.version()));
                    if let Value::Object(fields) = service {
                        fields.insert("snapshot".to_owned(), json!(snapshot));
                    }
                }
                None => self.others.push(words::tame(name)),
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        let filled = serde_json::to_string_pretty(&config).map_err(|error| error.to_string())?;
        let read: PluginConfig =
            json::read(filled.as_bytes()).map_err(|error| format!("plugin configuration: {error}"))?;
        read.validate().map_err(|error| format!("plugin configuration: {error}"))?;
        self.filled.extend(found);
        *text = filled + "\n";
        Ok(())
    }
}

#[cfg(test)]
mod tests;
