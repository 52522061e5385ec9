//! Every way in which a client may hold its session, through every event of a release, with a real Envoy: one table.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use integration::http::{Call, Line, Protocol};
use integration::mesh::{SLOTS, ask};
use integration::{Envoy, Kind, Mesh, Talk, Way, names, scenario};
use serde_json::json;

/// Sessions of each way that begin before the first event, and as many after the switch.
const SESSIONS: usize = 10;

/// The table: how many requests each way made after each event, and how many of them hopped.
#[derive(Default)]
struct Table(BTreeMap<(usize, Way), (&'static str, usize, usize)>);

impl Table {
    /// Every session asks at every proxy, and is to be served by its own slot, or by `instead`.
    async fn turns(
        &mut self,
        event: &'static str,
        sessions: &[Talk],
        lines: &mut [Line],
        instead: Option<&str>,
    ) -> Result<()> {
        let nth = self.0.keys().last().map_or(0, |(nth, _)| nth + 1);
        for session in sessions {
            let row = self.0.entry((nth, session.way)).or_insert((event, 0, 0));
            for line in lines.iter_mut() {
                row.1 += 1;
                row.2 += usize::from(session.probe(line).await? != instead.unwrap_or(&session.slot));
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

async fn open(line: &mut Line, when: &str) -> Result<Vec<Talk>> {
    let mut sessions = Vec::new();
    for way in Way::ALL {
        for number in 0..SESSIONS {
            let kind = way.kinds().first().copied().unwrap_or(Kind::Plain);
            sessions.push(Talk::open(line, way, kind, format!("{way:?} {when} {number}")).await?);
        }
    }
    Ok(sessions)
}

/// Kept: whatever a client can do, its session stays on its bundle through ramp, switch, another Envoy, a restart of Envoy
/// and one of the sidecar, and a rollback; those of a broken bundle leave it at their next request.
#[test]
fn every_way_keeps_its_sessions() {
    scenario(async {
        // So long that a busy machine does not decide what this is about.
        let settings = Way::settings(json!({"memory": {"ask_wait_ms": 2_000}}));
        let mut mesh = Mesh::with(settings, &SLOTS).await?;
        let (mut first, second) = (mesh.envoy("edge-1").await?, mesh.envoy("edge-2").await?);
        let line = |envoy: &Envoy| Line::new(envoy.address(), Protocol::Http2);
        let mut lines = [line(&first), line(&second)];
        let early = open(&mut lines[0], "early").await?;
        ensure!(early.iter().all(|session| session.slot == "blue"));

        let mut table = Table::default();
        for event in ["ramp green 1%", "ramp green 50%", "switch green"] {
            mesh.does(event).await?;
            table.turns(event, &early, &mut lines, None).await?;
        }
        let late = open(&mut lines[1], "late").await?;
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
        let by_query = |id: &str| Call::get(&format!("/who?thread={id}"));
        let by_header = |id: &str| Call::get("/who").header("x-thread", id);
        let pin = ask(&mut line, &by_query("one")).await?.1.header(names::PIN).context("a pin")?;
        mesh.does("switch green").await?;
        for (call, place) in [
            (by_query("one"), ("blue", "pin")),
            (by_header("one"), ("blue", "pin")),
            (by_query("another"), ("green", "hash")),
            (by_header("a third"), ("green", "hash")),
        ] {
            let (reply, _) = ask(&mut line, &call.header(names::PIN, &pin)).await?;
            ensure!((&*reply.slot, &*reply.decision) == place, "{reply:?}");
        }
        Ok(())
    });
}
