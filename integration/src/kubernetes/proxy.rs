//! An Envoy that istiod configures, as the agent beside a proxy of Istio starts it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::envoy::EnvoyConfig;

/// Which proxy it is to Istio.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// The part that it plays.
    pub role: Role,
    /// The name of its pod.
    pub name: String,
    /// The namespace of its pod.
    pub namespace: String,
    /// The address of its pod: what a WorkloadEntry says of it. Nobody connects to it.
    pub address: String,
    /// The labels of its pod: what selectors find.
    pub labels: Value,
}

/// The part that a proxy plays in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// At its edge.
    Gateway,
    /// Beside a workload.
    Sidecar,
}

impl Proxy {
    /// The node id, which is its name as a member, too.
    #[must_use]
    pub fn node_id(&self) -> String {
        let kind = match self.role {
            Role::Gateway => "router",
            Role::Sidecar => "sidecar",
        };
        let Self { name, namespace, address, .. } = self;
        format!("{kind}~{address}~{name}.{namespace}~{namespace}.svc.cluster.local")
    }

    /// A bootstrap that has everything else come from istiod.
    #[must_use]
    pub fn config(&self, discovery: SocketAddr) -> EnvoyConfig {
        let source = json!({"ads": {}, "resource_api_version": "V3"});
        EnvoyConfig::managed(json!({
            "node": {
                "id": self.node_id(),
                "cluster": format!("{}.{}", self.name, self.namespace),
                "metadata": {
                    "NAME": self.name,
                    "NAMESPACE": self.namespace,
                    "LABELS": self.labels,
                    "CLUSTER_ID": "Kubernetes",
                    "ISTIO_VERSION": "1.31.0",
                    // No packet is redirected on the machine of a test: callers go to the listener by its address.
                    "INTERCEPTION_MODE": "NONE",
                    "PROXY_CONFIG": {},
                },
            },
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            "dynamic_resources": {
                "lds_config": source,
                "cds_config": source,
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": true,
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
                },
            },
            "static_resources": {"listeners": [], "clusters": [{
                "name": "xds-grpc",
                "type": "STATIC",
                "connect_timeout": "1s",
                "typed_extension_protocol_options": {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": {"http2_protocol_options": {}},
                    },
                },
                "load_assignment": {"cluster_name": "xds-grpc", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": {"socket_address": {
                        "address": discovery.ip(), "port_value": discovery.port(),
                    }}}},
                ]}]},
            }]},
        }))
    }
}
