//! Two services behind one listener and one filter.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::client::Place;
use integration::http::{Call, Line, Protocol};
use integration::mesh::ask;
use integration::{Agent, EnvoyConfig, Load, Mesh, Plan, Report, names, scenario, wait};
use serde_json::{Value, json};

/// Requests of each load between two verbs.
const BETWEEN: u64 = 1_000;

/// The service `chat` under `/chat`, `code` under the host `code.test`, and an agent that is of neither.
async fn two_services() -> Result<(Mesh, Agent, EnvoyConfig)> {
    let mut mesh = Mesh::start().await?;
    mesh.add_service("code", json!({}), &[("blue", "b-code"), ("green", "g-code")]).await?;
    let neither = Agent::start("neither").await?;
    let plugin = json!({"sidecar_cluster": "colorfast_sidecar", "services": [
        {"name": "chat", "match": {"path_prefixes": ["/chat"]}},
        {"name": "code", "match": {"hosts": ["code.test"]}},
    ]});
    let mut config = mesh.config("edge-1")?.plugin(&plugin).cluster("neither", neither.address());
    for slot in ["blue", "green"] {
        let name = format!("code_{slot}");
        config = config.cluster(&name, mesh.agent_of("code", slot).address()).first_route(&json!({
            "match": {"prefix": "/code", "headers": [{"name": names::SLOT, "string_match": {"exact": slot}}]},
            "route": {"cluster": name},
        }));
    }
    let config = config.default_cluster("neither");
    Ok((mesh, neither, config))
}

fn load(envoy: &integration::Envoy, path: &str, host: Option<&str>, prefix: &str) -> Result<Load> {
    let place = Place { path: path.to_owned(), host: host.map(str::to_owned) };
    let plan = Plan::new(vec![envoy.address()]);
    Load::start(Plan { place, clients: 24, think: Duration::from_millis(5), prefix: prefix.to_owned(), ..plan })
}

/// Each service flips alone: a switch of one moves none of the other's sessions, new or old.
#[test]
fn each_service_flips_alone() {
    scenario(async {
        let (mesh, _neither, config) = two_services().await?;
        let envoy = mesh.join(config).await?;
        let chat = load(&envoy, "/chat/turn", None, "chat")?;
        let code = load(&envoy, "/code/turn", Some("code.test"), "code")?;
        let mut steps = Vec::new();
        for (verb, chat_on, code_on) in [
            ("switch green", "g-1", "b-code"),
            ("switch green --service code", "g-1", "g-code"),
            ("rollback --keep-pins", "b-1", "g-code"),
            ("rollback --keep-pins --service code", "b-1", "b-code"),
        ] {
            let done = mesh.does(verb).await?;
            chat.advance(BETWEEN, wait::LIMIT).await?;
            code.advance(BETWEEN, wait::LIMIT).await?;
            steps.push((verb, done.told..std::time::Instant::now(), chat_on, code_on));
        }
        let (chat, code) = (chat.stop().await?, code.stop().await?);
        for report in [&chat, &code] {
            report.expect_no_failure()?;
            report.expect_kept()?;
            report.expect_true_stamps()?;
        }
        let begun = |report: &Report, within: &std::ops::Range<std::time::Instant>| -> Vec<String> {
            let began = report.began_since(within.start).into_iter().filter(|record| record.ended() < within.end);
            let mut bundles: Vec<_> = began.filter_map(|record| record.bundle().map(str::to_owned)).collect();
            bundles.sort_unstable();
            bundles.dedup();
            bundles
        };
        for (verb, within, chat_on, code_on) in &steps {
            ensure!(begun(&chat, within) == [*chat_on], "after {verb} chat began on {:?}", begun(&chat, within));
            ensure!(begun(&code, within) == [*code_on], "after {verb} code began on {:?}", begun(&code, within));
        }
        envoy.expect_no_crash().await
    });
}

/// A request that belongs to no service passes untouched: no stamp, no pin, and what it carries arrives as it was,
/// but for what only a stamp may say.
#[test]
fn what_belongs_to_no_service_passes_untouched() {
    scenario(async {
        let (mesh, neither, config) = two_services().await?;
        let envoy = mesh.join(config).await?;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut line = Line::new(envoy.address(), protocol);
            let call = Call::get("/other").header(names::SESSION, "s-1").header(names::PIN, "not of ours");
            let call = call.header("cookie", "agent-pin-chat=x; theme=dark").header(names::SLOT, "green");
            let (reply, answer) = ask(&mut line, &call).await?;
            ensure!((&*reply.bundle, &*reply.slot, &*reply.stamped) == ("neither", "", ""), "{reply:?}");
            ensure!(answer.header(names::PIN).is_none() && answer.header("set-cookie").is_none());
            let mut seen = neither.latest().pop().context("it came")?.headers;
            seen.sort_unstable();
            let arrived =
                [("cookie", "agent-pin-chat=x; theme=dark"), (names::PIN, "not of ours"), (names::SESSION, "s-1")];
            let arrived = arrived.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
            ensure!(seen == arrived, "{protocol:?}: {seen:?}");
        }
        let counted = envoy.stats("^wasmcustom\\..*(requests|refused|forged|pins)").await?;
        ensure!(counted.is_empty(), "{counted:?}");
        let lines = envoy.access_log().wait_for(2, wait::LIMIT, |_| true).await?;
        ensure!(lines.iter().all(|line| line.bundle.is_none() && line.slot.is_none() && line.decision.is_none()));
        Ok(())
    });
}

/// A pin and a session of one service mean nothing to the other, however alike their slots are named.
#[test]
fn a_pin_is_of_one_service() {
    scenario(async {
        let (mesh, _neither, config) = two_services().await?;
        let envoy = mesh.join(config).await?;
        let mut line = Line::new(envoy.address(), Protocol::Http1);
        let chat = Call::get("/chat/who").header(names::SESSION, "s-1");
        let code = Call::get("/code/who").header(names::SESSION, "s-1").host("code.test");
        let (_, answer) = ask(&mut line, &chat).await?;
        let pin = answer.header(names::PIN).context("a new session gets its pin")?;
        let (reply, _) = ask(&mut line, &code.clone().header(names::PIN, &pin)).await?;
        ensure!((&*reply.bundle, &*reply.decision) == ("b-code", "hash"), "{reply:?}");
        ensure!(ask(&mut line, &chat.header(names::PIN, &pin)).await?.0.decision == "pin");
        let refused: Value = serde_json::to_value(envoy.stats("tokens_refused").await?)?;
        // Services have keys of their own, and the first key of each has the same id.
        ensure!(
            refused == json!({"wasmcustom.colorfast.service.code.tokens_refused.kind.pin.cause.bad_mac": 1}),
            "{refused}"
        );
        Ok(())
    });
}
