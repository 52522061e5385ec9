//! `colorfast man`: a man page for every command.

use std::fs;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use crate::cli::error::{Exit, Failure};
use crate::cli::help;
use crate::cli::output::{Format, Output};
use crate::cli::words;

/// Writes the pages into `folder`.
///
/// # Errors
/// Where one cannot be written.
pub fn run(folder: &Path, output: &Output) -> Result<Exit, Failure> {
    let failed = |path: &Path, error| Failure::usage(format!("cannot write {}: {error}", path.display()));
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let pages = pages().map_err(|error| Failure::outage(format!("cannot make the pages: {error}")))?;
    for (name, page) in &pages {
        let path = folder.join(name);
        fs::write(&path, page).map_err(|error| failed(&path, error))?;
    }
    match output.format {
        Format::Json => output.document(&pages.iter().map(|(name, _)| folder.join(name)).collect::<Vec<_>>())?,
        Format::Text => {
            let folder = words::tame(&folder.display().to_string());
            output.line(&format!("{} in {folder}", words::count(pages.len(), "page")))?;
        }
    }
    Ok(Exit::Done)
}

/// Every page with the name of its file.
fn pages() -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = help::plain().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add(&command, &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render(&mut page)?;
    pages.push((man.get_filename(), page));
    command.get_subcommands().try_for_each(|sub| add(sub, pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(command: &Command, path: &str, found: &mut Vec<String>) {
        let path = format!("{path}{}", command.get_name());
        for sub in command.get_subcommands() {
            names(sub, &format!("{path}-"), found);
        }
        found.push(format!("{path}.1"));
    }

    /// Every command has a page that says what it is, and gives its examples.
    #[test]
    fn every_command_has_a_page() {
        let pages = pages().unwrap();
        let mut wanted = Vec::new();
        names(&help::plain(), "", &mut wanted);
        for name in wanted {
            let (_, page) = pages.iter().find(|(page, _)| *page == name).expect(&name);
            let text = String::from_utf8_lossy(page);
            assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{name}:\n{text}");
            assert!(!text.contains('\u{1b}'), "{name} would repaint a terminal:\n{text}");
        }
        let (_, rollback) = pages.iter().find(|(name, _)| name == "colorfast-rollback.1").unwrap();
        assert!(String::from_utf8_lossy(rollback).contains("colorfast rollback \\-\\-keep\\-pins"));
    }

    /// The pages are read by the formatter of man pages, where there is one.
    #[test]
    fn pages_render() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &Output::plain()).unwrap();
        for entry in fs::read_dir(folder.path()).unwrap() {
            let page = entry.unwrap().path();
            let Ok(shown) = std::process::Command::new("man").arg("-l").arg(&page).output() else { return };
            let text = String::from_utf8_lossy(&shown.stdout);
            assert!(shown.status.success() && text.contains("colorfast"), "{}: {text}", page.display());
        }
    }
}
