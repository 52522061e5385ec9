//! The shipped `envoy/bootstrap.yaml` around the filter: what it promises even where the filter does nothing.

use anyhow::{Context, Result, ensure};
use integration::agent::Stamp;
use integration::http::{Call, Line, Protocol};
use integration::{Agent, Envoy, EnvoyConfig, names, scenario, wait};
use serde_json::{Value, json};

/// Two agents, and an Envoy in front of them in which nothing stamps.
async fn unstamped(edit: impl FnOnce(EnvoyConfig) -> EnvoyConfig) -> Result<(Agent, Agent, Envoy)> {
    let (blue, green) = (Agent::start("b-1").await?, Agent::start("g-1").await?);
    let config = EnvoyConfig::shipped()?.inert_filter();
    let config = edit(config.agent("blue", blue.address()).agent("green", green.address()));
    let envoy = Envoy::start(config).await?;
    Ok((blue, green, envoy))
}

/// A user who copies the file starts an Envoy, not an error: every field of it is known and allowed.
#[test]
fn envoy_accepts_the_shipped_file() -> Result<()> {
    let checked = Envoy::validate(&EnvoyConfig::shipped()?.inert_filter())?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    Ok(())
}

/// Unforgeable: what a client sends under the names of stamps decides no route and reaches no agent, whether or not
/// the filter does its part.
#[test]
fn client_sent_stamps_reach_no_agent() {
    scenario(async {
        let (blue, green, envoy) = unstamped(|config| config).await?;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            for (call, _) in forgeries() {
                ensure!(stamps_seen(&call, protocol, &blue, &envoy).await?.is_empty(), "{protocol:?} {call:?}");
            }
        }
        ensure!(green.requests() == 0, "a client's header decided the route");
        Ok(())
    });
}

/// Unforgeable: the filter gets a copy to count of what was sent under the names of stamps, byte by byte, and none
/// where nothing was sent.
#[test]
fn client_sent_stamps_are_copied_for_the_filter() {
    scenario(async {
        let (blue, _green, envoy) = unstamped(|config| {
            config.edit_http(|hcm| {
                let routes = hcm["route_config"].as_object_mut().context("no routes")?;
                routes.remove("request_headers_to_remove").context("the copy is not removed")?;
                Ok(())
            })
        })
        .await?;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            for (call, copy) in forgeries() {
                let seen = stamps_seen(&call, protocol, &blue, &envoy).await?;
                let expected: Vec<_> = copy.into_iter().map(|copy| (names::CLIENT_SENT.to_owned(), copy)).collect();
                ensure!(seen == expected, "{protocol:?} {call:?} arrived as {seen:?}");
            }
        }
        Ok(())
    });
}

/// Calls with what no client may send, and the copy that the filter gets of it.
fn forgeries() -> [(Call, Option<Vec<u8>>); 3] {
    let stamps = Call::get("/x").header(names::SLOT, "green").header(names::BUNDLE, b"\xff\xfe");
    let stamps = stamps.header(names::DECISION, "pin").header(names::SLOT, "green");
    let copies = Call::get("/x").header(names::CLIENT_SENT, "a lie").header(names::CLIENT_SENT, "another");
    // What agents on WSGI and CGI would read as our names.
    let underscores = Call::get("/x").header("x_agent_slot", "green").header("x_agent_bundle", "g-1");
    [(stamps, Some(b"green\xff\xfepin".to_vec())), (copies, None), (underscores, None)]
}

/// The headers under our names with which a call arrives at the default agent.
async fn stamps_seen(call: &Call, protocol: Protocol, agent: &Agent, envoy: &Envoy) -> Result<Vec<(String, Vec<u8>)>> {
    agent.forget_requests();
    ensure!(Line::new(envoy.address(), protocol).send(call).await?.status == 200);
    Ok(agent.latest().pop().context("the request went elsewhere")?.headers)
}

/// Routes follow the stamp, a fixed list of slots; anything else takes the default route.
#[test]
fn the_stamp_routes_and_no_value_names_a_cluster() {
    scenario(async {
        // After the stripping, a header of the test's stands in for the filter's stamp.
        let stamp = json!({"append": {"header": {"key": names::SLOT, "value": "%REQ(x-test-stamp)%"}}});
        let (blue, green, envoy) = unstamped(|config| {
            config.edit_http(|hcm| {
                let mutations = hcm.pointer_mut("/early_header_mutation_extensions/0/typed_config/mutations");
                let mutations = mutations.and_then(|list| list.as_array_mut()).context("no early mutations")?;
                mutations.push(stamp.clone());
                Ok(())
            })
        })
        .await?;
        for (slot, served) in
            [("blue", &blue), ("green", &green), ("agent_green", &blue), ("Green", &blue), ("", &blue)]
        {
            blue.forget_requests();
            green.forget_requests();
            Call::get("/x").header("x-test-stamp", slot).send(envoy.address()).await?;
            let stamp = Stamp { slot: slot.to_owned(), bundle: String::new() };
            ensure!(served.stamps().get(&stamp) == Some(&1), "{slot:?}: {:?} {:?}", blue.stamps(), green.stamps());
        }
        Ok(())
    });
}

/// Stamped: every line of the access log has all its fields, what Envoy refuses by itself included, and no query.
#[test]
fn every_request_has_its_line_in_the_access_log() {
    scenario(async {
        let (blue, _green, envoy) = unstamped(|config| {
            let unreachable = "127.0.0.1:1".parse().expect("an address");
            let route = json!({"match": {"prefix": "/down"}, "route": {"cluster": "down"}});
            config
                .cluster("down", unreachable)
                .without_default_route()
                .first_route(&route)
                .first_route(&json!({"match": {"prefix": "/up"}, "route": {"cluster": "agent_blue"}}))
        })
        .await?;
        for path in ["/up?secret=1", "/down", "/nowhere"] {
            Call::get(path).host("chat.test").header(names::SESSION, "s-1").send(envoy.address()).await?;
        }
        let lines = envoy.access_log().wait_for(3, wait::LIMIT, |_| true).await?;
        let seen: Vec<_> = lines.iter().map(|l| (l.path.as_deref(), l.status, l.details.as_deref())).collect();
        ensure!(seen[0] == (Some("/up"), 200, Some("via_upstream")), "{seen:?}");
        ensure!(seen[1].1 == 503 && seen[2] == (Some("/nowhere"), 404, Some("route_not_found")), "{seen:?}");
        for line in &lines {
            ensure!(
                line.authority.as_deref() == Some("chat.test") && line.session.as_deref() == Some("s-1"),
                "{line:?}"
            );
            ensure!(line.request_id.is_some() && line.bundle.is_none() && line.decision.is_none(), "{line:?}");
        }
        ensure!(lines[0].upstream_host.as_deref() == Some(&blue.address().to_string()[..]), "{:?}", lines[0]);
        Ok(())
    });
}

/// An event stream passes as it comes, event by event, over both protocols.
#[test]
fn event_streams_pass_as_they_come() {
    scenario(async {
        let (blue, _green, envoy) = unstamped(|config| config).await?;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut line = Line::new(envoy.address(), protocol);
            let mut stream = line.stream(&Call::get("/stream?events=3")).await?;
            for number in 1..=3 {
                let event = stream.next().await?.context("the stream ended early")?;
                ensure!(event.starts_with(format!("id: {number}\n").as_bytes()), "{event:?}");
                if number < 3 {
                    wait::until("the agent to wait", wait::LIMIT, || blue.waiting() == 1).await?;
                    blue.release();
                }
            }
            ensure!(stream.next().await?.is_none(), "there is more than was sent");
        }
        Ok(())
    });
}

/// Bad input: a plugin configuration or keys that break a rule are refused by `envoy --mode validate`, with the field
/// and the rule and without a word of the keys.
#[test]
fn a_wrong_plugin_configuration_is_refused_by_name() -> Result<()> {
    let with = |service: Value| json!({"sidecar_cluster": "colorfast_sidecar", "services": [service]});
    let slots = json!([
        {"name": "blue", "phase": "live", "weight": 9_000, "bundle": {"id": "b-1"}},
        {"name": "green", "phase": "idle"},
    ]);
    let bootstrap = json!({"format": 1, "service": "chat", "slots": slots});
    let cases = [
        (with(json!({"name": "chat", "colour": "red"})), "services[0].colour: there is no such field"),
        (with(json!({"name": "Chat"})), "is not a service name"),
        (with(json!({"name": "chat", "match": {"hosts": ["Chat.test"]}})), "services[0].match.hosts[0]: "),
        (with(json!({"name": "chat", "bootstrap": bootstrap})), "services[0].bootstrap.slots: have weights that sum"),
        (json!({"sidecar_cluster": "colorfast_sidecar", "services": []}), "services: has 0 entries"),
        (json!({"services": [{"name": "chat"}]}), "sidecar_cluster: is empty: name the cluster"),
    ];
    for (plugin, words) in cases {
        let told = refusal(&EnvoyConfig::shipped()?.plugin(&plugin))?;
        ensure!(told.contains("plugin configuration: ") && told.contains(words), "{plugin}: {told}");
    }
    let told = refusal(&EnvoyConfig::shipped()?.plugin_text("services: chat"))?;
    ensure!(told.contains("plugin configuration: line 1, column 1: is not JSON"), "{told}");
    let told = refusal(&EnvoyConfig::shipped()?.env("COLORFAST_KEYS", r#"{"chat": {"sid": "c2VjcmV0"}}"#))?;
    ensure!(told.contains("COLORFAST_KEYS: not a JSON object") && !told.contains("c2VjcmV0"), "{told}");
    Ok(())
}

/// What Envoy says of a configuration that it must refuse.
fn refusal(config: &EnvoyConfig) -> Result<String> {
    let checked = Envoy::validate(config)?;
    let told = String::from_utf8_lossy(&checked.stderr).into_owned();
    ensure!(!checked.status.success(), "it was accepted: {told}");
    Ok(told)
}
