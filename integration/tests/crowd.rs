//! Sessions that come back, in a crowd of those that never do.

use std::time::Duration;

use anyhow::ensure;
use integration::mesh::SLOTS;
use integration::volley::Volley;
use integration::{Mesh, scenario};
use serde_json::json;

/// Sessions that come back, and ids of one use that come among them, of which so many at a time.
const LIVE: usize = 200;
const CROWD: usize = 6_000;
const AT_A_TIME: usize = 1_000;
/// What the proxy has room for.
const ROOM: usize = 1_024;

/// Kept: with room for 1,024 sessions and no sidecar to be reached, 6,000 ids of one use push out none of 200 sessions that
/// have come back.
#[test]
fn ids_of_one_use_push_out_no_live_session() {
    scenario(async {
        let mut mesh = Mesh::with(json!({"memory": {"sessions": ROOM}}), &SLOTS).await?;
        let envoy = mesh.envoy("edge-1").await?;
        let live: Vec<_> = (0..LIVE).map(|number| format!("live-{number}")).collect();
        for _ in 0..2 {
            let fired = Volley::aimed_at(envoy.address(), &live).await?.fire(Duration::from_millis(200)).await?;
            ensure!(fired.slots.iter().all(|slot| slot == "blue"), "blue alone takes sessions");
        }
        mesh.does("switch green").await?;
        mesh.sidecar.kill();
        let mut stayed = Vec::new();
        for from in (0..CROWD).step_by(AT_A_TIME) {
            let crowd: Vec<_> = (from..from + AT_A_TIME).map(|number| format!("crowd-{number}")).collect();
            Volley::aimed_at(envoy.address(), &crowd).await?.fire(Duration::from_millis(500)).await?;
            let fired = Volley::aimed_at(envoy.address(), &live).await?.fire(Duration::from_millis(200)).await?;
            stayed.push(fired.slots.iter().filter(|slot| *slot == "blue").count());
        }
        let evicted = envoy.stats("evict").await?;
        println!("of {LIVE} live sessions stayed after each {AT_A_TIME} ids of one use: {stayed:?}; {evicted:?}");
        ensure!(stayed.iter().all(|stayed| *stayed == LIVE), "live sessions were pushed out: {stayed:?}");
        envoy.expect_no_crash().await
    });
}
