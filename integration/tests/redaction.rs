//! Secrets stay secret: whatever is logged, dumped or told as an error, at whatever level, none of them is in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context, ensure};
use integration::http::{Call, Line, Protocol};
use integration::mesh::{CHAT, SLOTS, ask_once, fresh};
use integration::{Envoy, Mesh, Relay, Sidecar, names, scenario, wait};
use serde_json::{Value, json};

/// Secrets by what they are.
type Secrets = Arc<Mutex<BTreeMap<String, String>>>;

/// Notes the keys and the ticket of a discovery answer.
fn note(secrets: &Secrets, answer: &[u8]) {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return };
    let mut secrets = secrets.lock().unwrap();
    if let Some(ticket) = answer["ticket"].as_str() {
        secrets.insert("ticket".to_owned(), ticket.to_owned());
    }
    let keys = &answer["resources"][0]["keys"];
    if let Some(sid) = keys["sid"].as_str() {
        secrets.insert("sid key".to_owned(), sid.to_owned());
    }
    for (id, key) in keys["ring"].as_object().into_iter().flatten() {
        secrets.insert(format!("ring key {id}"), key.as_str().unwrap_or_default().to_owned());
    }
}

/// Every secret that there is, through every error that can be provoked with it, is in no output: not in the sidecar's log
/// at its chattiest, not in Envoy's, not in what the command line says, not in an answer.
#[test]
fn secrets_are_in_no_output() {
    scenario(async {
        let secrets = Secrets::default();
        let environment = [("COLORFAST_LOG".to_owned(), "trace".to_owned())];
        let sidecar = Sidecar::start_with(&[], &[], &environment).await?;
        let mesh = Mesh::over(sidecar, json!({}), &SLOTS).await?;
        let mut said = String::new();
        for (name, token) in
            [("control", mesh.sidecar.control_token()?), ("discovery", mesh.sidecar.discovery_token()?)]
        {
            secrets.lock().unwrap().insert(format!("{name} token"), token);
        }
        for line in ["ci --role operator", "edges --node edge-*"] {
            let made = mesh.sidecar.cli(["token", "create"].into_iter().chain(line.split(' '))).await?.ok()?;
            let text = made["token"].as_str().context("a token")?.to_owned();
            secrets.lock().unwrap().insert(line.to_owned(), text);
        }
        let edges = secrets.lock().unwrap()["edges --node edge-*"].clone();

        let relay = Relay::start(mesh.sidecar.discovery()).await?;
        let seen = secrets.clone();
        relay.spoil(move |body| {
            note(&seen, &body);
            body
        });
        // Envoy itself writes the headers of every request at debug, bearer tokens and pins among them; what is ours to
        // keep silent is everything else.
        let config = mesh.config("edge-1")?.sidecar(relay.address()).env("COLORFAST_TOKEN", &edges);
        let envoy = mesh.join(config.log_level("debug")).await?;
        let (_, answer) = ask_once(&envoy, &fresh("s-1")).await?;
        let pin = answer.header(names::PIN).context("a new session gets its pin")?;
        secrets.lock().unwrap().insert("pin".to_owned(), pin.clone());
        ensure!(ask_once(&envoy, &fresh("s-1").header(names::PIN, &pin)).await?.0.decision == "pin");
        ask_once(&envoy, &fresh("s-1").header(names::PIN, format!("{}A", &pin[1..]))).await?;
        mesh.does("switch green").await?;

        // Wrong in one letter, in the wrong place, in the wrong document.
        let all = secrets.lock().unwrap().clone();
        ensure!(all.len() >= 8, "{:?}", all.keys());
        for secret in all.values() {
            let spoilt = format!("{}!", &secret[..secret.len() - 1]);
            for given in [secret, &spoilt] {
                for (address, path) in [
                    (mesh.sidecar.control(), "/v1/services/chat/verbs"),
                    (mesh.sidecar.discovery(), names::DISCOVERY_PATH),
                    (mesh.sidecar.discovery(), "/v3/reports"),
                ] {
                    for body in [
                        format!("{{\"ticket\": \"{given}\", }}"),
                        json!({"ticket": given, "node": {"id": "edge-1"}}).to_string(),
                    ] {
                        let call = Call::post(path, body).header("authorization", format!("Bearer {given}"));
                        said += &Line::new(address, Protocol::Http1).send(&call).await?.text();
                    }
                }
                let file = mesh.file("some.token", given)?;
                for line in ["status", "token list", "token revoke nobody"] {
                    let words = line.split(' ').chain(["--service", CHAT, "--token-file", &file]).map(str::to_owned);
                    let outcome = mesh.sidecar.cli_text(words.collect::<Vec<_>>()).await?;
                    said += &(outcome.stdout + &outcome.stderr);
                }
            }
        }
        for line in ["status", "events", "service show", "token list", "member forget edge-1/0"] {
            let outcome = mesh.sidecar.cli_text(line.split(' ')).await?;
            said += &(outcome.stdout + &outcome.stderr);
        }
        // Keys in the environment with one letter wrong.
        let key = &all["ring key 1"];
        let keys = json!({"chat": {"sid": all["sid key"], "ring": {"1": format!("{key}!")}}}).to_string();
        let broken = Envoy::validate(&mesh.config("edge-2")?.env("COLORFAST_KEYS", &keys));
        said += &broken.map(|output| String::from_utf8_lossy(&output.stderr).into_owned())?;
        wait::until_ok("the log to be written", wait::LIMIT, || async {
            ensure!(mesh.sidecar.log()?.contains("were refused"), "not yet");
            Ok(())
        })
        .await?;

        let log = mesh.sidecar.log()?;
        ensure!(log.contains("poll answered"), "the sidecar does not say all");
        let outputs = [("the sidecar's log", log), ("an answer", said)];
        for (what, output) in &outputs {
            for (name, secret) in &all {
                // What a token is without its public id.
                let secret = secret.strip_prefix("cf_").map_or(&**secret, |rest| &rest[9..]);
                let line = output.lines().find(|line| line.contains(secret));
                ensure!(line.is_none(), "{what} has the {name}: {line:?}");
            }
        }
        let log = envoy.log()?;
        for (name, secret) in
            all.iter().filter(|(name, _)| !name.contains("token") && !name.contains("--") && *name != "pin")
        {
            let line = log.lines().find(|line| line.contains(&**secret));
            ensure!(line.is_none(), "Envoy's log has the {name}: {line:?}");
        }
        Ok(())
    });
}
