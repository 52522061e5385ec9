//! An Envoy's configuration: the shipped one, loaded as YAML and edited in named steps.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::paths;

/// Where the HTTP connection manager of a listener stands in it.
const HCM: &str = "/filter_chains/0/filters/0/typed_config";
const LISTENERS: &str = "/static_resources/listeners";
const CLUSTERS: &str = "/static_resources/clusters";

/// The smallest module that Envoy accepts as a filter: memory, the ABI's version, an allocator, and no callback.
///
/// It stands in for the real filter where a test is about the configuration around it, and a benchmark measures it
/// as the floor.
#[rustfmt::skip]
pub const INERT_FILTER: &[u8] = &[
    0, b'a', b's', b'm', 1, 0, 0, 0,
    1, 9, 2, 0x60, 0, 0, 0x60, 1, 0x7f, 1, 0x7f, // types: () -> (), (i32) -> i32
    3, 3, 2, 0, 1,                               // two functions, one of each type
    5, 3, 1, 0, 2,                               // two pages of memory
    7, 63, 3,                                    // three exports
    6, b'm', b'e', b'm', b'o', b'r', b'y', 2, 0,
    23, b'p', b'r', b'o', b'x', b'y', b'_', b'a', b'b', b'i', b'_', b'v', b'e', b'r', b's', b'i', b'o', b'n',
        b'_', b'0', b'_', b'2', b'_', b'1', 0, 0,
    24, b'p', b'r', b'o', b'x', b'y', b'_', b'o', b'n', b'_', b'm', b'e', b'm', b'o', b'r', b'y', b'_', b'a',
        b'l', b'l', b'o', b'c', b'a', b't', b'e', 0, 1,
    10, 11, 2, 2, 0, 0x0b, 6, 0, 0x41, 0x80, 0x80, 4, 0x0b, // nothing; the start of the second page
];

/// Which filter stands before the router.
#[derive(Clone, Debug)]
enum Filter {
    /// The built one, at the time of the start.
    Built,
    /// The one that dies on purpose.
    Crashing,
    /// [`INERT_FILTER`].
    Inert,
    /// Another module.
    At(PathBuf),
    /// None at all.
    Absent,
}

/// Whether Envoy writes an access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// To a file that the configuration names.
    Written,
    /// To standard output, as a control plane has it.
    Printed,
    Absent,
}

/// An edited copy of `envoy/bootstrap.yaml`, and how to start Envoy with it.
///
/// An edit that does not fit the shipped file is remembered and told at the start, so that edits chain.
#[derive(Clone, Debug)]
pub struct EnvoyConfig {
    document: Value,
    filter: Filter,
    pub(super) log: Log,
    pub(super) concurrency: u32,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) log_level: String,
    failed: Option<String>,
}

impl EnvoyConfig {
    /// The shipped configuration as it is: two workers, the built filter, agents and sidecar where the file says. Of the
    /// collector alone there is none, whatever may listen on its port.
    ///
    /// # Errors
    /// Where the file is missing or is no YAML.
    pub fn shipped() -> Result<Self> {
        let path = paths::bootstrap();
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let document = serde_saphyr::from_str(&text).with_context(|| format!("{} is no YAML", path.display()))?;
        Ok(Self::of(document, Log::Written).collector(([127, 0, 0, 1], 1).into()))
    }

    /// A bootstrap whose listeners a control plane sends, with their access log on standard output.
    #[must_use]
    pub fn managed(document: Value) -> Self {
        Self::of(document, Log::Printed)
    }

    fn of(document: Value, log: Log) -> Self {
        Self {
            document,
            filter: Filter::Built,
            log,
            concurrency: 2,
            environment: BTreeMap::new(),
            log_level: "warning".to_owned(),
            failed: None,
        }
    }

    /// Names the node: the name that a proxy has as a member.
    #[must_use]
    pub fn node_id(self, id: &str) -> Self {
        self.edit(|doc| {
            *at(doc, "/node/id")? = json!(id);
            Ok(())
        })
    }

    /// The number of workers.
    #[must_use]
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// Envoy's own log level (`warning` unless told); the filter's lines are shown from `info` on in any case.
    #[must_use]
    pub fn log_level(mut self, level: &str) -> Self {
        level.clone_into(&mut self.log_level);
        self
    }

    /// Sets a variable of Envoy's environment, `COLORFAST_TOKEN` or `COLORFAST_KEYS` mostly.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Takes the filter out: what is left is the configuration around it.
    #[must_use]
    pub fn without_filter(mut self) -> Self {
        self.filter = Filter::Absent;
        self
    }

    /// Puts [`INERT_FILTER`] in the filter's place.
    #[must_use]
    pub fn inert_filter(mut self) -> Self {
        self.filter = Filter::Inert;
        self
    }

    /// Puts the filter in place that dies at a request to a bundle whose id begins with `crash`.
    #[must_use]
    pub fn crashing_filter(mut self) -> Self {
        self.filter = Filter::Crashing;
        self
    }

    /// Puts another module in the filter's place.
    #[must_use]
    pub fn filter_at(mut self, module: &Path) -> Self {
        self.filter = Filter::At(module.to_owned());
        self
    }

    /// Has Envoy write no access log.
    #[must_use]
    pub fn without_access_log(mut self) -> Self {
        self.log = Log::Absent;
        self
    }

    /// The plugin configuration, on every listener.
    #[must_use]
    pub fn plugin(self, configuration: &Value) -> Self {
        let text = configuration.to_string();
        self.edit_wasm(move |wasm| {
            *at(wasm, "/configuration/value")? = json!(text);
            Ok(())
        })
    }

    /// The plugin configuration as bytes of the test's choice, which need not be JSON.
    #[must_use]
    pub fn plugin_text(self, text: &str) -> Self {
        let text = text.to_owned();
        self.edit_wasm(move |wasm| {
            *at(wasm, "/configuration/value")? = json!(text);
            Ok(())
        })
    }

    /// Edits the filter's `PluginConfig` on every listener, to take a flag away for example.
    #[must_use]
    pub fn edit_wasm(self, edit: impl Fn(&mut Value) -> Result<()>) -> Self {
        self.edit_http(|hcm| {
            let filter = wasm_filter(hcm)?;
            edit(at(filter, "/typed_config/config")?)
        })
    }

    /// Edits the HTTP connection manager of every listener.
    #[must_use]
    pub fn edit_http(self, edit: impl Fn(&mut Value) -> Result<()>) -> Self {
        self.edit(|doc| {
            for listener in list(doc, LISTENERS)? {
                edit(at(listener, HCM)?)?;
            }
            Ok(())
        })
    }

    /// Where the agent of a slot listens. A slot that the shipped file does not have gets a cluster `agent_<slot>`
    /// and a route of its own.
    #[must_use]
    pub fn agent(self, slot: &str, address: SocketAddr) -> Self {
        let name = format!("agent_{slot}");
        let known = self.has_cluster(&name);
        let config = self.cluster(&name, address);
        if known {
            return config;
        }
        config.first_route(&json!({
            "match": {"prefix": "/", "headers": [{"name": "x-agent-slot", "string_match": {"exact": slot}}]},
            "route": {"cluster": name, "timeout": "0s"},
        }))
    }

    /// With the three slots of `envoy/rainbow.yaml`: its routes in place of those that are there, its clusters beside.
    ///
    /// # Errors
    /// Where the file is missing or is no YAML.
    pub fn rainbow(self) -> Result<Self> {
        let path = paths::workspace().join("envoy/rainbow.yaml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let shown: Value = serde_saphyr::from_str(&text).with_context(|| format!("{} is no YAML", path.display()))?;
        let clusters = shown["clusters"].as_array().cloned().context("rainbow.yaml has no clusters")?;
        let config = self.edit_http(|hcm| {
            *at(hcm, "/route_config/virtual_hosts/0/routes")? = shown["routes"].clone();
            Ok(())
        });
        Ok(config.edit(|doc| {
            list(doc, CLUSTERS)?.extend(clusters);
            Ok(())
        }))
    }

    /// Where the sidecar's discovery listens.
    #[must_use]
    pub fn sidecar(self, discovery: SocketAddr) -> Self {
        self.cluster("colorfast_sidecar", discovery)
    }

    /// Where the OpenTelemetry collector listens.
    #[must_use]
    pub fn collector(self, address: SocketAddr) -> Self {
        self.cluster("otel_collector", address)
    }

    /// Points a cluster at an address; one that is not there is added.
    #[must_use]
    pub fn cluster(self, name: &str, address: SocketAddr) -> Self {
        let known = self.has_cluster(name);
        self.edit(|doc| {
            let endpoint = json!({"socket_address": {"address": address.ip(), "port_value": address.port()}});
            let clusters = list(doc, CLUSTERS)?;
            if !known {
                clusters.push(json!({
                    "name": name, "type": "STATIC", "connect_timeout": "1s",
                    "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
                        {"endpoint": {"address": {}}},
                    ]}]},
                }));
            }
            *at(named(clusters, name)?, "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address")? = endpoint;
            Ok(())
        })
    }

    /// Speaks HTTP/2 to a cluster.
    #[must_use]
    pub fn cluster_http2(self, name: &str) -> Self {
        self.edit(|doc| {
            at(named(list(doc, CLUSTERS)?, name)?, "")?["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                },
            });
            Ok(())
        })
    }

    /// Puts a route before all others, on every listener.
    #[must_use]
    pub fn first_route(self, route: &Value) -> Self {
        self.edit_http(|hcm| {
            list(hcm, "/route_config/virtual_hosts/0/routes")?.insert(0, route.clone());
            Ok(())
        })
    }

    /// Takes the default route away: what carries no stamp gets a 404 by Envoy itself.
    #[must_use]
    pub fn without_default_route(self) -> Self {
        self.edit_http(|hcm| {
            list(hcm, "/route_config/virtual_hosts/0/routes")?.pop();
            Ok(())
        })
    }

    /// Sends what carries no stamp to another cluster than the agent of blue.
    #[must_use]
    pub fn default_cluster(self, name: &str) -> Self {
        self.edit_http(|hcm| {
            let routes = list(hcm, "/route_config/virtual_hosts/0/routes")?;
            let default = routes.last_mut().context("there is no default route")?;
            *at(default, "/route/cluster")? = json!(name);
            Ok(())
        })
    }

    /// Adds a listener: a copy of the first, as it stands at this moment, under another name.
    #[must_use]
    pub fn listener(self, name: &str) -> Self {
        self.edit(|doc| {
            let listeners = list(doc, LISTENERS)?;
            let mut copy = listeners.first().cloned().context("there is no listener to copy")?;
            *at(&mut copy, "/name")? = json!(name);
            listeners.push(copy);
            Ok(())
        })
    }

    /// Any other edit of the whole document.
    #[must_use]
    pub fn edit(mut self, edit: impl FnOnce(&mut Value) -> Result<()>) -> Self {
        if let Err(error) = edit(&mut self.document)
            && self.failed.is_none()
        {
            self.failed = Some(format!("{error:#}"));
        }
        self
    }

    /// The names of the listeners, in order.
    pub(super) fn listeners(&self) -> Vec<String> {
        let listeners = self.document.pointer(LISTENERS).and_then(Value::as_array);
        listeners.into_iter().flatten().filter_map(|l| l["name"].as_str()).map(str::to_owned).collect()
    }

    /// The document as Envoy gets it: with the listeners on their ports, the admin on any, the log in a file and
    /// the filter in place.
    pub(super) fn rendered(&self, ports: &BTreeMap<String, SocketAddr>, folder: &Path) -> Result<Value> {
        if let Some(error) = &self.failed {
            bail!("the configuration cannot be edited so: {error}");
        }
        let wasm = match &self.filter {
            Filter::Built => Some(paths::filter()?),
            Filter::Crashing => Some(paths::crashing_filter()?),
            Filter::Inert => {
                let path = folder.join("inert.wasm");
                std::fs::write(&path, INERT_FILTER)?;
                Some(path)
            }
            Filter::At(path) => Some(path.clone()),
            Filter::Absent => None,
        };
        let log = folder.join("access.log");
        let mut config = self.clone().edit_http(|hcm| {
            match self.log {
                Log::Written => *at(hcm, "/access_log/0/typed_config/path")? = json!(log),
                Log::Printed => {}
                Log::Absent => *at(hcm, "/access_log")? = json!([]),
            }
            match &wasm {
                Some(path) => {
                    for filter in list(hcm, "/http_filters")? {
                        if let Some(code) = filter.pointer_mut("/typed_config/config/vm_config/code/local/filename") {
                            *code = json!(path);
                        }
                    }
                }
                None => list(hcm, "/http_filters")?.retain(|filter| filter["name"] != "colorfast"),
            }
            Ok(())
        });
        config = config.edit(|doc| {
            *at(doc, "/admin/address/socket_address/port_value")? = json!(0);
            for (name, address) in ports {
                let socket = at(named(list(doc, LISTENERS)?, name)?, "/address/socket_address")?;
                *socket = json!({"address": address.ip(), "port_value": address.port()});
            }
            Ok(())
        });
        match config.failed {
            None => Ok(config.document),
            Some(error) => bail!("the configuration does not look like the shipped one: {error}"),
        }
    }

    fn has_cluster(&self, name: &str) -> bool {
        let clusters = self.document.pointer(CLUSTERS).and_then(Value::as_array);
        clusters.is_some_and(|all| all.iter().any(|cluster| cluster["name"] == name))
    }
}

/// The value at a JSON pointer.
fn at<'v>(value: &'v mut Value, pointer: &str) -> Result<&'v mut Value> {
    value.pointer_mut(pointer).ok_or_else(|| anyhow!("there is nothing at {pointer}"))
}

/// The list at a JSON pointer.
fn list<'v>(value: &'v mut Value, pointer: &str) -> Result<&'v mut Vec<Value>> {
    at(value, pointer)?.as_array_mut().ok_or_else(|| anyhow!("what stands at {pointer} is no list"))
}

/// The member of a list that has a name.
fn named<'v>(list: &'v mut [Value], name: &str) -> Result<&'v mut Value> {
    list.iter_mut().find(|item| item["name"] == name).ok_or_else(|| anyhow!("nothing in the list is named {name}"))
}

/// Our filter among the HTTP filters of a connection manager.
fn wasm_filter(hcm: &mut Value) -> Result<&mut Value> {
    named(list(hcm, "/http_filters")?, "colorfast")
}
