//! JSON schemas (draft 2020-12) of what people and programs write: for editors, generators and checks before a start.
//!
//! Generated from the types that read the documents. A schema says what a field may hold; rules between fields (weights
//! that sum up, a header that is named twice) are checked by `validate` alone, which says so in words.

use std::borrow::Cow;

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::bundle::{Manifest, Part};
use crate::ids::{BundleId, HeaderName, ServiceName};
use crate::keys::Secret;
use crate::plugin::PluginConfig;
use crate::preset::Applied;
use crate::snapshot::Snapshot;
use crate::weight::Weight;

/// Whole records of sessions, 32 bytes each, in base64url without padding: three of them end with a character, one or two
/// within one, whose last bits are zero.
pub(crate) const RECORDS: &str =
    "^([A-Za-z0-9_-]{128})*([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]|[A-Za-z0-9_-]{85}[AQgw])?$";

/// Text of a version, a part's or a header's.
pub(crate) const PRINTABLE: &str = "^[ -~]*$";
/// A host name, `*.` and a domain, or an IPv6 address in brackets (whose digits the parser checks).
pub(crate) const HOST: &str = r"^((\*\.)?[a-z0-9._-]+|\[[0-9A-Fa-f:.]+\])$";
/// Path attribute of a cookie.
pub(crate) const COOKIE_PATH: &str = "^/[!-:<-~]{0,255}$";
/// A version that is held: `<epoch>.<version>`, each within 64 bits; empty before the first.
pub(crate) const HELD: &str = r"^([0-9]{1,19}\.[0-9]{1,19})?$";
/// Marks of sessions, three bytes each in base64url: 15 bits of a register, and six of a rank from 1 to 50.
pub(crate) const MARKS: &str = "^([A-H][A-Za-z0-9_-]{2}[B-Za-y])*$";
/// A number that a process or an instance drew for itself.
pub(crate) const DRAWN: &str = "^[0-9a-f]{16}$";

/// The schema of the plugin configuration: `configuration` of the filter in a listener.
pub fn plugin() -> Schema {
    document::<PluginConfig>("colorfast: the configuration of the filter")
}

/// The schema of the snapshot: what proxies decide by, and what may stand as `bootstrap` in a plugin configuration.
pub fn snapshot() -> Schema {
    document::<Snapshot>("colorfast: a snapshot")
}

/// The schema of the file that `colorfast service apply` takes.
pub fn service_file() -> Schema {
    named::<ServiceName>(document::<Applied>("colorfast: a service and its settings"), "service")
}

/// The schema of the file that `colorfast bundle add` takes.
pub fn bundle_file() -> Schema {
    named::<BundleId>(document::<Manifest>("colorfast: a bundle"), "id")
}

/// Gives every integer the bounds of its type, so that no reader has to know what `uint64` means.
#[must_use]
pub fn bounds() -> impl Transform + Clone + Send + use<> {
    RecursiveTransform(|schema: &mut Schema| {
        let most = match schema.get("format").and_then(Value::as_str) {
            Some("uint16") => u64::from(u16::MAX),
            Some("uint32") => u64::from(u32::MAX),
            Some("uint64") => u64::MAX,
            _ => return,
        };
        if let Some(object) = schema.as_object_mut() {
            object.entry("maximum").or_insert(most.into());
        }
    })
}

fn document<T: JsonSchema>(title: &str) -> Schema {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    bounds().transform(&mut schema);
    schema
}

/// The document with one key more, which says what it is of.
fn named<N: JsonSchema>(mut schema: Schema, key: &str) -> Schema {
    let name = N::json_schema(&mut SchemaGenerator::default());
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(key.to_owned(), name.to_value());
    }
    schema
}

/// Versions of tools, by name.
pub(crate) fn tools(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 256,
        "propertyNames": { "pattern": "^[ -~]{1,64}$" },
        "additionalProperties": { "type": "string", "maxLength": 256, "pattern": PRINTABLE },
    })
}

/// Values of headers, by name.
pub(crate) fn headers(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "propertyNames": generator.subschema_for::<HeaderName>(),
        "additionalProperties": { "type": "string", "pattern": PRINTABLE },
    })
}

/// Names of headers, by part.
pub(crate) fn part_headers(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "propertyNames": generator.subschema_for::<Part>(),
        "additionalProperties": generator.subschema_for::<HeaderName>(),
    })
}

/// A phrase as a sentence.
pub(crate) fn sentence(phrase: &str) -> String {
    let mut letters = phrase.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

impl JsonSchema for Weight {
    fn schema_name() -> Cow<'static, str> {
        "Weight".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "integer",
            "description": "Parts of 10,000 of the new sessions.",
            "minimum": Self::NONE.parts(),
            "maximum": Self::ALL.parts(),
        })
    }
}

impl<const N: usize> JsonSchema for Secret<N> {
    fn schema_name() -> Cow<'static, str> {
        format!("Secret{N}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let digits = (N * 8).div_ceil(6);
        json_schema!({
            "type": "string",
            "description": format!("{N} secret bytes in base64url without padding."),
            "pattern": format!("^[A-Za-z0-9_-]{{{digits}}}$"),
        })
    }
}
