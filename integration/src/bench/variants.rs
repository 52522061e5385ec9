//! What is compared: one Envoy each, all on the shipped configuration without its access log and its tracing.
//!
//! | variant | what stands in Envoy |
//! | --- | --- |
//! | none | nothing of ours: one agent, no filter |
//! | stripping | the early header mutation that the shipped configuration has in front of the filter |
//! | empty | that, and a wasm filter of the same SDK that does nothing |
//! | calls | that, and a wasm filter that makes the host calls of a pinned request, checks a pin, and does nothing else |
//! | weighted | weighted clusters by a hash of the session id: Envoy's own split, which keeps nobody |
//! | stateful | a stateful session by cookie: Envoy's own stickiness, which keeps a host |
//! | lua | stripping, and the filter's job in Lua without its MAC |
//! | hash, pin | stripping, and the filter, with requests of new sessions and of pinned ones |
//! | hash alone, memory, looked up | the same without a sidecar, for two services that differ in their keys: without them nothing is remembered |

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::EnvoyConfig;

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Leg {
    /// The route itself.
    Direct,
    /// An agent.
    Upstream,
}

/// What decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Nothing.
    None,
    /// Nothing, but stamps are stripped early.
    Stripping,
    /// An empty wasm filter.
    Empty,
    /// A wasm filter that makes the same host calls, and nothing else.
    Calls,
    /// Weighted clusters by hash.
    Weighted,
    /// A stateful session by cookie.
    Stateful,
    /// Lua.
    Lua,
    /// The filter: a new session.
    Hash,
    /// The filter: a session that its pin keeps.
    Pin,
    /// The filter for a service without keys, which remembers nothing: a session by its hash, and nothing else.
    HashAlone,
    /// The filter: a session that it remembers, whose client echoes nothing, and that the worker has met of late.
    Memory,
    /// The same for more sessions than a worker has copies of: each has to be looked up in shared data.
    LookedUp,
}

/// Where a variant gets what it decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It needs nothing.
    Nothing,
    /// A sidecar.
    Sidecar,
    /// Its own configuration.
    Configuration,
}

impl Variant {
    /// Every variant of a leg. Weighted clusters choose an upstream: without one there is nothing to measure.
    pub fn of(leg: Leg) -> impl Iterator<Item = Self> {
        let all = [
            Self::None,
            Self::Stripping,
            Self::Empty,
            Self::Calls,
            Self::Weighted,
            Self::Stateful,
            Self::Lua,
            Self::Hash,
            Self::Pin,
            Self::HashAlone,
            Self::Memory,
            Self::LookedUp,
        ];
        all.into_iter().filter(move |variant| leg == Leg::Upstream || *variant != Self::Weighted)
    }

    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::None => "no filter",
            Self::Stripping => "no filter, early stripping",
            Self::Empty => "empty wasm filter",
            Self::Calls => "the host calls of a pinned request, nothing else",
            Self::Weighted => "weighted clusters by hash",
            Self::Stateful => "stateful session cookie",
            Self::Lua => "Lua, the same job without the MAC",
            Self::Hash => "colorfast, by hash",
            Self::Pin => "colorfast, by pin",
            Self::HashAlone => "colorfast, by hash alone",
            Self::Memory => "colorfast, by memory",
            Self::LookedUp => "colorfast, by memory, not met of late",
        }
    }

    /// Where it gets what it decides by.
    #[must_use]
    pub fn source(self) -> Source {
        match self {
            Self::Hash | Self::Pin => Source::Sidecar,
            Self::HashAlone | Self::Memory | Self::LookedUp => Source::Configuration,
            _ => Source::Nothing,
        }
    }
}

/// The agents of both slots.
#[derive(Clone, Copy, Debug)]
pub struct Agents {
    /// Of blue.
    pub blue: SocketAddr,
    /// Of green.
    pub green: SocketAddr,
}

/// The configuration of a variant. That of ours begins with `ours`, which says what it decides by.
///
/// # Errors
/// Where the shipped configuration cannot be read.
pub fn config(
    variant: Variant,
    leg: Leg,
    agents: Agents,
    empty: &Path,
    assignments: [u64; 2],
    ours: Option<EnvoyConfig>,
) -> Result<EnvoyConfig> {
    let config = match ours {
        Some(config) => config,
        None => EnvoyConfig::shipped()?,
    };
    let config = plain(config.agent("blue", agents.blue).agent("green", agents.green));
    let config = match variant {
        Variant::None => without_stripping(config.without_filter()),
        Variant::Stripping => config.without_filter(),
        Variant::Empty => config.filter_at(empty).plugin_text(""),
        Variant::Calls => config.filter_at(empty).plugin_text(r#"{"repeat":"pinned","times":1}"#),
        Variant::Weighted => weighted(without_stripping(config.without_filter())),
        Variant::Stateful => stateful(without_stripping(config.without_filter()), agents),
        Variant::Lua => before_router(config.without_filter(), lua(assignments)),
        Variant::Hash | Variant::Pin | Variant::HashAlone | Variant::Memory | Variant::LookedUp => config,
    };
    Ok(match leg {
        Leg::Direct => direct(config),
        Leg::Upstream => config,
    })
}

/// One worker, and nothing beside the request's way that costs: log and spans are the user's to choose, and with the log
/// goes the filter of Envoy's own that serves it.
#[must_use]
pub fn plain(config: EnvoyConfig) -> EnvoyConfig {
    config.concurrency(1).without_access_log().edit_http(|hcm| {
        hcm.as_object_mut().context("a connection manager")?.remove("tracing");
        let filters = hcm["http_filters"].as_array_mut().context("no filters")?;
        filters.retain(|filter| filter["name"] != "colorfast_log");
        Ok(())
    })
}

/// Every route answers by itself, with the name of the slot that it is for.
#[must_use]
pub fn direct(config: EnvoyConfig) -> EnvoyConfig {
    config.edit_http(|hcm| {
        for route in routes(hcm)? {
            let green = route["route"]["cluster"] == "agent_green";
            let route = route.as_object_mut().context("a route")?;
            route.remove("route");
            let body = if green { "green" } else { "blue" };
            route.insert("direct_response".to_owned(), json!({"status": 200, "body": {"inline_string": body}}));
        }
        Ok(())
    })
}

fn without_stripping(config: EnvoyConfig) -> EnvoyConfig {
    config.edit_http(|hcm| {
        hcm.as_object_mut().context("a connection manager")?.remove("early_header_mutation_extensions");
        hcm["route_config"].as_object_mut().context("routes")?.remove("request_headers_to_remove");
        // There are no stamps to match on.
        let routes = routes(hcm)?;
        let default = routes.pop().context("there is no default route")?;
        *routes = vec![default];
        Ok(())
    })
}

fn weighted(config: EnvoyConfig) -> EnvoyConfig {
    only_route(
        config,
        json!({
            "weighted_clusters": {
                "clusters": [{"name": "agent_blue", "weight": 50}, {"name": "agent_green", "weight": 50}],
                "use_hash_policy": true,
            },
            "hash_policy": [{"header": {"header_name": "x-agent-session"}}],
            "timeout": "0s",
        }),
    )
}

fn stateful(config: EnvoyConfig, agents: Agents) -> EnvoyConfig {
    let filter = json!({
        "name": "envoy.filters.http.stateful_session",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSession",
            "session_state": {
                "name": "envoy.http.stateful_session.cookie",
                "typed_config": {
                    "@type":
                        "type.googleapis.com/envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState",
                    "cookie": {"name": STATEFUL_COOKIE, "path": "/", "ttl": "86400s"},
                },
            },
        },
    });
    let config = before_router(config, filter).edit(move |doc| {
        let clusters = doc.pointer_mut("/static_resources/clusters").and_then(Value::as_array_mut);
        let blue = clusters.context("no clusters")?.iter_mut().find(|cluster| cluster["name"] == "agent_blue");
        let endpoints = blue.context("no agent_blue")?.pointer_mut("/load_assignment/endpoints/0/lb_endpoints");
        let green = json!({"socket_address": {"address": agents.green.ip(), "port_value": agents.green.port()}});
        let endpoints = endpoints.and_then(Value::as_array_mut).context("no endpoints")?;
        endpoints.push(json!({"endpoint": {"address": green}}));
        Ok(())
    });
    only_route(config, json!({"cluster": "agent_blue", "timeout": "0s"}))
}

/// The cookie of [`Variant::Stateful`].
pub const STATEFUL_COOKIE: &str = "agent-host";

fn lua(assignments: [u64; 2]) -> Value {
    let [blue, green] = assignments;
    let code = format!("local BLUE, GREEN = {blue}, {green}\n{}", include_str!("same_job.lua"));
    json!({
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": code},
        },
    })
}

fn before_router(config: EnvoyConfig, filter: Value) -> EnvoyConfig {
    config.edit_http(|hcm| {
        let filters = hcm["http_filters"].as_array_mut().context("no filters")?;
        filters.insert(filters.len().saturating_sub(1), filter.clone());
        Ok(())
    })
}

fn only_route(config: EnvoyConfig, action: Value) -> EnvoyConfig {
    config.edit_http(|hcm| {
        *routes(hcm)? = vec![json!({"match": {"prefix": "/"}, "route": action})];
        Ok(())
    })
}

fn routes(hcm: &mut Value) -> Result<&mut Vec<Value>> {
    let routes = hcm.pointer_mut("/route_config/virtual_hosts/0/routes").and_then(Value::as_array_mut);
    routes.context("no routes")
}
