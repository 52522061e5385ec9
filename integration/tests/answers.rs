//! What goes back to the client: the pin, once, and otherwise what the agent said, as it said it.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use integration::http::{Call, Line, Protocol};
use integration::mesh::{Mesh, ask, ask_once, fresh};
use integration::{EnvoyConfig, names, scenario, wait};
use serde_json::json;

/// A session gets its pin with its first answer, by header and by cookie, and then no more; an answer that shared
/// caches may keep carries none.
#[test]
fn a_pin_is_handed_out_once() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let envoy = mesh.envoy("edge-1").await?;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut line = Line::new(envoy.address(), protocol);
            // New ones each time: a session that the proxy remembers is handed no pin that it has never echoed.
            let session = |n: u32| format!("{protocol:?}-{n}");
            let answer = line.send(&fresh(&session(1))).await?;
            let pin = answer.header(names::PIN).context("a new session gets its pin")?;
            ensure!(answer.headers(names::PIN).len() == 1 && pin.len() <= 80, "{pin}");
            let cookie = answer.header("set-cookie").context("and a cookie")?;
            let parts: BTreeSet<&str> = cookie.split("; ").collect();
            let named = format!("agent-pin-chat={pin}");
            let wanted = BTreeSet::from([&*named, "Path=/", "Max-Age=604800", "HttpOnly", "SameSite=Lax"]);
            ensure!(parts == wanted, "{cookie}");
            for held in [fresh(&session(1)).header(names::PIN, &pin), fresh(&session(1)).header("cookie", named)] {
                let answer = line.send(&held).await?;
                ensure!(answer.header(names::PIN).is_none() && answer.header("set-cookie").is_none());
            }
            let public = line.send(&Call::get("/public").header(names::SESSION, session(2))).await?;
            ensure!(public.header(names::PIN).is_none() && public.header("set-cookie").is_none());
            let failed = line.send(&Call::get("/status?code=500").header(names::SESSION, session(3))).await?;
            ensure!(failed.status == 500 && failed.header(names::PIN).is_some(), "the session has begun all the same");
        }
        Ok(())
    });
}

/// An event stream passes the filter as it comes, over both protocols, and stays on its slot through a switch.
#[test]
fn an_event_stream_outlives_a_switch() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let envoy = mesh.envoy("edge-1").await?;
        for (protocol, verb) in [(Protocol::Http1, "switch green"), (Protocol::Http2, "rollback --keep-pins")] {
            let mut line = Line::new(envoy.address(), protocol);
            let call = Call::get("/stream?events=3").header(names::SESSION, format!("s-{protocol:?}"));
            let mut stream = line.stream(&call).await?;
            ensure!(stream.headers.contains_key(names::PIN));
            let agent = if verb == "switch green" { mesh.agent("blue") } else { mesh.agent("green") };
            for number in 1..=3 {
                let event = stream.next().await?.context("the stream ended early")?;
                let wanted = format!("id: {number}\ndata: {}\n\n", agent.bundle());
                ensure!(event == wanted.as_bytes(), "{event:?}, not {wanted:?}");
                if number == 1 {
                    mesh.does(verb).await?;
                }
                if number < 3 {
                    wait::until("the agent to wait", wait::LIMIT, || agent.waiting() == 1).await?;
                    agent.release();
                }
            }
            ensure!(stream.next().await?.is_none(), "there is more than was sent");
        }
        Ok(())
    });
}

/// An internal redirect keeps the decision of its first pass: the agent that asked for it gets the request back, and
/// the client the pin of that very slot. Nothing that a client sends passes for such a decision.
#[test]
fn an_internal_redirect_keeps_its_decision() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let envoy = mesh.join(redirecting(mesh.config("edge-1")?)).await?;
        mesh.does("ramp green 50%").await?;
        let to = format!("http://{}/who", envoy.address());
        let mut line = Line::new(envoy.address(), Protocol::Http1);
        let mut served = BTreeSet::new();
        for _ in 0..40 {
            // No session id: a second draw would send every other request elsewhere.
            let call = Call::get(&format!("/redirect?to={to}"));
            let (reply, answer) = ask(&mut line, &call).await?;
            let (blue, green) = (mesh.agent("blue").requests(), mesh.agent("green").requests());
            ensure!(blue % 2 == 0 && green % 2 == 0, "the redirect went elsewhere: {blue} on blue, {green} on green");
            ensure!(reply.decision == "random" && reply.stamped == reply.bundle, "{reply:?}");
            let pin = answer.header(names::PIN).context("a new session gets its pin")?;
            let (again, _) = ask(&mut line, &Call::get("/who").header(names::PIN, &pin)).await?;
            ensure!((&*again.bundle, &*again.decision) == (&*reply.bundle, "pin"), "{again:?} after {reply:?}");
            mesh.agent("blue").forget_requests();
            mesh.agent("green").forget_requests();
            served.insert(reply.bundle);
        }
        ensure!(served.len() == 2, "40 random sessions all went to {served:?}");
        let forged = fresh("s-1").header(names::SLOT, "green").header(names::BUNDLE, "g-1");
        let (reply, _) = ask_once(&envoy, &forged.header(names::DECISION, "preview")).await?;
        ensure!(reply.decision == "hash", "{reply:?}");
        envoy.expect_no_crash().await
    });
}

/// The stamp routes follow redirects of their agents by themselves.
fn redirecting(config: EnvoyConfig) -> EnvoyConfig {
    config.edit_http(|hcm| {
        let routes = hcm.pointer_mut("/route_config/virtual_hosts/0/routes").and_then(|it| it.as_array_mut());
        for route in routes.context("no routes")? {
            route["route"]["internal_redirect_policy"] = json!({});
        }
        Ok(())
    })
}
