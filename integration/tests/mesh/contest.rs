//! Side by side with Istio's own way: the order alone. `make bench-mesh` measures it.

use anyhow::ensure;
use integration::kubernetes::{Installation, contest};
use integration::{Mesh, scenario};

/// Enough to see the order.
const ROUNDS: usize = 6;

/// A switch is obeyed sooner than a changed weight, is confirmed by both gateways every time, and breaks no conversation
/// where the weight breaks those that it moves.
#[test]
fn a_switch_is_obeyed_before_a_weight() {
    scenario(async {
        let mesh = Installation::start("contest", Mesh::start().await?).await?;
        contest::install(&mesh).await?;
        let envoys = [mesh.ingress(1).await?, mesh.ingress(2).await?];
        let contest = contest::play(&mesh, &envoys, ROUNDS).await?;
        println!("{contest}");
        let [ours, theirs] = &contest.standings;
        // The fastest of each: what else a busy machine does slows both down, and says nothing of either.
        ensure!(ours.first_ms().min < theirs.first_ms().min, "{contest}");
        ensure!(ours.last_ms().min < theirs.last_ms().min, "{contest}");
        ensure!(ours.broken == 0 && theirs.broken > 0, "{contest}");
        Ok(())
    });
}
