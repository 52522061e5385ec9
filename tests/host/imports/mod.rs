//! The host side of every import, one file per family.

mod buffers;
mod contexts;
mod foreign;
mod headers;
mod http_calls;
mod logs;
mod metrics;
mod properties;
mod shared_data;
mod shared_queues;
mod streams;
mod wasi;

use wasmi::errors::LinkerError;
use wasmi::{Error, ExternType, Linker, Module};

use crate::guest::Trap;
use crate::state::VmState;

/// Links functions of the module's one import name space: each is played by the function of the
/// same name in scope, which gets the guest and then the numbers that the guest passed.
macro_rules! play {
    ($linker:ident, $module:literal, $($name:ident($($arg:ident),*);)*) => {
        $($linker.func_wrap(
            $module,
            stringify!($name),
            |caller: wasmi::Caller<'_, $crate::state::VmState>, $($arg),*| {
                $crate::guest::Guest::answer(caller, stringify!($name), |guest| $name(guest, $($arg),*))
            },
        )?;)*
    };
}
use play;

/// A linker that has every import of the module. One that this host does not play ends the guest
/// when it is called, and not before: SDKs import much that a filter never uses.
pub(crate) fn link(module: &Module) -> Result<Linker<VmState>, Error> {
    let mut linker = Linker::new(module.engine());
    buffers::link(&mut linker)?;
    contexts::link(&mut linker)?;
    foreign::link(&mut linker)?;
    headers::link(&mut linker)?;
    http_calls::link(&mut linker)?;
    logs::link(&mut linker)?;
    metrics::link(&mut linker)?;
    properties::link(&mut linker)?;
    shared_data::link(&mut linker)?;
    shared_queues::link(&mut linker)?;
    streams::link(&mut linker)?;
    wasi::link(&mut linker)?;
    for import in module.imports() {
        let ExternType::Func(signature) = import.ty() else { continue };
        let trap = Trap::UnknownImport(format!("{}.{}", import.module(), import.name()));
        let played = linker
            .func_new(import.module(), import.name(), signature.clone(), move |_, _, _| Err(Error::host(trap.clone())));
        match played {
            Ok(_) | Err(LinkerError::DuplicateDefinition { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(linker)
}
