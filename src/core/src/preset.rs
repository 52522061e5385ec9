//! Presets: what the clients of one API need, as settings under a name with a version.
//!
//! A service file names one and what it wants otherwise: nested objects are merged field by field, lists are replaced. Where
//! settings enter the log they are expanded, so that a newer build, with newer presets, changes no service that nobody
//! touched: a version of a preset stays as it is, and what it lacks comes with the next one.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::error::FieldError;
use crate::ids::PresetName;
use crate::settings::ServiceSettings;

/// The field of a service file that names its preset.
pub const FIELD: &str = "preset";

/// One version of a preset.
#[derive(Debug)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// Its version, counted from 1.
    pub version: u32,
    /// Whose clients it is for: a sentence.
    pub about: &'static str,
    /// What keeps a client that sends back no id: a sentence.
    pub keeps: &'static str,
    /// Its settings: a JSON object of what is not at its default.
    settings: &'static str,
}

/// Every version of every preset; of those with one name the last is the newest.
pub static PRESETS: [Preset; 7] = [
    Preset {
        name: "mcp",
        version: 1,
        about: "Model Context Protocol over streamable HTTP: with sessions, and without (2026-07-28).",
        keeps: "The session id, in which the pin rides; without sessions the cookie, and the state of a request that is asked again.",
        settings: include_str!("preset/mcp-1.json"),
    },
    Preset {
        name: "a2a",
        version: 1,
        about: "Agent2Agent 1.0 and 0.3, by JSON-RPC and by REST.",
        keeps: "The ids of contexts and tasks, which the agent makes and the client repeats. There is no cookie.",
        settings: include_str!("preset/a2a-1.json"),
    },
    Preset {
        name: "openai-responses",
        version: 1,
        about: "OpenAI's Responses API, with conversations.",
        keeps: "The id of the last response, or of the conversation. There is no cookie.",
        settings: include_str!("preset/openai-responses-1.json"),
    },
    Preset {
        name: "openai-chat",
        version: 1,
        about: "OpenAI's chat completions.",
        keeps: "The cookie: a completion names none before it. Stored ones are found by their ids.",
        settings: include_str!("preset/openai-chat-1.json"),
    },
    Preset {
        name: "anthropic",
        version: 1,
        about: "Anthropic's Messages API, with containers, batches and sessions.",
        keeps: "The container, session, batch or `metadata.user_id`; without any of them the cookie.",
        settings: include_str!("preset/anthropic-1.json"),
    },
    Preset {
        name: "langgraph",
        version: 1,
        about: "LangGraph's server: threads and their runs.",
        keeps: "The thread, which may wait for a person's word for a week. There is no cookie.",
        settings: include_str!("preset/langgraph-1.json"),
    },
    Preset {
        name: "browser",
        version: 1,
        about: "Pages in a browser, on the agent's origin or on another.",
        keeps: "The cookie, which a page need not read, nor can.",
        settings: include_str!("preset/browser-1.json"),
    },
];

impl Preset {
    /// Its name with its version.
    #[allow(clippy::expect_used, reason = "takes only what `PRESETS` holds; a test reads each")]
    pub fn full_name(&self) -> PresetName {
        format!("{}/{}", self.name, self.version).parse().expect("a name of `PRESETS`")
    }

    /// Its settings, whole.
    ///
    /// # Errors
    /// None: a test reads each.
    pub fn expanded(&self) -> serde_json::Result<ServiceSettings> {
        serde_json::from_value(Value::Object(self.settings()))
    }

    /// What a service file would say in its place.
    #[allow(clippy::expect_used, reason = "takes only what `PRESETS` holds; a test reads each")]
    pub fn settings(&self) -> Map<String, Value> {
        serde_json::from_str(self.settings).expect("settings of `PRESETS`")
    }
}

/// Every preset's newest version.
pub fn newest() -> impl Iterator<Item = &'static Preset> {
    let is_newest = |preset: &&Preset| {
        PRESETS.iter().rfind(|other| other.name == preset.name).is_some_and(|newest| std::ptr::eq(newest, *preset))
    };
    PRESETS.iter().filter(is_newest)
}

/// The preset of a name, the newest where it names no version.
///
/// # Errors
/// Where there is none: names those that there are.
pub fn named(text: &str) -> Result<&'static Preset, FieldError> {
    let (name, version) = text.split_once('/').map_or((text, None), |(name, version)| (name, Some(version)));
    let is_it =
        |preset: &&Preset| preset.name == name && version.is_none_or(|version| *version == preset.version.to_string());
    PRESETS.iter().rfind(is_it).ok_or_else(|| {
        let found: String = text.chars().take(80).collect();
        let known: Vec<_> = PRESETS.iter().map(|preset| format!("{}/{}", preset.name, preset.version)).collect();
        FieldError::new(FIELD, format!("there is no {found:?}; there are: {}", known.join(", ")))
    })
}

/// Expands settings as a service file has them: takes the name of the preset out, where there is one, and puts the preset
/// under what else is there.
///
/// # Errors
/// Where no preset has that name.
pub fn expand(settings: &mut Map<String, Value>) -> Result<Option<PresetName>, FieldError> {
    let Some(name) = settings.remove(FIELD) else { return Ok(None) };
    let name = name.as_str().ok_or_else(|| FieldError::new(FIELD, "is not the name of a preset"))?;
    let preset = named(name)?;
    let written = std::mem::replace(settings, preset.settings());
    merge(settings, written);
    Ok(Some(preset.full_name()))
}

/// Objects by their fields, anything else whole.
fn merge(below: &mut Map<String, Value>, above: Map<String, Value>) {
    for (field, value) in above {
        match (below.get_mut(&field), value) {
            (Some(Value::Object(below)), Value::Object(above)) => merge(below, above),
            (_, value) => drop(below.insert(field, value)),
        }
    }
}

/// Settings as they are applied: expanded, with the preset that they came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// The preset.
    pub preset: Option<PresetName>,
    /// The settings, whole.
    pub settings: ServiceSettings,
}

impl From<ServiceSettings> for Applied {
    fn from(settings: ServiceSettings) -> Self {
        Self { preset: None, settings }
    }
}

impl Applied {
    /// The preset, where this build knows it.
    pub fn known_preset(&self) -> Option<&'static Preset> {
        named(self.preset.as_ref()?.as_str()).ok()
    }

    /// The settings as a service file has them: what [`expand`] makes these settings of. Of a preset that this build knows
    /// they are its name and what is otherwise; of any other, all that are not at their default.
    ///
    /// # Errors
    /// Those of the serialiser.
    pub fn written(&self) -> serde_json::Result<Map<String, Value>> {
        let Some(preset) = self.known_preset() else { return shown(&self.settings) };
        let mut written = Map::new();
        written.insert(FIELD.to_owned(), preset.full_name().as_str().into());
        written.extend(difference(whole(&self.settings)?, &whole(&preset.expanded()?)?));
        Ok(written)
    }
}

/// What is not at its default.
fn shown(settings: &ServiceSettings) -> serde_json::Result<Map<String, Value>> {
    match serde_json::to_value(settings)? {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

/// What is not at its default, and all that presets set in any case: where a service has the default in the place of what
/// its preset sets, that must be written down.
fn whole(settings: &ServiceSettings) -> serde_json::Result<Map<String, Value>> {
    let pin = &settings.pin;
    let set = json!({
        "session_sources": settings.session_sources,
        "learn_from": settings.learn_from,
        "pin": {
            "header": pin.header,
            "cookie": pin.cookie,
            "cookie_same_site": pin.cookie_same_site,
            "cookie_secure": pin.cookie_secure,
            "max_age_seconds": pin.max_age_seconds,
            "idle_timeout_seconds": pin.idle_timeout_seconds,
        },
    });
    let mut whole = match set {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    merge(&mut whole, shown(settings)?);
    Ok(whole)
}

/// What of `wanted` is not so in `base`.
fn difference(wanted: Map<String, Value>, base: &Map<String, Value>) -> Map<String, Value> {
    let otherwise = |(field, value): (String, Value)| match (value, base.get(&field)) {
        (value, Some(same)) if value == *same => None,
        (Value::Object(wanted), Some(Value::Object(base))) => Some((field, Value::Object(difference(wanted, base)))),
        (value, _) => Some((field, value)),
    };
    wanted.into_iter().filter_map(otherwise).collect()
}

impl Serialize for Applied {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written().map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Applied {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut written = Map::deserialize(deserializer)?;
        let preset = expand(&mut written).map_err(D::Error::custom)?;
        let settings = serde_json::from_value(Value::Object(written)).map_err(D::Error::custom)?;
        Ok(Self { preset, settings })
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Applied {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AppliedSettings".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = ServiceSettings::json_schema(generator);
        let names: Vec<_> = newest()
            .map(|preset| preset.name.to_owned())
            .chain(PRESETS.iter().map(|preset| String::from(preset.full_name())))
            .collect();
        let field = json!({
            "type": "string",
            "description": "The preset that the settings are put over: its newest version, or one by its number.",
            "enum": names,
        });
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert(FIELD.to_owned(), field);
        }
        schema
    }
}

#[cfg(test)]
mod tests;
