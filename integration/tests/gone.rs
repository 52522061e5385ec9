//! Sessions whose bundle is gone, refused by a real Envoy: with a problem document, stamps of nothing, and no agent asked.

use anyhow::{Context, Result, ensure};
use integration::http::{Call, Line, Protocol};
use integration::mesh::{ask_once, fresh};
use integration::{Mesh, names, scenario};
use serde_json::{Value, json};

/// A session that a rollback broke is told so by 409, on every request with its pin, a POST too; its browser loses the
/// cookie by the first and begins anew by the second. The others go on.
#[test]
fn broken_sessions_are_refused() {
    scenario(async {
        let settings = json!({"on_bundle_gone": "refuse", "pin": {"cookie": "always"}});
        let mesh = Mesh::with(settings, &[("blue", "b-1"), ("green", "g-1")]).await?;
        let envoy = mesh.envoy("edge-1").await?;
        let pin_of = async |session: &str| -> Result<String> {
            let (_, answer) = ask_once(&envoy, &fresh(session)).await?;
            Ok(answer.header(names::PIN).context("a new session gets its pin")?.to_owned())
        };
        let kept = pin_of("kept").await?;
        mesh.does("switch green").await?;
        let broken = pin_of("broken").await?;
        mesh.does("rollback").await?;
        let asked = mesh.agent("blue").requests() + mesh.agent("green").requests();

        let mut line = Line::new(envoy.address(), Protocol::Http1);
        let cookie = format!("agent-pin-chat={broken}");
        let calls = [
            fresh("broken").header(names::PIN, &broken),
            Call::post("/turn", r#"{"turn":1}"#).header(names::SESSION, "broken").header(names::PIN, &broken),
            fresh("broken").header("cookie", &cookie),
        ];
        for call in &calls {
            let answer = line.send(call).await?;
            ensure!(answer.status == 409, "{}: {}", answer.status, answer.text());
            let problem: Value = answer.json()?;
            ensure!(problem["type"] == "urn:colorfast:problem:bundle-gone", "{problem}");
            ensure!(answer.header("content-type").as_deref() == Some("application/problem+json"));
            let ended = answer.header("set-cookie");
            let by_cookie = std::ptr::eq(call, &calls[2]);
            ensure!(ended.is_some_and(|ended| ended.contains("Max-Age=0")) == by_cookie, "{call:?}");
        }
        ensure!(mesh.agent("blue").requests() + mesh.agent("green").requests() == asked, "an agent was asked");

        let (reply, _) = ask_once(&envoy, &fresh("broken")).await?;
        ensure!((&*reply.slot, &*reply.decision) == ("blue", "hash"), "{reply:?}");
        let (reply, _) = ask_once(&envoy, &fresh("kept").header(names::PIN, &kept)).await?;
        ensure!((&*reply.slot, &*reply.decision) == ("blue", "pin"), "{reply:?}");
        let gone = envoy.admin()?.stat("wasmcustom.colorfast.service.chat.requests_gone").await?;
        ensure!(gone == Some(3), "{gone:?}");
        let why = mesh.text(&format!("why --session broken --pin {broken}")).await?;
        ensure!(why.stdout.contains("the client is answered 409"), "{why:?}");
        envoy.expect_no_crash().await
    });
}
