//! `colorfast preset`: the presets that this build knows.

use clap::Subcommand;
use colorfast_core::ids::PresetName;
use colorfast_core::preset::{self, Preset};
use colorfast_core::settings::ServiceSettings;
use serde::Serialize;

use crate::cli::catalogue::yaml;
use crate::cli::error::{Exit, Failure};
use crate::cli::output::{Format, Output, render};

/// `colorfast preset …`
#[derive(Debug, Subcommand)]
pub enum PresetCommand {
    /// List presets, each in its newest version
    List,
    /// Show the settings of a preset, as a service file would write them
    Show {
        /// Its name: the newest version, or one by its number, as in mcp/1
        name: String,
    },
}

/// A preset, for programs.
#[derive(Serialize)]
struct Shown {
    preset: PresetName,
    about: &'static str,
    keeps: &'static str,
    settings: ServiceSettings,
}

/// Does what is asked.
///
/// # Errors
/// Where there is no such preset, and where nobody reads.
pub fn run(command: &PresetCommand, output: &Output) -> Result<Exit, Failure> {
    match command {
        PresetCommand::List => list(output)?,
        PresetCommand::Show { name } => {
            let preset = preset::named(name).map_err(|error| {
                Failure::not_found(error.rule).at_field(preset::FIELD).next("colorfast preset list")
            })?;
            match output.format {
                Format::Json => output.document(&shown(preset)?)?,
                Format::Text => output.text(&page(preset)?)?,
            }
        }
    }
    Ok(Exit::Done)
}

fn list(output: &Output) -> Result<(), Failure> {
    if output.format == Format::Json {
        return output.document(&preset::newest().map(shown).collect::<Result<Vec<_>, _>>()?);
    }
    let mut table = output.table(&["PRESET", "FOR"]);
    for preset in preset::newest() {
        table.add_row([preset.full_name().as_str(), preset.about]);
    }
    output.text(&render(&table))
}

fn shown(preset: &Preset) -> Result<Shown, Failure> {
    let settings = preset.expanded().map_err(|error| Failure::outage(format!("the preset cannot be read: {error}")))?;
    Ok(Shown { preset: preset.full_name(), about: preset.about, keeps: preset.keeps, settings })
}

fn page(preset: &Preset) -> Result<String, Failure> {
    let Shown { preset, about, keeps, settings } = shown(preset)?;
    Ok(format!("# {preset}: {about}\n# What keeps a session: {keeps}\n{}", yaml(&settings)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of a preset says what it is for, and is a service file of the same settings.
    #[test]
    fn presets_are_shown_as_files() {
        for preset in preset::newest() {
            let page = page(preset).unwrap();
            assert!(page.starts_with(&format!("# {}: {}", preset.full_name(), preset.about)), "{page}");
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("preset.yaml");
            std::fs::write(&path, page).unwrap();
            let (_, applied) = crate::cli::files::service(&path.to_str().unwrap().parse().unwrap(), None).unwrap();
            assert_eq!((applied.preset, applied.settings), (None, preset.expanded().unwrap()));
        }
    }
}
