//! A real client: the official MCP Python SDK, server and streamable-HTTP client, through the real Envoy.
//!
//! Nothing in either is made for colorfast: the client keeps cookies because its HTTP library does.

use anyhow::ensure;
use integration::sdk::{Line, Turn};
use integration::{Mesh, Sdk, scenario};
use serde_json::json;

/// One conversation is held through a switch by the server that began it, by its pin or, of a client that forgets its
/// cookies, by the memory of the proxy; who comes later lands on the new one. Only where pins are broken is the thread
/// lost.
#[test]
fn an_mcp_conversation_is_kept_through_a_switch() {
    scenario(async {
        let sdk = Sdk::of("requirements.txt")?;
        let agents = sdk.serve("mcp_agent.py", &["b-1", "g-1"], &[]).await?;
        let settings = json!({"session_sources": [{"header": "mcp-session-id"}], "pin": {"cookie": "always"}});
        let mesh = Mesh::with(settings, &[("blue", "b-1"), ("green", "g-1")]).await?;
        let config = mesh.config("envoy-1")?.agent("blue", agents.addresses[0]).agent("green", agents.addresses[1]);
        let envoy = mesh.join(config).await?;
        let url = format!("http://{}/mcp", envoy.address());
        let mut client = sdk.client("mcp_client.py")?;
        let [keeping, forgetting, new] = ["keeping", "forgetting", "new"].map(|name| [name.to_owned()]);

        client.begin("keeping", &url, &[])?;
        client.begin("forgetting", &url, &["--forget-cookies"])?;
        for talk in [&keeping, &forgetting] {
            ensure!(client.go_on(talk, 3).await?.iter().all(|turn| turn.bundle == "b-1"));
        }
        mesh.does("switch green").await?;

        client.go_on(&keeping, 5).await?;
        client.go_on(&forgetting, 5).await?;
        for name in ["keeping", "forgetting"] {
            let turns = client.turns(name)?;
            let stays = |turn: &Turn| turn.kept && turn.bundle == "b-1" && turn.session == turns[0].session;
            ensure!(turns.len() == 8 && turns.iter().all(stays), "{turns:?}");
        }

        client.begin("new", &url, &[])?;
        let newcomer = client.go_on(&new, 3).await?;
        ensure!(newcomer.iter().all(|turn| turn.bundle == "g-1" && turn.kept), "{newcomer:?}");

        mesh.does("migrate blue").await?;
        client.order(&forgetting, 1)?;
        let lost = client.left("forgetting", "b-1").await?;
        ensure!(matches!(&lost, Line::End(lost) if lost.broken == "Session terminated" && lost.turn == 9), "{lost:?}");
        Ok(())
    });
}
