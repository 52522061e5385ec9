use std::fmt::Debug;

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::keys::ServiceKeys;
use crate::plugin::PluginConfig;
use crate::settings::ServiceSettings;
use crate::wire::discovery::DiscoveryResponse;
use crate::wire::reports::ReportAck;
use crate::wire::sessions::Told;

/// An answer of discovery with every field that there is, none at its default.
const ANSWER: &str = r#"{"version_info":"5.2","type_url":"t","nonce":"n","ticket":"k","corrections":{"records":"","cursor":"aa.7"},"resources":[{"keys":
    {"sid":"AAAAAAAAAAAAAAAAAAAAAA","ring":{"1":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
    "runs":{"2":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}},
    "state":{"format":1,"service":"chat","epoch":5,"version":2,"ring":{"signing":1,"verifying":[1]},
    "run_ring":{"signing":2,"verifying":[2,3]},"newest_assignment":12,"flush":9,"lineage":8,"settings":{"slots":["blue","red"],
    "session_sources":[{"header":"x-id"},{"cookie":"s"},{"query":"q"},{"path":"/a/{session}"},{"baggage":"b"},{"body":"/a/0"}],"learn_from":[{"header":"x-new"},{"body":"/b"},{"event":"/c"}],"session_end_header":"x-end","body":{"prefix_bytes":9,"wait_ms":8,"held_bytes":2097152},"sessionless":"client","pin":{"header":"never",
    "cookie":"always","cookie_name":"pin","cookie_path":"/a","cookie_same_site":"none","cookie_secure":"always","envelope_header":"x-session",
    "max_age_seconds":60,"idle_timeout_seconds":50,"first_return_seconds":8,"key_rotation_seconds":7},
    "runs":{"mint":"always","status_header":"x-run"},"memory":{"sessions":2000,"ask_wait_ms":50,"tell_wait_ms":40},"headers":{"slot":"x-1","bundle":"x-2",
    "decision":"x-3","pin":"x-4","preview":"x-5","attestation":"x-6"},"part_headers":{"code":"x-7","model":"x-8",
    "prompts":"x-9","retrieval_index":"x-10"},"quarantine_seconds":1,"drain_deadline_seconds":1,"bootstrap_wait_ms":1,"on_slot_down":"reassign","on_bundle_gone":"refuse",
    "probe":{"address":"http://127.0.0.1:1","host":"h","path":"/p","timeout_ms":7,"expect_status":204}},
    "slots":[{"name":"blue","phase":"live","weight":9000,"assignment":10,"bundle":{"id":"b\u002d1",
    "digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
    "headers":{"x-8":"m \"1\" \u00e9"}},{"name":"red","phase":"candidate","weight":1000}]}}]}"#;

/// A plugin configuration likewise; its snapshot is that of the answer.
fn plugin() -> Value {
    let answer: Value = serde_json::from_str(ANSWER).unwrap();
    let state = &answer["resources"][0]["state"];
    let matches = serde_json::json!({"hosts": ["a.b"], "path_prefixes": ["/a"]});
    serde_json::json!({
        "services": [{"name": "chat", "match": matches, "bootstrap": state, "snapshot": state}],
        "sidecar_cluster": "s",
        "direction": "egress",
    })
}

/// What both readers say of a document; where they take it, it is the same.
fn both<T: FromTree + DeserializeOwned + PartialEq + Debug>(json: &str) -> bool {
    let streamed = serde_json::from_str::<T>(json);
    let read = read::<T>(json.as_bytes());
    match (streamed, read) {
        (Ok(streamed), Ok(read)) => {
            assert_eq!(streamed, read, "{json}");
            true
        }
        (Err(_), Err(_)) => false,
        (streamed, read) => panic!("{json}\nserde: {streamed:?}\nthis reader: {read:?}"),
    }
}

/// One meaning of every document: what the sidecar writes and `serde` reads, this reader reads as the same.
#[test]
fn reads_what_serde_reads() {
    assert!(both::<DiscoveryResponse>(ANSWER));
    assert!(both::<PluginConfig>(&plugin().to_string()));
    assert!(both::<PluginConfig>("{}"));
    assert!(both::<ServiceSettings>("{}"));
    assert!(both::<ReportAck>(r#"{"acknowledged":18446744073709551615,"incarnation":"aa","more":[{}]}"#));
    assert!(both::<Told>(r#"{"sessions":"","version_info":"5.2","incarnation":"aa"}"#));
    assert!(!both::<Told>(r#"{"sessions":"","version_info":"5.2"}"#));
    assert!(both::<ServiceKeys>(
        r#"{"sid":"AAAAAAAAAAAAAAAAAAAAAA","ring":{"65535":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}"#
    ));
    assert!(!both::<ReportAck>(r#"{"acknowledged":18446744073709551616}"#));
}

/// Every field of the examples is one that has a default and does not stand at it: so none is overlooked below.
#[test]
fn the_examples_leave_nothing_out() {
    let answer: DiscoveryResponse = serde_json::from_str(ANSWER).unwrap();
    let written = serde_json::to_value(&answer).unwrap();
    let settings = &written["resources"][0]["state"]["settings"];
    let known: Vec<_> = match read::<ServiceSettings>(br#"{"?":1}"#) {
        Err(Unreadable::Field(error)) => {
            error.rule.rsplit(": ").next().unwrap().split(", ").map(str::to_owned).collect()
        }
        other => panic!("{other:?}"),
    };
    for field in known {
        assert!(settings.get(&field).is_some(), "{field} stands at its default");
    }
}

/// Somewhere in a document, something else.
fn changed(document: Value, place: usize, change: usize) -> Value {
    fn walk(value: &mut Value, left: &mut usize, change: usize) {
        if *left == 0 {
            *left = usize::MAX;
            *value = match change {
                0 => Value::Null,
                1 => true.into(),
                2 => 0.into(),
                3 => (-1).into(),
                4 => 1.5.into(),
                5 => u64::MAX.into(),
                6 => "".into(),
                7 => "always".into(),
                8 => "x-other".into(),
                _ => serde_json::json!({"a": 1}),
            };
            return;
        }
        *left -= 1;
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| walk(item, left, change)),
            Value::Object(entries) => {
                if change > 10 && *left < entries.len() {
                    let key = entries.keys().nth(*left).cloned().unwrap();
                    let value = entries.remove(&key).unwrap();
                    if change > 11 {
                        entries.insert(format!("{key}x"), value);
                    }
                    *left = usize::MAX;
                    return;
                }
                entries.values_mut().for_each(|item| walk(item, left, change));
            }
            _ => {}
        }
    }
    let (mut document, mut left) = (document, place);
    walk(&mut document, &mut left, change);
    document
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// One judgement of every document: a field left out, misnamed or of another kind is refused by both readers, or
    /// taken by both.
    #[test]
    fn judges_as_serde_does(place in 0..248_usize, change in 0..13_usize) {
        both::<DiscoveryResponse>(&changed(serde_json::from_str(ANSWER).unwrap(), place, change).to_string());
        both::<PluginConfig>(&changed(plugin(), place, change).to_string());
    }

    /// Total: whatever the bytes are, they are read or refused.
    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..64), cut in 0..ANSWER.len()) {
        let _ = read::<DiscoveryResponse>(&bytes);
        let _ = read::<DiscoveryResponse>(&ANSWER.as_bytes()[..cut]);
    }
}

/// Errors name the field and the rule, however deep; of what is no JSON, line and column.
#[test]
fn errors_name_the_field() {
    let cases = [
        ("", "line 1, column 0: is not JSON"),
        ("{\n  \"a\" 1}", "line 2, column 7: is not JSON"),
        ("[]", "the document: is a list, not an object"),
        (r#"{"cluster":"s"}"#, "cluster: there is no such field; there are: services, sidecar_cluster, direction"),
        (r#"{"services":[{"name":"chat"},{}]}"#, "services[1].name: is missing"),
        (r#"{"services":[{"name":"chat","name":"chat"}]}"#, "services[0].name: stands twice"),
        (r#"{"services":{}}"#, "services: is an object, not a list"),
        (r#"{"services":[{"name":7}]}"#, "services[0].name: is a number, not a string"),
        (
            r#"{"services":[{"name":"a","match":{"hosts":[null]}}]}"#,
            "services[0].match.hosts[0]: is null, not a string",
        ),
        (r#"{"direction":{"egress":1}}"#, "direction: is an object, not a string"),
        (r#"{"direction":"up"}"#, "direction: is \"up\"; there are: ingress, egress"),
        (r#"{"services":[{"name":"Chat"}]}"#, "services[0].name: \"Chat\" is not "),
        (
            r#"{"services":[{"name":"a","bootstrap":{"format":1,"service":"a","slots":[],"version":-1}}]}"#,
            "services[0].bootstrap.version: is a number, not a whole number from 0 on",
        ),
        (
            r#"{"services":[{"name":"a","bootstrap":{"format":4294967296,"service":"a","slots":[]}}]}"#,
            "services[0].bootstrap.format: is 4294967296, over 4294967295",
        ),
        (
            r#"{"services":[{"name":"a","bootstrap":{"settings":{"session_sources":[{"path":"x"}]}}}]}"#,
            "services[0].bootstrap.service: is missing",
        ),
        (
            r#"{"services":[{"name":"a","bootstrap":{"format":1,"service":"a","slots":[],
                "settings":{"session_sources":["header",{"head":"x"}]}}}]}"#,
            "services[0].bootstrap.settings.session_sources[0]: is a string, not an object",
        ),
    ];
    for (json, wanted) in cases {
        let error = read::<PluginConfig>(json.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{json}: {error}");
    }
}

/// Secrets stay silent: no error of this reader repeats a key, in whatever place it stands.
#[test]
fn keys_are_not_repeated() {
    const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQ";
    let misplaced = [
        format!(r#"{{"sid":"{SECRET}","ring":{{}}}}"#),
        format!(r#"{{"sid":"AAAAAAAAAAAAAAAAAAAAAA","ring":{{"{SECRET}":"1"}}}}"#),
        format!(r#"{{"sid":"AAAAAAAAAAAAAAAAAAAAAA","ring":"{SECRET}"}}"#),
        format!(r#"{{"sid":"AAAAAAAAAAAAAAAAAAAAAA","ring":["{SECRET}"]}}"#),
        format!(r#"{{"sid":{{"{SECRET}":1}},"ring":{{}}}}"#),
    ];
    for json in misplaced {
        let error = read::<ServiceKeys>(json.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains(SECRET), "{error}");
    }
}

/// Total: nesting does not overflow.
#[test]
fn deep_nesting_is_refused() {
    for opening in ["[", "{\"a\":"] {
        assert!(read::<PluginConfig>(opening.repeat(100_000).as_bytes()).is_err());
    }
}
