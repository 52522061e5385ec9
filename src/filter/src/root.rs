//! One plugin configuration in one VM: made when the listener is, ticked, and asked for streams.

use std::rc::Rc;
use std::time::Duration;

use colorfast_core::names;
use colorfast_core::time::UnixMillis;
use colorfast_core::wire::discovery::{Node, NodeMetadata};
use colorfast_core::wire::sessions::Records;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::host;
use crate::leader::Leader;
use crate::rebuilds::Guard;
use crate::report::Reporter;
use crate::stream::Stream;
use crate::vm::{self, Vm};

/// Bounds how late a waiting stream goes on, and a poll is made.
const TICK: Duration = Duration::from_millis(20);
/// By then every worker has been given what another was given.
const PUSH_SETTLED_MS: u64 = 2_000;
/// Longest node id that is told to the sidecar.
const NODE_ID_MAX: usize = 256;

/// The root context.
#[derive(Debug)]
pub struct Root {
    context: u32,
    vm: Option<Rc<Vm>>,
    /// When this configuration came, in milliseconds: newer ones pre-empt older ones that are being drained.
    generation: u64,
    /// What acts on the world, where there is a sidecar. Made at the first tick: a canary VM is configured too, but
    /// never ticks.
    agent: Option<Agent>,
    guard: Option<Guard>,
    /// When it was configured, until it has looked back at what it pushes.
    pushed: Option<UnixMillis>,
}

/// A root that takes part: it may lead, and reports.
#[derive(Debug)]
struct Agent {
    node: Node,
    leaders: Vec<Leader>,
    reporter: Reporter,
}

impl Root {
    /// A root that is not configured yet.
    pub fn new(context: u32) -> Self {
        Self { context, vm: None, generation: 0, agent: None, guard: None, pushed: None }
    }

    fn configure(&mut self) -> Result<(), String> {
        let json =
            host::plugin_configuration().map_err(|error| format!("plugin configuration: cannot be read: {error}"))?;
        let vm = Rc::new(Vm::configure(&json)?);
        let now = host::now();
        let guard = Guard::new(&json);
        if guard.is_rebuild(now) {
            vm.services.iter().for_each(|service| service.rebuilt(&vm.metrics, now));
        }
        for (service, config) in vm.services.iter().zip(&vm.config.services) {
            service.push(&vm.metrics, config, &json, now);
        }
        (self.vm, self.agent, self.guard) = (Some(vm), None, Some(guard));
        (self.generation, self.pushed) = (now.0, Some(now));
        if self.vm.as_ref().is_some_and(|vm| vm.services.is_empty()) {
            // An egress listener decides nothing, so it has nobody to ask and nothing to keep.
            return Ok(());
        }
        // Without it the pass after an internal redirect is decided anew, and the pin was taken off at the first.
        if let Err(error) = host::declare_for_request(names::PROPERTY_DECIDED) {
            let property = names::PROPERTY_DECIDED;
            log::warn!("colorfast: sessions may hop at internal redirects: {property} cannot be declared: {error}");
        }
        host::set_tick_period(TICK).map_err(|error| format!("the tick period cannot be set: {error}"))
    }
}

impl Agent {
    fn new(vm: &Vm, generation: u64) -> Option<Self> {
        let owner = vm::random()?;
        let process = host::put_if_absent(names::shared::PROCESS, &vm::random()?.to_le_bytes()).ok()?;
        let process = u64::from_le_bytes(process.try_into().ok()?);
        let id = host::property(&["xds", "node", "id"]).unwrap_or_default();
        // The sidecar takes printable ASCII; whatever else stands in the id must not cost the proxy its snapshots.
        let printable = |b: &u8| if (0x20..0x7f).contains(b) { char::from(*b) } else { '?' };
        let id: String = id.iter().take(NODE_ID_MAX).map(printable).collect();
        let id = if id.is_empty() { "unnamed".to_owned() } else { id };
        Some(Self {
            node: Node { id, metadata: NodeMetadata { process_id: format!("{process:016x}") } },
            leaders: vm.services.iter().map(|service| Leader::new(Rc::clone(service), owner, generation)).collect(),
            reporter: Reporter::new(owner),
        })
    }
}

impl Context for Root {
    fn on_done(&mut self) -> bool {
        self.guard.iter().for_each(Guard::forget);
        true
    }

    fn on_http_call_response(&mut self, token: u32, _: usize, body_size: usize, _: usize) {
        let (Some(vm), Some(agent)) = (&self.vm, &mut self.agent) else { return };
        if vm.asks.answer(vm, token, body_size) {
            return;
        }
        let now = host::now();
        let Agent { node, leaders, reporter } = agent;
        let answered = reporter.answer(vm, token, body_size, now)
            || leaders.iter_mut().any(|leader| leader.answer(vm, node, token, body_size, now));
        if answered {
            vm.waiting.settle_all(vm, self.context);
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        match self.configure() {
            Ok(()) => true,
            Err(error) => {
                log::error!("colorfast: {error}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let Some(vm) = &self.vm else { return };
        let now = vm.read_clock();
        self.guard.iter_mut().for_each(|guard| guard.tick(now));
        if self.agent.is_none() && vm.config.has_sidecar() {
            self.agent = Agent::new(vm, self.generation);
            self.agent.iter().for_each(|agent| vm.asks.introduce(&agent.node, self.context));
        }
        if self.pushed.take_if(|since| !now.is_within(PUSH_SETTLED_MS, *since)).is_some() {
            for (service, config) in vm.services.iter().zip(&vm.config.services) {
                service.tell_refused(&vm.metrics, config);
            }
        }
        // Workers that have no request compile here, so that their next request finds the plan made.
        for service in &vm.services {
            let _ = service.current(&vm.metrics);
            if !vm.config.has_sidecar() {
                service.memory.take_learnt(Records::MAX);
            }
            service.watches.all().iter().for_each(|watch| watch.tell(&vm.metrics, &service.name));
        }
        vm.waiting.settle_all(vm, self.context);
        if let Some(Agent { node, leaders, reporter }) = &mut self.agent {
            for leader in leaders {
                leader.tick(vm, node, now);
            }
            reporter.tick(vm, node, now);
            vm.asks.tick(vm, now);
        }
    }

    fn create_http_context(&self, context: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(context, self.vm.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
