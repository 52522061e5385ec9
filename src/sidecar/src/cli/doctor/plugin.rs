//! Our filter where it stands in a configuration.

use std::collections::BTreeMap;

use colorfast_core::plugin::PluginConfig;
use serde::Deserialize;
use serde_json::Value;

use super::proxy::{Extension, at, read};

/// The filter, as a listener configures it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Plugin {
    name: String,
    root_id: String,
    /// Its virtual machine.
    pub vm_config: VmConfig,
    configuration: Value,
    /// What happens once its virtual machine has crashed.
    pub failure_policy: String,
    /// The same, in an older form.
    pub fail_open: bool,
    /// Whether bodies come to requests that wait.
    pub allow_on_headers_stop_iteration: bool,
}

/// The virtual machine.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct VmConfig {
    /// Where its code comes from.
    pub code: Code,
    /// What it finds in its environment.
    pub environment_variables: Environment,
}

/// Where code comes from.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Code {
    /// This machine, or the configuration itself.
    pub local: Local,
    /// Elsewhere.
    pub remote: Remote,
}

/// Code of this machine.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Local {
    /// The file.
    pub filename: Option<String>,
    /// The code itself, in base64.
    pub inline_bytes: Option<String>,
}

/// Code from elsewhere.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Remote {
    /// Its digest, in hex.
    pub sha256: Option<String>,
}

/// An environment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Environment {
    /// Variables of Envoy's that are passed on.
    pub host_env_keys: Vec<String>,
    /// Variables whose value stands in the configuration.
    pub key_values: BTreeMap<String, String>,
}

impl Plugin {
    /// The plugin of an HTTP filter, where it is ours: it says so, or is configured as only ours is.
    pub fn of(filter: &Extension) -> Option<Self> {
        if !filter.is("Wasm") {
            return None;
        }
        let plugin: Self = read(at(&filter.config, "/config"))?;
        let named = [&filter.name, &plugin.name, &plugin.root_id].into_iter().any(|name| name == "colorfast");
        let configured = || {
            let document = plugin.document().unwrap_or_default();
            ["services", "sidecar_cluster"].iter().all(|field| document.get(field).is_some())
        };
        (named || configured()).then_some(plugin)
    }

    /// Its configuration as a document: a text of JSON, or a structure.
    fn document(&self) -> Result<Value, String> {
        match at(&self.configuration, "/value") {
            Value::String(text) => serde_json::from_str(text).map_err(|error| error.to_string()),
            value => Ok(value.clone()),
        }
    }

    /// Its configuration, as the filter reads it.
    ///
    /// # Errors
    /// What the filter would say.
    pub fn settings(&self) -> Result<PluginConfig, String> {
        let config: PluginConfig = serde_json::from_value(self.document()?).map_err(|error| error.to_string())?;
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }
}
