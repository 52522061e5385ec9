//! The main job: flips under load, back and forth, and one rollback that breaks.

use std::time::Duration;

use anyhow::Result;
use integration::mesh::SLOTS;
use integration::{EnvoyConfig, Mesh, flip, scenario};
use serde_json::json;

/// Kept, Confirmed, Reversible, Stamped: through 10 switches and 10 rollbacks that keep pins no request fails and no
/// session changes its bundle; after each confirmation no new session goes to the old slot, and both proxies place
/// unpinned sessions alike. A rollback that breaks pins moves all sessions of that slot at their next request, and no
/// other. Every line of the access log and every request that reached an agent names the bundle that served.
#[test]
fn sessions_keep_their_bundle_through_flips() {
    scenario(async {
        // Both proxies place sessions by themselves: the fleet, once asked, would tell the second what the first has done.
        let mesh = Mesh::with(json!({"memory": {"ask_wait_ms": 0}}), &SLOTS).await?;
        let envoys = [mesh.join(config(&mesh, "edge-1")?).await?, mesh.join(config(&mesh, "edge-2")?).await?];
        flip::play(&mesh, &envoys, Duration::from_millis(10)).await
    });
}

/// The shipped configuration with what [`flip::BY_ENVOY`] needs.
fn config(mesh: &Mesh, node: &str) -> Result<EnvoyConfig> {
    let missing = json!({"match": {"path": "/missing"}, "direct_response": {"status": 404}});
    let down = json!({"match": {"path": "/down"}, "route": {"cluster": "down"}});
    Ok(mesh.config(node)?.cluster("down", ([127, 0, 0, 1], 1).into()).first_route(&missing).first_route(&down))
}
