//! A small proxy-wasm host for tests: it loads the built filter and drives it like an Envoy
//! without a network.
//!
//! It keeps state instead of a list of expected calls: a test sets up a [`Process`], starts one
//! [`Vm`] or several on it, sends a [`Stream`] through, and looks at what became of headers,
//! properties, metrics and shared data.
//!
//! ```no_run
//! use wasm_host::{Action, Plugin, Process, load};
//!
//! # fn main() -> anyhow::Result<()> {
//! let process = Process::new();
//! process.set_env("COLORFAST_TOKEN", "secret");
//! let vm = process.start(&load()?, Plugin::config(r#"{"services":[]}"#))?;
//! vm.tick()?;
//!
//! let stream = vm.stream();
//! let action = stream.request_headers([(":method", "GET"), (":path", "/"), (":authority", "a")])?;
//! assert_eq!(action, Action::Continue);
//! assert!(!stream.request().has("x-agent-slot"));
//! assert_eq!(vm.host_calls_of("proxy_set_property"), 0);
//! stream.finish()?;
//! assert_eq!(vm.complaints(), []);
//! # Ok(())
//! # }
//! ```
//!
//! Where Envoy is odd, this host is odd in the same way: shared data ([`SharedData`]), headers that
//! can be read only while their callback runs or waits, bodies that are held behind paused headers
//! ([`HeaderPause`]), HTTP calls that always belong to the root. Nothing happens by itself: time
//! stands still, nothing ticks, and no call is answered until the test says so.
#![warn(missing_docs)]

mod abi;
mod call;
mod error;
mod flow;
mod guest;
mod half;
mod headers;
mod imports;
pub mod maps;
mod metrics;
mod plugin;
mod process;
mod properties;
mod shared_data;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod vm;
mod wasm;
mod worker;

pub use abi::{Action, LogLevel, Status};
pub use call::HttpCall;
pub use error::{Cause, Complaint, Error, LogLine, Result};
pub use headers::HeaderMap;
pub use plugin::{HeaderPause, Plugin};
pub use process::Process;
pub use shared_data::SharedData;
pub use state::ForeignCall;
pub use stream::{LocalReply, Stream};
pub use vm::{Root, Vm};
pub use wasm::{Wasm, load, wasm_path};
pub use wasmi::Val;
