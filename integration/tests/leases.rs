//! Runs without traffic, by the examples that are shipped: the slot is held while they work, and free when they have ended.

use std::process::Command;

use anyhow::{Result, ensure};
use integration::process::Process;
use integration::{Mesh, paths, scenario, wait};
use serde_json::{Value, json};

/// Each example holds the slot for as long as its work goes on: a recycle is refused meanwhile, with the run named in the
/// list, and goes through right after. The work here ends when a file appears.
#[test]
fn the_examples_hold_their_slot() {
    scenario(async {
        let mesh = Mesh::with(json!({}), &[("blue", "b-1"), ("green", "g-1")]).await?;
        let token = mesh.sidecar.cli(["token", "create", "workers", "--role", "agent"]).await?.ok()?;
        let token = token["token"].as_str().unwrap_or_default().to_owned();
        let control = format!("http://{}", mesh.sidecar.control());
        let folder = mesh.sidecar.data_dir();
        let examples = paths::workspace().join("docs/examples");
        for (name, example) in [("of-sh", "hold_run.sh"), ("of-py", "hold_run.py")] {
            let (done, ended) = (folder.join(format!("{name}.done")), folder.join(format!("{name}.ended")));
            let work = format!("while [ ! -e '{}' ]; do sleep 0.05; done; : > '{}'", done.display(), ended.display());
            let mut command = match example {
                "hold_run.sh" => {
                    let mut command = Command::new(examples.join(example));
                    command.args([name, "g-1", "sh", "-c", &work]).env("CONTROL", &control).env("TOKEN", &token);
                    command
                }
                _ => {
                    let program = format!(
                        "import subprocess, sys\nsys.path.insert(0, sys.argv[1])\nfrom hold_run import hold\n\
                         with hold(sys.argv[2], sys.argv[3], 'chat', '{name}', 'g-1'):\n    \
                         subprocess.run(['sh', '-c', sys.argv[4]], check=True)"
                    );
                    let mut command = Command::new("python3");
                    command.args(["-B", "-c", &program]).arg(&examples).args([&control, &token, &work]);
                    command
                }
            };
            let mut run = Process::spawn(example, &mut command, &folder.join(format!("{name}.log")))?;
            wait::until_ok("the run to hold its slot", wait::LIMIT, || async {
                let held = runs(&mesh).await?;
                ensure!(held == json!([[name, "green", "g-1"]]), "{held}");
                Ok(())
            })
            .await?;
            let refused = mesh.cli("recycle green").await?.ended_with(1)?;
            ensure!(refused.stderr.contains("runs-hold"), "{refused:?}");
            let shown = mesh.text("status").await?;
            ensure!(shown.stdout.contains("green is held by 1 run"), "{shown:?}");
            std::fs::write(&done, "")?;
            wait::until_ok("the run to end its lease", wait::LIMIT, || async {
                let held = runs(&mesh).await?;
                ensure!(held == json!([]) && ended.exists(), "{held}");
                Ok(())
            })
            .await?;
            wait::until_ok("the example to end", wait::LIMIT, || {
                let ended = run.ended();
                async move {
                    ensure!(ended?.is_some_and(|status| status.success()), "it goes on, or failed");
                    Ok(())
                }
            })
            .await?;
            mesh.cli("recycle green").await?.ok()?;
            mesh.cli("stage green g-1").await?.ok()?;
        }
        Ok(())
    });
}

/// Run, slot and bundle of every lease.
async fn runs(mesh: &Mesh) -> Result<Value> {
    let listed = mesh.cli("run list").await?.ok()?;
    let leases = listed.as_array().into_iter().flatten();
    Ok(leases.map(|lease| json!([lease["run"], lease["slot"], lease["bundle"]])).collect())
}
