//! A real client: the official MCP Python SDK, server and streamable-HTTP client, through the real Envoy.
//!
//! Nothing in either is made for colorfast: the client keeps cookies because its HTTP library does.

use anyhow::ensure;
use integration::{Mesh, Sdk, scenario};
use serde_json::json;

/// One conversation is held through a switch by the server that began it, by its pin or, of a client that forgets its
/// cookies, by the memory of the proxy; who comes later lands on the new one. Only where pins are broken is the thread
/// lost.
#[test]
fn an_mcp_conversation_is_kept_through_a_switch() {
    scenario(async {
        let sdk = Sdk::of("requirements.txt")?;
        let (blue, green) =
            (sdk.serve("mcp_agent.py", "b-1", &[]).await?, sdk.serve("mcp_agent.py", "g-1", &[]).await?);
        let settings = json!({"session_sources": [{"header": "mcp-session-id"}], "pin": {"cookie": "always"}});
        let mesh = Mesh::with(settings, &[("blue", "b-1"), ("green", "g-1")]).await?;
        let config = mesh.config("envoy-1")?.agent("blue", blue.address).agent("green", green.address);
        let envoy = mesh.join(config).await?;
        let url = format!("http://{}/mcp", envoy.address());
        let talk = |name: &str, options: &[&str]| sdk.talk("mcp_client.py", name, &url, options);

        let mut keeping = talk("keeping", &[])?;
        let mut forgetting = talk("forgetting", &["--forget-cookies"])?;
        let first = keeping.turn(10).await?;
        ensure!(first.bundle == "b-1" && forgetting.turn(10).await?.bundle == "b-1");
        mesh.does("switch green").await?;

        let later = keeping.go_on(20).await?;
        ensure!((&later.bundle, &later.session) == (&first.bundle, &first.session), "{first:?} went on as {later:?}");
        ensure!(keeping.turns()?.into_iter().all(|turn| turn.kept));

        let newcomer = talk("new", &["--turns", "3"])?.turn(3).await?;
        ensure!(newcomer.bundle == "g-1" && newcomer.kept, "{newcomer:?}");

        let remembered = forgetting.go_on(20).await?;
        ensure!(remembered.bundle == "b-1" && remembered.kept, "{remembered:?}");

        mesh.does("migrate blue").await?;
        let lost = forgetting.broken().await?;
        ensure!(lost.broken == "Session terminated" && lost.turn > 10, "{lost:?}");
        Ok(())
    });
}
