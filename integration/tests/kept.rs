//! Every way in which a client may hold its session, through every event of a release, with a real Envoy: one table.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use integration::http::{Answer, Call, Line, Protocol};
use integration::mesh::ask;
use integration::{Envoy, Mesh, names, scenario};
use serde_json::{Value, json};

/// Sessions of each way that begin before the first event, and as many after the switch.
const SESSIONS: usize = 10;

/// How a client holds its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// It names the session there, and echoes nothing.
    Header,
    Cookie,
    Query,
    Path,
    Baggage,
    Body,
    /// It echoes the pin: in its header, beside a session id.
    Pin,
    /// It keeps cookies, and names nothing.
    PinCookie,
    /// It echoes the session id that the agent has issued, and nothing else.
    Envelope,
    /// It repeats an id that the agent has handed out: in a header, in a JSON body, in a server-sent event.
    LearntHeader,
    LearntBody,
    LearntEvent,
    /// It carries the run token on that an agent was handed.
    Run,
}

impl Way {
    const ALL: [Self; 13] = [
        Self::Header,
        Self::Cookie,
        Self::Query,
        Self::Path,
        Self::Baggage,
        Self::Body,
        Self::Pin,
        Self::PinCookie,
        Self::Envelope,
        Self::LearntHeader,
        Self::LearntBody,
        Self::LearntEvent,
        Self::Run,
    ];

    /// The first request of a session.
    fn opens(self, id: &str) -> Call {
        let encoded = id.replace(' ', "%20");
        match self {
            Self::Header | Self::Pin => Call::get("/who").header("x-thread", id),
            Self::Cookie => Call::get("/who").header("cookie", format!("theme=dark; thread={encoded}")),
            Self::Query => Call::get(&format!("/who?x=1&thread={}", id.replace(' ', "+"))),
            Self::Path => Call::get(&format!("/threads/{encoded}/runs/wait?x=1")),
            Self::Baggage => Call::get("/who").header("baggage", format!("tenant=7,session.id={encoded};ttl=1")),
            Self::Body => turn(id),
            Self::PinCookie | Self::Run => Call::get("/who"),
            Self::Envelope | Self::LearntHeader | Self::LearntBody => Call::get(&format!("/open?name={encoded}")),
            Self::LearntEvent => Call::get(&format!("/open?name={encoded}&as=events")),
        }
    }

    /// What the client sends from then on, by what it was answered, and by what the agent was handed.
    fn goes_on(self, id: &str, answer: &Answer, handed: Option<String>) -> Result<Call> {
        let header = |name: &str| answer.header(name).with_context(|| format!("{self:?}: no {name} in the answer"));
        Ok(match self {
            Self::Header | Self::Cookie | Self::Query | Self::Path | Self::Baggage | Self::Body => self.opens(id),
            Self::Pin => self.opens(id).header(names::PIN, header(names::PIN)?),
            Self::PinCookie => {
                let cookie = header("set-cookie")?;
                self.opens(id).header("cookie", cookie.split(';').next().unwrap_or_default())
            }
            Self::Envelope => Call::get("/who").header("mcp-session-id", header("mcp-session-id")?),
            Self::LearntHeader => Call::get("/who").header("x-thread", header("x-conversation")?),
            Self::LearntBody => turn(answer.json::<Value>()?["opened"].as_str().context("no id in the body")?),
            Self::LearntEvent => {
                let event = answer.text();
                let data = event.rsplit_once("data: ").context("no data")?.1.lines().next().unwrap_or_default();
                let data: Value = serde_json::from_str(data)?;
                Call::get("/who").header("x-thread", data["opened"].as_str().context("no id in the event")?)
            }
            Self::Run => Call::get("/who").header("baggage", handed.context("the agent was handed no run token")?),
        })
    }
}

/// A turn of a conversation that the body names.
fn turn(conversation: &str) -> Call {
    let body = json!({"turn": 1, "conversation": conversation}).to_string();
    Call::post("/turn", body).header("content-type", "application/json")
}

/// One session, as its client sees it.
struct Session {
    way: Way,
    slot: String,
    next: Call,
}

impl Session {
    /// Its first request.
    async fn open(mesh: &Mesh, line: &mut Line, way: Way, id: String) -> Result<Self> {
        let answer = line.send(&way.opens(&id)).await?;
        ensure!(answer.status == 200, "{way:?}: {} {}", answer.status, answer.text());
        let slot = answer.header(names::SERVED_BY).context("the agent says who it is")?;
        let handed = || mesh.agent(&slot).latest().pop()?.headers.into_iter().find(|(name, _)| name == "baggage");
        let handed = handed().map(|(_, line)| String::from_utf8_lossy(&line).into_owned());
        Ok(Self { way, next: way.goes_on(&id, &answer, handed)?, slot })
    }

    /// The slot that serves its next request.
    async fn goes(&self, line: &mut Line) -> Result<String> {
        Ok(ask(line, &self.next).await?.0.slot)
    }
}

/// The table: how many requests each way made after each event, and how many of them hopped.
#[derive(Default)]
struct Table(BTreeMap<(usize, Way), (&'static str, usize, usize)>);

impl Table {
    /// Every session asks at every proxy, and is to be served by its own slot, or by `instead`.
    async fn turns(
        &mut self,
        event: &'static str,
        sessions: &[Session],
        lines: &mut [Line],
        instead: Option<&str>,
    ) -> Result<()> {
        let nth = self.0.keys().last().map_or(0, |(nth, _)| nth + 1);
        for session in sessions {
            let row = self.0.entry((nth, session.way)).or_insert((event, 0, 0));
            for line in lines.iter_mut() {
                row.1 += 1;
                row.2 += usize::from(session.goes(line).await? != instead.unwrap_or(&session.slot));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        println!("{:<14} {:<32} {:>8} {:>8} {:>5}", "source", "event", "sessions", "requests", "hops");
        for ((_, way), (event, requests, hops)) in &self.0 {
            println!("{:<14} {event:<32} {SESSIONS:>8} {requests:>8} {hops:>5}", format!("{way:?}"));
        }
        let hopped: Vec<_> = self.0.iter().filter(|(_, (_, _, hops))| *hops > 0).collect();
        if hopped.is_empty() { Ok(()) } else { bail!("sessions hopped, or stayed on what was broken: {hopped:?}") }
    }
}

async fn open(mesh: &Mesh, line: &mut Line, when: &str) -> Result<Vec<Session>> {
    let mut sessions = Vec::new();
    for way in Way::ALL {
        for number in 0..SESSIONS {
            sessions.push(Session::open(mesh, line, way, format!("{way:?} {when} {number}")).await?);
        }
    }
    Ok(sessions)
}

/// Kept: whatever a client can do, its session stays on its bundle through ramp, switch, another Envoy, a restart of Envoy
/// and one of the sidecar, and a rollback; those of a broken bundle leave it at their next request.
#[test]
fn every_way_keeps_its_sessions() {
    scenario(async {
        let settings = json!({
            "session_sources": [
                {"path": "/threads/{session}/runs"}, {"query": "thread"}, {"baggage": "session.id"},
                {"cookie": "thread"}, {"body": "/conversation"}, {"header": "x-thread"},
            ],
            "learn_from": [{"header": "x-conversation"}, {"body": "/opened"}, {"event": "/opened"}],
            "runs": {"mint": "always"},
            // So long that a busy machine does not decide what this is about.
            "memory": {"ask_wait_ms": 2_000},
        });
        let mut mesh = Mesh::with(settings, &[("blue", "b-1"), ("green", "g-1")]).await?;
        let (mut first, second) = (mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?);
        let line = |envoy: &Envoy| Line::new(envoy.address(), Protocol::Http2);
        let mut lines = [line(&first), line(&second)];
        let early = open(&mesh, &mut lines[0], "early").await?;
        ensure!(early.iter().all(|session| session.slot == "blue"));

        let mut table = Table::default();
        for event in ["ramp green 1%", "ramp green 50%", "switch green"] {
            mesh.does(event).await?;
            table.turns(event, &early, &mut lines, None).await?;
        }
        let late = open(&mesh, &mut lines[1], "late").await?;
        ensure!(late.iter().all(|session| session.slot == "green"));
        table.turns("after the switch, begun later", &late, &mut lines, None).await?;

        mesh.sidecar.restart().await?;
        mesh.until_current(2).await?;
        table.turns("sidecar restarted", &early, &mut lines, None).await?;
        let third = mesh.envoy("edge-3").await?;
        table.turns("an Envoy that saw none of them", &early, &mut [line(&third)], None).await?;
        let before =
            mesh.members().await?.into_iter().find(|member| member.node == "edge-1").context("it is a member")?;
        first.restart().await?;
        mesh.until_current(4).await?;
        lines[0] = line(&first);
        table.turns("Envoy restarted", &early, &mut lines, None).await?;
        table.turns("Envoy restarted, begun later", &late, &mut lines, None).await?;

        mesh.cli(&format!("member forget {}", before.member)).await?.ok()?;
        mesh.does("rollback").await?;
        table.turns("rollback, kept", &early, &mut lines, None).await?;
        table.turns("rollback, broken: moved to blue", &late, &mut lines, Some("blue")).await?;
        table.check()?;
        for envoy in [&first, &second, &third] {
            envoy.expect_no_crash().await?;
        }
        Ok(())
    });
}

/// Kept: the pin of one session does not keep another of the same client, whichever source names it.
#[test]
fn a_pin_keeps_its_own_session_alone() {
    scenario(async {
        let settings = json!({"session_sources": [{"query": "thread"}, {"header": "x-thread"}]});
        let mesh = Mesh::with(settings, &[("blue", "b-1"), ("green", "g-1")]).await?;
        let envoy = mesh.envoy("edge-1").await?;
        let mut line = Line::new(envoy.address(), Protocol::Http2);
        let pin = ask(&mut line, &Way::Query.opens("one")).await?.1.header(names::PIN).context("a pin")?;
        mesh.does("switch green").await?;
        for (call, place) in [
            (Way::Query.opens("one"), ("blue", "pin")),
            (Way::Header.opens("one"), ("blue", "pin")),
            (Way::Query.opens("another"), ("green", "hash")),
            (Way::Header.opens("a third"), ("green", "hash")),
        ] {
            let (reply, _) = ask(&mut line, &call.header(names::PIN, &pin)).await?;
            ensure!((&*reply.slot, &*reply.decision) == place, "{reply:?}");
        }
        Ok(())
    });
}
