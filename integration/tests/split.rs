//! How new sessions are split over slots, through a real proxy. (The rules themselves are tested over 100,000 ids
//! where they are.)

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use integration::http::{Line, Protocol};
use integration::mesh::{ask, fresh};
use integration::{Mesh, names, scenario};
use tokio::task::JoinSet;

const SESSIONS: usize = 5_000;
/// Lines that ask at once.
const LINES: usize = 16;

/// A weight gets its share of new sessions; raising it moves unpinned ones only towards the raised slot, and pinned
/// ones not at all.
#[test]
fn a_raised_weight_moves_only_unpinned_sessions_and_only_to_it() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let envoy = mesh.envoy("edge-1").await?;

        mesh.does("ramp green 1000").await?;
        let before = place(envoy.address(), &BTreeMap::new()).await?;
        let tenth = on_green(&before);
        expect_share(tenth, 0.10)?;

        mesh.does("ramp green 2500").await?;
        let after = place(envoy.address(), &BTreeMap::new()).await?;
        let quarter = on_green(&after);
        expect_share(quarter, 0.25)?;
        let back = before.iter().filter(|(id, placed)| placed.slot == "green" && after[*id].slot == "blue").count();
        ensure!(back == 0, "{back} sessions left the slot that was raised");

        let pins: BTreeMap<String, String> =
            before.iter().map(|(id, placed)| (id.clone(), placed.pin.clone())).collect();
        let kept = place(envoy.address(), &pins).await?;
        let moved = kept.iter().filter(|(id, placed)| placed.slot != before[*id].slot).count();
        ensure!(moved == 0, "{moved} pinned sessions moved");
        ensure!(kept.values().all(|placed| placed.decision == "pin"));
        println!("of {SESSIONS} sessions {tenth} went to green at 1,000 and {quarter} at 2,500; no pinned one moved");
        Ok(())
    });
}

/// Where a session went.
struct Placed {
    slot: String,
    decision: String,
    pin: String,
}

fn on_green(placed: &BTreeMap<String, Placed>) -> usize {
    placed.values().filter(|placed| placed.slot == "green").count()
}

/// Within five standard deviations of the binomial distribution: once in two million runs a fair split is outside.
fn expect_share(found: usize, share: f64) -> Result<()> {
    #[expect(clippy::cast_precision_loss)]
    let (found, all) = (found as f64, SESSIONS as f64);
    let (wanted, deviation) = (share * all, (all * share * (1.0 - share)).sqrt());
    ensure!((found - wanted).abs() < 5.0 * deviation, "{found} of {all}, where {wanted} ± {deviation:.0} is due");
    Ok(())
}

/// Asks once for each session, with its pin where there is one.
async fn place(envoy: SocketAddr, pins: &BTreeMap<String, String>) -> Result<BTreeMap<String, Placed>> {
    let pins = Arc::new(pins.clone());
    let mut askers = JoinSet::new();
    for asker in 0..LINES {
        let pins = Arc::clone(&pins);
        askers.spawn(async move {
            let protocol = if asker % 2 == 0 { Protocol::Http1 } else { Protocol::Http2 };
            let mut line = Line::new(envoy, protocol);
            let mut placed = BTreeMap::new();
            for number in (asker..SESSIONS).step_by(LINES) {
                let id = format!("session-{number}");
                let pin = pins.get(&id);
                let call = fresh(&id);
                let call = pin.map_or_else(|| call.clone(), |pin| call.clone().header(names::PIN, pin));
                let (reply, answer) = ask(&mut line, &call).await?;
                let pin = answer.header(names::PIN).or_else(|| pin.cloned()).context("a session has its pin")?;
                placed.insert(id, Placed { slot: reply.slot, decision: reply.decision, pin });
            }
            anyhow::Ok(placed)
        });
    }
    let mut all = BTreeMap::new();
    while let Some(placed) = askers.join_next().await {
        all.extend(placed??);
    }
    Ok(all)
}
