//! Files that operators write: YAML, or JSON, which is YAML too.
//!
//! One parser reads both, so an error names file, line, column, field and rule whatever the form.

mod position;

use std::convert::Infallible;
use std::fmt;
use std::io::Read as _;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use colorfast_core::bundle::Manifest;
use colorfast_core::error::FieldError;
use colorfast_core::ids::{BundleId, ServiceName};
use colorfast_core::preset::{self, Applied, Preset};
use colorfast_core::settings::{ServiceSettings, former};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, Visitor};
use serde_json::Value;
use serde_path_to_error::Track;

use crate::cli::error::Failure;
use crate::replace::ORDINARY;
use position::Position;

/// Longest file that is read: settings and manifests are a few hundred bytes.
const BYTES_MAX: u64 = 1 << 20;

/// Where a file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `-`
    StandardInput,
    /// A path.
    Path(PathBuf),
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "-" { Self::StandardInput } else { Self::Path(text.into()) })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StandardInput => f.write_str("standard input"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

impl Source {
    fn read(&self) -> Result<String, Failure> {
        let mut bytes = Vec::new();
        let read = match self {
            Self::StandardInput => std::io::stdin().lock().take(BYTES_MAX + 1).read_to_end(&mut bytes),
            Self::Path(path) => {
                std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
            }
        };
        read.map_err(|error| Failure::usage(format!("cannot read {self}: {error}")))?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(Failure::usage(format!("{self} is over {BYTES_MAX} bytes: it cannot be what is wanted here")));
        }
        String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{self} is not UTF-8 text")))
    }
}

/// Reads a file as it stands.
///
/// # Errors
/// Where it cannot be read.
pub fn read(source: &Source) -> Result<String, Failure> {
    source.read()
}

/// Puts `text` in the place of a file, whole or not at all: whoever watches for it finds the one before, or this one.
///
/// # Errors
/// Where it cannot be written.
pub fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let replaced = crate::replace::replace(path, text.as_bytes(), ORDINARY);
    replaced.map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))
}

/// Reads a service file: `service: NAME`, and its settings, or `preset: NAME` and what is otherwise. Without a name in it, it
/// is of the service `named`.
///
/// # Errors
/// Names the place and the rule; nothing was sent.
pub fn service(source: &Source, named: Option<&ServiceName>) -> Result<(Option<ServiceName>, Applied), Failure> {
    let text = source.read()?;
    let (ServiceKeys { service, preset }, settings): (_, ServiceSettings) = parse(source, &text)?;
    // Every field has the right type: where it stands was told otherwise. Over a preset the fields are read once more,
    // since those that are there cannot be told from those at their default.
    let applied = match preset {
        None => Applied::from(settings),
        Some(_) => expanded(&text).map_err(|rule| wrong(source, None, "", &rule))?,
    };
    if let Some(name) = service.as_ref().or(named) {
        applied.settings.validate(name).map_err(|error| against(source, &text, error))?;
    }
    Ok((service, applied))
}

/// The settings of a file over its preset.
fn expanded(text: &str) -> Result<Applied, String> {
    let fields: serde_json::Map<String, Value> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let fields = fields.into_iter().filter(|(field, _)| field != ServiceKeys::SERVICE).collect();
    serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
}

/// Reads a bundle file: a manifest, and `id: TAG` where it names itself.
///
/// # Errors
/// Names the place and the rule; nothing was sent.
pub fn bundle(source: &Source) -> Result<(Option<BundleId>, Manifest), Failure> {
    let text = source.read()?;
    let (BundleKeys { id }, manifest): (_, Manifest) = parse(source, &text)?;
    manifest.validate().map_err(|error| against(source, &text, error))?;
    Ok((id, manifest))
}

/// A value that types allow and rules do not.
fn against(source: &Source, text: &str, error: FieldError) -> Failure {
    let position = position::of(text, &error.field);
    wrong(source, position, &error.field, &error.rule)
}

fn wrong(source: &Source, position: Option<Position>, field: &str, rule: &str) -> Failure {
    let place = position.map_or_else(String::new, |Position { line, column }| format!(":{line}:{column}"));
    match field {
        "" => Failure::usage(format!("{source}{place}: {rule}")),
        field => Failure::usage(format!("{source}{place}: {field}: {rule}")).at_field(field),
    }
}

/// The keys of a document that say which one it is.
trait Keys: Default {
    /// Reads the value of `key`, the next one of `map`; nothing where it is no key of these.
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<Option<()>, A::Error>;
}

#[derive(Default)]
struct ServiceKeys {
    service: Option<ServiceName>,
    preset: Option<&'static Preset>,
}

impl ServiceKeys {
    const SERVICE: &str = "service";
}

impl Keys for ServiceKeys {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<Option<()>, A::Error> {
        match key {
            Self::SERVICE => self.service = Some(map.next_value()?),
            preset::FIELD => self.preset = Some(map.next_value_seed(KnownPreset)?),
            _ => return Ok(None),
        }
        Ok(Some(()))
    }
}

/// Reads the name of a preset.
struct KnownPreset;

impl<'de> DeserializeSeed<'de> for KnownPreset {
    type Value = &'static Preset;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<Self::Value, D::Error> {
        let name = String::deserialize(name)?;
        preset::named(&name).map_err(serde::de::Error::custom)
    }
}

#[derive(Default)]
struct BundleKeys {
    id: Option<BundleId>,
}

impl Keys for BundleKeys {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<Option<()>, A::Error> {
        if key != "id" {
            return Ok(None);
        }
        self.id = Some(map.next_value()?);
        Ok(Some(()))
    }
}

/// Reads a document: the keys that say which one it is, and a `T` of the others.
fn parse<K: Keys, T: for<'de> Deserialize<'de>>(source: &Source, text: &str) -> Result<(K, T), Failure> {
    if text.trim().is_empty() {
        return Err(wrong(source, None, "", "is empty"));
    }
    let mut track = Track::new();
    let parsed = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        deserializer.deserialize_map(Named { track: &mut track, types: PhantomData })
    });
    parsed.map_err(|error| {
        let error = error.without_snippet();
        let position = error.location().map(|at| Position { line: at.line(), column: at.column() });
        // The path of a document that is no mapping is `.`, an unknown part of one is `?`.
        let path = track.path().to_string();
        let path = path.trim_end_matches('?').trim_end_matches('.');
        wrong(source, position, path, &rule(&error.render_with_formatter(&serde_saphyr::UserMessageFormatter)))
    })
}

/// The message alone: its place is told before it.
fn rule(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    match message {
        "invalid u32" => format!("is not a whole number from 0 to {}", u32::MAX),
        "expected mapping start" => "is not a mapping of fields to values".to_owned(),
        "expected string scalar" => "is not a text".to_owned(),
        message => former::hint(message).unwrap_or(message).to_owned(),
    }
}

/// Takes some keys aside and reads the rest as a `T`, streaming, so that every error keeps its place.
///
/// (`#[serde(flatten)]` would buffer, and lose both the places and the refusal of unknown fields.)
struct Named<'t, K, T> {
    track: &'t mut Track,
    types: PhantomData<(K, T)>,
}

impl<'de, K: Keys, T: Deserialize<'de>> Visitor<'de> for Named<'_, K, T> {
    type Value = (K, T);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of fields to values")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut aside = K::default();
        let rest = Rest { map, aside: &mut aside };
        let rest = MapAccessDeserializer::new(rest);
        let value = T::deserialize(serde_path_to_error::Deserializer::new(rest, self.track))?;
        Ok((aside, value))
    }
}

struct Rest<'a, A, K> {
    map: A,
    aside: &'a mut K,
}

impl<'de, A: MapAccess<'de>, K: Keys> MapAccess<'de> for Rest<'_, A, K> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if self.aside.take(&key, &mut self.map)?.is_none() {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> (tempfile::TempDir, Source) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.yaml");
        std::fs::write(&path, text).unwrap();
        (folder, Source::Path(path))
    }

    fn complaint<T: fmt::Debug>(text: &str, read: fn(&Source) -> Result<T, Failure>) -> (String, Option<String>) {
        let (_folder, source) = at(text);
        let Failure::Told(told) = read(&source).expect_err(text) else { panic!("not told") };
        assert_eq!(told.exit, crate::cli::error::Exit::Usage);
        let detail = told.problem.detail.split_once("file.yaml").unwrap().1.to_owned();
        (detail, told.problem.field)
    }

    fn service(source: &Source) -> Result<(Option<ServiceName>, Applied), Failure> {
        super::service(source, Some(&"chat".parse().unwrap()))
    }

    /// A wrong service file is told by file, line, column, field and rule.
    #[test]
    fn service_files_are_refused_with_their_place() {
        let cases = [
            (
                "service: chat\npin:\n  max_age: 7\n",
                ":3:3: pin.max_age: unknown field `max_age`, expected one of header",
            ),
            (
                "pin:\n  dead_envelope: new\n",
                ":2:3: pin.dead_envelope: pin.dead_envelope is gone: write on_bundle_gone",
            ),
            ("service: chat\ncolour: red\n", ":2:1: colour: unknown field `colour`, expected one of slots"),
            ("service: chat\nslots: [blue, Green]\n", ":2:15: slots[1]: \"Green\" is not a slot name"),
            ("service: chat\nslots:\n  - blue\n  - blue\n", ":4:5: slots[1]: blue stands twice"),
            ("pin:\n  max_age_seconds: long\n", ":2:20: pin.max_age_seconds: is not a whole number"),
            ("pin:\n  max_age_seconds: 60\n", ":2:3: pin.idle_timeout_seconds: 86400 is over"),
            ("pin:\n  cookie_path: x\n", ":2:16: pin.cookie_path: is not a path"),
            ("session_sources:\n  - header: X-A\n", ":2:13: session_sources[0].header: \"X-A\" is not a header name"),
            ("session_sources:\n  - form: a\n", ":2:5: session_sources[0]: unknown variant `form`"),
            ("headers:\n  pin: cookie\n", ":2:8: headers.pin: cookie has a meaning"),
            (
                "service: chat\npreset: mpc\n",
                ":2:9: preset: there is no \"mpc\"; there are: mcp/1, a2a/1, openai-responses/1",
            ),
            ("preset: mcp\npin:\n  cokie: never\n", ":3:3: pin.cokie: unknown field `cokie`"),
            ("preset: mcp\npin:\n  max_age_seconds: 60\n", ":3:3: pin.idle_timeout_seconds: 86400 is over"),
            ("preset: mcp\npreset: a2a\n", ":2:1: duplicate mapping key: preset"),
            ("service: Chat\n", ":1:10: \"Chat\" is not a service name"),
            ("service: a\nservice: b\n", ":2:1: duplicate mapping key: service"),
            ("pin: 7\n", ":1:6: pin: is not a mapping"),
            ("- blue\n", ":1:1: is not a mapping"),
            ("slots: [blue\n", ":1:8: slots: unclosed bracket"),
            ("pin:\n\tmax_age_seconds: 1\n", ":2:2: tabs"),
            ("service: a\n---\nservice: b\n", ":3:1: only single YAML document"),
            (" \n", ": is empty"),
            (r#"{"service":"chat","pin":{"max_age":1}}"#, ":1:26: pin.max_age: unknown field"),
        ];
        for (text, wanted) in cases {
            let (detail, _) = complaint(text, service);
            assert!(detail.starts_with(wanted), "{text:?}\n  wanted {wanted}\n  got    {detail}");
        }
        assert_eq!(complaint("pin:\n  max_age: 7\n", service).1.as_deref(), Some("pin.max_age"));
    }

    /// A wrong bundle file likewise.
    #[test]
    fn bundle_files_are_refused_with_their_place() {
        let cases = [
            ("code: a\nmodel: b\n", ": missing field `prompts`"),
            ("code: a\nmodel: b\nprompts: c\ntool: {}\n", ":4:1: tool: unknown field `tool`"),
            ("code: ''\nmodel: b\nprompts: c\n", ":1:7: code: is empty"),
            ("code: a\nmodel: b\nprompts:\n", ":3:8: prompts: null is not allowed"),
            ("code: a\nmodel: b\nprompts: c\ntools:\n  search: ü\n", ":5:11: tools.search: is not a version text"),
            ("id: a b\ncode: a\nmodel: b\nprompts: c\n", ":1:5: \"a b\" is not a bundle id"),
        ];
        for (text, wanted) in cases {
            let (detail, _) = complaint(text, bundle);
            assert!(detail.contains(wanted), "{text:?}\n  wanted {wanted}\n  got    {detail}");
        }
    }

    /// Good files are read in both forms; what looks like a number is a version text all the same.
    #[test]
    fn good_files_are_read() {
        let (_folder, yaml) = at("id: 2026\ncode: 1.20\nmodel: m\nprompts: p\ntools:\n  search: 3\n");
        let (id, manifest) = bundle(&yaml).unwrap();
        assert_eq!((id.unwrap().as_str(), manifest.code.as_str()), ("2026", "1.20"));
        let (_folder, json) = at("{\n\t\"service\": \"chat\",\n\t\"slots\": [\n\t\t\"red\"\n\t]\n}\n");
        let (name, settings) = service(&json).unwrap();
        assert_eq!((name.unwrap().as_str(), settings.settings.slots.len()), ("chat", 1));
        let (_folder, over) = at("service: chat\npreset: mcp\npin: {cookie: never}\npart_headers: {code: x-1}\n");
        let (_, applied) = service(&over).unwrap();
        assert_eq!(applied.preset.unwrap().as_str(), "mcp/1");
        let settings = serde_json::to_value(&applied.settings).unwrap();
        assert_eq!((&settings["pin"]["cookie"], &settings["pin"]["header"]), (&"never".into(), &"never".into()));
        assert_eq!(settings["part_headers"]["code"], "x-1");
        let (_folder, unnamed) = at("slots: [red]\n");
        assert_eq!(service(&unnamed).unwrap().0, None);
    }

    /// A file that is not there is named.
    #[test]
    fn missing_files_are_named() {
        let Err(Failure::Told(told)) = service(&"no/such.yaml".parse().unwrap()) else { panic!("read") };
        assert!(told.problem.detail.starts_with("cannot read no/such.yaml: "), "{}", told.problem.detail);
        assert_eq!("-".parse(), Ok(Source::StandardInput));
    }
}
