//! The colorfast filter: translates host callbacks to `colorfast-core` and back, nothing else.
//!
//! ```text
//!            ┌─ one process ─────────────────────────────────────────────────────────────────┐
//!  sidecar ◀─┼─ poll ─ leader ─ validate ─▶ shared data: snapshot, then its version          │
//!     ▲      │ (one root of one VM)               │ read by every worker, every request      │
//!     │      │                                    ▼                                          │
//!  request ──┼─▶ stream ─▶ observe ─▶ resolve: decide(plan) ─▶ record ─▶ apply ──────────────┼─▶ agent
//!     │      │                          │ waits? ─▶ registry ◀─ settled by the root's tick   │
//!     └──────┼─ questions ◀─────────────┘                                                    │
//!   answer ◀─┼─ pin, ids learnt ◀─ outcome ◀─────────────────────────────────────────────────┼── agent
//!            └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Every worker has a VM with one root context per plugin configuration ([`root`]) and one stream context per
//! request ([`stream`]). Nothing here is static, since plugins share VMs, but what is the VM's own
//! ([`host::shared::rebuilds`]).
//!
//! # Rooms
//! Each room knows those above it, and none below (`make check` sees to it):
//!
//! | room | is for |
//! | --- | --- |
//! | [`host`] | the calls to Envoy, and what a process keeps in shared data |
//! | [`clock`], [`entropy`], [`metrics`] | what a worker reads, draws and counts |
//! | [`slots`] | what a worker sees of slots: health, and who holds them |
//! | [`service`] | one service: its plan, its memory, its slots |
//! | [`worker`] | one plugin configuration in one worker |
//! | [`sidecar`] | the way to the sidecar: polls, questions, reports |
//! | [`response`] | the way back of a request: pins, and what its answer tells |
//! | [`request`] | the way of a request to its decision |
//! | [`plugin`] | one plugin configuration while it is in force |
//! | [`stream`], [`root`] | the SDK's callbacks |
//!
//! # No panics
//! A panic kills every stream of a worker, so this crate has none: the lints deny them, borrows are tried
//! ([`cell`]), and host calls return results ([`host`]). What is left are those of the SDK. None of
//! them can be reached, for a host that keeps to the ABI:
//!
//! | panic in `proxy_wasm` | why it is not reached |
//! | --- | --- |
//! | "duplicate context_id" | Envoy counts context ids up and deletes each once |
//! | "invalid root_context_id", "missing ContextType", "create_http_context returned None" | [`root::Root`] always answers both; Envoy creates streams under roots that it created |
//! | "create_stream_context returned None" | stream contexts are made for network filters only |
//! | "invalid context_id" in every `on_*` | Envoy calls back on contexts that it created and has not deleted |
//! | "invalid token_id" in `on_http_call_response` | calls are made through the SDK's `dispatch_http_call`, which books their token |
//! | "duplicate token_id" | Envoy counts tokens up; a booked one is removed by its one answer |
//! | `set_effective_context(..).unwrap()` before an answer | the context is looked up in the same line, so it is alive |
//! | "unexpected status" in `dispatch_http_call` | Envoy answers Ok, BadArgument or InternalFailure, all of them handled |
//! | `log(..).unwrap()` in its logger, `set_logger(..).unwrap()` at the start | Envoy's log call answers Ok, whatever the line; the logger is set once, in `_initialize` |
//! | `capacity overflow` in `proxy_on_memory_allocate` | Envoy hands over what it holds: headers, and bodies of up to 32 MB |
//! | borrows of its maps | callbacks do not nest: resuming a stream is deferred by Envoy until the callback has returned |

mod cell;
mod clock;
#[cfg(feature = "crash")]
mod crash;
mod entropy;
mod flow;
mod host;
mod metrics;
mod plugin;
mod request;
mod response;
mod root;
mod service;
mod sidecar;
mod slots;
mod stream;
mod worker;

#[allow(missing_docs, reason = "the macro exports `_initialize`")]
mod start {
    use proxy_wasm::traits::RootContext;
    use proxy_wasm::types::LogLevel;

    use crate::root;

    proxy_wasm::main! {{
        proxy_wasm::set_log_level(LogLevel::Info);
        proxy_wasm::set_root_context(|id| -> Box<dyn RootContext> { Box::new(root::Root::new(id)) });
    }}
}
