//! A VM as tests see it.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use wasmi::Val;

use crate::call::CallResponse;
use crate::worker::Worker;
use crate::{Cause, Complaint, ForeignCall, HeaderMap, HttpCall, LogLine, Plugin, Process, Result, Stream, Wasm};

/// One VM of a process, with the plugin that it was started for. Clones are handles on the same VM,
/// and VMs, roots and streams may be used in any order.
///
/// Dropping it tells the guest nothing: so end Envoy's canary and crashed VMs.
#[derive(Clone)]
pub struct Vm {
    worker: Rc<RefCell<Worker>>,
}

/// The root of every VM's first plugin.
const FIRST_ROOT: u32 = 1;

impl Vm {
    pub(crate) fn start(process: Process, wasm: &Wasm, plugin: Plugin) -> Result<Self> {
        let worker = Worker::start(process, wasm, plugin)?;
        Ok(Self { worker: Rc::new(RefCell::new(worker)) })
    }

    /// The root of the plugin that the VM was started for.
    pub fn root(&self) -> Root {
        Root { vm: self.clone(), id: FIRST_ROOT }
    }

    /// Adds a root: a second plugin in this VM, or the same one with a new configuration. The old
    /// root goes on until it is ended.
    ///
    /// # Errors
    /// When the guest traps, or refuses the configuration.
    pub fn add_root(&self, config: impl AsRef<[u8]>) -> Result<Root> {
        let id = self.worker().add_root(config.as_ref().to_vec())?;
        Ok(Root { vm: self.clone(), id })
    }

    /// Ticks the first root; see [`Root::tick`].
    ///
    /// # Errors
    /// As [`Root::tick`].
    pub fn tick(&self) -> Result<()> {
        self.root().tick()
    }

    /// A new stream through the first root's plugin.
    pub fn stream(&self) -> Stream {
        self.root().stream()
    }

    /// The HTTP calls that wait for an answer, oldest first.
    pub fn calls(&self) -> Vec<HttpCall> {
        self.worker().state().calls.values().cloned().collect()
    }

    /// The oldest HTTP call to a cluster that waits for an answer.
    pub fn call_to(&self, cluster: &str) -> Option<HttpCall> {
        self.calls().into_iter().find(|call| call.cluster == cluster)
    }

    /// Answers an HTTP call.
    ///
    /// # Errors
    /// When no such call waits, or the guest traps.
    pub fn answer(&self, token: u32, headers: impl Into<HeaderMap>, body: impl AsRef<[u8]>) -> Result<()> {
        let response =
            CallResponse { headers: headers.into(), body: body.as_ref().to_vec(), trailers: HeaderMap::new() };
        self.worker().answer(token, Some(response))
    }

    /// Lets an HTTP call run out of time: the proxy answers 504.
    ///
    /// # Errors
    /// As [`Vm::answer`].
    pub fn timeout(&self, token: u32) -> Result<()> {
        self.worker().answer(token, Some(CallResponse::by_proxy(504, "upstream request timeout")))
    }

    /// Finds nobody at the other end of an HTTP call: the proxy answers 503.
    ///
    /// # Errors
    /// As [`Vm::answer`].
    pub fn unreachable(&self, token: u32) -> Result<()> {
        self.worker().answer(token, Some(CallResponse::by_proxy(503, "no healthy upstream")))
    }

    /// Breaks an HTTP call off, as an answer above 32 MB does: a callback without any header.
    ///
    /// # Errors
    /// As [`Vm::answer`].
    pub fn break_off(&self, token: u32) -> Result<()> {
        self.worker().answer(token, None)
    }

    /// All that the guest logged, oldest first.
    pub fn log(&self) -> Vec<LogLine> {
        self.worker().state().log.clone()
    }

    /// Whether any line of the log holds this text.
    pub fn logged(&self, text: &str) -> bool {
        self.worker().state().log.iter().any(|line| line.text.contains(text))
    }

    /// The host calls that Envoy would refuse or punish; a sound filter makes none.
    pub fn complaints(&self) -> Vec<Complaint> {
        self.worker().state().complaints.clone()
    }

    /// How often each import was called since the start, or the last reset.
    pub fn host_calls(&self) -> BTreeMap<&'static str, u64> {
        self.worker().state().host_calls.clone()
    }

    /// How often one import was called since the start, or the last reset.
    pub fn host_calls_of(&self, import: &str) -> u64 {
        self.worker().state().host_calls.get(import).copied().unwrap_or_default()
    }

    /// Begins to count host calls anew.
    pub fn reset_host_calls(&self) {
        self.worker().state_mut().host_calls.clear();
    }

    /// The foreign functions that the guest called, oldest first.
    pub fn foreign_calls(&self) -> Vec<ForeignCall> {
        self.worker().state().foreign_calls.clone()
    }

    /// Steps that the last callback took: the same in every run, so a bound on it is a sound test.
    pub fn steps(&self) -> u64 {
        self.worker().steps()
    }

    /// What the VM died of, if it did.
    pub fn died_of(&self) -> Option<Cause> {
        self.worker().dead().cloned()
    }

    /// Calls a function that the module exports beside the ABI.
    ///
    /// # Errors
    /// When there is none of that name, the arguments do not fit it, or the guest traps.
    pub fn call_export(&self, name: &str, arguments: &[Val]) -> Result<Option<Val>> {
        self.worker().call_export(name, arguments)
    }

    pub(crate) fn worker(&self) -> RefMut<'_, Worker> {
        self.worker.borrow_mut()
    }
}

/// One plugin in a VM: what polls, ticks and owns the streams.
#[derive(Clone)]
pub struct Root {
    vm: Vm,
    id: u32,
}

impl Root {
    /// The number by which host calls know it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Lets the root's timer fire once. The clock does not move by itself.
    ///
    /// # Errors
    /// When the root set no tick period, for then a proxy never ticks it, or the guest traps.
    pub fn tick(&self) -> Result<()> {
        self.vm.worker().tick(self.id)
    }

    /// How often the root wants to be ticked; `None` is never.
    pub fn tick_period(&self) -> Option<Duration> {
        self.vm.worker().tick_period(self.id)
    }

    /// A new stream through this plugin. The guest learns of it with the first callback.
    pub fn stream(&self) -> Stream {
        let id = self.vm.worker().new_stream(self.id);
        Stream::new(self.vm.clone(), id)
    }

    /// Tells the root that it ends, as a new configuration does once the old streams are gone. It
    /// is gone at once, or with its `proxy_done` where it asks for time.
    ///
    /// # Errors
    /// When it has ended already, or the guest traps.
    pub fn end(&self) -> Result<()> {
        self.vm.worker().end_root(self.id)
    }

    /// Whether the root is gone for good.
    pub fn is_gone(&self) -> bool {
        !self.vm.worker().state().roots.contains_key(&self.id)
    }
}
