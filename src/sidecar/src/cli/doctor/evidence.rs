//! What the checks look at, and how: a proxy, and what is known beside its configuration.

use std::collections::{BTreeMap, BTreeSet};

use colorfast_core::ids::{Digest, ServiceName};
use colorfast_core::plugin::PluginConfig;
use colorfast_core::settings::ServiceSettings;

use super::plugin::Plugin;
use super::proxy::{Http, Proxy, Route, RouteTable, VirtualHost};

/// All that is known.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The configuration.
    pub proxy: Proxy,
    /// Counters and gauges of the running process; none of a file.
    pub stats: Option<BTreeMap<String, u64>>,
    /// What the sidecar says of services; none where it does not answer.
    pub services: Option<BTreeMap<ServiceName, Service>>,
    /// The digest of this release's filter, where it is known.
    pub release: Option<Digest>,
}

/// What the sidecar says of one service.
#[derive(Debug, Clone, Default)]
pub struct Service {
    /// Its settings.
    pub settings: ServiceSettings,
    /// The node ids of its members.
    pub nodes: BTreeSet<String>,
}

/// A filter chain that our filter stands in.
#[derive(Debug)]
pub struct Site<'a> {
    /// The listener.
    pub listener: &'a str,
    /// The chain.
    pub chain: String,
    /// What the chain does with HTTP.
    pub http: Http,
    /// Where our filter stands among the others; the first one, where there are several.
    pub at: usize,
    /// How it is configured.
    pub plugin: Plugin,
    /// Its services, or why they cannot be read.
    pub config: Result<PluginConfig, String>,
    /// The routes, where they are known.
    pub routes: Option<RouteTable>,
}

impl Evidence {
    /// Every chain with our filter.
    pub fn sites(&self) -> Vec<Site<'_>> {
        let mut sites = Vec::new();
        for listener in &self.proxy.listeners {
            for (chain, filters) in listener.chains() {
                let Some(http) = self.proxy.http(filters) else { continue };
                let found =
                    http.http_filters.iter().enumerate().find_map(|(at, filter)| Some((at, Plugin::of(filter)?)));
                let Some((at, plugin)) = found else { continue };
                let table = || self.proxy.route_tables.get(&http.rds.route_config_name).cloned();
                let routes = http.route_config.clone().or_else(table);
                let config = plugin.settings();
                sites.push(Site { listener: &listener.name, chain, http, at, plugin, config, routes });
            }
        }
        sites
    }

    /// The settings of a site's services; none unless those of all are known.
    pub fn settings_of(&self, site: &Site<'_>) -> Option<Vec<ServiceSettings>> {
        let config = site.config.as_ref().ok()?;
        let of = |service: &colorfast_core::plugin::ServiceConfig| {
            let told = self.services.as_ref().and_then(|services| services.get(&service.name));
            let bootstrap = || service.bootstrap.as_ref().map(|snapshot| snapshot.settings.clone());
            told.map(|service| service.settings.clone()).or_else(bootstrap)
        };
        config.services.iter().map(of).collect()
    }

    /// The headers that a site's services are stamped with: slot, bundle and decision of each.
    pub fn stamps(&self, site: &Site<'_>) -> Vec<[String; 3]> {
        let all = self.settings_of(site).filter(|all| !all.is_empty());
        let all = all.unwrap_or_else(|| vec![ServiceSettings::default()]);
        let names = |settings: &ServiceSettings| settings.headers.stamps().map(|name| name.as_str().to_owned());
        let mut stamps: Vec<_> = all.iter().map(names).collect();
        stamps.dedup();
        stamps
    }
}

impl Site<'_> {
    /// Every route with its virtual host and its name.
    pub fn all_routes(&self) -> impl Iterator<Item = (&VirtualHost, &Route, String)> {
        let hosts = self.routes.iter().flat_map(|table| &table.virtual_hosts);
        hosts.flat_map(|host| {
            let named = |(index, route): (usize, &Route)| match route.name.as_str() {
                "" => format!("{}/{index}", host.name),
                name => format!("{}/{name}", host.name),
            };
            host.routes.iter().enumerate().map(move |(index, route)| (host, route, named((index, route))))
        })
    }

    /// The name by which routes speak to our filter.
    pub fn filter_name(&self) -> &str {
        self.http.http_filters.get(self.at).map(|filter| filter.name.as_str()).unwrap_or_default()
    }
}

/// The slot that a route is for, by one of the headers `slots`.
pub enum Slot {
    /// It asks for none.
    None,
    /// For this one.
    Named(String),
    /// For many at once, by a pattern.
    Pattern,
}

impl Slot {
    /// What a route asks for.
    pub fn of(route: &Route, slots: &BTreeSet<String>) -> Self {
        let headers = route.headers();
        let Some(header) = headers.iter().find(|header| slots.contains(&header.name.to_ascii_lowercase())) else {
            return Self::None;
        };
        header.exact().map_or(Self::Pattern, |slot| Self::Named(slot.to_owned()))
    }
}
