//! Keys rotate under traffic: two proxies, sessions that began under every key, and not one pin breaks.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use integration::http::Call;
use integration::mesh::{ask_once, fresh};
use integration::{Envoy, Mesh, names, scenario, wait};
use serde_json::{Value, json};

/// Kept: through three rotations, by command and by schedule, with a switch and a restart of the sidecar among them,
/// every session stays where it began, whichever proxy it asks; a key that is retired by force ends its own pins, and
/// no others.
#[test]
fn no_pin_breaks_by_a_rotation() {
    scenario(async {
        let settings = json!({"pin": {"key_rotation_seconds": 0}});
        let mut mesh = Mesh::with(settings, &[("blue", "b-1"), ("green", "g-1")]).await?;
        let (one, other) = (mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?);
        // The pin of each session, and the slot that it holds.
        let mut sessions = BTreeMap::new();
        begin(&mut sessions, "first", "blue", &one).await?;

        mesh.does("keys rotate").await?;
        signs(&mesh, "keys list", 2).await?;
        begin(&mut sessions, "second", "blue", &other).await?;
        held(&sessions, &[&one, &other]).await?;

        mesh.does("switch green").await?;
        begin(&mut sessions, "third", "green", &one).await?;
        mesh.does("keys rotate").await?;
        mesh.sidecar.restart().await?;
        signs(&mesh, "keys list", 3).await?;
        begin(&mut sessions, "fourth", "green", &other).await?;
        held(&sessions, &[&one, &other]).await?;

        let often = json!({"service": "chat", "pin": {"cookie": "always", "key_rotation_seconds": 1}});
        mesh.apply(&often).await?.ok()?;
        signs(&mesh, "keys list", 4).await?;
        let seldom = json!({"service": "chat", "pin": {"cookie": "always", "key_rotation_seconds": 0}});
        mesh.apply(&seldom).await?.ok()?;
        let now = settled(&mesh, "keys list").await?;
        let signing = now.iter().find(|key| key["duty"] == "signing").context("one signs")?;
        ensure!(signing["key"].as_u64() >= Some(4), "{now:?}");
        begin(&mut sessions, "last", "green", &one).await?;
        held(&sessions, &[&one, &other]).await?;

        let refused = mesh.cli("keys retire 2").await?.ended_with(1)?;
        ensure!(refused.stderr.contains("key-in-use"), "{refused:?}");
        mesh.does("keys retire 2 --force --reason leaked").await?;
        for name in ["second", "third"] {
            let (pin, _) = sessions.remove(name).context("it began")?;
            let (reply, _) = ask_once(&one, &fresh(name).header(names::PIN, &pin)).await?;
            ensure!(&*reply.decision != "pin", "its key is gone: {reply:?}");
        }
        held(&sessions, &[&one, &other]).await?;
        one.expect_no_crash().await?;
        other.expect_no_crash().await
    });
}

async fn begin(
    sessions: &mut BTreeMap<&'static str, (String, &'static str)>,
    name: &'static str,
    slot: &'static str,
    envoy: &Envoy,
) -> Result<()> {
    let (reply, answer) = ask_once(envoy, &fresh(name)).await?;
    ensure!(&*reply.slot == slot, "{name}: {reply:?}");
    let pin = answer.header(names::PIN).context("a new session gets its pin")?.to_owned();
    sessions.insert(name, (pin, slot));
    Ok(())
}

/// Every session is where it began, at every proxy, by its pin.
async fn held(sessions: &BTreeMap<&'static str, (String, &'static str)>, envoys: &[&Envoy]) -> Result<()> {
    for (name, (pin, slot)) in sessions {
        for envoy in envoys {
            let (reply, _) = ask_once(envoy, &fresh(name).header(names::PIN, pin)).await?;
            ensure!((&*reply.slot, &*reply.decision) == (*slot, "pin"), "{name}: {reply:?}");
        }
    }
    Ok(())
}

async fn keys(mesh: &Mesh, list: &str) -> Result<Vec<Value>> {
    let listed = mesh.cli(list).await?.ok()?;
    listed.as_array().cloned().context("a list")
}

/// Waits until `key` signs everywhere.
async fn signs(mesh: &Mesh, list: &str, key: u64) -> Result<()> {
    wait::until_ok("the new key to sign everywhere", wait::LIMIT, || async {
        let keys = keys(mesh, list).await?;
        let duty = |wanted: u64| keys.iter().find(|key| key["key"] == wanted).map(|key| key["duty"].clone());
        ensure!(duty(key) == Some(json!("signing")) && duty(key - 1) == Some(json!("former")), "{keys:?}");
        Ok(())
    })
    .await
}

/// The keys once the rotation under way has ended.
async fn settled(mesh: &Mesh, list: &str) -> Result<Vec<Value>> {
    wait::until_ok("the rotation under way to end", wait::LIMIT, || async {
        let keys = keys(mesh, list).await?;
        let settled = keys.iter().all(|key| key["duty"] == "signing" || key["duty"] == "former");
        ensure!(settled, "{keys:?}");
        Ok(keys)
    })
    .await
}

/// Kept: while the keys of run tokens rotate, by command and by schedule, with a switch and a restart of the sidecar among
/// it, every run that begins at one service goes on at the other on its bundle, whichever proxies it meets; tokens are
/// minted by the new key once it signs, and a key that is retired by force ends its own run tokens, and no others.
#[test]
fn no_run_leaves_its_bundle_by_a_rotation() {
    scenario(async {
        let mut town = Town::start().await?;
        let first = town.begin("first", CHAT, 0).await?;
        ensure!((&*first.bundle, first.key()?) == ("b-1", 1), "{first:?}");

        // Runs begin at every moment of the rotation, and cross at once.
        let rotation = async {
            town.mesh.does("keys rotate --runs").await?;
            signs(&town.mesh, RUN_KEYS, 2).await
        };
        let crossed = town.cross_during(rotation).await?;
        ensure!(crossed.iter().any(|run| run.key().ok() == Some(1)), "none of {} under the first key", crossed.len());
        let second = town.begin("second", CODE, 1).await?;
        ensure!((&*second.bundle, second.key()?) == ("b-1", 2), "{second:?}");
        town.go_on([&first, &second].into_iter().chain(&crossed)).await?;

        town.mesh.does("switch green").await?;
        town.mesh.does("switch green --service code").await?;
        let third = town.begin("third", CHAT, 1).await?;
        ensure!((&*third.bundle, third.key()?) == ("g-1", 2), "{third:?}");

        town.rotates_every(1).await?;
        town.mesh.sidecar.restart().await?;
        signs_at_least(&town.mesh, 3).await?;
        town.rotates_every(0).await?;
        let keys = settled(&town.mesh, RUN_KEYS).await?;
        let signing = keys.iter().find(|key| key["duty"] == "signing").context("one signs")?;
        let fourth = town.begin("fourth", CODE, 0).await?;
        ensure!(*fourth.bundle == *"g-1" && json!(fourth.key()?) == signing["key"], "{fourth:?} {keys:?}");
        town.go_on([&first, &second, &third, &fourth]).await?;

        town.mesh.cli("keys retire 2 --runs --service chat").await?.ended_with(2)?;
        let refused = town.mesh.cli("keys retire 2 --runs").await?.ended_with(1)?;
        ensure!(refused.stderr.contains("key-in-use"), "{refused:?}");
        town.mesh.does("keys retire 2 --runs --force --reason leaked").await?;
        for run in [&second, &third] {
            for (service, proxy) in [(CHAT, 0), (CHAT, 1), (CODE, 0), (CODE, 1)] {
                let (reply, _) = ask_once(&town.proxies[proxy], &town.call(service, &run.name, Some(run))).await?;
                ensure!(&*reply.decision != "run", "its key is gone: {reply:?}");
            }
        }
        town.go_on([&first, &fourth]).await?;
        let counter =
            |service| format!("wasmcustom.colorfast.service.{service}.tokens_refused.kind.run.cause.unknown_key");
        for proxy in &town.proxies {
            let refused = proxy.stats("tokens_refused").await?;
            ensure!(refused == [CHAT, CODE].map(|service| (counter(service), 2)).into(), "{refused:?}");
            proxy.expect_no_crash().await?;
        }
        Ok(())
    });
}

/// The keys of run tokens.
const RUN_KEYS: &str = "keys list --runs";
/// The service under the path `/chat`.
const CHAT: &str = "chat";
/// The service of the host `code.test`.
const CODE: &str = "code";

/// Two services with the same bundles, and two proxies that know both.
struct Town {
    mesh: Mesh,
    proxies: [Envoy; 2],
}

/// A run, by the token that its first agent was handed.
#[derive(Debug)]
struct Run {
    name: String,
    bundle: String,
    token: String,
}

impl Run {
    /// The number of the key that signed its token: it stands behind the byte of its kind.
    fn key(&self) -> Result<u16> {
        let digit = |at: usize| -> Result<u32> {
            let letter = *self.token.as_bytes().get(at).context("a token has more letters")?;
            let alphabet = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(*b"-_");
            let digit = alphabet.clone().position(|other| other == letter).context("base64url")?;
            Ok(u32::try_from(digit)?)
        };
        let bytes = (0..4).try_fold(0, |sum, at| anyhow::Ok(sum << 6 | digit(at)?))?;
        Ok(u16::try_from(bytes & 0xffff)?)
    }
}

impl Town {
    async fn start() -> Result<Self> {
        let slots = [("blue", "b-1"), ("green", "g-1")];
        let mut mesh = Mesh::with(settings(0), &slots).await?;
        mesh.add_service(CODE, settings(0), &slots).await?;
        let (one, other) = (Self::proxy(&mesh, "edge-1").await?, Self::proxy(&mesh, "edge-2").await?);
        let town = Self { mesh, proxies: [one, other] };
        wait::until_ok("both proxies to know both services", wait::LIMIT, || async {
            for service in [CHAT, CODE] {
                let status = town.mesh.cli(&format!("status --service {service}")).await?.ok()?;
                let members = status[0]["members"].as_array().context("members")?;
                ensure!(members.len() == 2 && members.iter().all(|member| member["current"] == true), "{members:?}");
            }
            Ok(())
        })
        .await?;
        Ok(town)
    }

    async fn proxy(mesh: &Mesh, node: &str) -> Result<Envoy> {
        let plugin = json!({"sidecar_cluster": "colorfast_sidecar", "services": [
            {"name": CHAT, "match": {"path_prefixes": ["/chat"]}},
            {"name": CODE, "match": {"hosts": ["code.test"]}},
        ]});
        let mut config = mesh.config(node)?.plugin(&plugin);
        for slot in ["blue", "green"] {
            let name = format!("code_{slot}");
            config = config.cluster(&name, mesh.agent_of(CODE, slot).address()).first_route(&json!({
                "match": {"prefix": "/code", "headers": [{"name": names::SLOT, "string_match": {"exact": slot}}]},
                "route": {"cluster": name},
            }));
        }
        mesh.join(config).await
    }

    /// A request of a session of its own, of a run where there is one.
    fn call(&self, service: &str, name: &str, run: Option<&Run>) -> Call {
        let call = Call::get(&format!("/{service}/{name}")).header(names::SESSION, format!("{service}-{name}"));
        let call = if service == CODE { call.host("code.test") } else { call };
        match run {
            Some(run) => call.header("baggage", format!("agent.run={}", run.token)),
            None => call,
        }
    }

    /// Begins a run.
    async fn begin(&self, name: &str, service: &str, proxy: usize) -> Result<Run> {
        let (reply, _) = ask_once(&self.proxies[proxy], &self.call(service, name, None)).await?;
        let seen = self.mesh.agent_of(service, &reply.slot).latest();
        let path = format!("/{service}/{name}");
        let seen = seen.iter().rfind(|seen| seen.path == path).context("the agent has seen it")?;
        let baggage = seen.header("baggage").context("a run that begins gets its token")?;
        let token = baggage.strip_prefix("agent.run=").context("our member")?.to_owned();
        Ok(Run { name: name.to_owned(), bundle: reply.bundle, token })
    }

    /// Each run is on its bundle, at both services, by both proxies.
    async fn go_on<'a>(&self, runs: impl IntoIterator<Item = &'a Run>) -> Result<()> {
        for run in runs {
            for (service, proxy) in [(CHAT, 0), (CODE, 1), (CHAT, 1), (CODE, 0)] {
                let (reply, _) = ask_once(&self.proxies[proxy], &self.call(service, &run.name, Some(run))).await?;
                ensure!((&*reply.bundle, &*reply.decision) == (&*run.bundle, "run"), "{run:?} at {service}: {reply:?}");
            }
        }
        Ok(())
    }

    /// Begins runs at either service and proxy, and has each go on everywhere at once, until `meanwhile` is over.
    async fn cross_during(&self, meanwhile: impl Future<Output = Result<()>>) -> Result<Vec<Run>> {
        let (over, end) = tokio::sync::watch::channel(false);
        let crossing = async {
            let mut runs = Vec::new();
            while !*end.borrow() {
                let number = runs.len();
                let service = if number % 2 == 0 { CHAT } else { CODE };
                let run = self.begin(&format!("crossing-{number}"), service, number / 2 % 2).await?;
                self.go_on([&run]).await?;
                runs.push(run);
            }
            anyhow::Ok(runs)
        };
        let meanwhile = async {
            meanwhile.await?;
            over.send_replace(true);
            anyhow::Ok(())
        };
        Ok(tokio::try_join!(crossing, meanwhile)?.0)
    }

    /// Has the keys rotate by themselves so often; 0: not at all.
    async fn rotates_every(&self, seconds: u32) -> Result<()> {
        for service in [CHAT, CODE] {
            let mut document = settings(if service == CHAT { seconds } else { 0 });
            document["service"] = json!(service);
            self.mesh.apply(&document).await?.ok()?;
        }
        Ok(())
    }
}

/// Settings of a service that mints run tokens, and whose keys sign for so long.
fn settings(seconds: u32) -> Value {
    json!({"runs": {"mint": "always"}, "pin": {"cookie": "never", "key_rotation_seconds": seconds}})
}

/// Waits until a key of run tokens signs that is no older than `least`.
async fn signs_at_least(mesh: &Mesh, least: u64) -> Result<()> {
    wait::until_ok("the schedule to rotate keys", wait::LIMIT, || async {
        let keys = keys(mesh, RUN_KEYS).await?;
        let signs = |key: &Value| key["duty"] == "signing" && key["key"].as_u64() >= Some(least);
        ensure!(keys.iter().any(signs), "{keys:?}");
        Ok(())
    })
    .await
}
