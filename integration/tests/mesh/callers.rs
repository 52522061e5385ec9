//! Callers inside the mesh: the filter in the sidecar of whoever calls the agents.

use anyhow::{Context, Result, ensure};
use integration::collector::Span;
use integration::http::{Call, Line, Protocol};
use integration::kubernetes::{Installation, Proxy, Role, service, workload};
use integration::mesh::{ask, fresh};
use integration::ports::Port;
use integration::{Agent, Collector, Mesh, names, scenario, wait};
use serde_json::{Value, json};

const AGENTS: &str = "chat.agents.svc.cluster.local";
const OTHERS: &str = "others.agents.svc.cluster.local";

/// Kept, Unforgeable, Stamped, on the way out of a caller: its sidecar places a session by the release, keeps it through a
/// switch, and takes off what the caller sent under the names of the stamps; its access log and its spans name the bundle. A
/// call of another Service on the same port passes untouched.
#[test]
fn callers_are_decided_on_their_way_out() {
    scenario(async {
        let mesh = Installation::start("callers", Mesh::start().await?).await?;
        let port = Port::reserve()?;
        let collector = Collector::start().await?;
        let mut grpc = service("observability", "otel-collector", 4317);
        grpc["spec"]["ports"][0]["appProtocol"] = json!("grpc");
        let entry = workload("observability", "otel", &json!({"app": "otel-collector"}), collector.address());
        mesh.cluster.apply(&[grpc, entry]).await?;
        let others = Agent::start("others").await?;
        let services = [service("agents", "chat", port.number()), service("agents", "others", port.number())];
        mesh.cluster.apply(&services).await?;
        let other = workload("agents", "others", &json!({"app": "others"}), others.address());
        mesh.cluster.apply(&[other, listener(port.number())]).await?;
        mesh.callers(port.number()).await?.apply(&mesh.cluster).await?;
        let proxy = Proxy {
            role: Role::Sidecar,
            name: "caller-1".to_owned(),
            namespace: "callers".to_owned(),
            address: "192.0.2.101".to_owned(),
            labels: json!({"app": "caller", "colorfast": "caller"}),
        };
        let envoy = mesh.join(&proxy, port).await?;
        let mut line = Line::new(envoy.address(), Protocol::Http1);

        let forged = fresh("kept").host(AGENTS).header(names::SLOT, "green").header(names::BUNDLE, "g-1");
        let (reply, answer) = ask(&mut line, &forged).await?;
        ensure!((reply.slot.as_str(), reply.bundle.as_str()) == ("blue", "b-1"), "{reply:?}");
        let pin = answer.header(names::PIN).context("a new session gets its pin")?;
        expect_clean(mesh.release.agent("blue"))?;

        mesh.release.does("switch green").await?;
        let (kept, _) = ask(&mut line, &fresh("kept").host(AGENTS).header(names::PIN, &pin)).await?;
        ensure!((kept.slot.as_str(), kept.decision.as_str()) == ("blue", "pin"), "{kept:?}");
        let (begun, _) = ask(&mut line, &fresh("begun").host(AGENTS)).await?;
        ensure!(begun.slot == "green", "{begun:?}");

        let (untouched, answer) = ask(&mut line, &fresh("kept").host(OTHERS)).await?;
        ensure!(untouched.slot.is_empty() && answer.header(names::PIN).is_none(), "{untouched:?}");
        let answer = line.send(&Call::get("/who").host("nobody.agents.svc.cluster.local")).await?;
        ensure!(answer.status != 200, "a host that is nobody's was served");
        let logged =
            envoy.access_log().wait_for(1, wait::LIMIT, |entry| entry.session.as_deref() == Some("begun")).await?;
        ensure!(logged.iter().all(|entry| entry.bundle.as_deref() == Some("g-1")), "{logged:?}");
        wait::until_ok("the spans", wait::LIMIT, || async { expect_spans(&collector.spans()?) }).await
    });
}

/// Each request that was decided has a span with its bundle and slot.
fn expect_spans(spans: &[Span]) -> Result<()> {
    for (session, bundle, slot) in [("kept", "b-1", "blue"), ("begun", "g-1", "green")] {
        let told = spans.iter().any(|span| {
            let is = |name: &str, value: &str| span.attribute(name) == Some(value);
            is("gen_ai.conversation.id", session) && is("agent.bundle.id", bundle) && is("agent.slot", slot)
        });
        ensure!(told, "no span of {session} on {bundle}: {spans:?}");
    }
    Ok(())
}

/// Nothing that the client sent under our names has reached the agent, nor the copy of it.
fn expect_clean(agent: &Agent) -> Result<()> {
    let seen = agent.latest().pop().context("the agent was asked")?;
    let copies = seen.headers.iter().filter(|(name, _)| name == names::CLIENT_SENT).count();
    let slots = seen.headers.iter().filter(|(name, _)| name == names::SLOT).count();
    ensure!((copies, slots) == (0, 1), "{seen:?}");
    Ok(())
}

/// What a caller may reach, and where its sidecar listens: on loopback, since no packet is redirected here.
fn listener(port: u16) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
        "metadata": {"name": "caller", "namespace": "callers"},
        "spec": {"egress": [
            {
                "port": {"number": port, "protocol": "HTTP", "name": "http"},
                "bind": "127.0.0.1", "captureMode": "NONE", "hosts": ["agents/*", "./*"],
            },
            {"captureMode": "IPTABLES", "hosts": ["colorfast/*", "observability/*"]},
        ]},
    })
}
