//! Host calls: which there are, how many the filter makes for a request, and the listeners that measure each alone.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use wasm_host::{HeaderMap, Plugin, Process};

use super::samples::Subject;
use crate::lone;
use crate::names;

/// A host call, or the check of a pin, that is measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The word by which the bench filter knows it.
    pub repeat: &'static str,
    /// The import; none for what the filter does by itself.
    pub import: Option<&'static str>,
    /// For people.
    pub title: &'static str,
    /// How often it is repeated in the second of its two listeners, beyond the once of the first.
    pub more: u32,
}

/// All that a request of the filter may make, and the check of a pin.
pub const CALLS: [Call; 12] = [
    Call::of("get_headers", "proxy_get_header_map_pairs", "all headers of the request", 16),
    Call::of("get_header", "proxy_get_header_map_value", "one header", 32),
    // Each is a new name, as in the filter; many of them would make the map of the request another one.
    Call::of("set_header", "proxy_replace_header_map_value", "set a header", 8),
    Call::of("add_response_header", "proxy_add_header_map_value", "add a header", 8),
    Call::of("remove_header", "proxy_remove_header_map_value", "remove a header", REMOVED_MAX),
    Call::of("get_property", "proxy_get_property", "a property", 32),
    Call::of("set_property", "proxy_set_property", "set filter state", 8),
    Call::of("get_shared_data", "proxy_get_shared_data", "the version in shared data", 32),
    Call::of("set_shared_data", "proxy_set_shared_data", "write shared data", 32),
    Call::of("get_time", "proxy_get_current_time_nanoseconds", "the time", 32),
    Call::of("increment_metric", "proxy_increment_metric", "count", 32),
    Call { repeat: "mac", import: None, title: "check a pin (one HMAC-SHA-256)", more: 16 },
];

/// The subject that the host calls are compared with, and its listener: the same filter, repeating nothing.
pub const NOTHING: &str = "nothing";

/// What the first change of a header brings with it.
pub const ROUTE: &str = "route_again";

/// Headers that the requests to the listeners of `remove_header` bring along, so that there is something to remove.
pub const REMOVED_MAX: u32 = 8;

impl Call {
    const fn of(repeat: &'static str, import: &'static str, title: &'static str, more: u32) -> Self {
        Self { repeat, import: Some(import), title, more }
    }

    /// The listeners that measure it: once, and once and `more`.
    #[must_use]
    pub fn listeners(&self) -> [(String, u32); 2] {
        [1, 1 + self.more].map(|times| (format!("{}-{times}", self.repeat), times))
    }

    /// Headers that its requests carry beside the usual ones.
    fn headers(&self) -> String {
        match self.repeat {
            "remove_header" => (0..=REMOVED_MAX).map(|n| format!("x-bench-{n}: blue-1.2.3\r\n")).collect(),
            _ => String::new(),
        }
    }
}

/// The listeners that measure host calls, by name, each with what the bench filter is told there.
pub fn listeners() -> impl Iterator<Item = (String, String)> {
    let all = CALLS.into_iter().flat_map(|call| {
        call.listeners().map(|(name, times)| (name, json!({"repeat": call.repeat, "times": times}).to_string()))
    });
    [(NOTHING.to_owned(), String::new())].into_iter().chain(all)
}

/// What is measured at each of them, and the headers that its requests carry beside the usual ones.
pub fn subjects() -> impl Iterator<Item = (String, Subject, String)> {
    let all = CALLS.into_iter().flat_map(|call| {
        call.listeners().map(|(name, times)| (name, Subject::Call(call.repeat, times), call.headers()))
    });
    [(NOTHING.to_owned(), Subject::Call(NOTHING, 0), String::new())].into_iter().chain(all)
}

/// How many of each call the filter makes for a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Of a session that begins and is handed a pin.
    pub hash: BTreeMap<&'static str, u64>,
    /// Of a session that its pin keeps.
    pub pin: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// Counts them: the built filter, in a host without a network, gets the requests that the Envoys get.
    ///
    /// # Errors
    /// Where the filter has not been built or does not run.
    pub fn take() -> Result<Self> {
        let process = Process::new();
        process.set_now(SystemTime::now().duration_since(UNIX_EPOCH)?);
        process.set_env("COLORFAST_KEYS", &lone::keys());
        let mut plugin = lone::plugin();
        // As the measured service has it: pins travel by header.
        plugin["services"][0]["bootstrap"]["settings"]["pin"] = json!({});
        let vm = process.start(&wasm_host::load()?, Plugin::config(plugin.to_string()))?;
        vm.tick()?;
        let pin = lone::sign(&lone::bound("alpha", lone::GREEN))?;
        let count = |session: &str, pin: Option<&str>| -> Result<BTreeMap<&'static str, u64>> {
            let mut headers = HeaderMap::from([
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "agents.example.com"),
                (":path", "/turn"),
                (names::SESSION, session),
            ]);
            if let Some(pin) = pin {
                headers.add(names::PIN, pin);
            }
            let stream = vm.stream();
            vm.reset_host_calls();
            stream.request_headers(headers)?;
            stream.response_headers(HeaderMap::from([(":status", "200")]))?;
            stream.finish()?;
            Ok(vm.host_calls())
        };
        // The first of each kind defines its metrics.
        count("first", None)?;
        count("alpha", Some(&pin))?;
        Ok(Self { hash: count("second", None)?, pin: count("alpha", Some(&pin))? })
    }

    /// The number of calls of one kind.
    #[must_use]
    pub fn of(&self, import: &str) -> [u64; 2] {
        [&self.hash, &self.pin].map(|counts| counts.get(import).copied().unwrap_or_default())
    }
}
