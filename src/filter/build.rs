//! Names the build: two builds of one version must be told apart where they follow each other in one proxy, see
//! `src/host/shared/rebuilds.rs`. The name is a hash of what the module is made of, so the same sources make the same module.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What the module is made of, from this folder.
const SOURCES: [&str; 4] = ["src", "../core/src", "../core/Cargo.toml", "../../Cargo.lock"];

fn main() -> io::Result<()> {
    let mut files = BTreeSet::new();
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        collect(Path::new(source), &mut files)?;
    }
    let mut hasher = DefaultHasher::new();
    for file in files {
        hasher.write(&fs::read(file)?);
        hasher.write_u8(0);
    }
    for name in ["CARGO_PKG_VERSION", "CARGO_FEATURE_CRASH", "OPT_LEVEL"] {
        hasher.write(env::var(name).unwrap_or_default().as_bytes());
        hasher.write_u8(0);
    }
    println!("cargo::rustc-env=COLORFAST_BUILD={:016x}", hasher.finish());
    Ok(())
}

/// Every file at a path or below it.
fn collect(path: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.insert(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}
