//! Each check against the shipped configuration, whole and with one thing wrong.

use std::collections::{BTreeMap, BTreeSet};

use colorfast_core::ids::Digest;
use colorfast_core::settings::ServiceSettings;
use serde_json::{Value, json};

use super::*;
use crate::cli::doctor::evidence::Service;
use crate::cli::doctor::finding::Level;
use crate::cli::doctor::proxy::Proxy;

const HCM: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const WASM: &str = "/http_filters/0/typed_config/config";
const ROUTES: &str = "/route_config/virtual_hosts/0/routes";
const MUTATIONS: &str = "/early_header_mutation_extensions/0/typed_config/mutations";

fn shipped() -> Value {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../envoy/bootstrap.yaml"));
    serde_saphyr::from_str(text).unwrap()
}

fn at<'v>(value: &'v mut Value, pointer: &str) -> &'v mut Value {
    value.pointer_mut(pointer).unwrap_or_else(|| panic!("nothing at {pointer}"))
}

fn list<'v>(value: &'v mut Value, pointer: &str) -> &'v mut Vec<Value> {
    at(value, pointer).as_array_mut().unwrap()
}

/// A sidecar that has the service `chat` with two slots, and knows the proxy.
fn sidecar() -> BTreeMap<colorfast_core::ids::ServiceName, Service> {
    let service = Service { settings: ServiceSettings::default(), nodes: BTreeSet::from(["envoy-1".to_owned()]) };
    BTreeMap::from([("chat".parse().unwrap(), service)])
}

fn evidence(document: &Value) -> Evidence {
    Evidence { proxy: Proxy::of_bootstrap(document), services: Some(sidecar()), ..Evidence::default() }
}

fn words(findings: &[Finding], level: Level) -> Vec<&'static str> {
    findings.iter().filter(|finding| finding.level == level).map(|finding| finding.check).collect()
}

/// The problems of the shipped configuration once its connection manager was edited.
fn problems(edit: impl FnOnce(&mut Value)) -> Vec<Finding> {
    let mut document = shipped();
    edit(at(&mut document, HCM));
    let mut found = diagnose(&evidence(&document));
    found.retain(|finding| finding.level == Level::Problem);
    found
}

/// The shipped file has nothing that would have to be said, with a sidecar and without.
#[test]
fn the_shipped_file_is_sound() {
    let mut evidence = evidence(&shipped());
    assert_eq!(diagnose(&evidence), []);
    evidence.services = None;
    assert_eq!(diagnose(&evidence), []);
}

type Edit = fn(&mut Value);

/// Each thing that is wrong is found, by one finding and no other.
#[test]
fn each_fault_is_one_finding() {
    let cases: [(&str, Edit); 27] = [
        ("early-stripping", |hcm| list(hcm, MUTATIONS).retain(|step| step["remove"] != "x-agent-slot")),
        ("early-stripping", |hcm| list(hcm, MUTATIONS).retain(|step| step["remove"] != "x-agent-bundle")),
        ("early-stripping", |hcm| list(hcm, MUTATIONS).retain(|step| step["remove"] != "x-agent-decision")),
        ("early-copy", |hcm| list(hcm, MUTATIONS).retain(|step| step.get("append").is_none())),
        ("early-copy", |hcm| list(hcm, MUTATIONS).retain(|step| step["remove"] != "x-agent-client-sent")),
        ("early-copy", |hcm| list(hcm, MUTATIONS).rotate_left(2)),
        ("early-copy", |hcm| *at(hcm, &format!("{MUTATIONS}/1/append/header/value")) = json!("%REQ(x-agent-slot)%")),
        ("early-copy", |hcm| {
            drop(at(hcm, &format!("{MUTATIONS}/1/append")).as_object_mut().unwrap().remove("append_action"))
        }),
        ("underscores", |hcm| drop(hcm.as_object_mut().unwrap().remove("common_http_protocol_options"))),
        ("default-route", |hcm| drop(list(hcm, ROUTES).pop())),
        ("route-shadowed", |hcm| {
            let again = list(hcm, ROUTES)[0].clone();
            list(hcm, ROUTES).insert(1, again);
        }),
        ("cluster-header", |hcm| {
            let route = json!({"match": {"prefix": "/x"}, "route": {"cluster_header": "X-Agent-Slot"}});
            list(hcm, ROUTES).insert(0, route);
        }),
        ("unknown-slot", |hcm| {
            let mut pink = list(hcm, ROUTES)[0].clone();
            pink["match"]["headers"][0]["string_match"]["exact"] = json!("pink");
            list(hcm, ROUTES).insert(0, pink);
        }),
        ("slot-without-route", |hcm| drop(list(hcm, ROUTES).remove(1))),
        ("no-slot-route", |hcm| drop(list(hcm, ROUTES).drain(..2))),
        ("client-sent", |hcm| {
            drop(at(hcm, "/route_config").as_object_mut().unwrap().remove("request_headers_to_remove"))
        }),
        ("filter-disabled", |hcm| {
            let off = json!({"colorfast": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true}});
            list(hcm, ROUTES)[0]["typed_per_filter_config"] = off;
        }),
        ("failure-policy", |hcm| at(hcm, WASM)["failure_policy"] = json!("FAIL_OPEN")),
        ("failure-policy", |hcm| at(hcm, WASM)["failure_policy"] = json!("FAIL_CLOSED")),
        ("failure-policy", |hcm| drop(at(hcm, WASM).as_object_mut().unwrap().remove("failure_policy"))),
        ("filter-twice", |hcm| {
            let again = list(hcm, "/http_filters")[0].clone();
            list(hcm, "/http_filters").insert(1, again);
        }),
        ("filter-order", |hcm| list(hcm, "/http_filters").reverse()),
        ("filter-order", |hcm| {
            let jwt = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication";
            list(hcm, "/http_filters").insert(1, json!({"name": "jwt", "typed_config": {"@type": jwt}}));
        }),
        ("host-env-keys", |hcm| at(hcm, WASM)["vm_config"]["environment_variables"]["host_env_keys"] = json!([])),
        ("secret-in-configuration", |hcm| {
            at(hcm, WASM)["vm_config"]["environment_variables"] = json!({"key_values": {"COLORFAST_TOKEN": "t"}});
        }),
        ("sidecar-cluster", |hcm| {
            let plugin = json!({"sidecar_cluster": "nowhere", "services": [{"name": "chat"}]});
            at(hcm, WASM)["configuration"]["value"] = json!(plugin.to_string());
        }),
        ("plugin-configuration", |hcm| at(hcm, WASM)["configuration"]["value"] = json!("services: chat")),
    ];
    for (check, edit) in cases {
        let found = problems(edit);
        assert_eq!(words(&found, Level::Problem), [check], "{found:#?}");
        assert!(found[0].place.listener.as_deref() == Some("agents") && found[0].place.filter_chain.is_some());
        for text in [found[0].what.as_str(), found[0].why, &found[0].instead] {
            assert!(!text.is_empty(), "{check} leaves something out");
        }
    }
    let route = |edit: Edit| problems(edit).remove(0).place.route;
    assert_eq!(route(|hcm| drop(list(hcm, ROUTES).pop())).as_deref(), Some("agents"));
    assert_eq!(
        route(|hcm| {
            let mut pink = list(hcm, ROUTES)[0].clone();
            pink["match"]["headers"][0]["string_match"]["exact"] = json!("pink");
            pink["name"] = json!("rosy");
            list(hcm, ROUTES).push(pink);
            list(hcm, ROUTES).rotate_right(1);
        })
        .as_deref(),
        Some("agents/rosy")
    );
}

/// What works and has a price is told, and is no problem.
#[test]
fn prices_are_notes() {
    let mut document = shipped();
    at(at(&mut document, HCM), WASM)["allow_on_headers_stop_iteration"] = json!(false);
    let route = &mut list(at(&mut document, HCM), ROUTES)[0]["route"];
    route.as_object_mut().unwrap().remove("timeout");
    let found = diagnose(&evidence(&document));
    assert_eq!(words(&found, Level::Note), ["stop-iteration", "route-timeout"]);
    assert_eq!(words(&found, Level::Problem), Vec::<&str>::new());
}

/// Where session ids are looked for in bodies, a virtual host says how much of one may be held; elsewhere it need not.
#[test]
fn bodies_that_are_waited_for_need_room() {
    let mut document = shipped();
    let host = at(at(&mut document, HCM), "/route_config/virtual_hosts/0");
    host.as_object_mut().unwrap().remove("request_body_buffer_limit");
    let mut evidence = evidence(&document);
    assert_eq!(diagnose(&evidence), []);
    let settings = json!({"session_sources": [{"header": "x-agent-session"}, {"body": "/id"}]});
    for service in evidence.services.iter_mut().flat_map(BTreeMap::values_mut) {
        service.settings = serde_json::from_value(settings.clone()).unwrap();
    }
    let found = diagnose(&evidence);
    assert_eq!((words(&found, Level::Note), found.len()), (vec!["body-limit"], 1));
    assert_eq!(found[0].place.route.as_deref(), Some("agents"));
    evidence.proxy = Proxy::of_bootstrap(&shipped());
    assert_eq!(diagnose(&evidence), []);
    // What is there fits the default, and no larger bound.
    for service in evidence.services.iter_mut().flat_map(BTreeMap::values_mut) {
        service.settings.body.prefix_bytes = 16 << 20;
    }
    let found = diagnose(&evidence);
    assert_eq!((words(&found, Level::Note), found.len()), (vec!["body-limit"], 1));
    assert!(found[0].instead.contains("32505856") && found[0].instead.contains("17825792"), "{:?}", found[0]);
}

/// What concerns the whole proxy is found as well.
#[test]
fn the_whole_proxy_is_looked_at() {
    let whole = |edit: fn(&mut Value)| {
        let mut document = shipped();
        edit(&mut document);
        words(&diagnose(&evidence(&document)), Level::Problem)
    };
    assert_eq!(whole(|doc| drop(doc.as_object_mut().unwrap().remove("stats_config"))), ["stats-tags"]);
    assert_eq!(whole(|doc| drop(doc.as_object_mut().unwrap().remove("node"))), ["node-id"]);
    assert_eq!(whole(|doc| drop(list(at(doc, HCM), "/http_filters").remove(0))), ["no-filter"]);
    assert_eq!(
        whole(|doc| {
            let sidecar = list(doc, "/static_resources/clusters").iter_mut();
            let sidecar = sidecar.filter(|cluster| cluster["name"] == "colorfast_sidecar");
            sidecar.for_each(|cluster| cluster["load_assignment"]["endpoints"] = json!([]));
        }),
        ["sidecar-cluster"]
    );
}

/// What the running parts show: no snapshot, another sidecar, a service that it does not have, another filter.
#[test]
fn life_shows_more_than_the_file() {
    let stats = |version: u64, failed: u64| {
        let of = |name: &str| format!("wasmcustom.colorfast.service.chat.{name}");
        Some(BTreeMap::from([(of("snapshot_version"), version), (of("polls_failed"), failed)]))
    };
    let found = |edit: &dyn Fn(&mut Evidence)| {
        let mut evidence = evidence(&shipped());
        evidence.stats = stats(7, 0);
        edit(&mut evidence);
        words(&diagnose(&evidence), Level::Problem)
    };
    assert_eq!(found(&|_| {}), Vec::<&str>::new());
    assert_eq!(found(&|evidence| evidence.stats = stats(0, 3)), ["no-snapshot"]);
    assert_eq!(found(&|evidence| evidence.stats = stats(7, 3)), Vec::<&str>::new(), "it was heard since");
    assert_eq!(found(&|evidence| evidence.services = Some(BTreeMap::new())), ["unknown-service"]);
    let strangers = |evidence: &mut Evidence| {
        let services = evidence.services.iter_mut().flat_map(BTreeMap::values_mut);
        services.for_each(|service| service.nodes.clear());
    };
    assert_eq!(found(&strangers), ["not-member"]);

    let folder = tempfile::tempdir().unwrap();
    let filter = folder.path().join("filter.wasm");
    std::fs::write(&filter, "one").unwrap();
    let mut document = shipped();
    at(at(&mut document, HCM), WASM)["vm_config"]["code"]["local"]["filename"] = json!(filter);
    for (release, wanted) in [("one", None), ("another", Some("wasm-digest"))] {
        let mut evidence = evidence(&document);
        evidence.release = Some(Digest::of(release.as_bytes()));
        assert_eq!(words(&diagnose(&evidence), Level::Problem), Vec::from_iter(wanted));
    }
}

/// A proxy without a sidecar is sound where every service has a snapshot and keys come by environment; one that is given an
/// older snapshot than it holds is found by both versions.
#[test]
fn pushed_snapshots_need_no_sidecar() {
    let mut document = shipped();
    list(&mut document, "/static_resources/clusters").retain(|cluster| cluster["name"] != "colorfast_sidecar");
    let snapshot = json!({"format": 1, "service": "chat", "epoch": 9, "version": 5, "ring": {"signing": 1, "verifying": [1]},
        "newest_assignment": 2, "slots": [
            {"name": "blue", "phase": "live", "weight": 10_000, "assignment": 1, "bundle": {"id": "v1"}},
            {"name": "green", "phase": "idle"}]});
    let plugin = json!({"services": [{"name": "chat", "snapshot": snapshot}]});
    let wasm = at(at(&mut document, HCM), WASM);
    wasm["configuration"]["value"] = json!(plugin.to_string());
    wasm["vm_config"]["environment_variables"]["host_env_keys"] = json!(["COLORFAST_KEYS"]);
    let with = |document: &Value, epoch: u64, version: u64| {
        let stat = |name: &str, value| (format!("wasmcustom.colorfast.service.chat.{name}"), value);
        let stats = BTreeMap::from([stat("snapshot_epoch", epoch), stat("snapshot_version", version)]);
        Evidence { stats: Some(stats), services: None, ..evidence(document) }
    };
    assert_eq!(diagnose(&with(&document, 9, 5)), []);
    let found = diagnose(&with(&document, 9, 6));
    assert_eq!(words(&found, Level::Problem), ["older-snapshot"]);
    assert!(found[0].what.contains("9.5") && found[0].what.contains("9.6"), "{found:?}");
    assert_eq!(words(&diagnose(&with(&document, 10, 1)), Level::Problem), ["older-snapshot"]);

    at(at(&mut document, HCM), WASM)["vm_config"]["environment_variables"]["host_env_keys"] = json!([]);
    assert_eq!(words(&diagnose(&with(&document, 9, 5)), Level::Problem), ["host-env-keys"]);
}

/// Where no sidecar says which slots there are, listeners of the same services are held against each other.
#[test]
fn listeners_are_held_against_each_other() {
    let mut document = shipped();
    let mut second = list(&mut document, "/static_resources/listeners")[0].clone();
    second["name"] = json!("second");
    let hcm = second.pointer_mut("/filter_chains/0/filters/0/typed_config").unwrap();
    list(hcm, ROUTES).remove(1);
    list(&mut document, "/static_resources/listeners").push(second);
    let evidence = Evidence { services: None, ..evidence(&document) };
    let found = diagnose(&evidence);
    assert_eq!(words(&found, Level::Problem), ["slot-without-route"]);
    assert_eq!(found[0].place.listener.as_deref(), Some("second"));
}

/// A dump of a running Envoy is read like a file: listeners and clusters, routes and filters that came by discovery, and
/// its node. A filter that never came is none.
#[test]
fn dumps_are_read_like_files() {
    let mut document = shipped();
    let table = at(&mut document, HCM).as_object_mut().unwrap().remove("route_config").unwrap();
    at(&mut document, HCM)["rds"] = json!({"route_config_name": table["name"]});
    let filter = at(&mut document, HCM)["http_filters"][0].take();
    at(&mut document, HCM)["http_filters"][0] = json!({"name": filter["name"], "config_discovery": {"type_urls": []}});
    let resources = document["static_resources"].clone();
    let wrap = |kind: &str, all: &Value| -> Value {
        all.as_array().unwrap().iter().map(|one| json!({kind: one, "last_updated": "2026-11-25T12:00:00Z"})).collect()
    };
    let listeners: Value = resources["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| json!({"name": one["name"], "active_state": {"version_info": "1", "listener": one}}))
        .collect();
    let mut dump = json!({"configs": [
        {"ecds_filters": wrap("ecds_filter", &json!([filter]))},
        {"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap": document},
        {"static_clusters": wrap("cluster", &resources["clusters"])},
        {"dynamic_listeners": listeners},
        {"dynamic_route_configs": wrap("route_config", &json!([table]))},
    ]});
    let evidence = Evidence { proxy: Proxy::of_dump(&dump), services: Some(sidecar()), ..Evidence::default() };
    assert_eq!(evidence.sites().len(), 1);
    assert_eq!(diagnose(&evidence), []);
    list(&mut dump, "/configs").remove(0);
    assert_eq!(Evidence { proxy: Proxy::of_dump(&dump), ..Evidence::default() }.sites().len(), 0);
}
