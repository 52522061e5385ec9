use super::*;
use crate::ids::ServiceName;

fn service() -> ServiceName {
    "chat".parse().unwrap()
}

fn expanded(json: &str) -> Applied {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn of(preset: &Preset) -> Applied {
    expanded(&json!({ FIELD: preset.full_name() }).to_string())
}

/// Each preset is a file that can be applied, and the settings are those that its text says.
#[test]
fn every_preset_is_valid() {
    for preset in &PRESETS {
        let Applied { preset: name, settings } = of(preset);
        assert_eq!(name, Some(preset.full_name()));
        settings.validate(&service()).unwrap_or_else(|error| panic!("{}: {error}", preset.full_name()));
        assert!(!preset.about.is_empty() && preset.keeps.ends_with('.'), "{}", preset.full_name());
    }
}

/// A version of a preset never changes: who needs something else adds a version. The digests are of the settings as they
/// enter the log.
#[test]
fn versions_stay_as_they_are() {
    let digests = [
        ("mcp/1", "811f524a522909b1"),
        ("a2a/1", "c9a4f19f4a1871f5"),
        ("openai-responses/1", "112b269503129b30"),
        ("openai-chat/1", "b19ea18298d90567"),
        ("anthropic/1", "a5fa753f382c2500"),
        ("langgraph/1", "8a3856726aa31c63"),
        ("browser/1", "2ba56243fd809181"),
    ];
    let found: Vec<_> = PRESETS
        .iter()
        .map(|preset| {
            use sha2::Digest as _;
            let settings = serde_json::to_string(&of(preset).settings).unwrap();
            let digest = sha2::Sha256::digest(settings.as_bytes());
            (preset.full_name().to_string(), base16ct::lower::encode_string(&digest)[..16].to_owned())
        })
        .collect();
    assert_eq!(found, digests.map(|(name, digest)| (name.to_owned(), digest.to_owned())));
}

/// A name without a version is the newest one; versions of a name count up.
#[test]
fn names_are_found() {
    assert_eq!(named("mcp").unwrap().full_name().as_str(), "mcp/1");
    assert_eq!(named("mcp/1").unwrap().name, "mcp");
    for wrong in ["", "mpc", "mcp/", "mcp/0", "mcp/01", "mcp/9", "mcp/1/1", "MCP"] {
        let error = named(wrong).unwrap_err().to_string();
        assert!(error.starts_with("preset: there is no ") && error.contains("openai-responses/1"), "{error}");
    }
    for name in newest().map(|preset| preset.name) {
        let versions: Vec<_> =
            PRESETS.iter().filter(|preset| preset.name == name).map(|preset| preset.version).collect();
        assert!(versions.iter().copied().eq(1..=versions.len() as u32), "{name}: {versions:?}");
    }
    assert!(serde_json::from_str::<Applied>(r#"{"preset":7}"#).unwrap_err().to_string().contains("name of a preset"));
}

/// What stands beside a preset wins: field by field in objects, whole in lists, and where it is the default.
#[test]
fn fields_override_a_preset() {
    let Applied { settings, .. } = expanded(
        r#"{"preset":"mcp","pin":{"cookie":"sessionless","envelope_header":null,"idle_timeout_seconds":60},
        "learn_from":[],"slots":["red"],"memory":{"ask_wait_ms":100}}"#,
    );
    let preset = of(named("mcp").unwrap()).settings;
    assert_eq!(settings.session_sources, preset.session_sources);
    assert_eq!(settings.pin.header, preset.pin.header);
    assert_eq!((settings.pin.cookie, settings.pin.envelope_header), (Default::default(), None));
    assert_eq!((settings.pin.idle_timeout_seconds, settings.learn_from.len(), settings.slots.len()), (60, 0, 1));
    assert_eq!(settings.memory.ask_wait_ms.0, 100);
    let error = serde_json::from_str::<Applied>(r#"{"preset":"mcp","pin":{"cokie":"never"}}"#).unwrap_err();
    assert!(error.to_string().contains("unknown field `cokie`"), "{error}");
}

/// What is written of applied settings makes the same settings again, for every preset and every field that one sets, at
/// its default and otherwise; it holds nothing that the preset says already.
#[test]
fn written_settings_are_the_same_again() {
    let bare = r#"{"session_sources":[{"header":"x-agent-session"}],"learn_from":[],"pin":{"header":"always",
        "cookie":"sessionless","cookie_same_site":"lax","cookie_secure":"auto","max_age_seconds":604800,
        "idle_timeout_seconds":86400}}"#;
    let other = r#"{"slots":["a"],"session_sources":[{"cookie":"a"}],"learn_from":[{"body":"/a"}],
        "pin":{"header":"always","cookie":"never","cookie_same_site":"strict","max_age_seconds":61,
        "idle_timeout_seconds":60},"part_headers":{"code":"x-code"},"probe":{"address":"http://a"}}"#;
    for preset in &PRESETS {
        assert_eq!(serde_json::to_value(of(preset)).unwrap(), json!({ FIELD: preset.full_name() }));
        for overrides in [bare, other, "{}"] {
            let mut file: Map<_, _> = serde_json::from_str(overrides).unwrap();
            file.insert(FIELD.to_owned(), preset.name.into());
            let applied: Applied = serde_json::from_value(file.into()).unwrap();
            let written = serde_json::to_string(&applied).unwrap();
            assert_eq!(expanded(&written), applied, "{written}");
        }
        // What a preset sets can be told from its default only where `whole` names it.
        let named = whole(&ServiceSettings::default()).unwrap();
        let is_named = |(field, value): (&String, &Value)| match (value, named.get(field)) {
            (Value::Object(inner), Some(Value::Object(known))) => inner.keys().all(|field| known.contains_key(field)),
            (_, known) => known.is_some(),
        };
        assert!(preset.settings().iter().all(is_named), "{}", preset.full_name());
    }
}

/// Settings without a preset, or of one that only a newer build knows, are written as they are.
#[test]
fn unknown_presets_keep_their_settings() {
    let settings: ServiceSettings = serde_json::from_str(r#"{"session_sources":[],"pin":{"cookie":"never"}}"#).unwrap();
    let plain = serde_json::to_value(&settings).unwrap();
    assert_eq!(serde_json::to_value(Applied::from(settings.clone())).unwrap(), plain);
    let newer = Applied { preset: Some("mcp/9".parse().unwrap()), settings };
    assert_eq!(serde_json::to_value(newer).unwrap(), plain);
}
