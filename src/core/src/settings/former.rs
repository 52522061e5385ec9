//! Settings that an earlier build had: its log is still read, and who writes one hears what to write instead.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::ServiceSettings;

/// What to write instead of the unknown field that `message` names.
pub fn hint(message: &str) -> Option<&'static str> {
    message.contains("unknown field `dead_envelope`").then_some(
        "pin.dead_envelope is gone: write on_bundle_gone at the top of the settings, by_protocol for not_found (it is the \
         default), or new",
    )
}

/// Reads the settings of an event, as this build or an earlier one wrote them.
pub(crate) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<ServiceSettings>, D::Error> {
    let mut settings = Map::deserialize(deserializer)?;
    carry_over(&mut settings);
    serde_json::from_value(Value::Object(settings)).map_err(D::Error::custom)
}

/// Dead envelopes and bundles that are gone had a setting each.
fn carry_over(settings: &mut Map<String, Value>) {
    let pin = settings.get_mut("pin").and_then(Value::as_object_mut);
    let envelope = pin.and_then(|pin| pin.remove("dead_envelope"));
    let word = match (envelope.as_ref().and_then(Value::as_str), settings.get("on_bundle_gone").and_then(Value::as_str))
    {
        (Some("not_found"), None | Some("reassign")) => "by_protocol",
        (Some(_), None) | (_, Some("reassign")) => "new",
        _ => return,
    };
    settings.insert("on_bundle_gone".to_owned(), word.into());
}
