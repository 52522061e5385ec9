//! How new sessions are split over slots, through a real proxy. (The rules themselves are tested over 100,000 ids
//! where they are.)

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use integration::http::{Line, Protocol};
use integration::mesh::{ask, fresh};
use integration::{Mesh, names, scenario};
use tokio::task::JoinSet;

const SESSIONS: usize = 5_000;
/// Lines that ask at once.
const LINES: usize = 16;

/// A weight gets its share of new sessions; raising it moves none that has begun, whether its client echoes the pin or
/// nothing.
#[test]
fn a_raised_weight_moves_new_sessions_only() {
    scenario(async {
        let mesh = Mesh::start().await?;
        let envoy = mesh.envoy("edge-1").await?;

        mesh.does("ramp green 1000").await?;
        let before = place(envoy.address(), "early", &BTreeMap::new()).await?;
        let tenth = on_green(&before);
        expect_share(tenth, 0.10)?;

        mesh.does("ramp green 2500").await?;
        let quarter = on_green(&place(envoy.address(), "late", &BTreeMap::new()).await?);
        expect_share(quarter, 0.25)?;

        let pins: BTreeMap<String, String> =
            before.iter().map(|(id, placed)| (id.clone(), placed.pin.clone())).collect();
        for (pins, rule) in [(&pins, "pin"), (&BTreeMap::new(), "memory")] {
            let kept = place(envoy.address(), "early", pins).await?;
            let moved = kept.iter().filter(|(id, placed)| placed.slot != before[*id].slot).count();
            ensure!(moved == 0, "{moved} sessions moved that are kept by {rule}");
            ensure!(kept.values().all(|placed| placed.decision == rule), "not all are kept by {rule}");
        }
        println!(
            "of {SESSIONS} sessions {tenth} went to green at 1,000 and {quarter} at 2,500; none that had begun moved"
        );
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
async fn place(envoy: SocketAddr, prefix: &str, pins: &BTreeMap<String, String>) -> Result<BTreeMap<String, Placed>> {
    let (prefix, pins) = (Arc::<str>::from(prefix), Arc::new(pins.clone()));
    let mut askers = JoinSet::new();
    for asker in 0..LINES {
        let (prefix, pins) = (Arc::clone(&prefix), Arc::clone(&pins));
        askers.spawn(async move {
            let protocol = if asker % 2 == 0 { Protocol::Http1 } else { Protocol::Http2 };
            let mut line = Line::new(envoy, protocol);
            let mut placed = BTreeMap::new();
            for number in (asker..SESSIONS).step_by(LINES) {
                let id = format!("{prefix}-{number}");
                let pin = pins.get(&id);
                let call = fresh(&id);
                let call = pin.map_or_else(|| call.clone(), |pin| call.clone().header(names::PIN, pin));
                let (reply, answer) = ask(&mut line, &call).await?;
                let pin = answer.header(names::PIN).or_else(|| pin.cloned()).unwrap_or_default();
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
