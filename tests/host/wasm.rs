//! The built module: where it lies, and how it is loaded.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use wasmi::{CompilationMode, Config, Engine, Linker, Module};

use crate::imports;
use crate::state::VmState;
use crate::{Cause, Error, Result};

/// A compiled module with all its imports linked, ready to be started any number of times and on
/// any thread.
#[derive(Clone, Debug)]
pub struct Wasm {
    pub(crate) module: Module,
    pub(crate) linker: Linker<VmState>,
}

impl Wasm {
    /// Compiles a module from its bytes.
    ///
    /// # Errors
    /// [`Cause::Module`] where it is not valid WebAssembly, or imports anything but functions.
    pub fn from_bytes(bytes: impl AsRef<[u8]>) -> Result<Self> {
        let fail = |why: wasmi::Error| Error::before("load", Cause::Module(why.to_string()));
        let mut config = Config::default();
        // Translated at once, so that the steps of a callback do not depend on what ran before it.
        config.consume_fuel(true).compilation_mode(CompilationMode::Eager);
        let engine = Engine::new(&config);
        let module = Module::new(&engine, bytes).map_err(fail)?;
        let linker = imports::link(&module).map_err(fail)?;
        Ok(Self { module, linker })
    }

    /// Reads and compiles a file.
    ///
    /// # Errors
    /// Where the file cannot be read, and as [`Wasm::from_bytes`].
    pub fn from_file(path: impl AsRef<Path>) -> anyhow::Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Self::from_bytes(bytes).with_context(|| format!("loading {}", path.display()))
    }
}

/// Loads the built filter from [`wasm_path`].
///
/// # Errors
/// Where it is not built, and as [`Wasm::from_file`].
pub fn load() -> anyhow::Result<Wasm> {
    Wasm::from_file(wasm_path()?)
}

/// Where the built filter lies: `COLORFAST_WASM`, else below `CARGO_TARGET_DIR`, else below the
/// workspace's own target folder.
///
/// # Errors
/// Where there is no such file; the message names the make target that builds it.
pub fn wasm_path() -> anyhow::Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.parent().unwrap_or(package);
    let path = match env::var_os("COLORFAST_WASM") {
        Some(path) => PathBuf::from(path),
        None => workspace
            .join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
            .join("wasm32-wasip1/wasm/colorfast_filter.wasm"),
    };
    if !path.is_file() {
        bail!(
            "the filter is not built: there is no {}; run `make wasm`, or name a built module in COLORFAST_WASM",
            path.display()
        );
    }
    Ok(path)
}
