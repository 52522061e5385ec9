//! `make bench-mesh`: see [`integration::kubernetes::contest`].

use integration::kubernetes::{Installation, contest};
use integration::{Mesh, scenario};

/// How often each way is taken.
const ROUNDS: usize = 30;

fn main() {
    scenario(async {
        let mesh = Installation::start("bench", Mesh::start().await?).await?;
        contest::install(&mesh).await?;
        let envoys = [mesh.ingress(1).await?, mesh.ingress(2).await?];
        println!("{}", contest::play(&mesh, &envoys, ROUNDS).await?);
        Ok(())
    });
}
