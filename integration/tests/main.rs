//! Every test of all parts together, in one program: what they share is built once, and two of them run at a time.

mod access;
mod accounts;
mod answers;
mod api;
mod assignments;
mod away;
mod bench;
mod bodies;
mod cli;
mod clients;
mod configuration;
mod counted;
mod crash;
mod crowd;
mod deadlines;
mod demo;
mod doctor;
mod fleet;
mod flip;
mod forged;
mod gone;
mod guard;
mod harness;
mod kept;
mod learnt;
mod leases;
mod long_bodies;
mod matrix;
mod mcp;
mod members;
mod names;
mod open_streams;
mod operators;
mod oracle;
mod own_pin;
mod poison;
mod pushed;
mod readme;
mod redaction;
mod restore;
mod room;
mod rotation;
mod schemathesis;
mod serve;
mod services;
mod split;
mod stamped;
mod start;
mod starts;
mod streams;
mod why;

/// A file that is no module here would never be run.
#[test]
fn every_file_is_run() -> anyhow::Result<()> {
    let (here, listed) = (file!(), include_str!("main.rs"));
    let folder = integration::paths::workspace().join(here).parent().map(std::path::Path::to_owned).unwrap_or_default();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let (Some(name), Some("rs")) =
            (path.file_stem().and_then(|name| name.to_str()), path.extension().and_then(|kind| kind.to_str()))
        else {
            continue;
        };
        anyhow::ensure!(
            name == "main" || listed.contains(&format!("\nmod {name};\n")),
            "{} is not run",
            path.display()
        );
    }
    Ok(())
}
