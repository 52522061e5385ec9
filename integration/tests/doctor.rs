//! `colorfast doctor` before a real Envoy: nothing to say of the shipped configuration, and each fault found.

use anyhow::{Context, Result, ensure};
use integration::{Envoy, EnvoyConfig, Mesh, paths, scenario, wait};
use serde_json::{Value, json};

const HCM: &str = "/filter_chains/0/filters/0/typed_config";
const ROUTES: &str = "/route_config/virtual_hosts/0/routes";
const MUTATIONS: &str = "/early_header_mutation_extensions/0/typed_config/mutations";

/// What the doctor says of an Envoy, with the release's filter at hand.
async fn doctor(mesh: &Mesh, envoy: &Envoy, filter: &str) -> Result<(Option<i32>, Value)> {
    let admin = format!("http://{}", envoy.admin()?.address());
    let outcome = mesh.sidecar.cli(["doctor", "--admin", &admin, "--filter", filter]).await?;
    let told = outcome.json.with_context(|| format!("no report: {}{}", outcome.stdout, outcome.stderr))?;
    Ok((outcome.code, told))
}

fn filter() -> Result<String> {
    paths::filter()?.into_os_string().into_string().ok().context("the path of the filter is no text")
}

/// The checks that found something in a listener; `None` for what concerns the whole proxy.
fn found<'r>(report: &'r Value, listener: Option<&str>) -> Vec<&'r str> {
    let all = report["findings"].as_array().into_iter().flatten();
    all.filter(|finding| finding["listener"].as_str() == listener)
        .filter_map(|finding| finding["check"].as_str())
        .collect()
}

/// The shipped configuration, as a member of a mesh, has nothing that would have to be said, and nothing is left out.
#[test]
fn the_shipped_configuration_is_sound() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let envoy = mesh.envoy("edge-1").await?;
        let (code, report) = doctor(&mesh, &envoy, &filter()?).await?;
        ensure!(code == Some(0) && report["findings"] == json!([]) && report["skipped"] == json!([]), "{report:#}");
        // Another filter than the one that came with the command line is told.
        let other = mesh.file("other.wasm", "another filter")?;
        let (code, report) = doctor(&mesh, &envoy, &other).await?;
        ensure!(code == Some(1) && found(&report, Some("agents")) == ["wasm-digest"], "{report:#}");
        let admin = format!("http://{}", envoy.admin()?.address());
        let text =
            mesh.sidecar.cli_text(["doctor", "--admin", &admin, "--filter", &other]).await?.ended_with(1)?.stdout;
        ensure!(
            text.contains("problem wasm-digest listener agents, filter chain 0") && !text.contains('\u{1b}'),
            "{text}"
        );
        Ok(())
    });
}

/// A fault, and the listener that has it and no other.
struct Planted {
    listener: &'static str,
    check: &'static str,
    plant: fn(&mut Value) -> Option<()>,
}

fn list<'v>(hcm: &'v mut Value, pointer: &str) -> Option<&'v mut Vec<Value>> {
    hcm.pointer_mut(pointer)?.as_array_mut()
}

fn without_removal(hcm: &mut Value, header: &str) -> Option<()> {
    list(hcm, MUTATIONS)?.retain(|step| step["remove"] != header);
    Some(())
}

fn wasm(hcm: &mut Value) -> Option<&mut Value> {
    let filters = list(hcm, "/http_filters")?;
    filters.iter_mut().find(|filter| filter["name"] == "colorfast")?.pointer_mut("/typed_config/config")
}

fn add_filter(hcm: &mut Value, filter: Value) -> Option<()> {
    let filters = list(hcm, "/http_filters")?;
    let router = filters.len().checked_sub(1)?;
    filters.insert(router, filter);
    Some(())
}

fn slot_route(slot: &str, cluster: &str) -> Value {
    json!({
        "match": {"prefix": "/", "headers": [{"name": "x-agent-slot", "string_match": {"exact": slot}}]},
        "route": {"cluster": cluster, "timeout": "0s"},
    })
}

const PLANTED: [Planted; 16] = [
    Planted { listener: "slot", check: "early-stripping", plant: |hcm| without_removal(hcm, "x-agent-slot") },
    Planted { listener: "bundle", check: "early-stripping", plant: |hcm| without_removal(hcm, "x-agent-bundle") },
    Planted { listener: "decision", check: "early-stripping", plant: |hcm| without_removal(hcm, "x-agent-decision") },
    Planted {
        listener: "copy",
        check: "early-copy",
        plant: |hcm| {
            list(hcm, MUTATIONS)?.retain(|step| step.get("append").is_none());
            Some(())
        },
    },
    Planted { listener: "default", check: "default-route", plant: |hcm| list(hcm, ROUTES)?.pop().map(drop) },
    Planted {
        listener: "open",
        check: "failure-policy",
        plant: |hcm| {
            wasm(hcm)?["failure_policy"] = json!("FAIL_OPEN");
            Some(())
        },
    },
    Planted {
        listener: "unsaid",
        check: "failure-policy",
        plant: |hcm| wasm(hcm)?.as_object_mut()?.remove("failure_policy").map(drop),
    },
    Planted {
        listener: "order",
        check: "filter-order",
        plant: |hcm| {
            let kind = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";
            add_filter(hcm, json!({"name": "rewrites", "typed_config": {"@type": kind, "mutations": {}}}))
        },
    },
    Planted {
        listener: "twice",
        check: "filter-twice",
        plant: |hcm| {
            let again = list(hcm, "/http_filters")?.iter().find(|filter| filter["name"] == "colorfast")?.clone();
            add_filter(hcm, again)
        },
    },
    Planted {
        listener: "unknown",
        check: "unknown-slot",
        plant: |hcm| {
            list(hcm, ROUTES)?.insert(0, slot_route("pink", "agent_blue"));
            Some(())
        },
    },
    Planted {
        listener: "missing",
        check: "slot-without-route",
        plant: |hcm| {
            list(hcm, ROUTES)?.retain(|route| !route.to_string().contains("\"green\""));
            Some(())
        },
    },
    Planted {
        listener: "shadowed",
        check: "route-shadowed",
        plant: |hcm| {
            let routes = list(hcm, ROUTES)?;
            let last = routes.len().checked_sub(1)?;
            routes.insert(last, slot_route("blue", "agent_green"));
            Some(())
        },
    },
    Planted {
        listener: "named",
        check: "cluster-header",
        plant: |hcm| {
            let route = json!({"match": {"prefix": "/x"}, "route": {"cluster_header": "x-agent-slot"}});
            list(hcm, ROUTES)?.insert(0, route);
            Some(())
        },
    },
    Planted {
        listener: "sent",
        check: "client-sent",
        plant: |hcm| hcm.pointer_mut("/route_config")?.as_object_mut()?.remove("request_headers_to_remove").map(drop),
    },
    Planted {
        listener: "off",
        check: "filter-disabled",
        plant: |hcm| {
            let kind = "type.googleapis.com/envoy.config.route.v3.FilterConfig";
            list(hcm, ROUTES)?.first_mut()?["typed_per_filter_config"] =
                json!({"colorfast": {"@type": kind, "disabled": true}});
            Some(())
        },
    },
    Planted {
        listener: "underscores",
        check: "underscores",
        plant: |hcm| hcm.as_object_mut()?.remove("common_http_protocol_options").map(drop),
    },
];

/// Each fault that was planted in a listener of a real Envoy is found there, by exactly the finding that is about it; the
/// listener without a fault has none.
#[test]
fn planted_faults_are_found() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let mut config = mesh.config("edge-1")?;
        for Planted { listener, .. } in &PLANTED {
            config = config.listener(listener);
        }
        for Planted { listener, plant, .. } in &PLANTED {
            config = config.edit(|document| {
                let all = document.pointer_mut("/static_resources/listeners").and_then(Value::as_array_mut);
                let ours =
                    all.into_iter().flatten().find(|one| one["name"] == *listener).context("no such listener")?;
                let hcm = ours.pointer_mut(HCM).context("no connection manager")?;
                plant(hcm).with_context(|| format!("{listener} cannot be planted"))
            });
        }
        let envoy = mesh.join(config).await?;
        let (code, report) = doctor(&mesh, &envoy, &filter()?).await?;
        ensure!(code == Some(1), "{code:?}");
        ensure!(found(&report, Some("agents")).is_empty() && found(&report, None).is_empty(), "{report:#}");
        for Planted { listener, check, .. } in &PLANTED {
            let found = found(&report, Some(listener));
            ensure!(found == [*check], "{listener}: {check} was planted, {found:?} found: {report:#}");
        }
        println!("{} planted faults found, each by its own finding", PLANTED.len());
        Ok(())
    });
}

/// What is wrong between the parts is found as well: a cluster that is not there, a token that is not passed on, or is
/// the wrong one, and metrics without labels.
#[test]
fn faults_between_the_parts_are_found() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let plugin = json!({"sidecar_cluster": "nowhere", "services": [{"name": "chat"}]});
        let unpassed = |wasm: &mut Value| {
            *wasm.pointer_mut("/vm_config/environment_variables/host_env_keys").context("no keys")? = json!([]);
            Ok(())
        };
        let untagged = |document: &mut Value| {
            document.as_object_mut().and_then(|all| all.remove("stats_config")).context("no stats_config").map(drop)
        };
        let cases: [(&str, Option<&str>, EnvoyConfig); 4] = [
            ("sidecar-cluster", Some("agents"), mesh.config("edge-1")?.plugin(&plugin)),
            ("host-env-keys", Some("agents"), mesh.config("edge-2")?.edit_wasm(unpassed)),
            ("no-snapshot", Some("agents"), mesh.config("edge-3")?.env("COLORFAST_TOKEN", &"x".repeat(43))),
            ("stats-tags", None, mesh.config("edge-4")?.edit(untagged)),
        ];
        for (check, listener, config) in cases {
            let envoy = Envoy::start(config).await?;
            wait::until_ok(&format!("{check} to be found"), wait::LIMIT, || async {
                let (code, report) = doctor(&mesh, &envoy, &filter()?).await?;
                let all = report["findings"].as_array().map_or(0, Vec::len);
                ensure!(code == Some(1) && all == 1 && found(&report, listener) == [check], "{report:#}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    });
}
