//! The one Envoy that everything is compared in: a listener for each instance of each variant on each leg, and two for each
//! host call.
//!
//! Processes of the same configuration differ by microseconds a request, listeners of one process by far less; how much is
//! seen by two instances of each. Each instance of a filter has a `vm_id` of its own, and with it VMs and shared data of its
//! own; both of its legs use these.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::calls;
use super::variants::{Build, Leg, Variant};
use crate::{EnvoyConfig, lone};

/// The service without keys, and the host that is asked for to get it; both as long as those of the other.
const BARE: &str = "bare";
/// The host of the service without keys.
pub const BARE_HOST: &str = "nobody.example.com";
/// The cookie of [`Variant::Stateful`].
pub const STATEFUL_COOKIE: &str = "agent-host";
/// The cluster of both agents.
const BOTH: &str = "agent_both";
const HCM: &str = "/filter_chains/0/filters/0/typed_config";

/// The agents of both slots.
#[derive(Clone, Copy, Debug)]
pub struct Agents {
    /// Of blue.
    pub blue: SocketAddr,
    /// Of green.
    pub green: SocketAddr,
}

/// The modules that are compared.
#[derive(Clone, Debug)]
pub struct Modules {
    /// The bench filter.
    pub bench: PathBuf,
    /// The filter.
    pub now: PathBuf,
    /// An earlier build of it.
    pub before: Option<PathBuf>,
}

/// One listener of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What answers.
    pub leg: Leg,
    /// What decides; several variants may be asked here.
    pub variant: Variant,
    /// Of the filter: which build.
    pub build: Build,
    /// Which of those that do the same.
    pub instance: usize,
}

/// Listeners that do the same: what these differ by is noise.
pub const INSTANCES: usize = 2;

/// The shipped listener, copies of which stand in its place.
pub struct Shipped(Value);

impl Shipped {
    /// Takes it out of a configuration.
    ///
    /// # Errors
    /// Where there is none.
    pub fn take(doc: &mut Value) -> Result<Self> {
        Ok(Self(listeners(doc)?.pop().context("no listener")?))
    }

    /// Puts a copy under a name, its connection manager as `edit` leaves it.
    ///
    /// # Errors
    /// Where `edit` has one.
    pub fn put(&self, doc: &mut Value, name: &str, edit: impl FnOnce(&mut Value) -> Result<()>) -> Result<()> {
        let mut copy = self.0.clone();
        copy["name"] = json!(name);
        edit(copy.pointer_mut(HCM).context("a connection manager")?)?;
        listeners(doc)?.push(copy);
        Ok(())
    }
}

fn listeners(doc: &mut Value) -> Result<&mut Vec<Value>> {
    let listeners = doc.pointer_mut("/static_resources/listeners").and_then(Value::as_array_mut);
    listeners.context("no listeners")
}

/// A wasm filter in the place of the shipped one.
pub struct Wasm<'m> {
    module: &'m Path,
    /// Its VMs: none else shares them.
    vm: String,
    /// Its root context, and what it is told.
    root: &'m str,
    plugin: String,
}

impl Modules {
    /// The build of before, where there is one.
    #[must_use]
    pub fn earlier(&self) -> Option<Build> {
        self.before.as_ref().map(|_| Build::Before)
    }

    fn of(&self, build: Build) -> &Path {
        match (&self.before, build) {
            (Some(before), Build::Before) => before,
            _ => &self.now,
        }
    }

    /// Every variant of a leg, and each build that it is measured of.
    pub fn variants(&self, leg: Leg) -> impl Iterator<Item = (Variant, Build)> {
        let before = self.earlier();
        Variant::of(leg).flat_map(move |variant| variant.builds(before).map(move |build| (variant, build)))
    }

    /// Every listener but those of the host calls.
    fn listeners(&self) -> impl Iterator<Item = Listener> {
        Leg::ALL.into_iter().flat_map(move |leg| {
            let standing = self.variants(leg).filter(|(variant, _)| variant.stands_at() == *variant);
            standing.flat_map(move |(variant, build)| {
                (0..INSTANCES).map(move |instance| Listener { leg, variant, build, instance })
            })
        })
    }
}

impl Listener {
    /// The first of a variant over direct answers.
    #[must_use]
    pub fn first(variant: Variant) -> Self {
        Self { leg: Leg::Direct, variant, build: Build::Now, instance: 0 }
    }

    /// Its name in Envoy.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{:?}-{}", self.leg, self.vm())
    }

    fn vm(&self) -> String {
        format!("{:?}-{:?}-{}", self.variant, self.build, self.instance)
    }

    /// Makes it of the shipped one.
    fn edit(&self, hcm: &mut Value, modules: &Modules) -> Result<()> {
        let bench = |plugin: &str| Wasm::new(&modules.bench, &self.vm(), "bench", plugin.to_owned());
        let ours = |services| Wasm::ours(modules.of(self.build), &self.vm(), by_itself(services));
        match self.variant {
            Variant::None => without_stripping(hcm)?,
            Variant::Stripping => {}
            Variant::Weighted => {
                without_stripping(hcm)?;
                weighted(hcm)?;
            }
            Variant::Stateful => {
                without_stripping(hcm)?;
                stateful(hcm)?;
            }
            Variant::Lua => before_router(hcm, lua([lone::BLUE.0, lone::GREEN.0]))?,
            Variant::Empty => bench("").edit(hcm)?,
            Variant::Calls => bench(r#"{"repeat":"pinned","times":1}"#).edit(hcm)?,
            Variant::Hash | Variant::Pin => ours(Services::Keyed).edit(hcm)?,
            Variant::HashAlone | Variant::Memory | Variant::LookedUp => ours(Services::Both).edit(hcm)?,
        }
        if self.leg == Leg::Direct { direct_routes(hcm) } else { Ok(()) }
    }
}

impl<'m> Wasm<'m> {
    fn new(module: &'m Path, vm: &str, root: &'m str, plugin: String) -> Self {
        Self { module, vm: vm.to_owned(), root, plugin }
    }

    /// A build of the filter in VMs of this id, with its plugin configuration.
    #[must_use]
    pub fn ours(module: &'m Path, vm: &str, plugin: String) -> Self {
        Self::new(module, vm, "colorfast", plugin)
    }

    /// Puts it in the place of the shipped filter, of which it keeps the rest.
    ///
    /// # Errors
    /// Where there is no such filter.
    pub fn edit(&self, hcm: &mut Value) -> Result<()> {
        let filters = hcm["http_filters"].as_array_mut().context("no filters")?;
        let filter = filters.iter_mut().find(|filter| filter["name"] == "colorfast").context("no filter")?;
        // What is named otherwise is not taken out with the shipped one.
        filter["name"] = json!("measured");
        let config = filter.pointer_mut("/typed_config/config").context("no configuration")?;
        config["name"] = json!(self.root);
        config["root_id"] = json!(self.root);
        config["vm_config"]["vm_id"] = json!(self.vm);
        config["vm_config"]["code"]["local"]["filename"] = json!(self.module);
        config["configuration"]["value"] = json!(self.plugin);
        Ok(())
    }
}

/// The Envoy of all variants and host calls.
///
/// # Errors
/// Where the shipped configuration cannot be read.
pub fn config(agents: Agents, modules: &Modules) -> Result<EnvoyConfig> {
    let config = plain(EnvoyConfig::shipped()?.agent("blue", agents.blue).agent("green", agents.green));
    let both = json!({"socket_address": {"address": agents.green.ip(), "port_value": agents.green.port()}});
    let config = config.cluster(BOTH, agents.blue).sidecar(lone::NOBODY).env("COLORFAST_KEYS", &lone::keys());
    let config = config.edit(|doc| {
        let clusters = doc.pointer_mut("/static_resources/clusters").and_then(Value::as_array_mut);
        let cluster = clusters.context("no clusters")?.iter_mut().find(|cluster| cluster["name"] == BOTH);
        let endpoints = cluster.context("no cluster")?.pointer_mut("/load_assignment/endpoints/0/lb_endpoints");
        let endpoints = endpoints.and_then(Value::as_array_mut).context("no endpoints")?;
        endpoints.push(json!({"endpoint": {"address": both}}));

        let shipped = Shipped::take(doc)?;
        for listener in modules.listeners() {
            shipped.put(doc, &listener.name(), |hcm| listener.edit(hcm, modules))?;
        }
        for (name, plugin) in calls::listeners() {
            shipped.put(doc, &name, |hcm| {
                Wasm::new(&modules.bench, "calls", &name, plugin).edit(hcm)?;
                direct_routes(hcm)
            })?;
        }
        Ok(())
    });
    Ok(config.without_filter())
}

/// The services of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Services {
    /// One, which has keys.
    Keyed,
    /// That, and the same without keys.
    Both,
}

/// What a sidecar would tell the filter, in its configuration: both slots take half of the new sessions. So the filter
/// decides without one, and two builds need not agree on what they ask it.
fn by_itself(services: Services) -> String {
    let mut plugin = lone::plugin();
    let keyed = &mut plugin["services"][0];
    keyed["bootstrap"]["settings"]["pin"] = json!({});
    for (slot, phase) in [(0, "live"), (1, "candidate")] {
        keyed["bootstrap"]["slots"][slot]["phase"] = json!(phase);
        keyed["bootstrap"]["slots"][slot]["weight"] = json!(5_000);
    }
    if services == Services::Both {
        let keyed = keyed.clone();
        let mut bare = keyed.clone();
        bare["name"] = json!(BARE);
        bare["bootstrap"]["service"] = json!(BARE);
        // What looking at the other costs is laid to the remembered session's account.
        bare["match"] = json!({"hosts": [BARE_HOST]});
        plugin["services"] = json!([bare, keyed]);
    }
    plugin.to_string()
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
    config.edit_http(direct_routes)
}

fn direct_routes(hcm: &mut Value) -> Result<()> {
    for route in routes(hcm)? {
        let green = route["route"]["cluster"] == "agent_green";
        let route = route.as_object_mut().context("a route")?;
        route.remove("route");
        let body = if green { "green" } else { "blue" };
        route.insert("direct_response".to_owned(), json!({"status": 200, "body": {"inline_string": body}}));
    }
    Ok(())
}

/// Takes out what the shipped configuration strips and matches on for the filter's sake.
///
/// # Errors
/// Where there is nothing of the kind.
pub fn without_stripping(hcm: &mut Value) -> Result<()> {
    hcm.as_object_mut().context("a connection manager")?.remove("early_header_mutation_extensions");
    hcm["route_config"].as_object_mut().context("routes")?.remove("request_headers_to_remove");
    // There are no stamps to match on.
    let routes = routes(hcm)?;
    let default = routes.pop().context("there is no default route")?;
    *routes = vec![default];
    Ok(())
}

fn weighted(hcm: &mut Value) -> Result<()> {
    let action = json!({
        "weighted_clusters": {
            "clusters": [{"name": "agent_blue", "weight": 50}, {"name": "agent_green", "weight": 50}],
            "use_hash_policy": true,
        },
        "hash_policy": [{"header": {"header_name": "x-agent-session"}}],
        "timeout": "0s",
    });
    only_route(hcm, action)
}

fn stateful(hcm: &mut Value) -> Result<()> {
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
    before_router(hcm, filter)?;
    only_route(hcm, json!({"cluster": BOTH, "timeout": "0s"}))
}

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

/// Puts a filter before the router.
///
/// # Errors
/// Where there are no filters.
pub fn before_router(hcm: &mut Value, filter: Value) -> Result<()> {
    let filters = hcm["http_filters"].as_array_mut().context("no filters")?;
    filters.insert(filters.len().saturating_sub(1), filter);
    Ok(())
}

fn only_route(hcm: &mut Value, action: Value) -> Result<()> {
    *routes(hcm)? = vec![json!({"match": {"prefix": "/"}, "route": action})];
    Ok(())
}

fn routes(hcm: &mut Value) -> Result<&mut Vec<Value>> {
    let routes = hcm.pointer_mut("/route_config/virtual_hosts/0/routes").and_then(Value::as_array_mut);
    routes.context("no routes")
}
