//! Stamped, whole: spans, access log, metrics and upstream requests name the bundle that really served.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::access_log::Entry;
use integration::collector::Span;
use integration::http::{Call, Line, Protocol};
use integration::mesh::{ask, fresh};
use integration::{Collector, Envoy, EnvoyConfig, Load, Mesh, Plan, names, scenario, wait};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Requests that the whole test makes at least.
const REQUESTS: u64 = 10_000;
const LIMIT: Duration = Duration::from_secs(60);
/// Largest body that the buffer filter lets through; no turn is as large.
const LARGEST: usize = 1_000;
/// How often a probe asks for each of [`asked_by_probes`], between two verbs.
const ROUNDS: usize = 8;

/// The verbs of the test. Pins are kept, so that a session's bundle is known also where no agent says it.
const VERBS: [&str; 4] = ["switch green", "rollback --keep-pins", "switch green", "rollback --keep-pins"];

/// What an agent answers with an error, and what Envoy answers by itself after the filter: 404 without a route, 503
/// where nobody listens, 413 for what is too large, 504 for what takes too long.
fn asked_by_probes() -> [(Call, u16); 6] {
    [
        (Call::get("/status?code=500"), 500),
        (Call::get("/status?code=503"), 503),
        (Call::get("/missing").host("missing.test"), 404),
        (Call::get("/down"), 503),
        (Call::post("/large", vec![b'x'; 100 * LARGEST]), 413),
        (Call::get("/slow/held"), 504),
    ]
}

/// The shipped configuration with what [`asked_by_probes`] needs.
fn config(mesh: &Mesh) -> Result<EnvoyConfig> {
    let down = json!({"match": {"path": "/down"}, "route": {"cluster": "down"}});
    let mut config = mesh.config("edge-1")?.cluster("down", ([127, 0, 0, 1], 1).into()).first_route(&down);
    for slot in ["blue", "green"] {
        config = config.first_route(&json!({
            "match": {"prefix": "/slow", "headers": [{"name": names::SLOT, "string_match": {"exact": slot}}]},
            "route": {"cluster": format!("agent_{slot}"), "timeout": "0.05s"},
        }));
    }
    Ok(config.edit_http(|hcm| {
        let hosts = hcm.pointer_mut("/route_config/virtual_hosts").and_then(|hosts| hosts.as_array_mut());
        hosts.context("virtual hosts")?.push(json!({"name": "missing", "domains": ["missing.test"]}));
        let filters = hcm["http_filters"].as_array_mut().context("filters")?;
        let router = filters.len() - 1;
        filters.insert(
            router,
            json!({"name": "buffer", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
                "max_request_bytes": LARGEST,
            }}),
        );
        Ok(())
    }))
}

/// Pinned sessions, one on each slot, and how many requests of each have been made.
struct Probes {
    line: Line,
    sessions: BTreeMap<String, (String, String)>,
    made: usize,
}

impl Probes {
    /// Begins the sessions, while both slots take new ones.
    async fn start(envoy: &Envoy) -> Result<Self> {
        let mut probes = Self { line: Line::new(envoy.address(), Protocol::Http2), sessions: BTreeMap::new(), made: 0 };
        while probes.sessions.len() < 2 {
            let name = format!("probe-{}", probes.made);
            let (reply, answer) = ask(&mut probes.line, &fresh(&name)).await?;
            probes.made += 1;
            let pin = answer.header(names::PIN).context("a new session gets its pin")?;
            probes.sessions.entry(reply.bundle).or_insert((name, pin));
        }
        Ok(probes)
    }

    /// Asks for everything once for each session.
    async fn round(&mut self) -> Result<()> {
        for (name, pin) in self.sessions.values() {
            for (call, status) in asked_by_probes() {
                let call = call.header(names::SESSION, name).header(names::PIN, pin);
                let answer = self.line.send(&call).await?;
                ensure!(answer.status == status, "{} instead of {status}: {}", answer.status, answer.text());
                self.made += 1;
            }
        }
        Ok(())
    }

    /// The bundle of a session.
    fn bundle(&self, session: Option<&str>) -> Option<&str> {
        let of = |(name, _): &(String, String)| Some(name.as_str()) == session;
        self.sessions.iter().find(|(_, probe)| of(probe)).map(|(bundle, _)| bundle.as_str())
    }
}

/// Sends what Envoy refuses before any filter, each with all the headers that only a stamp may carry. Answers how many.
async fn refused_before(envoy: &Envoy) -> Result<usize> {
    let forged = "x-agent-slot: green\r\nx-agent-bundle: forged\r\nx-agent-decision: pin\r\n\r\n";
    let heads = [
        ("GET /turn HTTP/1.1\r\n", "400"),
        ("GET /..%00/turn HTTP/1.1\r\nhost: chat.test\r\n", "400"),
        ("OPTIONS * HTTP/1.1\r\nhost: chat.test\r\n", "404"),
        ("GET /turn HTTP/1.0\r\nhost: chat.test\r\n", "426"),
    ];
    for (head, status) in heads {
        let mut stream = TcpStream::connect(envoy.address()).await?;
        stream.write_all(format!("{head}{forged}").as_bytes()).await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer);
        ensure!(answer.ends_with(status), "{head:?} was answered with {answer:?}");
    }
    Ok(heads.len())
}

/// Stamped: of 10,000 requests through a ramp, switches and rollbacks, errors of the agents and Envoy's own among
/// them, every line of the access log, every span, every request that reached an agent and every count of the metrics
/// names the bundle that served; what Envoy refused before the filter is absent, whatever its client had sent.
#[test]
fn every_trace_of_a_request_names_the_bundle_that_served() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let collector = Collector::start().await?;
        let envoy = mesh.join(config(&mesh)?.collector(collector.address())).await?;
        mesh.does("ramp green 30%").await?;
        let mut probes = Probes::start(&envoy).await?;
        let load = Load::start(Plan { think: Duration::from_millis(5), ..Plan::new(vec![envoy.address()]) })?;
        for verb in VERBS {
            mesh.does(verb).await?;
            for _ in 0..ROUNDS {
                probes.round().await?;
            }
        }
        load.reach(REQUESTS, LIMIT).await?;
        let report = load.stop().await?;
        report.expect_no_failure()?;
        report.expect_kept()?;
        report.expect_true_stamps()?;
        let refused = refused_before(&envoy).await?;

        let asked = report.records().len() + probes.made + refused;
        let lines = wait::until_ok("all lines of the access log", LIMIT, || async {
            let lines = envoy.access_log().entries()?;
            ensure!(lines.len() == asked, "{} of {asked}", lines.len());
            Ok(lines)
        })
        .await?;
        let (entered, before): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.decision.is_some());
        ensure!(before.len() == refused, "{before:?}");
        for line in before {
            let absent = line.bundle.is_none() && line.slot.is_none() && line.version.is_none();
            ensure!(absent && [400, 404, 426].contains(&line.status), "{line:?}");
        }
        for line in &entered {
            expect_true_line(&mesh, &probes, line)?;
        }
        for slot in ["blue", "green"] {
            let agent = mesh.agent(slot);
            let stamps = agent.stamps();
            let true_ones = stamps.keys().all(|stamp| stamp.slot == slot && stamp.bundle == agent.bundle());
            ensure!(true_ones, "the agent of {slot} got {stamps:?}");
        }
        expect_true_spans(&collector, &entered).await?;
        expect_true_metrics(&envoy, &entered).await?;
        println!("{} requests, {refused} of them refused before the filter: every trace names its bundle", lines.len());
        envoy.expect_no_crash().await
    });
}

/// A line names the bundle of the agent that answered, or that of the session where Envoy answered by itself.
fn expect_true_line(mesh: &Mesh, probes: &Probes, line: &Entry) -> Result<()> {
    let bundle = if line.details.as_deref() == Some("via_upstream") {
        let served = ["blue", "green"].map(|slot| (slot, mesh.agent(slot))).into_iter();
        let mut served = served.filter(|(_, agent)| Some(agent.address().to_string()) == line.upstream_host);
        let (slot, agent) = served.next().with_context(|| format!("no agent served {line:?}"))?;
        ensure!(line.slot.as_deref() == Some(slot), "{line:?}");
        agent.bundle()
    } else {
        ensure!(line.decision.as_deref() == Some("pin"), "{line:?}");
        probes.bundle(line.session.as_deref()).with_context(|| format!("Envoy answered by itself: {line:?}"))?
    };
    ensure!(line.bundle.as_deref() == Some(bundle) && line.version == line.bundle, "served by {bundle}: {line:?}");
    Ok(())
}

/// There is one span for each line, and it says the same.
async fn expect_true_spans(collector: &Collector, entered: &[&Entry]) -> Result<()> {
    let spans = wait::until_ok("all spans", LIMIT, || async {
        let spans = collector.spans()?;
        ensure!(spans.len() == entered.len(), "{} of {}", spans.len(), entered.len());
        Ok(spans)
    })
    .await?;
    let of_request = |span: Span| Ok((span.attribute("guid:x-request-id").context("a request id")?.to_owned(), span));
    let spans = spans.into_iter().map(of_request).collect::<Result<BTreeMap<_, _>>>()?;
    for line in entered {
        let span = line.request_id.as_ref().and_then(|id| spans.get(id));
        let span = span.with_context(|| format!("no span of {line:?}"))?;
        let said = [
            ("agent.bundle.id", &line.bundle),
            ("agent.slot", &line.slot),
            ("agent.decision", &line.decision),
            ("gen_ai.agent.version", &line.bundle),
            ("gen_ai.conversation.id", &line.session),
        ];
        for (name, value) in said {
            ensure!(span.attribute(name) == value.as_deref(), "{name}: {span:?} of {line:?}");
        }
        ensure!(span.attribute("http.status_code") == Some(&line.status.to_string()), "{span:?} of {line:?}");
    }
    Ok(())
}

/// Prometheus is shown the same numbers, by labels: none of what varies is left in a name.
async fn expect_true_metrics(envoy: &Envoy, entered: &[&Entry]) -> Result<()> {
    let samples = envoy.admin()?.prometheus().await?;
    let label = |sample: &prometheus_parse::Sample, name: &str| sample.labels.get(name).map(str::to_owned);
    let mut counted = BTreeMap::new();
    let mut running = BTreeMap::new();
    for sample in &samples {
        ensure!(label(sample, "colorfast_service").as_deref() == Some("chat"), "{sample:?}");
        let varies = ["chat", "blue", "green", "b_1", "g_1", "service", "slot", "decision", "cause", "need"];
        ensure!(!varies.iter().any(|part| sample.metric.contains(part)), "{sample:?}");
        let value = match sample.value {
            prometheus_parse::Value::Counter(value) | prometheus_parse::Value::Gauge(value) => value,
            _ => continue,
        };
        let slot = label(sample, "colorfast_slot");
        match sample.metric.as_str() {
            "colorfast_requests" => drop(counted.insert((slot, label(sample, "colorfast_decision")), value as usize)),
            "colorfast_info" if value > 0.0 => drop(running.insert(slot, label(sample, "colorfast_bundle"))),
            "colorfast_tokens_refused" => ensure!(label(sample, "colorfast_cause").is_some(), "{sample:?}"),
            "colorfast_waits" => {
                let labels = ["colorfast_need", "colorfast_end"].map(|name| label(sample, name));
                ensure!(labels.iter().all(Option::is_some), "{sample:?}");
            }
            _ => {}
        }
    }
    let mut logged = BTreeMap::new();
    for line in entered {
        *logged.entry((line.slot.clone(), line.decision.clone())).or_insert(0) += 1;
    }
    ensure!(counted == logged, "the metrics say {counted:?}, the log {logged:?}");
    let bundles = [("blue", "b-1"), ("green", "g-1")].map(|(slot, id)| (Some(slot.to_owned()), Some(id.to_owned())));
    ensure!(running == BTreeMap::from(bundles), "{running:?}");
    Ok(())
}

/// Last good: a collector that is away costs traffic nothing, keeps nothing waiting and is told of in no log.
#[test]
fn a_collector_that_is_away_does_no_harm() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let envoy = mesh.envoy("edge-1").await?;
        let load = Load::start(Plan::new(vec![envoy.address()]))?;
        load.reach(2_000, LIMIT).await?;
        let report = load.stop().await?;
        report.expect_no_failure()?;
        report.expect_kept()?;
        wait::until_ok("no export to wait", LIMIT, || async {
            let waiting = envoy.stats("cluster.otel_collector.upstream_rq_(pending_)?active$").await?;
            ensure!(!waiting.is_empty() && waiting.values().all(|count| *count == 0), "{waiting:?}");
            Ok(())
        })
        .await?;
        let log = envoy.log()?;
        ensure!(!log.contains("otel_collector"), "{log}");
        envoy.expect_no_crash().await
    });
}
