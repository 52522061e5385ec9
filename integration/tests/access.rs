//! Who may do what, and who may speak for whom: tokens, roles, tickets and certificates, with a real sidecar and a real
//! Envoy.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use http::Method;
use integration::http::{Answer, Call, Line, Protocol};
use integration::mesh::{CHAT, SLOTS, ask_once, fresh};
use integration::{Envoy, EnvoyConfig, Mesh, Sidecar, names, paths, scenario, wait};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};

/// Whatever comes of it, it is not for want of a role.
const LET_IN: u16 = 0;

/// Makes a token by the command line, and answers its text.
async fn token(sidecar: &Sidecar, line: &str) -> Result<String> {
    let made = sidecar.cli(["token", "create"].into_iter().chain(line.split(' '))).await?.ok()?;
    Ok(made["token"].as_str().context("a token is shown")?.to_owned())
}

/// Asks the control API with a token.
async fn ask_control(sidecar: &Sidecar, token: &str, method: Method, path: &str, body: &str) -> Result<Answer> {
    let call = if body.is_empty() { Call::new(method, path) } else { Call::post(path, body.to_owned()) };
    let call = call.header("authorization", format!("Bearer {token}"));
    Ok(Line::new(sidecar.control(), Protocol::Http1).send(&call).await?)
}

/// The code of a problem document.
fn code(answer: &Answer) -> Result<String> {
    let problem: Value = answer.json()?;
    let kind = problem["type"].as_str().context("a problem document")?;
    Ok(kind.rsplit(':').next().unwrap_or_default().to_owned())
}

/// Each verb is open to its roles and to no other; a refused one is in no log, and an event names who asked for it.
#[test]
fn verbs_are_for_their_roles() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let sidecar = &mesh.sidecar;
        let mut tokens = Vec::new();
        for role in ["viewer", "operator", "admin"] {
            tokens.push(token(sidecar, &format!("{role} --role {role}")).await?);
        }
        let verbs = format!("/v1/services/{CHAT}/verbs");
        let manifest = json!({"code": "c", "model": "m", "prompts": "p"});
        let verb = |verb: Value| (Method::POST, verbs.clone(), verb.to_string());
        let get = |path: &str| (Method::GET, path.to_owned(), String::new());
        // The status for viewer, operator and admin, in this order. What the operator has done is done by then.
        let table = [
            (get("/v1/services"), [200, 200, 200]),
            (get(&format!("/v1/services/{CHAT}")), [200, 200, 200]),
            (get(&format!("/v1/services/{CHAT}/bundles")), [200, 200, 200]),
            (get("/v1/events"), [200, 200, 200]),
            (get("/v1/log/verification"), [200, 200, 200]),
            (verb(json!({"verb": "apply", "settings": {"slots": ["blue", "green", "red"]}})), [403, 200, LET_IN]),
            (verb(json!({"verb": "add_bundle", "id": "r-1", "manifest": manifest})), [403, 200, 200]),
            (verb(json!({"verb": "stage", "slot": "red", "bundle": "r-1"})), [403, 200, LET_IN]),
            (verb(json!({"verb": "ramp", "slot": "red", "weight": 100})), [403, 200, 200]),
            (verb(json!({"verb": "abort", "slot": "red", "pins": "keep"})), [403, 200, LET_IN]),
            (verb(json!({"verb": "migrate", "slot": "red"})), [403, 200, LET_IN]),
            (verb(json!({"verb": "recycle", "slot": "red", "force": null})), [403, 200, LET_IN]),
            (verb(json!({"verb": "switch", "slot": "green"})), [403, 200, LET_IN]),
            (verb(json!({"verb": "rollback", "to": null, "pins": "keep"})), [403, 200, LET_IN]),
            ((Method::DELETE, format!("/v1/services/{CHAT}/members/a%2Fb"), String::new()), [403, 404, 404]),
            (get("/v1/tokens"), [403, 403, 200]),
            (
                (Method::POST, "/v1/tokens".to_owned(), json!({"name": "x", "role": "viewer"}).to_string()),
                [403, 403, 201],
            ),
            ((Method::DELETE, "/v1/tokens/x".to_owned(), String::new()), [403, 403, 204]),
        ];
        for ((method, path, body), wanted) in table {
            for (token, wanted) in tokens.iter().zip(wanted) {
                let answer = ask_control(sidecar, token, method.clone(), &path, &body).await?;
                let fits = answer.status == wanted || (wanted == LET_IN && ![401, 403].contains(&answer.status));
                ensure!(fits, "{method} {path} {body}: {} {}", answer.status, answer.text());
                ensure!(wanted != 403 || code(&answer)? == "forbidden", "{}", answer.text());
            }
        }
        let events = sidecar.cli(["events"]).await?.ok()?;
        let by: Vec<_> = events["entries"].as_array().into_iter().flatten().map(|e| e["principal"].as_str()).collect();
        let of_operator = by.iter().filter(|principal| **principal == Some("operator")).count();
        ensure!(!by.contains(&Some("viewer")) && of_operator == 9, "{by:?}");
        let log = sidecar.log()?;
        let told = |line: &&str| line.contains("verb carried out") && line.contains(r#"principal="operator""#);
        let line = log.lines().find(told).context("the verb is in the log")?;
        ensure!(line.contains("release="), "{line}");
        Ok(())
    });
}

/// A revoked token is refused at the next request, by the command line with the reason and the next step.
#[test]
fn revoked_tokens_are_refused() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let text = token(&mesh.sidecar, "ci --role operator --expires 90d").await?;
        let file = mesh.file("ci.token", &text)?;
        let with = |line: &str| {
            let words = line.split(' ').chain(["--service", CHAT, "--token-file", &file]).map(str::to_owned);
            mesh.sidecar.cli(words.collect::<Vec<_>>())
        };
        with("switch green").await?.ok()?;
        let refused = with("token list").await?.ended_with(1)?;
        ensure!(refused.stderr.contains("has the role operator, and this needs admin"), "{}", refused.stderr);
        let list = mesh.sidecar.cli_text(["token", "list"]).await?.ended_with(0)?.stdout;
        ensure!(list.contains("ci") && list.contains("operator") && list.contains("89 d left"), "{list}");
        ensure!(!list.contains(&text[12..]), "the secret is shown again");
        mesh.sidecar.cli(["token", "revoke", "ci"]).await?.ok()?;
        let refused = with("rollback").await?.ended_with(1)?;
        ensure!(refused.stderr.contains("does not accept the control token"), "{}", refused.stderr);
        Ok(())
    });
}

/// A proxy gets snapshots by a token for its node id; one of another node id gets none, and its log says why.
#[test]
fn discovery_tokens_are_for_nodes() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let edges = token(&mesh.sidecar, "edges --node edge-*").await?;
        let _edge = mesh.join(mesh.config("edge-1")?.env("COLORFAST_TOKEN", &edges)).await?;
        let gate = Envoy::start(mesh.config("gate-1")?.env("COLORFAST_TOKEN", &edges)).await?;
        wait::until_ok("the proxy to say why", wait::LIMIT, || async {
            ensure!(gate.log()?.contains("the token is for other nodes"), "not yet");
            Ok(())
        })
        .await?;
        mesh.does("switch green").await?;
        let members = mesh.until_current(1).await?;
        ensure!(members[0].node == "edge-1", "{members:?}");
        mesh.sidecar.cli(["token", "revoke", "edges"]).await?.ok()?;
        let held = Envoy::start(mesh.config("edge-2")?.env("COLORFAST_TOKEN", &edges)).await?;
        wait::until_ok("the proxy to say why", wait::LIMIT, || async {
            ensure!(held.log()?.contains("refuses the token"), "not yet");
            Ok(())
        })
        .await
    });
}

/// Confirmed: a client with a discovery token of its own that knows all of a member but its ticket can neither
/// acknowledge nor refuse for it nor report for it; the verb is confirmed when the proxy itself has obeyed.
#[test]
fn nobody_acknowledges_for_a_member() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let mut stopped = mesh.envoy("edge-1").await?;
        let member = mesh.members().await?.remove(0);
        stopped.pause()?;
        let applied = mesh.cli("switch green --timeout 200ms").await?.ended_with(4)?.json.context("JSON")?;
        let version = format!("{}.{}", mesh.status().await?["epoch"], applied["version"]);
        let node = json!({"id": member.node, "metadata": {"process_id": member.process}});
        let poll = json!({
            "version_info": version, "response_nonce": "", "resource_names": [CHAT], "node": node,
            "type_url": "type.googleapis.com/colorfast.v1.Snapshot",
        });
        let mut refusal = poll.clone();
        refusal["error_detail"] = json!({"code": 3, "message": "forged"});
        let mut guessed = poll.clone();
        guessed["ticket"] = json!("A".repeat(43));
        let report = json!({"node": node, "instance": "00000000000000aa", "sequence": 1});
        let token = mesh.sidecar.discovery_token()?;
        for (path, forged) in [
            (names::DISCOVERY_PATH, poll),
            (names::DISCOVERY_PATH, refusal),
            (names::DISCOVERY_PATH, guessed),
            ("/v3/reports", report),
        ] {
            let call = Call::post(path, forged.to_string()).header("authorization", format!("Bearer {token}"));
            let answer = Line::new(mesh.sidecar.discovery(), Protocol::Http1).send(&call).await?;
            ensure!((answer.status, &*code(&answer)?) == (403, "ticket"), "{}", answer.text());
        }
        let now = mesh.members().await?.remove(0);
        ensure!(!now.current && now.refused.is_none(), "{now:?}");
        stopped.resume()?;
        mesh.until_current(1).await?;
        mesh.does("rollback --keep-pins").await?;
        Ok(())
    });
}

/// An authority of the test's own, and what it has signed.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let folder = tempfile::Builder::new().prefix("colorfast-tls-").tempdir()?;
        fs::write(folder.path().join("ca.crt"), params.self_signed(&key)?.pem())?;
        Ok(Self { issuer: Issuer::new(params, key), folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn sign(&self, file: &str, names: &[&str], uri: Option<&str>) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        if let Some(uri) = uri {
            params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        }
        fs::write(self.path(&format!("{file}.crt")), params.signed_by(&key, &self.issuer)?.pem())?;
        fs::write(self.path(&format!("{file}.key")), key.serialize_pem())?;
        Ok(())
    }
}

/// The README's transport socket for the sidecar's cluster, with files of the test's.
fn transport_socket(authority: &Authority, client: Option<&str>) -> Result<Value> {
    let readme = fs::read_to_string(paths::workspace().join("README.md"))?;
    let block = readme.split("```yaml\n# sidecar-tls.yaml").nth(1).and_then(|rest| rest.split("\n```").next());
    let block = block.context("the README shows how Envoy reaches a sidecar with TLS")?;
    let block = block.replace("/etc/envoy/ca.crt", &authority.text("ca.crt"));
    let client = client.unwrap_or("none");
    let block = block.replace("/etc/envoy/client.crt", &authority.text(&format!("{client}.crt")));
    let block = block.replace("/etc/envoy/client.key", &authority.text(&format!("{client}.key")));
    let mut socket: Value = serde_saphyr::from_str(&block)?;
    let socket = socket["transport_socket"].take();
    ensure!(socket.is_object(), "{block}");
    Ok(socket)
}

fn over_tls(config: EnvoyConfig, socket: Value) -> EnvoyConfig {
    config.edit(move |document| {
        let clusters = document["static_resources"]["clusters"].as_array_mut().context("clusters")?;
        let sidecar = clusters.iter_mut().find(|cluster| cluster["name"] == "colorfast_sidecar");
        sidecar.context("the sidecar's cluster")?["transport_socket"] = socket;
        Ok(())
    })
}

/// TLS both ways, end to end: the operator and the proxy are known by their certificates alone, and a switch is confirmed;
/// who has no certificate and no token is refused, and a rotated certificate needs no restart.
#[test]
fn certificates_stand_for_tokens() {
    scenario(async {
        let authority = Authority::new()?;
        authority.sign("sidecar", &["localhost", "127.0.0.1"], None)?;
        authority.sign("ops", &["ops.example.com"], None)?;
        authority.sign("edge", &[], Some("spiffe://example.com/edge-1"))?;
        let flags = [
            "--tls-cert",
            &authority.text("sidecar.crt"),
            "--tls-key",
            &authority.text("sidecar.key"),
            "--client-ca",
            &authority.text("ca.crt"),
        ]
        .map(str::to_owned);
        let sidecar = Sidecar::start_with(&flags, &["--ca".to_owned(), authority.text("ca.crt")], &[]).await?;
        let mesh = Mesh::over(sidecar, json!({}), &SLOTS).await?;
        let bind = |line: &str| {
            mesh.sidecar
                .cli(["token", "create"].into_iter().chain(line.split(' ')).map(str::to_owned).collect::<Vec<_>>())
        };
        ensure!(bind("ada --role operator --certificate ops.example.com").await?.ok()?["token"].is_null());
        bind("edge-1 --node edge-1 --certificate spiffe://example.com/edge-1").await?.ok()?;

        // No token at all: the certificate alone.
        let config =
            over_tls(mesh.config("edge-1")?.env("COLORFAST_TOKEN", ""), transport_socket(&authority, Some("edge"))?);
        let envoy = mesh.join(config.clone()).await?;
        let identity = ["--cert".to_owned(), authority.text("ops.crt"), "--key".to_owned(), authority.text("ops.key")];
        let words = ["switch", "green", "--service", CHAT].map(str::to_owned).into_iter().chain(identity.clone());
        let switched = mesh.sidecar.cli(words.collect::<Vec<_>>()).await?.ok()?;
        ensure!(switched["outcome"] == "confirmed", "{switched:#}");
        ensure!(ask_once(&envoy, &fresh("s-1")).await?.0.slot == "green");
        let events = mesh.sidecar.cli(["events"]).await?.ok()?;
        let last = events["entries"].as_array().and_then(|all| all.last()).context("an event")?.clone();
        ensure!(last["principal"] == "ada", "{last}");
        let words = ["token", "list"].map(str::to_owned).into_iter().chain(identity);
        mesh.sidecar.cli(words.collect::<Vec<_>>()).await?.ended_with(1)?;

        // The same certificate is for one node id, and an unknown authority is none.
        let other = Envoy::start(config.node_id("edge-2")).await?;
        wait::until_ok("the other proxy to say why", wait::LIMIT, || async {
            ensure!(other.log()?.contains("the token is for other nodes"), "not yet");
            Ok(())
        })
        .await?;
        let stranger = Authority::new()?;
        let untrusting = ["status".to_owned(), "--ca".to_owned(), stranger.text("ca.crt")];
        let refused = mesh.sidecar.cli_bare(untrusting).await?.ended_with(3)?;
        ensure!(refused.stderr.contains("cannot reach the sidecar at https://"), "{}", refused.stderr);

        authority.sign("sidecar", &["localhost", "127.0.0.1"], None)?;
        wait::until_ok("the new certificate", wait::LIMIT, || async {
            ensure!(mesh.sidecar.log()?.contains("certificates were read again"), "not yet");
            Ok(())
        })
        .await?;
        mesh.does("rollback --keep-pins").await?;
        envoy.expect_no_crash().await
    });
}

/// An address that other machines reach is refused without TLS, before anything is made or listens, with the reason.
#[test]
fn nothing_travels_in_the_clear() {
    scenario(async {
        let loopback = "127.0.0.1:0";
        for (discovery, control, named) in
            [("0.0.0.0:0", loopback, "--discovery 0.0.0.0:0"), (loopback, "[::]:0", "--control [::]:0")]
        {
            let folder = tempfile::tempdir()?;
            let data = folder.path().join("data");
            let mut command = tokio::process::Command::new(paths::colorfast()?);
            command.args(["serve", "--discovery", discovery, "--control", control, "--data-dir"]).arg(&data);
            let output = command.kill_on_drop(true).output().await?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.code() == Some(2), "{said}");
            ensure!(said.contains(&format!("{named} is not on loopback, and without TLS")), "{said}");
            ensure!(!data.exists(), "something was made");
        }
        Ok(())
    });
}
