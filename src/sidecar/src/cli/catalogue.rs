//! What was applied and added: `service show`, `bundle show`, `bundle list`.

use colorfast_core::ids::{BundleId, ServiceName};
use colorfast_core::preset::{self, Applied};
use comfy_table::Table;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::api::{Bundles, ServiceStatus};
use crate::cli::client::Client;
use crate::cli::error::{Exit, Failure};
use crate::cli::output::{Format, Output, render};
use crate::cli::words;

/// A service file, as `service apply` reads it.
#[derive(Serialize)]
struct ServiceFile<'a> {
    service: &'a ServiceName,
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<Value>,
    #[serde(flatten)]
    settings: Map<String, Value>,
}

impl<'a> ServiceFile<'a> {
    fn of(service: &'a ServiceName, applied: &Applied) -> Result<Self, Failure> {
        let mut settings = applied.written().map_err(|error| unwritten(&error))?;
        Ok(Self { service, preset: settings.remove(preset::FIELD), settings })
    }
}

/// How the settings of a service are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// As a file over the preset, where there is one.
    OverPreset,
    /// Whole, without a preset.
    Expanded,
}

/// Shows the settings of a service.
///
/// # Errors
/// As the client's.
pub async fn service_show(
    client: &Client,
    output: &Output,
    service: &ServiceName,
    shown: Shown,
) -> Result<Exit, Failure> {
    let status = client.service(service).await?;
    let preset = status.preset.filter(|_| shown == Shown::OverPreset);
    let applied = Applied { preset, settings: status.settings };
    match output.format {
        Format::Json => output.document(&ServiceFile::of(service, &applied)?)?,
        Format::Text => output.text(&service_file(service, &applied)?)?,
    }
    Ok(Exit::Done)
}

/// A service file, with comments: what is written holds over the preset, what the preset sets beside it is commented.
fn service_file(service: &ServiceName, applied: &Applied) -> Result<String, Failure> {
    let file = ServiceFile::of(service, applied)?;
    let mut text = yaml(&file)?;
    if let Some(preset) = applied.known_preset() {
        text.push_str(&format!("# {} sets, where nothing above says otherwise:\n", preset.full_name()));
        for line in yaml(&without(preset.settings(), &file.settings))?.lines() {
            text.push_str(&format!("#   {line}\n"));
        }
    } else if let Some(preset) = &applied.preset {
        text.push_str(&format!("# the settings of the preset {preset}, which this colorfast does not know\n"));
    }
    text.push_str("# every other setting is at its default\n");
    Ok(text)
}

/// What of `preset` is not written otherwise.
fn without(preset: Map<String, Value>, written: &Map<String, Value>) -> Map<String, Value> {
    let holds = |(field, value): (String, Value)| match (value, written.get(&field)) {
        (value, None) => Some((field, value)),
        (Value::Object(value), Some(Value::Object(written))) => {
            let left = without(value, written);
            (!left.is_empty()).then_some((field, Value::Object(left)))
        }
        _ => None,
    };
    preset.into_iter().filter_map(holds).collect()
}

/// Shows one bundle.
///
/// # Errors
/// As the client's, and where there is no such bundle.
pub async fn bundle_show(
    client: &Client,
    output: &Output,
    service: &ServiceName,
    id: &BundleId,
) -> Result<Exit, Failure> {
    let bundles = client.bundles(service).await?;
    let bundle = bundles.get(id).ok_or_else(|| {
        Failure::not_found(format!("there is no bundle {id} in {service}")).next("colorfast bundle list")
    })?;
    match output.format {
        Format::Json => output.document(bundle)?,
        Format::Text => output.text(&yaml(bundle)?)?,
    }
    Ok(Exit::Done)
}

/// Lists the bundles of a service.
///
/// # Errors
/// As the client's.
pub async fn bundle_list(client: &Client, output: &Output, service: &ServiceName) -> Result<Exit, Failure> {
    let bundles = client.bundles(service).await?;
    if output.format == Format::Json {
        output.document(&bundles)?;
        return Ok(Exit::Done);
    }
    if bundles.is_empty() {
        output.line(&format!("{service} has no bundle yet: `colorfast bundle add FILE --id ID` adds one"))?;
        return Ok(Exit::Done);
    }
    let status = client.service(service).await?;
    output.text(&render(&table(&bundles, &status, output)))?;
    Ok(Exit::Done)
}

fn table(bundles: &Bundles, status: &ServiceStatus, output: &Output) -> Table {
    let mut table = output.table(&["BUNDLE", "SLOTS", "CODE", "MODEL", "PROMPTS", "RETRIEVAL INDEX", "TOOLS"]);
    for (id, bundle) in bundles {
        let slots = status.slots.iter().filter(|slot| slot.bundle.as_ref() == Some(id));
        let slots: Vec<_> = slots.map(|slot| format!("{} ({})", slot.slot, slot.phase)).collect();
        let manifest = &bundle.manifest;
        let tools: Vec<_> = manifest.tools.iter().map(|(tool, version)| format!("{tool} {version}")).collect();
        let cell = |text: &str| if text.is_empty() { output.paint.dim("-") } else { words::tame(text) };
        table.add_row([
            cell(id.as_str()),
            cell(&slots.join(", ")),
            cell(&manifest.code),
            cell(&manifest.model),
            cell(&manifest.prompts),
            cell(&manifest.retrieval_index),
            cell(&tools.join(", ")),
        ]);
    }
    table
}

/// A document for people; its values are strangers' words, of which YAML escapes some alone.
///
/// # Errors
/// Where it cannot be written.
pub fn yaml(document: &impl Serialize) -> Result<String, Failure> {
    let text = serde_saphyr::to_string(document);
    Ok(words::tame_lines(&text.map_err(|error| unwritten(&error))?))
}

fn unwritten(error: &dyn std::error::Error) -> Failure {
    Failure::outage(format!("the answer cannot be written as YAML: {error}"))
}

#[cfg(test)]
mod tests {
    use colorfast_core::settings::ServiceSettings;

    use super::*;
    use crate::cli::fake;

    /// What stands in a bundle cannot repaint the operator's terminal, even where a sidecar let it in.
    #[test]
    fn bundles_cannot_write_escapes() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let manifest = serde_json::json!({"code": "c\u{1b}[2J", "model": "m\u{9b}2J",
            "prompts": "p", "tools": {"t\u{1b}[2J": "1\u{9b}2J"}});
        let bundle = serde_json::json!({"id": "b1", "digest": digest, "manifest": manifest});
        let bundles: Bundles = serde_json::from_value(serde_json::json!({"b1": bundle})).unwrap();
        let status = serde_json::from_value(fake::status(3)).unwrap();
        let shown = render(&table(&bundles, &status, &Output::plain()));
        assert!(
            shown.contains("b1      green (live)  c\\u{1b}[2J  m\\u{9b}2J") && shown.contains("t\\u{1b}[2J"),
            "{shown}"
        );
        for text in [shown, yaml(&bundles).unwrap()] {
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        }
    }

    /// What `service show` prints can be applied again.
    #[test]
    fn shown_settings_can_be_applied() {
        let settings: ServiceSettings = serde_json::from_str(
            r#"{"slots":["a","b"],"session_sources":[{"cookie":"sid"}],"pin":{"cookie_same_site":"strict"},
            "part_headers":{"prompts":"x-prompts"},"quarantine_seconds":60}"#,
        )
        .unwrap();
        let service: ServiceName = "chat".parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.yaml");
        let again = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let (name, read) = crate::cli::files::service(&path.to_str().unwrap().parse().unwrap(), None).unwrap();
            assert_eq!(name.as_ref(), Some(&service), "{text}");
            read
        };
        let applied = Applied::from(settings);
        let text = service_file(&service, &applied).unwrap();
        assert_eq!(again(&text), applied, "{text}");

        let over = r#"{"preset":"langgraph","session_sources":[],"pin":{"cookie":"sessionless"}}"#;
        let applied: Applied = serde_json::from_str(over).unwrap();
        let text = service_file(&service, &applied).unwrap();
        let wanted = "service: chat
preset: langgraph/1
pin:
  cookie: sessionless
session_sources: []
# langgraph/1 sets, where nothing above says otherwise:
#   learn_from:
#   - body: /thread_id
#   pin:
#     header: never
#     idle_timeout_seconds: 604800
#     max_age_seconds: 2592000
# every other setting is at its default
";
        assert_eq!(text, wanted);
        assert_eq!(again(&text), applied, "{text}");

        let newer = Applied { preset: Some("mcp/9".parse().unwrap()), settings: applied.settings };
        let text = service_file(&service, &newer).unwrap();
        assert!(text.contains("# the settings of the preset mcp/9, which this colorfast does not know"), "{text}");
        assert_eq!(again(&text).settings, newer.settings, "{text}");
    }
}
