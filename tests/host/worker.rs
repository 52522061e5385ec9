//! The engine of a VM: one store, one instance, and the callbacks that run in it.

use std::time::Duration;

use wasmi::{Extern, Instance, Store, TrapCode, Val};

use crate::abi::Action;
use crate::call::CallResponse;
use crate::guest::Trap;
use crate::state::{Deferred, Exports, RootState, VM_CONTEXT, VmState};
use crate::{Cause, Error, Plugin, Process, Result, Wasm};

/// How many of the last log lines an error carries.
const ERROR_LOG_LINES: usize = 12;

pub(crate) struct Worker {
    store: Store<VmState>,
    instance: Instance,
    dead: Option<Cause>,
    steps: u64,
    /// How many complaints there were when the last callback began.
    old_complaints: usize,
}

impl Worker {
    /// Starts a VM and its first root, in the order that Envoy does.
    pub(crate) fn start(process: Process, wasm: &Wasm, plugin: Plugin) -> Result<Self> {
        let fail = |why: wasmi::Error| Error::before("start", Cause::Module(why.to_string()));
        let fuel = plugin.fuel;
        let config = plugin.config.clone();
        let mut store = Store::new(wasm.linker.engine(), VmState::new(process, plugin));
        store.limiter(|state| &mut state.limits);
        store.set_fuel(fuel).map_err(fail)?;
        let instance = wasm.linker.instantiate_and_start(&mut store, &wasm.module).map_err(fail)?;
        let exports = Exports {
            memory: instance.get_memory(&store, "memory").ok_or_else(|| missing("the memory"))?,
            allocate: ["proxy_on_memory_allocate", "malloc"]
                .into_iter()
                .find_map(|name| instance.get_typed_func(&store, name).ok())
                .ok_or_else(|| missing("proxy_on_memory_allocate or malloc"))?,
        };
        store.data_mut().exports = Some(exports);
        let mut worker = Self { store, instance, dead: None, steps: 0, old_complaints: 0 };
        // A library is initialised, a program is run; the rest of its life is the same.
        let entry = ["_initialize", "_start"].into_iter().find(|name| worker.exports(name));
        worker.callback(entry.ok_or_else(|| missing("_initialize or _start"))?, VM_CONTEXT, &[])?;
        let root = worker.create_root(config)?;
        let vm_config = worker.state().plugin.vm_config.len() as u32;
        worker.insist("proxy_on_vm_start", root, vm_config)?;
        worker.configure(root)?;
        Ok(worker)
    }

    pub(crate) fn state(&self) -> &VmState {
        self.store.data()
    }

    pub(crate) fn state_mut(&mut self) -> &mut VmState {
        self.store.data_mut()
    }

    /// Steps that the last callback took.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn dead(&self) -> Option<&Cause> {
        self.dead.as_ref()
    }

    /// Adds a root to the VM, as Envoy does for a second plugin, or a new configuration, of one VM.
    pub(crate) fn add_root(&mut self, config: Vec<u8>) -> Result<u32> {
        let root = self.create_root(config)?;
        self.configure(root)?;
        Ok(root)
    }

    fn create_root(&mut self, config: Vec<u8>) -> Result<u32> {
        let state = self.state_mut();
        let root = state.next_context();
        state.roots.insert(root, RootState { config, ..RootState::default() });
        self.callback("proxy_on_context_create", root, &[root, 0])?;
        Ok(root)
    }

    fn configure(&mut self, root: u32) -> Result<()> {
        let mut length = 0;
        if let Some(state) = self.state_mut().roots.get_mut(&root) {
            state.configuring = true;
            length = state.config.len() as u32;
        }
        let accepted = self.insist("proxy_on_configure", root, length);
        if let Some(state) = self.state_mut().roots.get_mut(&root) {
            state.configuring = false;
        }
        accepted
    }

    /// Runs a callback that must answer true.
    fn insist(&mut self, name: &'static str, root: u32, length: u32) -> Result<()> {
        match self.callback(name, root, &[root, length])? {
            Some(0) => Err(self.fail(name, Cause::Refused)),
            _ => Ok(()),
        }
    }

    pub(crate) fn tick(&mut self, root: u32) -> Result<()> {
        const NAME: &str = "proxy_on_tick";
        if self.tick_period(root).is_none() {
            return Err(self.misuse(NAME, format!("root {root} set no tick period, so it never ticks")));
        }
        self.callback(NAME, root, &[root]).map(drop)
    }

    pub(crate) fn tick_period(&self, root: u32) -> Option<Duration> {
        self.state().roots.get(&root)?.tick_period
    }

    /// Tells a root that it ends. It is gone at once, or once it calls `proxy_done`.
    pub(crate) fn end_root(&mut self, root: u32) -> Result<()> {
        const NAME: &str = "proxy_on_done";
        if !self.state().roots.contains_key(&root) {
            return Err(self.misuse(NAME, format!("root {root} has ended already")));
        }
        if self.callback(NAME, root, &[root])? != Some(0) {
            return self.delete_root(root);
        }
        if let Some(state) = self.state_mut().roots.get_mut(&root) {
            state.ending = true;
        }
        Ok(())
    }

    fn delete_root(&mut self, root: u32) -> Result<()> {
        self.callback("proxy_on_delete", root, &[root])?;
        let state = self.state_mut();
        state.roots.remove(&root);
        // The proxy cancels what the root still waits for.
        state.calls.retain(|_, call| call.root != root);
        Ok(())
    }

    /// Answers an HTTP call; without a response the connection broke.
    pub(crate) fn answer(&mut self, token: u32, response: Option<CallResponse>) -> Result<()> {
        const NAME: &str = "proxy_on_http_call_response";
        let Some(call) = self.state_mut().calls.remove(&token) else {
            return Err(self.misuse(NAME, format!("no HTTP call with token {token} waits for an answer")));
        };
        let [headers, body, trailers] = response.as_ref().map_or([0; 3], |response| {
            [response.headers.len(), response.body.len(), response.trailers.len()].map(|n| n as u32)
        });
        self.state_mut().call_response = response;
        let told = self.call(NAME, call.root, &[call.root, token, headers, body, trailers]);
        self.state_mut().call_response = None;
        told?;
        self.run_deferred()
    }

    /// Runs a callback about a part of a stream, and tells what becomes of that part.
    pub(crate) fn ask(&mut self, name: &'static str, stream: u32, args: &[u32]) -> Result<Action> {
        let returned = self.call(name, stream, args)?;
        let action = match self.state().stop_iteration {
            true => Action::Pause,
            false => Action::of(returned),
        };
        self.run_deferred()?;
        Ok(action)
    }

    /// Runs a callback, and then what it asked to be done after it. One that the guest does not
    /// export does nothing.
    pub(crate) fn callback(&mut self, name: &'static str, context: u32, args: &[u32]) -> Result<Option<i32>> {
        let returned = self.call(name, context, args)?;
        self.run_deferred()?;
        Ok(returned)
    }

    /// Calls any export, for guests that offer more than callbacks.
    pub(crate) fn call_export(&mut self, name: &str, args: &[Val]) -> Result<Option<Val>> {
        if !self.exports(name) {
            return Err(self.misuse(name, format!("the module exports no function {name}")));
        }
        let returned = self.enter(name, VM_CONTEXT, args)?;
        self.run_deferred()?;
        Ok(returned)
    }

    fn exports(&self, name: &str) -> bool {
        self.instance.get_func(&self.store, name).is_some()
    }

    fn call(&mut self, name: &'static str, context: u32, args: &[u32]) -> Result<Option<i32>> {
        let args: Vec<Val> = args.iter().map(|arg| Val::I32(arg.cast_signed())).collect();
        Ok(self.enter(name, context, &args)?.and_then(|returned| returned.i32()))
    }

    fn enter(&mut self, name: &str, context: u32, args: &[Val]) -> Result<Option<Val>> {
        if let Some(cause) = self.dead.clone() {
            return Err(self.error(name, Cause::Dead(Box::new(cause))));
        }
        let Some(Extern::Func(callback)) = self.instance.get_export(&self.store, name) else {
            return Ok(None);
        };
        let fuel = self.state().plugin.fuel;
        let state = self.state_mut();
        state.current = context;
        state.effective = None;
        state.stop_iteration = false;
        state.last_import = None;
        self.old_complaints = self.state().complaints.len();
        let mut results = vec![Val::I32(0); callback.ty(&self.store).results().len()];
        let outcome = self.store.set_fuel(fuel).and_then(|()| callback.call(&mut self.store, args, &mut results));
        self.steps = fuel - self.store.get_fuel().unwrap_or_default();
        match outcome {
            Ok(()) => Ok(results.pop()),
            Err(error) => {
                let cause = cause_of(&error, fuel);
                Err(self.fail(name, cause))
            }
        }
    }

    fn run_deferred(&mut self) -> Result<()> {
        while let Some(action) = self.state_mut().deferred.pop_front() {
            match action {
                Deferred::Continue { stream, direction, by } => {
                    self.continue_stream(stream, direction, by)?;
                }
                Deferred::Delete { root } => self.delete_root(root)?,
            }
        }
        Ok(())
    }

    /// The VM dies of this.
    fn fail(&mut self, during: &str, cause: Cause) -> Error {
        let error = self.error(during, cause);
        self.dead = Some(error.cause.clone());
        error
    }

    /// The test asks for what cannot be; the VM lives on.
    pub(crate) fn misuse(&self, during: &str, why: String) -> Error {
        self.error(during, Cause::Misuse(why))
    }

    fn error(&self, during: &str, cause: Cause) -> Error {
        let state = self.state();
        let first = state.log.len().saturating_sub(ERROR_LOG_LINES);
        Error {
            cause,
            during: during.to_owned(),
            last_import: state.last_import,
            complaint: state.complaints.iter().skip(self.old_complaints).next_back().cloned().map(Box::new),
            log: state.log.iter().skip(first).cloned().collect(),
        }
    }
}

fn missing(what: &str) -> Error {
    Error::before("start", Cause::Module(format!("it does not export {what}")))
}

fn cause_of(error: &wasmi::Error, fuel: u64) -> Cause {
    match error.downcast_ref::<Trap>() {
        Some(Trap::UnknownImport(name)) => Cause::UnknownImport(name.clone()),
        Some(Trap::Exit(code)) => Cause::Exit(*code),
        Some(trap @ Trap::NoMemory) => Cause::Trap(trap.to_string()),
        None if error.as_trap_code() == Some(TrapCode::OutOfFuel) => Cause::Endless { fuel },
        None => Cause::Trap(error.to_string()),
    }
}
