//! Plugin configurations and environments, good and bad.

use colorfast_core::names;
use wasm_host::{Cause, Plugin};

use crate::proxy::Proxy;
use crate::releases::{as_bootstrap, blue_live, environment_keys};

/// The words with which a worker refuses this configuration.
fn refusal(proxy: &Proxy, config: &str) -> String {
    let error = proxy.try_worker(Plugin::config(config)).err().expect("the configuration was taken");
    assert_eq!(error.cause, Cause::Refused);
    error.log.last().map(|line| line.text.clone()).unwrap_or_default()
}

/// Last good: a bad configuration is refused with the field and the rule in the log, so that Envoy keeps the old one.
#[test]
fn bad_configurations_are_refused_by_field() {
    let bootstrap = |edit: fn(&mut serde_json::Value)| {
        let mut snapshot = serde_json::to_value(as_bootstrap(blue_live(0))).unwrap();
        edit(&mut snapshot);
        serde_json::json!({"services": [{"name": "chat", "bootstrap": snapshot}], "sidecar_cluster": "s"}).to_string()
    };
    let cases = [
        ("".to_owned(), "line 1, column 0: is not JSON"),
        ("[]".to_owned(), "the document: is a list, not an object"),
        (r#"{"services":[{"name":"chat"}]}"#.to_owned(), "sidecar_cluster: is empty"),
        (r#"{"services":[{"name":"chat"}],"sidecar_cluster":""}"#.to_owned(), "sidecar_cluster: is empty"),
        (r#"{"services":[],"sidecar_cluster":"s"}"#.to_owned(), "services: has 0 entries"),
        (r#"{"services":[{"name":"Chat"}],"sidecar_cluster":"s"}"#.to_owned(), "is not a service name"),
        (
            r#"{"services":[{"name":"chat"}],"sidecar_cluster":"s","token":"x"}"#.to_owned(),
            "token: there is no such field",
        ),
        (bootstrap(|snapshot| snapshot["epoch"] = 5.into()), "services[0].bootstrap.epoch"),
        (bootstrap(|snapshot| snapshot["format"] = 9.into()), "services[0].bootstrap.format"),
        (bootstrap(|snapshot| snapshot["slots"][0]["weight"] = 5.into()), "services[0].bootstrap.slots"),
        (
            bootstrap(|snapshot| snapshot["settings"]["colour"] = 5.into()),
            "services[0].bootstrap.settings.colour: there is no such field",
        ),
    ];
    for (config, wanted) in cases {
        let said = refusal(&Proxy::chat(), &config);
        assert!(said.starts_with("colorfast: plugin configuration: ") && said.contains(wanted), "{said}");
    }
}

/// Unforgeable: keys that cannot be read are refused without a word of them in the log.
#[test]
fn bad_keys_are_refused_in_silence() {
    let config = serde_json::json!({"services": [{"name": "chat"}], "sidecar_cluster": "s"}).to_string();
    let good = environment_keys("chat");
    let shape = "not a JSON object of service names to keys";
    let cases = [
        (good.replace("\"sid\":\"", "\"sid\":\"SECRET"), shape),
        (good.replace("\"sid\"", "\"SECRET\""), shape),
        ("SECRET".to_owned(), "is not JSON (line 1, column 1)"),
        (good[..good.len() - 2].to_owned(), "is not JSON (line 1, column "),
    ];
    for (bad, wanted) in cases {
        let proxy = Proxy::chat();
        proxy.process.set_env(names::ENV_KEYS, &bad);
        let said = refusal(&proxy, &config);
        assert!(said.contains("COLORFAST_KEYS") && said.contains(wanted), "{said}");
        assert!(!said.contains("SECRET") && !said.contains("XV1d"), "{said}");
    }
}

/// Last good: keys that lack one of the bootstrap snapshot's ring are refused with its number.
#[test]
fn keys_must_fit_the_bootstrap_snapshot() {
    let mut snapshot = as_bootstrap(blue_live(0));
    snapshot.ring.as_mut().unwrap().verifying.push(colorfast_core::ids::KeyId(7));
    let config = serde_json::json!({"services": [{"name": "chat", "bootstrap": snapshot}], "sidecar_cluster": "s"});
    let proxy = Proxy::chat();
    proxy.process.set_env(names::ENV_KEYS, &environment_keys("chat"));
    assert!(refusal(&proxy, &config.to_string()).contains("keys.ring: lacks key 7"));
}

/// Unforgeable: no key stands in shared data or in the log but in the answer that brought it, and that in shared data
/// alone.
#[test]
fn keys_are_not_told() {
    let proxy = Proxy::chat();
    let worker = proxy.with(&blue_live(5));
    worker.serves();
    let key = serde_json::to_value(crate::releases::keys(&[1])).unwrap()["sid"].as_str().unwrap().to_owned();
    assert!(worker.log().iter().all(|line| !line.text.contains(&key)));
    let calls = worker.calls();
    assert!(calls.iter().all(|call| !call.text().contains(&key)));
}
