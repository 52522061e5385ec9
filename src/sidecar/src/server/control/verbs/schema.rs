//! The schema of a verb's document: what the reader of each verb takes, and what all of them have.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::{
    Abort, AddBundle, Apply, Nothing, OneSlot, Ramp, Recycle, RetireKey, Rollback, SetDeadline, Stage, Switch,
};

/// Any verb on a service.
pub enum VerbDocument {}

/// Any verb on what is of all services.
pub enum ApplicationVerbDocument {}

/// Declares a document that is one of some: its name, what it is, and of each its tag, what reads the rest of it, and what
/// it does.
macro_rules! documents {
    ($any:ident = $called:literal, $is:literal; $($name:ident = $verb:literal, $rest:ident, $does:literal;)*) => {
        $(
            #[doc = $does]
            enum $name {}

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
                    whole($rest::json_schema(schemas), $verb, $does)
                }
            }
        )*

        impl JsonSchema for $any {
            fn schema_name() -> Cow<'static, str> {
                $called.into()
            }

            fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
                let documents = [$(($verb, schemas.subschema_for::<$name>())),*];
                let places = documents.iter().map(|(verb, place)| ((*verb).to_owned(), place.get("$ref").cloned()));
                let mapping: Map<_, _> = places.filter_map(|(verb, place)| Some((verb, place?))).collect();
                let documents = documents.map(|(_, document)| document);
                json_schema!({
                    "description": $is,
                    "oneOf": documents,
                    "discriminator": { "propertyName": "verb", "mapping": mapping },
                })
            }
        }
    };
}

documents! {
    VerbDocument = "Verb", "One act of an operator.";
    ApplyVerb = "apply", Apply, "Creates the service, or replaces its settings.";
    AddBundleVerb = "add_bundle", AddBundle, "Adds a bundle, for good.";
    StageVerb = "stage", Stage, "Puts a bundle into an idle slot.";
    RampVerb = "ramp", Ramp, "Gives a slot a share of the new sessions; 0 drains it.";
    AbortVerb = "abort", Abort, "Takes a candidate's share away.";
    SwitchVerb = "switch", Switch, "Sends all new sessions to a slot.";
    RollbackVerb = "rollback", Rollback, "Steps back: out of a ramp, or to the slot that was live before.";
    MigrateVerb = "migrate", OneSlot, "Makes the last sessions of a draining slot leave it.";
    RecycleVerb = "recycle", Recycle, "Frees a slot.";
    SetDeadlineVerb = "set_deadline", SetDeadline, "Sets when the last sessions of a draining slot leave; null: when they end.";
    RotateKeysVerb = "rotate_keys", Nothing, "Makes a new key, which signs as soon as every member can verify it.";
    RetireKeyVerb = "retire_key", RetireKey, "Takes a key away: what it signed is refused from then on.";
}

documents! {
    ApplicationVerbDocument = "ApplicationVerb", "One act of an operator on what is of all services.";
    RotateRunKeysVerb = "rotate_keys", Nothing, "Makes a new key of run tokens, which signs as soon as every member of every service can verify it.";
    RetireRunKeyVerb = "retire_key", RetireKey, "Takes a key of run tokens away: what it signed is refused from then on.";
}

/// The document of a verb: the rest of it, with what every verb has.
fn whole(mut rest: Schema, verb: &str, does: &str) -> Schema {
    let expected = json!({
        "description": "The version that the operator has seen: another one is refused. Absent: whatever it is.",
        "type": ["integer", "null"],
        "minimum": 0,
        "maximum": u64::MAX,
    });
    if rest.get("properties").is_none() {
        rest.insert("properties".to_owned(), json!({}));
    }
    if let Some(properties) = rest.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("verb".to_owned(), json!({ "type": "string", "const": verb }));
        properties.insert("expected_version".to_owned(), expected);
    }
    match rest.get_mut("required").and_then(Value::as_array_mut) {
        Some(required) => required.push("verb".into()),
        None => drop(rest.insert("required".to_owned(), json!(["verb"]))),
    }
    rest.insert("description".to_owned(), does.into());
    rest
}
