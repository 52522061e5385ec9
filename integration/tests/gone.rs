//! Sessions whose bundle is gone, refused by a real Envoy: with a problem document, stamps of nothing, and no agent asked.

use anyhow::{Context, Result, ensure};
use integration::http::{Call, Line, Protocol};
use integration::mesh::{ask_once, fresh};
use integration::{Mesh, names, scenario, wait};
use serde_json::{Value, json};

/// Sessions of each bundle.
const SESSIONS: usize = 16;
/// Preflights, and as many HEADs.
const PREFLIGHTS: u64 = 500;

/// A session that a rollback broke is told so by 409, on every request with its pin, a POST too; its browser loses the
/// cookie by the first, and begins anew under another id. The others go on.
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

        let (reply, _) = ask_once(&envoy, &fresh("anew")).await?;
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

/// Remembered sessions, whose clients echo nothing, are answered by the policy as well: at once after the rollback, and at
/// the proxy that did not begin them. Those of the other bundle go on.
#[test]
fn broken_sessions_that_are_remembered_are_answered_by_the_policy() {
    scenario(async {
        for (policy, status) in [("refuse", 409), ("not_found", 404)] {
            let mesh = Mesh::with(json!({"on_bundle_gone": policy}), &[("blue", "b-1"), ("green", "g-1")]).await?;
            let envoys = [mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?];
            mesh.until_current(2).await?;
            let id = |kind: &str, number: usize| format!("{kind}-{number}");
            for number in 0..SESSIONS {
                ask_once(&envoys[number % 2], &fresh(&id("kept", number))).await?;
            }
            mesh.does("switch green").await?;
            for number in 0..SESSIONS {
                let (reply, _) = ask_once(&envoys[number % 2], &fresh(&id("broken", number))).await?;
                ensure!(reply.slot == "green", "{reply:?}");
            }
            mesh.does("rollback").await?;
            for number in 0..SESSIONS {
                let other = &envoys[(number + 1) % 2];
                let answer = Line::new(other.address(), Protocol::Http1).send(&fresh(&id("broken", number))).await?;
                ensure!(answer.status == status, "{policy} {number}: {} {}", answer.status, answer.text());
                let (reply, _) = ask_once(other, &fresh(&id("kept", number))).await?;
                ensure!(reply.slot == "blue", "{policy} {number}: {reply:?}");
            }
        }
        Ok(())
    });
}

/// Nobody begins a session who has none: preflights and HEAD move no count, get no pin, and are counted apart.
#[test]
fn preflights_and_heads_begin_no_session() {
    scenario(async {
        let mesh = Mesh::with(json!({"pin": {"cookie": "always"}}), &[("blue", "b-1"), ("green", "g-1")]).await?;
        let envoy = mesh.envoy("edge-1").await?;
        let mut line = Line::new(envoy.address(), Protocol::Http1);
        let preflight = Call::new(http::Method::OPTIONS, "/who")
            .header("origin", "https://app.example")
            .header("access-control-request-method", "POST");
        for _ in 0..PREFLIGHTS {
            for call in [&preflight, &Call::new(http::Method::HEAD, "/who")] {
                let answer = line.send(call).await?;
                let issued = [answer.header(names::PIN), answer.header("set-cookie")];
                ensure!(issued == [None, None], "{call:?} got {issued:?}");
            }
        }
        let admin = envoy.admin()?;
        for kind in ["preflight", "head"] {
            let name = format!("wasmcustom.colorfast.service.chat.requests_beginning_nothing.kind.{kind}");
            wait::until_ok("the requests to be counted", wait::LIMIT, || async {
                let counted = admin.stat(&name).await?;
                ensure!(counted == Some(PREFLIGHTS), "{kind}: {counted:?}");
                Ok(())
            })
            .await?;
        }
        // Reports come in order: once this session is counted, all requests before it were reported.
        ask_once(&envoy, &fresh("one")).await?;
        wait::until_ok("the one session to be counted", wait::LIMIT, || async {
            let status = mesh.status().await?;
            let slots = status["slots"].as_array().context("status without slots")?;
            let issued = slots.iter().filter_map(|slot| slot["sessions"]["issued"].as_u64()).sum::<u64>();
            let held = slots.iter().filter_map(|slot| slot["sessions"]["held"].as_u64()).sum::<u64>();
            ensure!((issued, held) == (1, 0), "{status}");
            Ok(())
        })
        .await
    });
}
