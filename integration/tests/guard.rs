//! Guard rails inside Envoy: two filters in one chain, filters side by side, and VMs that die again and again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::http::{Call, Line, Protocol};
use integration::mesh::{ask, ask_once, fresh};
use integration::{Envoy, EnvoyConfig, Mesh, names, scenario, wait};
use serde_json::{Value, json};

/// Longer than a snapshot must be in force, and a configuration tick, before the guard goes by them.
const PROVED: Duration = Duration::from_secs(11);

/// A second colorfast filter behind the first, of the same services.
fn twice(config: EnvoyConfig) -> EnvoyConfig {
    config.edit_http(|hcm| {
        let filters = hcm["http_filters"].as_array_mut().context("filters")?;
        let mut second = filters.iter().find(|filter| filter["name"] == "colorfast").cloned().context("colorfast")?;
        second["name"] = json!("colorfast_again");
        second["typed_config"]["config"]["name"] = json!("colorfast_again");
        let router = filters.len() - 1;
        filters.insert(router, second);
        Ok(())
    })
}

fn chains(status: &Value) -> Vec<&str> {
    let instances = status["members"][0]["instances"].as_array().into_iter().flatten();
    instances.map(|instance| instance["chain"].as_str().unwrap_or("single")).collect()
}

/// Stamped: of two filters in one chain the first decides, stamps and pins; the second passes everything, says so once
/// in Envoy's log, counts it, and is shown by `colorfast status`.
#[test]
fn a_second_filter_in_the_chain_is_told() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let envoy = mesh.join(twice(mesh.config("edge-1")?)).await?;
        let mut line = Line::new(envoy.address(), Protocol::Http1);
        for number in 0..50 {
            let (reply, answer) = ask(&mut line, &fresh(&format!("s-{number}"))).await?;
            ensure!(reply.bundle == "b-1" && reply.stamped == "b-1", "{reply:?}");
            ensure!(answer.headers(names::PIN).len() == 1, "{:?}", answer.headers(names::PIN));
        }
        let counted = envoy.stats("wasmcustom.colorfast.service.chat.(requests|doubled|pins_issued|forged)").await?;
        let count = |name: &str| counted.get(&format!("wasmcustom.colorfast.service.chat.{name}")).copied();
        ensure!(count("requests.slot.blue.decision.hash") == Some(50), "{counted:?}");
        ensure!(count("doubled") == Some(50) && count("pins_issued") == Some(50), "{counted:?}");
        ensure!(count("forged_headers").unwrap_or(0) == 0, "{counted:?}");
        let told = envoy.log()?.lines().filter(|line| line.contains("twice in a filter chain")).count();
        ensure!(told == 1, "told {told} times");
        wait::until_ok("the status to say so", wait::LIMIT, || async {
            let status = mesh.status().await?;
            ensure!(chains(&status).contains(&"doubled"), "{status:#}");
            Ok(())
        })
        .await?;
        let text = mesh.sidecar.cli_text(["status"]).await?.ended_with(0)?.stdout;
        ensure!(text.contains("twice in a filter chain"), "{text}");
        envoy.expect_no_crash().await
    });
}

/// Stamped: a filter that is alone in its chain is never taken for a second one, over an internal redirect neither.
#[test]
fn a_redirect_is_not_taken_for_a_second_filter() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let config = mesh.config("edge-1")?.edit_http(|hcm| {
            let routes = hcm.pointer_mut("/route_config/virtual_hosts/0/routes").and_then(Value::as_array_mut);
            for route in routes.context("routes")? {
                route["route"]["internal_redirect_policy"] = json!({"max_internal_redirects": 1});
            }
            Ok(())
        });
        let envoy = mesh.join(config).await?;
        let mut line = Line::new(envoy.address(), Protocol::Http1);
        for number in 0..20 {
            let to = format!("http://{}/who", envoy.address());
            let call = Call::get(&format!("/redirect?to={to}")).header(names::SESSION, format!("s-{number}"));
            let (reply, _) = ask(&mut line, &call).await?;
            ensure!(reply.bundle == "b-1" && reply.decision == "hash", "{reply:?}");
        }
        let doubled = envoy.stats("doubled").await?;
        ensure!(doubled.values().all(|count| *count == 0), "{doubled:?}");
        envoy.expect_no_crash().await
    });
}

/// Confirmed: two listeners whose filters have two VM ids are two members, and one verb turns both.
#[test]
fn two_vm_ids_work_side_by_side() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let config = mesh.config("edge-1")?.listener("beside").edit(|document| {
            let vm = "/static_resources/listeners/1/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config\
                      /config/vm_config/vm_id";
            *document.pointer_mut(vm).context("a VM id")? = json!("beside");
            Ok(())
        });
        let envoy = Envoy::start(config).await?;
        mesh.until_current(2).await?;
        for (verb, bundle) in [("switch green", "g-1"), ("rollback --keep-pins", "b-1"), ("switch green", "g-1")] {
            mesh.does(verb).await?;
            for address in [envoy.address(), envoy.listener("beside")?] {
                let mut line = Line::new(address, Protocol::Http1);
                for number in 0..20 {
                    let (reply, _) = ask(&mut line, &fresh(&format!("{verb}-{number}"))).await?;
                    ensure!(reply.bundle == bundle, "{verb}: {reply:?}");
                }
            }
        }
        let log = envoy.log()?;
        ensure!(!log.contains("VM failed") && !log.contains("panicked"), "{log}");
        Ok(())
    });
}

/// Last good: a snapshot under which VMs die again and again is left for the one before. It is refused by name, no verb
/// is confirmed over the proxy that left it, and the next one is taken as usual.
#[test]
fn a_snapshot_that_kills_vms_is_left() {
    scenario(async {
        let mesh = Mesh::with(json!({}), &[("blue", "b-1"), ("green", "crash-1")]).await?;
        let envoy = mesh.join(mesh.config("edge-1")?.crashing_filter()).await?;
        let proved = Instant::now() + PROVED;
        wait::until("the snapshot to have proved itself", wait::LIMIT, || Instant::now() > proved).await?;
        let ramped = mesh.cli("ramp green 50% --no-wait").await?.ok()?;
        let version = ramped["version"].as_u64().context("a version")?;

        let mut died = 0;
        wait::until_ok("the proxy to leave the snapshot", wait::LIMIT, || {
            died += 1;
            // What waited in a VM that dies while it handles something else is never answered.
            let call = fresh(&format!("s-{died}")).limit(Duration::from_secs(2));
            let (envoy, mesh) = (&envoy, &mesh);
            async move {
                let _ = call.send(envoy.address()).await;
                let refused = mesh.members().await?.remove(0).refused.context("it has refused nothing")?;
                ensure!(refused.version == version && refused.error.contains("quarantined"), "{refused:?}");
                Ok(())
            }
        })
        .await?;
        ensure!(!mesh.members().await?.remove(0).current, "it does not decide by the newest");
        let reloaded = envoy.stats("vm_reload_success").await?.values().sum::<u64>();
        ensure!(reloaded >= 3, "{reloaded} VMs were rebuilt");
        expect_served_by_blue(&envoy).await?;
        let text = mesh.sidecar.cli_text(["status"]).await?.ended_with(0)?.stdout;
        ensure!(text.contains(&format!("refused v{version}: quarantined")), "{text}");

        mesh.does("abort green").await?;
        ensure!(mesh.members().await?.remove(0).refused.is_none(), "what is newer was taken");
        expect_served_by_blue(&envoy).await?;
        let left = envoy.admin()?.stat("wasmcustom.colorfast.service.chat.retreats").await?;
        ensure!(left == Some(1), "left {left:?} times");
        ensure!(envoy.log()?.contains("goes back to the one before"), "it is not told");
        Ok(())
    });
}

/// Every request is served, by blue. A worker that has just been rebuilt refuses requests for a second.
async fn expect_served_by_blue(envoy: &Envoy) -> Result<()> {
    wait::until_ok("all workers to be back", wait::LIMIT, || async {
        for number in 0..40 {
            let (reply, _) = ask_once(envoy, &fresh(&format!("after-{number}"))).await?;
            ensure!(reply.bundle == "b-1", "{reply:?}");
        }
        Ok(())
    })
    .await
}
