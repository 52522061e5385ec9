//! The JSON schemas: as written in `docs/schema`, true to the parsers, and of use against typical mistakes.

use std::collections::BTreeMap;
use std::fs;
use std::str::FromStr;

use colorfast_core::bundle::Manifest;
use colorfast_core::ids::{BundleId, CookieName, Digest, Epoch, HeaderName, IdempotencyKey, ServiceName, SlotName};
use colorfast_core::plugin::PluginConfig;
use colorfast_core::preset::Applied;
use colorfast_core::release::{Circumstances, Entry, Event, SCHEMA, State, Verb};
use colorfast_core::schema;
use colorfast_core::sketch::{self, Sketch};
use colorfast_core::snapshot::Snapshot;
use colorfast_core::time::UnixMillis;
use colorfast_core::weight::Weight;
use colorfast_core::wire::reports::SlotReport;
use colorfast_core::wire::sessions::Records;
use jsonschema::Validator;
use proptest::prelude::*;
use schemars::{JsonSchema, Schema};
use schemas::{example, read, root, validator, yaml};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn of<T: JsonSchema>() -> Validator {
    validator(&schemars::schema_for!(T))
}

/// What the repository shows is what the code says.
#[test]
fn written_schemas_are_those_of_the_code() {
    let files = [
        ("plugin", schema::plugin()),
        ("snapshot", schema::snapshot()),
        ("service", schema::service_file()),
        ("bundle", schema::bundle_file()),
    ];
    for (name, schema) in files {
        let path = root().join(format!("docs/schema/{name}.schema.json"));
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if std::env::var_os("COLORFAST_DOCS").is_some_and(|wish| wish == "write") {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(written == text, "docs/schema/{name}.schema.json is not what the code says: run `make docs`");
    }
}

/// What the schema of a name takes, the parser takes, and the other way round.
fn agrees<T: JsonSchema + FromStr>(text: &str, validator: &Validator) -> Result<(), TestCaseError> {
    prop_assert_eq!(validator.is_valid(&json!(text)), text.parse::<T>().is_ok(), "{:?}", text);
    Ok(())
}

/// Texts of a pattern, texts that are nearly of it, and others.
fn texts<T: JsonSchema>() -> impl Strategy<Value = String> {
    let schema = schemars::schema_for!(T);
    let pattern = schema.get("pattern").and_then(Value::as_str).unwrap().to_owned();
    let inside = pattern.trim_start_matches('^').trim_end_matches('$');
    let good = || proptest::string::string_regex(inside).unwrap();
    let twice = proptest::string::string_regex(&format!("({inside}){{2}}")).unwrap();
    let near = (good(), any::<prop::sample::Index>(), any::<char>()).prop_map(|(mut text, at, letter)| {
        let places: Vec<_> = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
        text.insert(places[at.index(places.len())], letter);
        text
    });
    prop_oneof![good(), near, good().prop_map(|text| format!("{text}\n")), twice, ".{0,40}"]
}

proptest! {
    /// Names: pattern and parser are one rule.
    #[test]
    fn patterns_are_the_rules(
        service in texts::<ServiceName>(),
        slot in texts::<SlotName>(),
        bundle in texts::<BundleId>(),
        digest in texts::<Digest>(),
        header in texts::<HeaderName>(),
        cookie in texts::<CookieName>(),
        key in texts::<IdempotencyKey>(),
    ) {
        thread_local! {
            static ALL: [Validator; 7] = [of::<ServiceName>(), of::<SlotName>(), of::<BundleId>(), of::<Digest>(),
                of::<HeaderName>(), of::<CookieName>(), of::<IdempotencyKey>()];
        }
        ALL.with(|[services, slots, bundles, digests, headers, cookies, keys]| {
            agrees::<ServiceName>(&service, services)?;
            agrees::<SlotName>(&slot, slots)?;
            agrees::<BundleId>(&bundle, bundles)?;
            agrees::<Digest>(&digest, digests)?;
            agrees::<HeaderName>(&header, headers)?;
            agrees::<CookieName>(&cookie, cookies)?;
            agrees::<IdempotencyKey>(&key, keys)
        })?;
    }
}

/// Records of sessions: every number of whole ones is valid, and nothing that lacks or has a character.
#[test]
fn records_agree() {
    let validator = of::<Records>();
    for count in 0..=7 {
        let records = Records::of(&[0xa5].repeat(32 * count));
        let text = serde_json::to_value(&records).unwrap();
        assert!(records.sessions().is_some() && validator.is_valid(&text), "{text}");
        let longer = format!("{}A", text.as_str().unwrap());
        let shorter = text.as_str().unwrap().get(1..).unwrap_or("A");
        for bad in [longer.as_str(), shorter] {
            let read = serde_json::from_value::<Records>(json!(bad)).is_ok_and(|records| records.sessions().is_some());
            assert!(!read && !validator.is_valid(&json!(bad)), "{bad}");
        }
    }
}

/// Marks of sessions: of all that three bytes can be, those are valid that the reader takes.
#[test]
fn marks_agree() {
    let schema = schemars::schema_for!(SlotReport);
    let held = schema.get("properties").and_then(|fields| fields.get("held")).unwrap();
    let validator = validator(&Schema::try_from(held.clone()).unwrap());
    for number in (0..1u32 << 24).step_by(997) {
        let [_, bytes @ ..] = number.to_be_bytes();
        let text = sketch::text(&bytes);
        assert_eq!(validator.is_valid(&json!(text)), Sketch::of_text(&text).is_some(), "{text}");
    }
}

/// Weights are whole parts of 10,000, and nothing else.
#[test]
fn weights_agree() {
    let validator = of::<Weight>();
    for value in [json!(0), json!(1), json!(10_000), json!(10_001), json!(-1), json!(0.5), json!("1"), json!(null)] {
        let read = serde_json::from_value::<Weight>(value.clone()).is_ok();
        assert_eq!(validator.is_valid(&value), read, "{value}");
    }
}

/// Everything that the repository shows as an example is valid: what is shipped is what the schemas describe.
#[test]
fn shipped_examples_are_valid() {
    let bootstrap = yaml(&read("envoy/bootstrap.yaml"));
    let mut configurations = Vec::new();
    configurations_in(&bootstrap, &mut configurations);
    assert!(!configurations.is_empty(), "no plugin configuration in envoy/bootstrap.yaml");
    let plugin = validator(&schema::plugin());
    for configuration in configurations {
        valid(&plugin, &serde_json::from_str(configuration).unwrap_or_else(|_| yaml(configuration)));
    }
    valid(&validator(&schema::service_file()), &yaml(&example("# chat.yaml")));
    valid(&validator(&schema::bundle_file()), &yaml(&example("# v1.yaml")));
    let snapshot: Value = serde_json::from_str(&example("  \"format\": 1,")).unwrap();
    valid(&validator(&schema::snapshot()), &snapshot);
    let service = json!({"name": "chat", "bootstrap": snapshot});
    valid(&plugin, &json!({"sidecar_cluster": "s", "services": [service]}));
}

/// The texts under a `configuration` of a wasm plugin.
fn configurations_in<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            let text = fields.get("configuration").and_then(|of| of.get("value")).and_then(Value::as_str);
            found.extend(text.filter(|text| text.contains("sidecar_cluster")));
            fields.values().for_each(|value| configurations_in(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| configurations_in(value, found)),
        _ => {}
    }
}

fn valid(validator: &Validator, document: &Value) {
    let errors: Vec<_> = validator.iter_errors(document).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{document}: {errors:?}");
}

/// Each snapshot of a whole life of a service is valid: staged, ramped, switched, rolled back, recycled.
#[test]
fn rendered_snapshots_are_valid() {
    let validator = validator(&schema::snapshot());
    let service: ServiceName = "chat".parse().unwrap();
    let mut state = State::default();
    let mut seen = BTreeMap::new();
    let append = |state: &mut State, service: Option<ServiceName>, at, event| {
        let (seq, principal) = (state.head + 1, "operator".to_owned());
        state.apply(&Entry { seq, schema: SCHEMA, at, service, principal, key: None, event }).unwrap();
    };
    append(
        &mut state,
        None,
        UnixMillis(1_763_000_000_000),
        Event::Genesis { epoch: Epoch(UnixMillis(1_763_000_000_000)), restored: None },
    );
    let manifest = |code: &str| json!({"code": code, "model": "m", "prompts": "p", "tools": {"search": "1"}});
    let settings = json!({"slots": ["blue", "green", "red"], "part_headers": {"code": "x-agent-code"}});
    let verbs = [
        json!({"verb": "apply", "settings": settings}),
        json!({"verb": "add_bundle", "id": "v1", "manifest": manifest("1")}),
        json!({"verb": "add_bundle", "id": "v2", "manifest": manifest("2")}),
        json!({"verb": "stage", "slot": "blue", "bundle": "v1"}),
        json!({"verb": "switch", "slot": "blue"}),
        json!({"verb": "stage", "slot": "green", "bundle": "v2"}),
        json!({"verb": "ramp", "slot": "green", "weight": 250}),
        json!({"verb": "rollback", "to": null, "pins": "break"}),
        json!({"verb": "recycle", "slot": "green", "force": null}),
        json!({"verb": "stage", "slot": "green", "bundle": "v2"}),
        json!({"verb": "switch", "slot": "green"}),
        json!({"verb": "migrate", "slot": "blue"}),
    ];
    for (step, verb) in verbs.into_iter().enumerate() {
        let at = Circumstances {
            now: UnixMillis(1_763_000_001_000 + step as u64),
            acknowledgements: &(),
            serving: &(),
            holding: &(),
        };
        let read: Verb = serde_json::from_value(verb.clone()).unwrap();
        let event = state.check(&service, &read, &at).unwrap_or_else(|refusal| panic!("{verb}: {refusal}")).unwrap();
        append(&mut state, Some(service.clone()), at.now, event);
        let snapshot = serde_json::to_value(state.snapshot(&service).unwrap()).unwrap();
        valid(&validator, &snapshot);
        snapshot["slots"]
            .as_array()
            .unwrap()
            .iter()
            .for_each(|slot| *seen.entry(slot["phase"].to_string()).or_insert(0) += 1);
    }
    assert_eq!(seen.len(), 6, "not every phase was seen: {seen:?}");
}

/// Reads and checks a document as its reader does.
fn is_read<T: DeserializeOwned>(document: &Value, rules: impl Fn(&T) -> bool) -> bool {
    serde_json::from_value::<T>(document.clone()).is_ok_and(|read| rules(&read))
}

/// A typical mistake is refused by the schema and by the reader alike, and what is right is taken by both.
#[test]
fn typical_mistakes_are_refused() {
    let services = [
        (json!({}), true),
        (json!({"slots": ["blue", "green", "red"], "sessionless": "client"}), true),
        (json!({"pin": {"cookie": "always", "cookie_name": null, "cookie_path": "/a"}}), true),
        (json!({"session_sources": [{"header": "x-id"}, {"cookie": "sid"}]}), true),
        (json!({"preset": "mcp", "pin": {"cookie": "never"}}), true),
        (json!({"preset": "mcp/1"}), true),
        (json!({"preset": "mcp/9"}), false),
        (json!({"preset": null}), false),
        (json!({"slots": []}), false),
        (json!({"slots": ["a", "b", "c", "d", "e", "f", "g", "h", "i"]}), false),
        (json!({"slots": ["blue", "blue"]}), false),
        (json!({"slots": ["Blue"]}), false),
        (json!({"slots": "blue"}), false),
        (json!({"colour": "red"}), false),
        (json!({"sessionless": "Random"}), false),
        (
            json!({"session_sources": [{"path": "/a/{session}/*/b.c"}, {"query": "t.1"}, {"baggage": "session.id"}]}),
            true,
        ),
        (json!({"session_sources": [{"path": "/{session}"}]}), true),
        (json!({"session_sources": [{"path": "/threads"}]}), false),
        (json!({"session_sources": [{"path": "/{session}/{session}"}]}), false),
        (json!({"session_sources": [{"path": "/a b/{session}"}]}), false),
        (json!({"session_sources": [{"path": "/1/2/3/4/5/6/7/8/9/{session}"}]}), false),
        (json!({"session_sources": [{"body": "/a~1b/0"}], "body": {"prefix_bytes": 16_777_216, "wait_ms": 1}}), true),
        (json!({"session_sources": [{"body": ""}]}), false),
        (json!({"session_sources": [{"body": "a"}]}), false),
        (json!({"session_sources": [{"body": "/a//b"}]}), false),
        (json!({"session_sources": [{"body": "/a~2"}]}), false),
        (json!({"session_sources": [{"body": "/1/2/3/4/5/6/7/8/9"}]}), false),
        (json!({"body": {"prefix_bytes": 16_777_217}}), false),
        (json!({"body": {"held_bytes": 1_048_576}}), true),
        (json!({"body": {"held_bytes": 1_048_575}}), false),
        (json!({"body": {"held_bytes": 1_073_741_825}}), false),
        (json!({"body": {"wait_ms": 0}}), false),
        (json!({"session_sources": [{"query": "a&b"}]}), false),
        (json!({"session_sources": [{"headers": "x-id"}]}), false),
        (json!({"session_sources": ["x-id"]}), false),
        (json!({"session_sources": [{"header": "x-id", "cookie": "sid"}]}), false),
        (json!({"pin": {"max_age": 60}}), false),
        (json!({"pin": {"max_age_seconds": 0}}), false),
        (json!({"pin": {"max_age_seconds": "7d"}}), false),
        (json!({"pin": {"cookie_path": "a"}}), false),
        (json!({"pin": {"cookie_path": "/;secure"}}), false),
        (json!({"headers": {"slot": "X-Agent-Slot"}}), false),
        (json!({"part_headers": {"prompt": "x-agent-prompt"}}), false),
        (json!({"part_headers": {"prompts": "x agent"}}), false),
        (json!({"quarantine_seconds": -1}), false),
        (json!({"bootstrap_wait_ms": 30_001}), false),
    ];
    let validator = of_document(schema::service_file());
    for (document, right) in services {
        let service = "chat".parse().unwrap();
        let read = is_read::<Applied>(&document, |applied| applied.settings.validate(&service).is_ok());
        assert_eq!((validator(&document), read), (right, right), "{document}");
    }
    let validator = of_document(schema::service_file());
    assert!(validator(&json!({"service": "chat"})) && !validator(&json!({"service": "Chat"})));

    let bundles = [
        (json!({"code": "c", "model": "m", "prompts": "p"}), true),
        (json!({"code": "c", "model": "m", "prompts": "p", "retrieval_index": "", "tools": {"a b": ""}}), true),
        (json!({"code": "c", "model": "m"}), false),
        (json!({"code": "", "model": "m", "prompts": "p"}), false),
        (json!({"code": "c", "model": "m", "prompts": "ä"}), false),
        (json!({"code": "c", "model": "m", "prompts": "p".repeat(257)}), false),
        (json!({"code": "c", "model": "m", "prompts": "p", "tools": {"": "1"}}), false),
        (json!({"code": "c", "model": "m", "prompts": "p", "tools": {"a": 1}}), false),
        (json!({"code": "c", "model": "m", "prompts": "p", "tool": {}}), false),
    ];
    let validator = of_document(schema::bundle_file());
    for (document, right) in bundles {
        let read = is_read::<Manifest>(&document, |manifest| manifest.validate().is_ok());
        assert_eq!((validator(&document), read), (right, right), "{document}");
    }
    let named = |id: &str| json!({"id": id, "code": "c", "model": "m", "prompts": "p"});
    assert!(validator(&named("v1")) && !validator(&named("v 1")));
}

fn of_document(schema: Schema) -> impl Fn(&Value) -> bool {
    let validator = validator(&schema);
    move |document| validator.is_valid(document)
}

/// The same for what stands in a listener, and for the snapshot in it.
#[test]
fn typical_mistakes_of_listeners_are_refused() {
    let slots = json!([
        {"name": "blue", "phase": "live", "weight": 10_000, "bundle": {"id": "v1"}},
        {"name": "green", "phase": "idle"},
    ]);
    let snapshot = json!({"format": 1, "service": "chat", "slots": slots});
    let with = |key: &str, value: Value| {
        let mut changed = snapshot.clone();
        changed[key] = value;
        changed
    };
    let snapshots = [
        (snapshot.clone(), true),
        (with("of_a_later_release", json!(1)), true),
        (with("format", json!(2)), false),
        (with("format", json!("1")), false),
        (with("service", json!("Chat")), false),
        (with("settings", json!({"colour": 1})), false),
        (with("slots", json!([])), false),
        (with("slots", json!([{"name": "blue", "phase": "on"}, {"name": "green", "phase": "idle"}])), false),
        (with("slots", json!([{"name": "blue", "phase": "idle", "weight": 10_001}, slots[1]])), false),
        (with("slots", json!([{"name": "blue"}, slots[1]])), false),
        (with("newest_assignment", json!(-1)), false),
    ];
    let (of_snapshot, of_plugin) = (of_document(schema::snapshot()), of_document(schema::plugin()));
    for (document, right) in snapshots {
        let read = is_read::<Snapshot>(&document, |snapshot| snapshot.validate().is_ok());
        assert_eq!((of_snapshot(&document), read), (right, right), "{document}");
    }
    let listener = |service: Value| json!({"sidecar_cluster": "s", "services": [service]});
    let matching = |matches: Value| listener(json!({"name": "chat", "match": matches}));
    let plugins = [
        (listener(json!({"name": "chat"})), true),
        (listener(json!({"name": "chat", "bootstrap": snapshot})), true),
        (matching(json!({"hosts": ["*.example.com", "a_b", "[::1]"], "path_prefixes": ["/", "/chat"]})), true),
        (json!({"direction": "egress"}), true),
        (json!({"direction": "egress", "services": [{"name": "chat"}]}), false),
        (json!({"direction": "ingress", "sidecar_cluster": "s"}), false),
        (json!({"sidecar_cluster": "s", "services": []}), false),
        (json!({"sidecar_cluster": "", "services": [{"name": "chat"}]}), false),
        (json!({"services": [{"name": "chat"}]}), false),
        (json!({"sidecar_cluster": "s", "services": [{"name": "chat"}], "token": "t"}), false),
        (listener(json!({"name": "chat", "settings": {}})), false),
        (listener(json!({"name": "Chat"})), false),
        (listener(json!({"name": "chat", "bootstrap": with("epoch", json!(5))})), false),
        (matching(json!({"host": ["a"]})), false),
        (matching(json!({"hosts": ["A.example.com"]})), false),
        (matching(json!({"hosts": ["a.example.com:80"]})), false),
        (matching(json!({"hosts": ["*"]})), false),
        (matching(json!({"path_prefixes": ["chat"]})), false),
    ];
    for (document, right) in plugins {
        let read = is_read::<PluginConfig>(&document, |config| config.validate().is_ok());
        assert_eq!((of_plugin(&document), read), (right, right), "{document}");
    }
}
