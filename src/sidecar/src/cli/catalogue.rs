//! What was applied and added: `service show`, `bundle show`, `bundle list`.

use colorfast_core::ids::{BundleId, ServiceName};
use colorfast_core::settings::ServiceSettings;
use comfy_table::Table;
use serde::Serialize;

use crate::api::{Bundles, ServiceStatus};
use crate::cli::client::Client;
use crate::cli::error::{Exit, Failure};
use crate::cli::output::{Format, Output, render};
use crate::cli::words;

/// A service file, as `service apply` reads it.
#[derive(Serialize)]
struct ServiceFile<'a> {
    service: &'a ServiceName,
    #[serde(flatten)]
    settings: &'a ServiceSettings,
}

/// Shows the settings of a service.
///
/// # Errors
/// As the client's.
pub async fn service_show(client: &Client, output: &Output, service: &ServiceName) -> Result<Exit, Failure> {
    let status = client.service(service).await?;
    let file = ServiceFile { service, settings: &status.settings };
    match output.format {
        Format::Json => output.document(&file)?,
        Format::Text => {
            output.text(&yaml(&file)?)?;
            output.text("# every other setting is at its default\n")?;
        }
    }
    Ok(Exit::Done)
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
fn yaml(document: &impl Serialize) -> Result<String, Failure> {
    let text = serde_saphyr::to_string(document);
    let text = text.map_err(|error| Failure::outage(format!("the answer cannot be written as YAML: {error}")))?;
    Ok(words::tame_lines(&text))
}

#[cfg(test)]
mod tests {
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
        let text = yaml(&ServiceFile { service: &service, settings: &settings }).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.yaml");
        std::fs::write(&path, &text).unwrap();
        let (name, read) = crate::cli::files::service(&path.to_str().unwrap().parse().unwrap(), None).unwrap();
        assert_eq!((name, read), (Some(service), settings), "{text}");
    }
}
