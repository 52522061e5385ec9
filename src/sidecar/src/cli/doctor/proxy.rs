//! What is read of an Envoy's configuration: the parts that colorfast stands on, and nothing else.
//!
//! Whatever is unknown is passed over; whatever cannot be read counts as absent. Envoy itself has accepted the rest.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One Envoy.
#[derive(Debug, Default)]
pub struct Proxy {
    /// Its node id.
    pub node: String,
    /// Its listeners.
    pub listeners: Vec<Listener>,
    /// Its clusters, by name.
    pub clusters: BTreeMap<String, Cluster>,
    /// Route tables that came by discovery, by name.
    pub route_tables: BTreeMap<String, RouteTable>,
    /// Filters that came by discovery, by name.
    pub extensions: BTreeMap<String, Value>,
    /// How labels are cut out of the names of metrics.
    pub stats_tags: Vec<StatsTag>,
}

impl Proxy {
    /// The HTTP connection manager of a chain, with the configuration of filters that came by discovery in its place.
    pub fn http(&self, chain: &FilterChain) -> Option<Http> {
        let mut http = chain.http()?;
        for filter in http.http_filters.iter_mut().filter(|filter| filter.config.is_null()) {
            filter.config = self.extensions.get(&filter.name).cloned().unwrap_or_default();
        }
        Some(http)
    }

    /// What a bootstrap file says.
    pub fn of_bootstrap(document: &Value) -> Self {
        let mut proxy = Self::default();
        proxy.add_bootstrap(document);
        let resources = at(document, "/static_resources");
        proxy.listeners = all(at(resources, "/listeners"));
        proxy.add_clusters(all(at(resources, "/clusters")));
        proxy
    }

    /// What `/config_dump` says.
    pub fn of_dump(document: &Value) -> Self {
        let mut proxy = Self::default();
        for section in items(at(document, "/configs")) {
            proxy.add_bootstrap(at(section, "/bootstrap"));
            for entry in items(at(section, "/static_listeners")) {
                proxy.listeners.extend(read(at(entry, "/listener")));
            }
            for entry in items(at(section, "/dynamic_listeners")) {
                proxy.listeners.extend(read(at(entry, "/active_state/listener")));
            }
            for kind in ["/static_clusters", "/dynamic_active_clusters"] {
                proxy.add_clusters(items(at(section, kind)).filter_map(|entry| read(at(entry, "/cluster"))));
            }
            for entry in items(at(section, "/ecds_filters")) {
                let found: Option<Extension> = read(at(entry, "/ecds_filter"));
                proxy.extensions.extend(found.map(|extension| (extension.name, extension.config)));
            }
            for kind in ["/static_route_configs", "/dynamic_route_configs"] {
                let tables =
                    items(at(section, kind)).filter_map(|entry| read::<RouteTable>(at(entry, "/route_config")));
                proxy.route_tables.extend(tables.map(|table| (table.name.clone(), table)));
            }
        }
        proxy
    }

    fn add_bootstrap(&mut self, bootstrap: &Value) {
        if let Some(node) = at(bootstrap, "/node/id").as_str() {
            node.clone_into(&mut self.node);
        }
        self.stats_tags.extend(all(at(bootstrap, "/stats_config/stats_tags")));
    }

    fn add_clusters(&mut self, clusters: impl IntoIterator<Item = Cluster>) {
        self.clusters.extend(clusters.into_iter().map(|cluster| (cluster.name.clone(), cluster)));
    }
}

/// A listener.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// Its name.
    pub name: String,
    filter_chains: Vec<FilterChain>,
    default_filter_chain: Option<FilterChain>,
}

impl Listener {
    /// Every chain, with the name that tells it from the others.
    pub fn chains(&self) -> impl Iterator<Item = (String, &FilterChain)> {
        let numbered = self.filter_chains.iter().enumerate().map(|(index, chain)| match chain.name.as_str() {
            "" => (index.to_string(), chain),
            name => (name.to_owned(), chain),
        });
        numbered.chain(self.default_filter_chain.iter().map(|chain| ("default".to_owned(), chain)))
    }
}

/// One chain of network filters.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct FilterChain {
    name: String,
    filters: Vec<Extension>,
}

impl FilterChain {
    fn http(&self) -> Option<Http> {
        self.filters.iter().find(|filter| filter.is("HttpConnectionManager")).and_then(|filter| read(&filter.config))
    }
}

/// Anything that is configured by type.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Extension {
    /// Its name, by which routes configure it.
    pub name: String,
    /// Its configuration.
    #[serde(rename = "typed_config")]
    pub config: Value,
    /// It runs where a route says so alone.
    pub disabled: bool,
}

impl Extension {
    /// The type of its configuration.
    pub fn kind(&self) -> &str {
        at(&self.config, "/@type").as_str().unwrap_or_default()
    }

    /// Whether its configuration is of the type `name`.
    pub fn is(&self, name: &str) -> bool {
        self.kind().rsplit('.').next() == Some(name)
    }
}

/// An HTTP connection manager.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Http {
    /// Its filters, in order.
    pub http_filters: Vec<Extension>,
    /// Its routes, where they stand in it.
    pub route_config: Option<RouteTable>,
    /// Where they come from, else.
    pub rds: Rds,
    /// What is done to headers before anything else.
    pub early_header_mutation_extensions: Vec<Extension>,
    /// What is done to headers with underscores, among others.
    pub common_http_protocol_options: ProtocolOptions,
}

/// Route discovery.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Rds {
    /// The table.
    pub route_config_name: String,
}

/// Options of a protocol.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ProtocolOptions {
    /// What happens to a header whose name has an underscore.
    pub headers_with_underscores_action: String,
}

/// One step of an early mutation.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Mutation {
    /// The header that is removed.
    pub remove: Option<String>,
    /// The header that is set.
    pub append: Option<Append>,
}

/// A header that is set.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Append {
    /// Name and value.
    pub header: HeaderValue,
    /// Whether it takes the place of one that is there.
    pub append_action: String,
}

/// Name and value of a header.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct HeaderValue {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl Http {
    /// The early mutations, in order.
    pub fn early_mutations(&self) -> Vec<Mutation> {
        let steps = self.early_header_mutation_extensions.iter();
        steps.filter(|step| step.is("HeaderMutation")).flat_map(|step| all(at(&step.config, "/mutations"))).collect()
    }
}

/// A route table.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct RouteTable {
    /// Its name.
    pub name: String,
    /// Its virtual hosts.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Headers that no upstream gets.
    pub request_headers_to_remove: Vec<String>,
    /// What it says to filters, by their name.
    pub typed_per_filter_config: BTreeMap<String, Value>,
}

/// A virtual host.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct VirtualHost {
    /// Its name.
    pub name: String,
    /// Its routes; the first that matches is taken.
    pub routes: Vec<Route>,
    /// How much of a body may be held while its request waits, where it is said.
    pub request_body_buffer_limit: Option<Value>,
    /// Headers that no upstream gets.
    pub request_headers_to_remove: Vec<String>,
    /// What it says to filters, by their name.
    pub typed_per_filter_config: BTreeMap<String, Value>,
}

/// A route.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// What it takes, by field.
    #[serde(rename = "match")]
    pub takes: BTreeMap<String, Value>,
    /// Where it leads.
    pub route: Option<Action>,
    /// Headers that no upstream gets.
    pub request_headers_to_remove: Vec<String>,
    /// What it says to filters, by their name.
    pub typed_per_filter_config: BTreeMap<String, Value>,
}

/// Where a route leads.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct Action {
    /// The cluster.
    pub cluster: String,
    /// The header that names the cluster.
    pub cluster_header: String,
    /// How long an answer may take; absent for 15 s.
    pub timeout: Option<String>,
}

/// How a route asks for a header.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HeaderMatch {
    /// The header.
    pub name: String,
    string_match: StringMatch,
    exact_match: Option<String>,
    invert_match: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct StringMatch {
    exact: Option<String>,
}

impl HeaderMatch {
    /// The one value that it takes; none where it takes many.
    pub fn exact(&self) -> Option<&str> {
        let exact = self.string_match.exact.as_deref().or(self.exact_match.as_deref());
        exact.filter(|_| !self.invert_match)
    }
}

impl Route {
    /// What it asks of headers.
    pub fn headers(&self) -> Vec<HeaderMatch> {
        self.takes.get("headers").map(all).unwrap_or_default()
    }

    /// Whether it takes every request.
    pub fn takes_all(&self) -> bool {
        let prefix = self.takes.get("prefix").and_then(Value::as_str);
        matches!(prefix, Some("" | "/")) && self.takes.len() == 1
    }
}

/// A cluster.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    #[serde(rename = "type")]
    kind: String,
    cluster_type: Value,
    load_assignment: Assignment,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Assignment {
    endpoints: Vec<Locality>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Locality {
    lb_endpoints: Vec<Value>,
}

impl Cluster {
    /// Whether its endpoints stand in the configuration, and there are none.
    pub fn is_empty(&self) -> bool {
        let discovered = self.kind == "EDS" || self.kind == "ORIGINAL_DST" || !self.cluster_type.is_null();
        !discovered && self.load_assignment.endpoints.iter().all(|locality| locality.lb_endpoints.is_empty())
    }
}

/// A label of metrics.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct StatsTag {
    /// Its name.
    pub tag_name: String,
    /// What it is cut out by.
    pub regex: String,
}

/// The value at a JSON pointer; null where there is none.
pub fn at<'v>(value: &'v Value, pointer: &str) -> &'v Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// A value of a known form; nothing where it has another.
pub fn read<T: DeserializeOwned>(value: &Value) -> Option<T> {
    T::deserialize(value).ok()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Every element of a list that has a known form.
pub fn all<T: DeserializeOwned>(value: &Value) -> Vec<T> {
    items(value).filter_map(read).collect()
}
