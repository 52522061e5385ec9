//! Where session ids come from, through a real Envoy: each kind of source keeps its sessions through every event.

use anyhow::{Context, Result, ensure};
use integration::http::{Call, Line, Protocol};
use integration::mesh::ask;
use integration::{Envoy, Mesh, names, scenario};
use serde_json::json;

/// Sessions of each source that begin before a switch, and as many after it.
const SESSIONS: usize = 20;

/// A kind of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Header,
    Cookie,
    Query,
    Path,
    Baggage,
    Body,
}

impl Source {
    const ALL: [Self; 6] = [Self::Header, Self::Cookie, Self::Query, Self::Path, Self::Baggage, Self::Body];

    /// A request that names its session there; ids hold a space, which most sources encode.
    fn call(self, id: &str) -> Call {
        let encoded = id.replace(' ', "%20");
        match self {
            Self::Header => Call::get("/who").header("x-thread", id),
            Self::Cookie => Call::get("/who").header("cookie", format!("theme=dark; thread={encoded}")),
            Self::Query => Call::get(&format!("/who?x=1&thread={}", id.replace(' ', "+"))),
            Self::Path => Call::get(&format!("/threads/{encoded}/runs/wait?x=1")),
            Self::Baggage => Call::get("/who").header("baggage", format!("tenant=7,session.id={encoded};ttl=1")),
            Self::Body => {
                let body = json!({"turn": 1, "conversation": id}).to_string();
                Call::post("/turn", body).header("content-type", "application/json")
            }
        }
    }
}

/// One session, as its client sees it.
struct Session {
    source: Source,
    id: String,
    bundle: String,
    pin: String,
}

impl Session {
    /// Its first turn.
    async fn begin(line: &mut Line, source: Source, id: String) -> Result<Self> {
        let (reply, answer) = ask(line, &source.call(&id)).await?;
        ensure!(reply.decision == "hash", "{source:?}: {reply:?}");
        let pin = answer.header(names::PIN).context("a new session gets its pin")?;
        Ok(Self { source, id, bundle: reply.bundle, pin })
    }

    /// Its next turn: the bundle that served it, and by which rule.
    async fn turn(&self, line: &mut Line) -> Result<(String, String)> {
        let (reply, _) = ask(line, &self.source.call(&self.id).header(names::PIN, &self.pin)).await?;
        Ok((reply.bundle, reply.decision))
    }
}

/// Kept: sessions that are named in any kind of source stay through ramp, switch, another Envoy and rollback, and those
/// of a broken bundle leave it at their next request. A pin of one session does not keep another of the same client.
#[test]
fn every_kind_of_source_keeps_its_sessions() {
    scenario(async {
        let settings = json!({"session_sources": [
            {"path": "/threads/{session}/runs"}, {"query": "thread"}, {"baggage": "session.id"},
            {"cookie": "thread"}, {"body": "/conversation"}, {"header": "x-thread"},
        ]});
        let mesh = Mesh::with(settings, &[("blue", "b-1"), ("green", "g-1")]).await?;
        let envoys = [mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?];
        let line = |envoy: &Envoy| Line::new(envoy.address(), Protocol::Http2);
        let mut lines = [line(&envoys[0]), line(&envoys[1])];
        let mut sessions = Vec::new();
        for source in Source::ALL {
            for number in 0..SESSIONS {
                sessions.push(Session::begin(&mut lines[0], source, format!("{source:?} early {number}")).await?);
            }
        }
        ensure!(sessions.iter().all(|session| session.bundle == "b-1"));

        let mut rows = Vec::new();
        for event in ["ramp green 50%", "switch green"] {
            mesh.does(event).await?;
            for source in Source::ALL {
                let mut hops = 0;
                for session in sessions.iter().filter(|session| session.source == source) {
                    for line in &mut lines {
                        let (bundle, decision) = session.turn(line).await?;
                        hops += usize::from(bundle != session.bundle || decision != "pin");
                    }
                }
                rows.push((source, event, 2 * SESSIONS, hops));
            }
        }

        let mut late = Vec::new();
        for source in Source::ALL {
            for number in 0..SESSIONS {
                late.push(Session::begin(&mut lines[1], source, format!("{source:?} late {number}")).await?);
            }
        }
        ensure!(late.iter().all(|session| session.bundle == "g-1"));
        mesh.does("rollback").await?;
        for source in Source::ALL {
            let (mut hops, mut stayed) = (0, 0);
            for session in sessions.iter().filter(|session| session.source == source) {
                let (bundle, decision) = session.turn(&mut lines[1]).await?;
                hops += usize::from(bundle != session.bundle || decision != "pin");
            }
            for session in late.iter().filter(|session| session.source == source) {
                let (bundle, decision) = session.turn(&mut lines[0]).await?;
                stayed += usize::from(bundle != "b-1" || decision != "hash");
            }
            rows.push((source, "rollback, kept", SESSIONS, hops));
            rows.push((source, "rollback, broken that stayed", SESSIONS, stayed));
        }
        println!("{:<8} {:<30} {:>8} {:>5}", "source", "event", "requests", "hops");
        for (source, event, requests, hops) in &rows {
            println!("{:<8} {event:<30} {requests:>8} {hops:>5}", format!("{source:?}"));
        }
        ensure!(rows.iter().all(|(.., hops)| *hops == 0), "sessions hopped, or stayed on what was broken");

        for [one, other] in [[0, 1], [SESSIONS, SESSIONS + 1]] {
            let call = sessions[one].source.call(&sessions[one].id).header(names::PIN, &sessions[other].pin);
            let (reply, _) = ask(&mut lines[0], &call).await?;
            ensure!(reply.decision == "memory", "a pin of another session decided: {reply:?}");
        }
        Ok(())
    });
}
