//! What a VM's host calls work on; it lives in the VM's store.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use wasmi::{Memory, StoreLimits, StoreLimitsBuilder, TypedFunc};

use crate::abi::{BufferKind, Direction, MapKind};
use crate::call::CallResponse;
use crate::half::Half;
use crate::metrics::MetricIds;
use crate::properties::Properties;
use crate::{Complaint, HeaderMap, HttpCall, LocalReply, LogLevel, LogLine, Plugin, Process, Status};

/// Far more than a filter may ever need, far less than would hurt the machine.
const MEMORY_LIMIT: usize = 256 << 20;

/// The context of the VM itself, which runs before any root is there.
pub(crate) const VM_CONTEXT: u32 = 0;

/// A call of a foreign function: what a proxy offers beside the ABI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignCall {
    /// The function's name.
    pub name: String,
    /// Its arguments, mostly an encoded message.
    pub arguments: Vec<u8>,
    /// The context that called it.
    pub context: u32,
}

/// A plugin in a VM.
#[derive(Debug, Default)]
pub(crate) struct RootState {
    pub(crate) config: Vec<u8>,
    /// Only then can the configuration be read.
    pub(crate) configuring: bool,
    pub(crate) tick_period: Option<Duration>,
    /// The guest asked for time before it goes, and owes a `proxy_done`.
    pub(crate) ending: bool,
}

/// A stream through a VM.
#[derive(Debug, Default)]
pub(crate) struct StreamState {
    pub(crate) root: u32,
    /// Whether the guest knows of it.
    pub(crate) created: bool,
    /// Whether the guest was told that it is over.
    pub(crate) finished: bool,
    /// Whether it is being logged, when both directions' headers can be read again.
    pub(crate) logging: bool,
    pub(crate) request: Half,
    pub(crate) response: Half,
    pub(crate) properties: Properties,
    pub(crate) filter_state: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) local_reply: Option<LocalReply>,
    pub(crate) route_cache_clears: u32,
    /// The context whose callback continued the request, last.
    pub(crate) continued_by: Option<u32>,
    pub(crate) reset: bool,
}

impl StreamState {
    pub(crate) fn half(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }
}

/// What a host call asks for, done once the callback has returned: Envoy never re-enters a VM.
#[derive(Debug)]
pub(crate) enum Deferred {
    Continue { stream: u32, direction: Direction, by: u32 },
    Delete { root: u32 },
}

/// The parts of the guest that host calls use.
#[derive(Debug)]
pub(crate) struct Exports {
    pub(crate) memory: Memory,
    pub(crate) allocate: TypedFunc<u32, u32>,
}

/// Everything that host calls work on.
#[derive(Debug)]
pub(crate) struct VmState {
    pub(crate) process: Process,
    pub(crate) plugin: Plugin,
    pub(crate) limits: StoreLimits,
    pub(crate) exports: Option<Exports>,
    /// The context whose callback runs.
    pub(crate) current: u32,
    /// The context that the guest says it speaks for.
    pub(crate) effective: Option<u32>,
    pub(crate) roots: BTreeMap<u32, RootState>,
    pub(crate) streams: BTreeMap<u32, StreamState>,
    next_context: u32,
    pub(crate) metric_ids: MetricIds,
    pub(crate) calls: BTreeMap<u32, HttpCall>,
    next_call: u32,
    pub(crate) call_response: Option<CallResponse>,
    pub(crate) deferred: VecDeque<Deferred>,
    /// A local reply stops the stream, whatever the callback answers.
    pub(crate) stop_iteration: bool,
    pub(crate) log: Vec<LogLine>,
    pub(crate) complaints: Vec<Complaint>,
    pub(crate) foreign_calls: Vec<ForeignCall>,
    pub(crate) host_calls: BTreeMap<&'static str, u64>,
    pub(crate) last_import: Option<&'static str>,
}

impl VmState {
    pub(crate) fn new(process: Process, plugin: Plugin) -> Self {
        Self {
            process,
            plugin,
            limits: StoreLimitsBuilder::new().memory_size(MEMORY_LIMIT).build(),
            exports: None,
            current: VM_CONTEXT,
            effective: None,
            roots: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_context: VM_CONTEXT,
            metric_ids: MetricIds::default(),
            calls: BTreeMap::new(),
            next_call: 0,
            call_response: None,
            deferred: VecDeque::new(),
            stop_iteration: false,
            log: Vec::new(),
            complaints: Vec::new(),
            foreign_calls: Vec::new(),
            host_calls: BTreeMap::new(),
            last_import: None,
        }
    }

    pub(crate) fn next_context(&mut self) -> u32 {
        self.next_context += 1;
        self.next_context
    }

    pub(crate) fn next_call(&mut self) -> u32 {
        // The two lowest bits tell HTTP calls from others.
        self.next_call += 4;
        self.next_call
    }

    /// Whether the guest can speak for this context.
    pub(crate) fn knows(&self, context: u32) -> bool {
        self.roots.contains_key(&context) || self.streams.get(&context).is_some_and(|stream| !stream.finished)
    }

    /// The context that host calls are about.
    pub(crate) fn context(&self) -> u32 {
        self.effective.filter(|context| self.knows(*context)).unwrap_or(self.current)
    }

    /// The root of the context that host calls are about.
    pub(crate) fn root_id(&self) -> u32 {
        let context = self.context();
        self.streams.get(&context).map_or(context, |stream| stream.root)
    }

    /// The stream that host calls are about, if it is one.
    pub(crate) fn stream(&self) -> Option<&StreamState> {
        self.streams.get(&self.context())
    }

    /// Likewise, to change it.
    pub(crate) fn stream_mut(&mut self) -> Option<&mut StreamState> {
        let context = self.context();
        self.streams.get_mut(&context)
    }

    pub(crate) fn log(&mut self, level: LogLevel, text: String) {
        let context = self.context();
        self.log.push(LogLine { level, context, text });
    }

    pub(crate) fn complain(&mut self, import: &'static str, status: Status, why: String) {
        let context = self.context();
        self.complaints.push(Complaint { import, context, status, why });
    }

    /// A header map, where it can be read now.
    pub(crate) fn map(&self, kind: MapKind) -> Option<&HeaderMap> {
        let stream = self.stream();
        let logged = stream.filter(|stream| stream.logging);
        let response = self.call_response.as_ref();
        match kind {
            MapKind::RequestHeaders => stream
                .filter(|stream| stream.request.headers_visible)
                .or(logged)
                .and_then(|stream| stream.request.headers.as_ref()),
            MapKind::RequestTrailers => stream
                .filter(|stream| stream.request.trailers_visible)
                .and_then(|stream| stream.request.trailers.as_ref()),
            MapKind::ResponseHeaders => stream
                .filter(|stream| stream.response.headers_visible)
                .or(logged)
                .and_then(|stream| stream.response.headers.as_ref()),
            MapKind::ResponseTrailers => stream
                .filter(|stream| stream.response.trailers_visible)
                .or(logged)
                .and_then(|stream| stream.response.trailers.as_ref()),
            MapKind::CallResponseHeaders => response.map(|response| &response.headers),
            MapKind::CallResponseTrailers => response.map(|response| &response.trailers),
        }
    }

    /// A header map, where it can be changed now: never one of an HTTP call, or of a finished stream.
    pub(crate) fn map_mut(&mut self, kind: MapKind) -> Option<&mut HeaderMap> {
        let stream = self.stream_mut()?;
        let (visible, map) = match kind {
            MapKind::RequestHeaders => (stream.request.headers_visible, &mut stream.request.headers),
            MapKind::RequestTrailers => (stream.request.trailers_visible, &mut stream.request.trailers),
            MapKind::ResponseHeaders => (stream.response.headers_visible, &mut stream.response.headers),
            MapKind::ResponseTrailers => (stream.response.trailers_visible, &mut stream.response.trailers),
            MapKind::CallResponseHeaders | MapKind::CallResponseTrailers => return None,
        };
        map.as_mut().filter(|_| visible)
    }

    /// A buffer, where it can be read now.
    pub(crate) fn buffer(&self, kind: BufferKind) -> Option<&[u8]> {
        let visible = |half: &Half| half.body_visible;
        match kind {
            BufferKind::RequestBody => self
                .stream()
                .map(|stream| &stream.request)
                .filter(|half| visible(half))
                .map(|half| half.body.as_slice()),
            BufferKind::ResponseBody => self
                .stream()
                .map(|stream| &stream.response)
                .filter(|half| visible(half))
                .map(|half| half.body.as_slice()),
            BufferKind::CallResponseBody => self.call_response.as_ref().map(|response| response.body.as_slice()),
            BufferKind::VmConfiguration => Some(&self.plugin.vm_config),
            BufferKind::PluginConfiguration => {
                self.roots.get(&self.context()).filter(|root| root.configuring).map(|root| root.config.as_slice())
            }
        }
    }

    /// A buffer, where it can be changed now.
    pub(crate) fn buffer_mut(&mut self, kind: BufferKind) -> Option<&mut Vec<u8>> {
        let stream = self.stream_mut()?;
        let half = match kind {
            BufferKind::RequestBody => &mut stream.request,
            BufferKind::ResponseBody => &mut stream.response,
            _ => return None,
        };
        half.body_visible.then_some(&mut half.body)
    }
}
